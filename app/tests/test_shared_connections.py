"""The threads of a process share a few connections; after an outage only those few are made anew."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import Error, OperationalError, connections, transaction
from django.db.backends.postgresql import base
from django.test import Client
from testkit import Server, cast_in_thread

from sreproject.outage import is_transient
from sreproject.postgresql.base import SIZE, DatabaseWrapper, Shared

HEADERS = {"host": "127.0.0.1:8000"}

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "failover1"])


@pytest.fixture(autouse=True)
def shared(live: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    """Begin with connections that are kept, and none of them made yet."""
    connections["default"].close()
    fresh = Shared()
    monkeypatch.setitem(DatabaseWrapper.by_alias, "default", fresh)
    monkeypatch.setitem(connections["default"].settings_dict, "IDLE_SECONDS", 60)
    yield fresh
    connections["default"].close()
    fresh.forget()


def backend(seconds: float = 0) -> int:
    """Return the server's number of the connection that a query takes, and give the connection back."""
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid() FROM pg_sleep(%s)", [seconds])
            return int(cursor.fetchone()[0])
    finally:
        connections["default"].close()


def slowly() -> int:
    """Take long enough for others to need another connection."""
    return backend(0.05)


def in_threads(count: int, task: Callable[[], int]) -> list[int]:
    """Run a task in so many threads at once."""
    with ThreadPoolExecutor(count) as threads:
        return [future.result() for future in [threads.submit(task) for _ in range(count)]]


def test_many_threads_share_a_few_connections(live: Server) -> None:
    """All get their turn, and no more connections than that are made."""
    assert len(set(in_threads(5 * SIZE, slowly))) == SIZE
    assert len(live.backends("usename = 'polls'")) >= SIZE
    assert len({backend() for _ in range(3)}) == 1


def test_readiness_is_not_asked_of_a_session_with_another_default(live: Server, client: Client) -> None:
    """A database that is only to be read for a while is ready as soon as it takes votes again."""
    name = connections["default"].settings_dict["NAME"]
    live.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        assert client.get("/readyz", headers=HEADERS).json()["default"] == "read-only"
    finally:
        live.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert client.get("/readyz", headers=HEADERS).json()["default"] == "read-write"


def test_after_a_failure_none_of_the_others_is_trusted(live: Server) -> None:
    """They lead to the server that has just gone."""
    before = set(in_threads(5 * SIZE, slowly))
    live.kill_backends()
    with pytest.raises(Error):
        backend()
    assert backend() not in before


def test_no_turn_is_an_outage_like_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits behind queries that hang fails in the time that connecting may take, and may try elsewhere."""
    monkeypatch.setitem(connections["default"].settings_dict["OPTIONS"], "connect_timeout", 1)
    done = threading.Event()

    def hold() -> int:
        connections["default"].ensure_connection()
        done.wait(10)
        connections["default"].close()
        return 0

    with ThreadPoolExecutor(SIZE) as threads:
        holding = [threads.submit(hold) for _ in range(SIZE)]
        time.sleep(0.5)
        try:
            with pytest.raises(OperationalError, match="all connections are in use") as raised:
                backend()
        finally:
            done.set()
        assert [one.result() for one in holding] == [0] * SIZE
    assert is_transient(raised.value)
    assert backend()


def test_one_thread_asks_for_all_while_the_server_is_away(live: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few times a second, however many wait; and they go on as soon as it is back."""
    asked: list[float] = []
    connect = base.DatabaseWrapper.get_new_connection

    def counted(wrapper: DatabaseWrapper, parameters: dict[str, Any]) -> Any:
        asked.append(time.monotonic())
        return connect(wrapper, parameters)

    monkeypatch.setattr(base.DatabaseWrapper, "get_new_connection", counted)
    with live.stopped():
        began = time.monotonic()
        voters = [cast_in_thread() for _ in range(40)]
        time.sleep(1)
        # At the beginning all of them may ask before the first is told.
        assert len([moment for moment in asked if moment > began + 0.3]) <= 10
    back = time.monotonic()
    assert all(voter.result(20) for voter in voters)
    assert time.monotonic() - back < 5


def test_a_transaction_is_never_handed_on(shared: Shared) -> None:
    """A connection that is closed in the middle of one really ends."""
    with transaction.atomic():
        backend()
    assert shared.take(60) is None
    assert backend()


def test_what_was_idle_for_long_is_not_used(shared: Shared) -> None:
    """Whatever lies between may have forgotten it."""
    first = backend()
    connection = shared.take(60)
    assert connection is not None
    shared.keep(connection)
    assert shared.take(-1) is None
    assert connection.closed
    assert backend() != first
