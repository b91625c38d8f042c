"""After an outage every waiting thread connects anew; a server must not have to bear all of them at once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connections
from django.db.backends.postgresql import base

from sreproject.outage import is_transient
from sreproject.postgresql.base import CONNECTING_AT_ONCE, DatabaseWrapper

THREADS = 5 * CONNECTING_AT_ONCE


class SlowServer:
    """Takes its time for each connection, and counts how many it was asked for at once."""

    def __init__(self, seconds: float) -> None:
        """Take this many seconds each time."""
        self.seconds, self.now, self.most, self.served = seconds, 0, 0, 0
        self._lock = threading.Lock()

    def connect(self, _conn_params: object) -> None:
        """Stand for Django's own connecting."""
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self._lock:
            self.now -= 1
            self.served += 1


def connect(connect_timeout: int) -> None:
    """Connect as a thread of the application does."""
    wrapper = DatabaseWrapper(connections["default"].settings_dict, "default")
    wrapper.get_new_connection(wrapper.get_connection_params() | {"connect_timeout": connect_timeout})


def test_threads_connect_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And all of them do, one after the other."""
    server = SlowServer(0.02)
    monkeypatch.setattr(base.DatabaseWrapper, "get_new_connection", server.connect)
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(connect, [10] * THREADS))
    assert (server.most, server.served) == (CONNECTING_AT_ONCE, THREADS)


def test_no_turn_is_an_outage_like_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits behind connections that hang fails in the time they would take, and may try elsewhere."""
    server = SlowServer(1.5)
    monkeypatch.setattr(base.DatabaseWrapper, "get_new_connection", server.connect)
    with ThreadPoolExecutor(CONNECTING_AT_ONCE) as threads:
        hanging = [threads.submit(connect, 1) for _ in range(CONNECTING_AT_ONCE)]
        time.sleep(0.1)
        with pytest.raises(OperationalError, match="others are still connecting") as raised:
            connect(1)
        assert is_transient(raised.value)
        assert [thread.result() for thread in hanging] == [None] * CONNECTING_AT_ONCE
    connect(1)
