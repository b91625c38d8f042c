"""What counts as a database outage, and how long and how often to try again."""

import logging
import random
import threading
import time
from collections.abc import Iterator

from django.conf import settings
from django.db import DatabaseError, Error, InterfaceError, OperationalError, connections

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.25
# While work fails, the threads of a process try it so many times a second together. An attempt may be a
# connection with TLS and a password to check: a hundred votes that waited, each trying once a second, kept
# a small host too busy for its own recovery.
TRIES_A_SECOND = 4

# The server is not (or no longer) a writable primary, or it lost a race: the same statement can
# succeed on the next connection.
TRANSIENT_SQLSTATES = {
    "25006",  # read_only_sql_transaction: a standby, or a primary that was just demoted
    "40001",  # serialization_failure; on a standby also a conflict with recovery
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
}
CONNECTION_EXCEPTION = "08"


class DatabaseUnavailableError(Exception):
    """No database gave an answer before the deadline."""


class UnconfirmedError(DatabaseError):
    """A commit was answered, but not with the certainty that it is on the standby."""


def sqlstate(error: BaseException) -> str | None:
    """Return the server's verdict, or None when the connection failed without one."""
    return getattr(error.__cause__, "pgcode", None)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same statement may succeed on a fresh connection.

    The class of the exception does not tell: 25006 arrives as an InternalError. Without a
    SQLSTATE a connection failed, which psycopg2 reports as one of three classes.
    """
    if isinstance(error, UnconfirmedError):
        return True
    if not isinstance(error, Error):
        return False
    state = sqlstate(error)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError
    return state in TRANSIENT_SQLSTATES or state.startswith(CONNECTION_EXCEPTION)


def is_outage(error: BaseException | None) -> bool:
    """Tell whether an error is the database's state and not a fault of this program."""
    return error is not None and (isinstance(error, DatabaseUnavailableError | OperationalError) or is_transient(error))


class CircuitBreaker:
    """What the threads of a process know of one kind of work: whether it fails at present, and who tries next."""

    def __init__(self) -> None:
        """Begin with trust."""
        self._changed = threading.Condition()
        self._failing = False
        self._next_try = 0.0

    def wait(self, earliest: float, deadline: float) -> bool:
        """Wait until this thread may try; return False when that is not before the deadline.

        It may at once while nothing fails, otherwise in its turn, or as soon as another thread had success.
        All times are those of the monotonic clock.
        """
        with self._changed:
            while True:
                now = time.monotonic()
                turn = max(earliest, self._next_try) if self._failing else earliest
                if turn <= now:
                    self._next_try = now + 1 / TRIES_A_SECOND
                    return True
                if now >= deadline:
                    return False
                self._changed.wait(min(turn, deadline) - now)

    def report(self, *, good: bool) -> None:
        """Remember how an attempt went; a success lets all others try."""
        with self._changed:
            if good and self._failing:
                self._changed.notify_all()
            self._failing = not good


breakers = {"read": CircuitBreaker(), "vote": CircuitBreaker()}


class Attempts:
    """Attempts at one piece of database work, until a deadline.

    Iterating gives attempt after attempt with a short pause between them, and the last one at the
    deadline. While others of its kind fail as well they take turns, so that one whose turn does not
    come is given up without a last attempt. An attempt is never cut off, since cancelling a commit
    that waits for the standby would acknowledge it; so the last one ends after the deadline: by
    `connect_timeout` when there is no server, and by the server's own wait when there is one.
    """

    def __init__(self, what: str) -> None:
        """Start the clock; `what` is the kind of work, which the log names."""
        self.what = what
        self.number = 0
        self._breaker = breakers[what]
        self._started = time.monotonic()
        self._reasons: dict[str, str] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def __iter__(self) -> Iterator[int]:
        """Yield the number of each attempt; end at the deadline."""
        deadline = self._started + settings.VOTE_DEADLINE_SECONDS
        pause = FIRST_PAUSE
        earliest = self._started
        while self._breaker.wait(earliest, deadline):
            last = time.monotonic() >= deadline
            self.number += 1
            yield self.number
            self._breaker.report(good=False)
            if last:
                return
            jittered = pause * random.uniform(0.5, 1)  # noqa: S311 - not for cryptography
            earliest = min(time.monotonic() + jittered, deadline)
            pause = min(2 * pause, LONGEST_PAUSE)

    def failed(self, alias: str, error: BaseException) -> None:
        """Drop the connection, so that the next attempt opens a fresh one, and log."""
        connections[alias].close()
        reason = f"SQLSTATE {sqlstate(error) or 'none'}: {first_line(error)}"
        if reason != self._reasons.get(alias):  # a line for each kind of failure, not each attempt
            logger.warning(
                "%s: attempt %d failed after %.2f s, trying again: %s: %s",
                *(self.what, self.number, self.elapsed, alias, reason),
            )
            self._reasons[alias] = reason

    def succeeded(self) -> None:
        """Tell the others; log how long it took, if anything had failed before."""
        self._breaker.report(good=True)
        if self.number > 1:
            logger.warning("%s: done at attempt %d after %.2f s", self.what, self.number, self.elapsed)

    def given_up(self) -> DatabaseUnavailableError:
        """Return the error to raise when there are no attempts left."""
        return DatabaseUnavailableError(f"{self.what}: given up after {self.number} attempts in {self.elapsed:.2f} s")


def first_line(error: BaseException) -> str:
    """Return an error's message without PostgreSQL's further lines."""
    return next(iter(str(error).splitlines()), type(error).__name__).strip()
