"""Reading goes on while there is no primary."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connections, router
from django.test import Client
from pytest_django.fixtures import Settings
from testkit import Server

from polls.models import Choice, Question
from sreproject import reads
from sreproject.reads import read
from sreproject.router import read_alias

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "failover1"])
NOTE = "votes may be a moment behind"
PAGES = ["/polls/", "/polls/1/", "/polls/1/results/"]


@contextmanager
def frozen(server: Server, alias: str) -> Iterator[None]:
    """Let an alias reach something that takes connections and never answers."""
    path = Path(django_settings.DATABASES[alias]["HOST"]) / ".s.PGSQL.5432"
    with server.unreachable(alias), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        try:
            yield
        finally:
            path.unlink()


def get(client: Client, page: str) -> tuple[int, bool, float]:
    """Return a page's status, whether it has the standby's note, and how long it took."""
    started = time.monotonic()
    response = client.get(page, secure=True)
    return response.status_code, NOTE in response.content.decode(), time.monotonic() - started


def test_pages_come_from_the_primary(live: Server, client: Client) -> None:
    """So a voter sees the own vote at once."""
    with live.unreachable("failover1"):
        for page in PAGES:
            assert get(client, page)[:2] == (200, False)


def test_pages_come_from_the_standby_when_the_primary_is_away(live: Server, client: Client) -> None:
    """No page fails, and a note says what it is."""
    with live.unreachable("default"):
        for page in PAGES:
            assert get(client, page)[:2] == (200, True)
        assert client.get("/polls/99/", secure=True).status_code == 404


def test_a_stale_connection_fails_no_page(live: Server, client: Client) -> None:
    """A connection that was broken between two requests is replaced or gone around."""
    for _ in range(3):
        assert get(client, "/polls/")[0] == 200
        live.kill_backends()


def test_a_frozen_primary_costs_one_reader_a_short_wait(live: Server, client: Client) -> None:
    """Connecting is bounded, and the reads that follow do not try again at once."""
    with frozen(live, "default"):
        connections.close_all()  # else the broken connection alone would tell
        status, noted, seconds = get(client, "/polls/1/")
        assert (status, noted) == (200, True)
        assert 1 < seconds < 4
        status, noted, seconds = get(client, "/polls/1/")
        assert (status, noted) == (200, True)
        assert seconds < 0.5


def test_reads_return_to_the_primary(live: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the rest a read tries the primary again."""
    monkeypatch.setattr(reads, "REST_SECONDS", 0.2)
    with live.unreachable("default"):
        assert get(client, "/polls/")[:2] == (200, True)
    time.sleep(0.25)
    assert get(client, "/polls/")[:2] == (200, False)


def test_one_reader_tries_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the primary is away, threads do not all wait for it."""
    monkeypatch.setattr(reads, "REST_SECONDS", 0.05)
    health = reads.PrimaryHealth()
    health.report(up=False)
    assert health.aliases() == ("failover1", "default")
    time.sleep(0.06)
    monkeypatch.setattr(reads, "REST_SECONDS", 60)
    assert [health.aliases()[0] for _ in range(3)] == ["default", "failover1", "failover1"]
    health.report(up=True)
    assert health.aliases() == ("default", "failover1")


def test_a_read_waits_while_both_are_away(live: Server, client: Client) -> None:
    """A moment without any database delays a page and does not fail it."""
    answer: list[int] = []

    def visit() -> None:
        answer.append(client.get("/polls/", secure=True).status_code)
        connections.close_all()

    with live.unreachable("default", "failover1"):
        visitor = threading.Thread(target=visit)
        visitor.start()
        time.sleep(0.6)
        assert visitor.is_alive()
    visitor.join(10)
    assert answer == [200]


@pytest.mark.parametrize("page", [*PAGES, "/admin/login/?next=/admin/"])
def test_without_any_database_the_page_says_so(live: Server, client: Client, settings: Settings, page: str) -> None:
    """After the deadline: 503, when to come back, and no traceback."""
    settings.VOTE_DEADLINE_SECONDS = 0.3
    client.raise_request_exception = False
    with live.unreachable("default", "failover1"):
        if page.startswith("/admin"):
            login = {"username": "admin", "password": "x"}
            response = client.post(page, login, secure=True)
        else:
            response = client.get(page, secure=True)
    assert response.status_code == 503
    assert int(response["Retry-After"]) > 0
    assert "not available" in response.content.decode()


@pytest.mark.usefixtures("live")
def test_errors_that_are_no_outage_are_raised() -> None:
    """A faulty query is not retried on the standby."""
    with pytest.raises(Exception, match="nowhere"):
        read(lambda: list(Question.objects.raw("SELECT * FROM nowhere")))


def test_the_router_writes_to_the_primary_only() -> None:
    """Reads follow the request, writes and migrations never do."""
    token = read_alias.set("failover1")
    try:
        assert router.db_for_read(Choice) == "failover1"
        assert router.db_for_write(Choice) == "default"
    finally:
        read_alias.reset(token)
    assert router.db_for_read(Choice) == "default"
    assert router.allow_migrate("default", "polls") is True
    assert router.allow_migrate("failover1", "polls") is False
    assert router.allow_relation(Choice(), Question()) is True


def test_migrations_are_complete() -> None:
    """The models need no migration that is not there."""
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
