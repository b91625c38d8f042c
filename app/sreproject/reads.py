"""Reading goes on from the standby while there is no primary."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import Error

from sreproject.outage import Attempts, is_transient
from sreproject.router import PRIMARY, STANDBY, read_alias

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long a failed primary is left alone before one read tries it again.
REST_SECONDS = 2.0


class PrimaryHealth:
    """What this process knows of the primary, shared by its threads.

    After a failure the reads that follow go to the standby at once instead of each waiting for a
    timeout. From time to time a single read tries the primary on behalf of all others.
    """

    def __init__(self) -> None:
        """Begin with trust."""
        self._lock = threading.Lock()
        self._try_again_at: float | None = None

    def aliases(self) -> tuple[str, str]:
        """Return the databases in the order in which this read should try them."""
        with self._lock:
            now = time.monotonic()
            if self._try_again_at is None:
                return PRIMARY, STANDBY
            if now >= self._try_again_at:
                self._try_again_at = now + REST_SECONDS
                return PRIMARY, STANDBY
            return STANDBY, PRIMARY

    def report(self, *, up: bool) -> None:
        """Remember whether the primary answered, and log when that changes."""
        with self._lock:
            changed = up != (self._try_again_at is None)
            self._try_again_at = None if up else time.monotonic() + REST_SECONDS
        if changed:
            logger.warning("reads go to %s", PRIMARY if up else STANDBY)


primary_health = PrimaryHealth()


def read(query: Callable[[], T]) -> tuple[T, bool]:
    """Run a query and return its result, and whether it came from the standby.

    The query must fetch everything it needs: what is still lazy when it returns would be read
    outside of this protection.
    """
    attempts = Attempts("read")
    for _attempt in attempts:
        for alias in primary_health.aliases():
            token = read_alias.set(alias)
            try:
                result = query()
            except Error as error:
                if not is_transient(error):
                    raise
                attempts.failed(alias, error)
                if alias == PRIMARY:
                    primary_health.report(up=False)
            else:
                if alias == PRIMARY:
                    primary_health.report(up=True)
                attempts.succeeded()
                return result, alias == STANDBY
            finally:
                read_alias.reset(token)
    raise attempts.given_up()
