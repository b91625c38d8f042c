"""A vote counts exactly once."""

import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from django.db import connections
from testkit import Server, cast_in_thread, wait_until

from polls.models import Choice
from polls.voting import UnknownChoiceError, cast_vote

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "failover1"])
Tally = Callable[[], dict[int, int]]


def test_a_token_counts_once_and_for_its_first_choice(tally: Tally) -> None:
    """A repeat is acknowledged, not counted, and cannot change the choice."""
    token = uuid.uuid4()
    assert cast_vote(1, 1, token) is True
    assert cast_vote(1, 1, token) is False
    assert cast_vote(1, 2, token) is False
    assert tally() == {1: 1}


@pytest.mark.parametrize("choice", [3, 99, -1, 10**30])
def test_a_choice_must_belong_to_the_question(tally: Tally, choice: int) -> None:
    """A choice of another question, or none at all, is refused and leaves no trace."""
    with pytest.raises(UnknownChoiceError):
        cast_vote(1, choice, uuid.uuid4())
    assert tally() == {}


def test_concurrent_votes_are_all_counted(tally: Tally) -> None:
    """Votes for the same few choices at the same time add up."""
    voters = [cast_in_thread(*vote) for _ in range(20) for vote in ((1, 1), (1, 2), (1, 1), (2, 4))]
    assert all(voter.result(20) for voter in voters)
    assert tally() == {1: 40, 2: 20, 4: 20}


def test_the_same_token_at_the_same_time_counts_once(tally: Tally) -> None:
    """Exactly one of many simultaneous senders finds the vote to be new."""
    token = uuid.uuid4()
    voters = [cast_in_thread(1, choice, token) for _ in range(10) for choice in (1, 2)]
    assert Counter(voter.result(20) for voter in voters) == {True: 1, False: 19}
    assert sum(tally().values()) == 1


@pytest.mark.usefixtures("live")
def test_a_vote_is_one_statement(
    django_assert_num_queries: Callable[[int], AbstractContextManager[object]],
) -> None:
    """One statement without a transaction around it: one round trip, nothing half done."""
    with django_assert_num_queries(1):
        cast_vote(1, 1, uuid.uuid4())
    assert connections["default"].get_autocommit()


def test_a_choice_deleted_meanwhile_is_an_unknown_choice(live: Server, tally: Tally) -> None:
    """The vote waits for the deletion and is then refused."""
    with live.connect() as other, other, other.cursor() as cursor:
        cursor.execute("DELETE FROM polls_openingcount WHERE choice_id = 8")
        cursor.execute("DELETE FROM polls_choice WHERE id = 8")
        voter = cast_in_thread(3, 8)
        wait_until(lambda: live.backends("wait_event_type = 'Lock'"))
    with pytest.raises(UnknownChoiceError):
        voter.result(20)
    assert tally() == {}


def test_votes_for_one_choice_queue(live: Server, tally: Tally) -> None:
    """One vote waits at the row, the others wait for their turn, and those for another choice do not."""
    with live.connect() as other, other, other.cursor() as cursor:
        cursor.execute("UPDATE polls_choice SET choice_text = 'Still much' WHERE id = 1")
        voters = [cast_in_thread(1, 1) for _ in range(5)]
        wait_until(lambda: len(live.backends("wait_event = 'advisory'")) == 4)
        assert len(live.backends("wait_event = 'transactionid'")) == 1
        assert cast_in_thread(1, 2).result(20)
    assert all(voter.result(20) for voter in voters)
    assert tally() == {1: 5, 2: 1}


def test_saving_a_choice_keeps_votes_cast_meanwhile(tally: Tally) -> None:
    """An edit of the text, in the admin for instance, does not put an old tally back."""
    choice = Choice.objects.get(pk=1)
    cast_vote(1, 1, uuid.uuid4())
    choice.choice_text = "Nothing works"
    choice.save()
    assert tally() == {1: 1}
    assert Choice.objects.get(pk=1).choice_text == "Nothing works"
