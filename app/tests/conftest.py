"""Fixtures: a real PostgreSQL for the whole run, and the reference's questions in it."""

import tempfile
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections
from testkit import Server

from sreproject import outage, reads


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Start a server for the whole run."""
    with tempfile.TemporaryDirectory(prefix="polls-pg-", dir="/tmp") as home:  # a short path
        Path(home).chmod(0o755)
        server = Server(Path(home))
        server.initialise()
        server.start()
        try:
            server.sql("CREATE ROLE polls LOGIN CREATEDB")
            for alias in connections:
                server.connect_alias(alias)
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres: Server) -> None:
    """Have the server before the test database is made."""


@pytest.fixture(autouse=True)
def _fresh_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test inherit another's opinion of the databases."""
    monkeypatch.setattr(outage, "breakers", {what: outage.CircuitBreaker() for what in outage.breakers})
    monkeypatch.setattr(reads, "primary_health", reads.PrimaryHealth())


@pytest.fixture
def seeded(db: None) -> None:
    """Have the reference's questions, within a transaction that is rolled back."""
    call_command("seed", stdout=StringIO())


@pytest.fixture
def live(postgres: Server, transactional_db: None) -> Iterator[Server]:
    """Have the reference's questions committed, on a server that may be broken.

    The test needs the mark `django_db(transaction=True, databases=[...])`.
    """
    call_command("seed", stdout=StringIO())
    yield postgres
    connections.close_all()  # a broken connection must not fail the clean-up


@pytest.fixture
def tally(live: Server) -> Callable[[], dict[int, int]]:
    """Read the votes cast for each choice, by a connection of its own, and check the ledger."""

    def read_tally() -> dict[int, int]:
        rows = live.app_sql(
            "SELECT c.id, c.votes - o.votes, (SELECT count(*) FROM polls_vote v"
            " WHERE v.choice_id = c.id) FROM polls_choice c JOIN polls_openingcount o"
            " ON o.choice_id = c.id ORDER BY c.id"
        )
        assert all(cast == in_ledger for _choice, cast, in_ledger in rows), rows
        return {choice: cast for choice, cast, _in_ledger in rows if cast}

    return read_tally
