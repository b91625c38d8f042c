"""Django's PostgreSQL backend, with a few connections that the threads of a process share."""

import threading
import time
from typing import Any, ClassVar

from django.db import OperationalError
from django.db.backends.postgresql import base
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class with a small name

# Connections of a process to one database. Were there one for each thread, every thread would have to
# connect anew after an outage: that keeps a small server so busy that connections time out, are tried
# again, and nobody gets through; and what was given up goes on taking the server's slots.
SIZE = 8


class Shared:
    """The connections of a process to one database: how many may still be taken, and those that nobody uses."""

    def __init__(self) -> None:
        """Begin with none."""
        self.free = threading.BoundedSemaphore(SIZE)
        self._idle: list[tuple[Connection, float]] = []

    def take(self, idle_seconds: float) -> Connection | None:
        """Return a connection that was idle for at most so long, the latest first; end the others."""
        while self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - since <= idle_seconds:
                return connection
            connection.close()
        return None

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next who needs one."""
        self._idle.append((connection, time.monotonic()))

    def forget(self) -> None:
        """End the connections that nobody uses: one has failed, and they lead to the same server."""
        self.take(-1)


class DatabaseWrapper(base.DatabaseWrapper):
    """What a thread knows as its connection: one of the shared ones, from the first query to `close`."""

    by_alias: ClassVar[dict[str, Shared]] = {}

    @property
    def _shared(self) -> Shared:
        return self.by_alias.get(self.alias) or self.by_alias.setdefault(self.alias, Shared())

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """Take a connection, or make one.

        Raises OperationalError when none becomes free in the time that connecting may take.
        """
        if not self._shared.free.acquire(timeout=conn_params["connect_timeout"]):
            raise OperationalError("all connections are in use")
        try:
            idle = self._shared.take(self.settings_dict["IDLE_SECONDS"])
            connection = idle or super().get_new_connection(conn_params)
        except BaseException:
            self._shared.free.release()
            raise
        return connection

    def _close(self) -> None:
        """Give the connection back; end it when it may be of no more use."""
        connection: Connection = self.connection
        try:
            if self.errors_occurred or connection.closed:
                self._shared.forget()
            elif (
                self.settings_dict["IDLE_SECONDS"]
                and not self.in_atomic_block
                and connection.info.transaction_status == TRANSACTION_STATUS_IDLE
            ):
                self._shared.keep(connection)
                return
            connection.close()
        finally:
            self._shared.free.release()
