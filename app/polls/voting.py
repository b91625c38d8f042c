"""Casting a vote: counted exactly once, acknowledged only when it is safe."""

from uuid import UUID

from django.db import DatabaseError, IntegrityError, connections

from sreproject.outage import Attempts, UnconfirmedError, is_transient
from sreproject.router import PRIMARY

# One statement, hence one transaction and one round trip.
#
# The ledger's row and the tally change together: `xmax = 0` holds for a row that was inserted and
# not for one that was there, so a repeated token does not count again, whatever choice it names.
#
# A repeat must not be acknowledged earlier than its first commit. That commit may be visible while
# it exists on a dying primary only (its session was killed while it waited for the standby). With
# DO NOTHING the repeat would write nothing, wait for nothing and vouch for a row that can still be
# lost. DO UPDATE writes a commit record, which lies behind the first one in the WAL, so waiting for
# the one is waiting for both.
#
# Votes for one choice are counted one after the other, each with its wait for the standby. The advisory
# lock has them queue in order of arrival. At the row itself each commit wakes everyone who has reached
# it, one wins whatever its place, and the rest follow the row's versions and wait anew: then a busy
# host lets some votes wait beyond their deadline while later ones pass.
STATEMENT = """
WITH turn AS (
    SELECT id, pg_advisory_xact_lock(id) FROM polls_choice WHERE id = %(choice)s AND question_id = %(question)s
), ledger AS (
    INSERT INTO polls_vote (token, choice_id)
    SELECT %(token)s, id FROM turn
    ON CONFLICT (token) DO UPDATE SET token = EXCLUDED.token
    RETURNING choice_id, xmax = 0 AS is_new
), tally AS (
    UPDATE polls_choice SET votes = votes + 1
    FROM ledger WHERE ledger.is_new AND polls_choice.id = ledger.choice_id
)
SELECT is_new FROM ledger
"""


class UnknownChoiceError(Exception):
    """The question has no such choice."""


def cast_vote(question: int, choice: int, token: UUID) -> bool:
    """Count a vote; return True if it was new and False if its token had been counted before.

    Tries until the vote is confirmed; raises DatabaseUnavailableError after the deadline. The vote
    may have been counted then, and can be sent again with the same token.
    """
    attempts = Attempts("vote")
    for _attempt in attempts:
        try:
            is_new = _write(question, choice, token)
        except DatabaseError as error:
            if not is_transient(error):
                raise
            attempts.failed(PRIMARY, error)
        else:
            attempts.succeeded()
            return is_new
    raise attempts.given_up()


def _write(question: int, choice: int, token: UUID) -> bool:
    """Run the statement once."""
    parameters: dict[str, int | UUID] = {"question": question, "choice": choice, "token": token}
    connection = connections[PRIMARY]
    try:
        with connection.cursor() as cursor:
            notices: list[str] = connection.connection.notices
            notices.clear()
            cursor.execute(STATEMENT, parameters)
            row = cursor.fetchone()
    except IntegrityError as error:  # the choice was deleted meanwhile
        raise UnknownChoiceError from error
    # A cancelled wait for the standby is a success with a warning (01000). psycopg2 shows its text
    # alone, which the server may translate; the statement itself never warns, so any warning
    # leaves the vote unconfirmed.
    if notices:
        raise UnconfirmedError(notices[-1])
    if row is None:
        raise UnknownChoiceError
    return bool(row[0])
