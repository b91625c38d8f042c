"""Django's PostgreSQL backend, connecting a few at a time."""

import threading
from typing import Any, ClassVar

from django.db import OperationalError
from django.db.backends.postgresql import base
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class with a small name

# How many threads of a process may be connecting to one database at the same time. After an outage
# every waiting thread needs a new connection. All at once they take a small server longer than
# `connect_timeout`, give up together and begin again together: nobody gets through. A few at a
# time are served in milliseconds each.
CONNECTING_AT_ONCE = 2


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of Django, made when it is its turn."""

    _turns: ClassVar[dict[str, threading.BoundedSemaphore]] = {}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """Connect; raise OperationalError as for a server that does not answer when no turn comes in that time."""
        turn = self._turns.setdefault(self.alias, threading.BoundedSemaphore(CONNECTING_AT_ONCE))
        if not turn.acquire(timeout=conn_params["connect_timeout"]):
            raise OperationalError("others are still connecting")
        try:
            connection: Connection = super().get_new_connection(conn_params)
            return connection
        finally:
            turn.release()
