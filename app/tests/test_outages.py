"""Votes while the database fails: retried, confirmed for certain, or not acknowledged."""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from django.db import DatabaseError, OperationalError
from django.test import Client
from pytest_django.fixtures import Settings
from testkit import Server, cast_in_thread, wait_until

from polls.voting import cast_vote
from sreproject import outage
from sreproject.outage import TRIES_A_SECOND, DatabaseUnavailableError

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "failover1"])
Tally = Callable[[], dict[int, int]]


@contextmanager
def failing(server: Server, sqlstate: str, times: int = 1) -> Iterator[None]:
    """Let the next votes fail in the server with a SQLSTATE (a sequence is never rolled back)."""
    server.app_sql(
        "CREATE SEQUENCE faults; GRANT USAGE ON faults TO polls;"
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('faults') <= {times} THEN RAISE 'made up' USING ERRCODE = '{sqlstate}';"
        " END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER fail BEFORE INSERT ON polls_vote FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    try:
        yield
    finally:
        server.app_sql("DROP TRIGGER fail ON polls_vote; DROP FUNCTION fail; DROP SEQUENCE faults")


@contextmanager
def locked_choice(server: Server) -> Iterator[None]:
    """Hold a lock on choice 1, so that a vote for it stops in mid-statement."""
    with server.connect() as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM polls_choice WHERE id = 1 FOR UPDATE")
        yield


@pytest.mark.parametrize("sqlstate", ["25006", "40001", "57P01", "57P02", "57P03", "08000", "08003", "08006", "08P01"])
def test_transient_errors_are_retried(live: Server, tally: Tally, sqlstate: str) -> None:
    """The same statement succeeds on a later connection and counts once."""
    with failing(live, sqlstate, times=2):
        assert cast_vote(1, 1, uuid.uuid4()) is True
    assert tally() == {1: 1}


@pytest.mark.parametrize("sqlstate", ["22012", "42501", "40P01", "57014", "53100"])
def test_other_errors_are_raised_at_once(live: Server, tally: Tally, sqlstate: str) -> None:
    """What a retry cannot mend is not retried."""
    with failing(live, sqlstate), pytest.raises(DatabaseError, match="made up"):
        cast_vote(1, 1, uuid.uuid4())
    assert tally() == {}


def test_a_read_only_server_is_waited_for(live: Server, tally: Tally) -> None:
    """The reference's second failure: 25006 while the standby is not yet promoted."""
    with live.setting("default_transaction_read_only", "on"):
        voters = [cast_in_thread() for _ in range(5)]
        time.sleep(0.5)
    assert all(voter.result(20) for voter in voters)
    assert tally() == {1: 5}


def test_a_stopped_server_is_waited_for(live: Server, tally: Tally) -> None:
    """The reference's first failure: the connection is refused; votes under way break."""
    with locked_choice(live):
        voters = [cast_in_thread() for _ in range(5)]
        wait_until(lambda: len(live.backends("wait_event_type = 'Lock'")) == len(voters))
        with live.stopped():
            time.sleep(0.5)
    assert all(voter.result(20) for voter in voters)
    assert tally() == {1: 5}


def test_many_who_wait_take_turns(live: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together try a few times a second, so that the host has time for other things."""
    settings.VOTE_DEADLINE_SECONDS = 2
    tried: list[float] = []

    def fail(*_arguments: object) -> bool:
        tried.append(time.monotonic())
        raise OperationalError

    monkeypatch.setattr("polls.voting._write", fail)
    voters = [cast_in_thread() for _ in range(50)]
    for voter in voters:
        with pytest.raises(DatabaseUnavailableError):
            voter.result(20)
    after = [moment - tried[0] for moment in tried]
    assert 0 < len([seconds for seconds in after if seconds > 0.5]) <= 1.5 * TRIES_A_SECOND + 1


def test_one_success_lets_all_others_try(live: Server, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for their turn, which most of them would not have before their deadline."""
    monkeypatch.setattr(outage, "TRIES_A_SECOND", 1)
    with live.setting("default_transaction_read_only", "on"):
        voters = [cast_in_thread() for _ in range(50)]
        time.sleep(0.5)
    assert all(voter.result(20) for voter in voters)
    assert tally() == {1: 50}


def test_a_terminated_session_is_replaced(live: Server, tally: Tally) -> None:
    """57P01 in mid-statement."""
    with locked_choice(live):
        voter = cast_in_thread()
        wait_until(lambda: live.backends("wait_event_type = 'Lock'"))
        live.kill_backends()
        wait_until(lambda: live.backends("wait_event_type = 'Lock'"))
    assert voter.result(20) is True
    assert tally() == {1: 1}


def test_a_stale_connection_fails_no_vote(live: Server, tally: Tally) -> None:
    """A connection that was broken between two votes of a thread is replaced."""
    cast_vote(1, 1, uuid.uuid4())
    live.kill_backends()
    cast_vote(1, 1, uuid.uuid4())
    assert tally() == {1: 2}


def test_a_cancelled_wait_for_the_standby_is_no_confirmation(live: Server, tally: Tally) -> None:
    """The server answers success with a warning; the vote waits on instead."""

    def waits_again(before: int) -> bool:
        return before not in (live.waiting_for_standby() or [before])

    with live.setting("synchronous_standby_names", "nobody"):
        voter = cast_in_thread()
        for _ in range(2):
            wait_until(live.waiting_for_standby)
            (pid,) = live.waiting_for_standby()
            live.sql("SELECT pg_cancel_backend(%s)", pid)
            wait_until(partial(waits_again, pid))
        assert not voter.done()
    assert voter.result(20) is False  # counted by the first attempt, confirmed by the last
    assert tally() == {1: 1}


def test_a_repeat_waits_for_the_standby_too(live: Server, tally: Tally) -> None:
    """A row that is visible here, but perhaps nowhere else, is not vouched for."""
    token = uuid.uuid4()
    with live.setting("synchronous_standby_names", "nobody"):
        first = cast_in_thread(token=token)
        wait_until(live.waiting_for_standby)
        live.sql("SELECT pg_terminate_backend(%s)", live.waiting_for_standby()[0])
        wait_until(lambda: tally() == {1: 1})  # visible, and on no standby
        second = cast_in_thread(token=token)
        wait_until(lambda: len(live.waiting_for_standby()) >= 1)
        time.sleep(0.5)
        assert not first.done()
        assert not second.done()
    assert (first.result(20), second.result(20)) == (False, False)
    assert tally() == {1: 1}


def test_an_unconfirmed_vote_can_be_sent_again(live: Server, tally: Tally, client: Client, settings: Settings) -> None:
    """After the deadline: 503, when to come back, and a form with the same vote."""
    settings.VOTE_DEADLINE_SECONDS = 0.5
    vote = {"choice": "2", "token": str(uuid.uuid4())}
    with live.unreachable("default"):
        started = time.monotonic()
        response = client.post("/polls/1/vote/", vote, secure=True)
        assert 0.5 <= time.monotonic() - started < 2
    assert response.status_code == 503
    assert int(response["Retry-After"]) > 0
    page = response.content.decode()
    assert f'name="token" value="{vote["token"]}"' in page
    assert 'name="choice" value="2"' in page
    assert "counts once" in page
    assert tally() == {}  # the standby's entry point would have taken it here: it was not asked
    for _ in range(2):
        response = client.post("/polls/1/vote/", vote, secure=True)
        assert (response.status_code, response["Location"]) == (302, "/polls/1/results/")
    assert tally() == {2: 1}


@pytest.mark.parametrize("sqlstate", ["53100", "57014"])
def test_a_server_out_of_resources_is_no_fault_of_the_page(
    live: Server, tally: Tally, client: Client, sqlstate: str
) -> None:
    """A full disk is not retried, but answered with the same page."""
    vote = {"choice": "2", "token": str(uuid.uuid4())}
    with failing(live, sqlstate):
        response = client.post("/polls/1/vote/", vote, secure=True)
    assert response.status_code == 503
    assert vote["token"] in response.content.decode()
    assert tally() == {}


def test_the_log_tells_the_story_in_single_lines(
    live: Server, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    """A line for each kind of failure and one for the end; no line for each attempt."""
    with caplog.at_level(logging.WARNING), failing(live, "57P01", times=3):
        cast_vote(1, 1, uuid.uuid4())
    first, last = (record.getMessage() for record in caplog.records)
    assert first.startswith("vote: attempt 1 failed after 0.0")
    assert first.endswith("default: SQLSTATE 57P01: made up")
    assert last.startswith("vote: done at attempt 4 after 0.")
    settings.VOTE_DEADLINE_SECONDS = 0.3
    with (
        failing(live, "57P01", times=1000),
        pytest.raises(DatabaseUnavailableError, match=r"given up after \d+ attempts in 0.3"),
    ):
        cast_vote(1, 1, uuid.uuid4())
