"""The check of the ledger: whatever the run was, what is planted is found, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chaoslab import tokens
from chaoslab.ledger import Check, check
from chaoslab.records import Contents, Request, RequestLog, Row, Tally

MARK, OTHER_MARK = "0123456789abcde", "fedcba987654321"
CHOICES = (1, 2)

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


def cast(token: str, choice: int, outcome: str) -> Request:
    """Return a vote; when does not matter here."""
    return Request(0, 0.0, 0.0, 0.0, 0, outcome, token, choice)


def run_of(votes: Iterable[Request]) -> RequestLog:
    """Return the log of a voter that ran to its end."""
    return RequestLog(MARK, 20.0, 0.0, tuple(votes), ended=0.0)


def contents(rows: list[Row]) -> Contents:
    """Return a database with these rows and tallies that agree with them."""
    tallies = {choice: Tally(7 + sum(row.choice == choice for row in rows), 7) for choice in CHOICES}
    return Contents(tuple(rows), tallies)


Run = tuple[RequestLog, Contents, list[Row]]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Think up a run in which nothing goes wrong: its votes, the ledger before, and the rows after.

    Unknown outcomes land or not, and others vote before and meanwhile.
    """
    outcomes = draw(st.lists(st.sampled_from(["ok", "ok", "fail", "info", "info, landed"]), min_size=1, max_size=30))
    attempts = [cast(tokens.token(MARK, n), n % 2 + 1, one.split(",")[0]) for n, one in enumerate(outcomes)]
    earlier = [Row(str(UUID(int=n, version=4)), n % 2 + 1) for n in range(draw(st.integers(0, 5)))]
    others = [Row(tokens.token(OTHER_MARK, n), 1) for n in range(draw(st.integers(0, 3)))]
    landed = [
        Row(one.token, one.choice)
        for one, said in zip(attempts, outcomes, strict=True)
        if said in {"ok", "info, landed"}
    ]
    return run_of(attempts), contents(earlier), [*earlier, *others, *landed]


def wrong(found: Check) -> set[str]:
    """Return the names of all that is wrong."""
    values: dict[str, object] = {name: found.union(name) for name in ("lost", "lost_earlier", "unexpected", "altered")}
    values |= {name: getattr(found, name) for name in ("doubled", "differing", "tally_difference")}
    return {name for name, value in values.items() if value}


def both(rows: list[Row]) -> dict[str, Contents]:
    """Return two databases with the same rows."""
    return {"postgres-1": contents(rows), "postgres-2": contents(list(reversed(rows)))}


@given(runs())
def test_a_good_run_is_good(story: Run) -> None:
    """Votes whose outcome nobody knows may land or not, others may vote: all that is no fault."""
    run, before, rows = story
    found = check(run, before, both(rows))
    assert not wrong(found)
    unknown = {attempt.token for attempt in run.requests if attempt.outcome == "info"}
    assert found.landed == len(unknown & {row.token for row in rows})
    assert len(found.union("foreign")) == sum(tokens.is_of(OTHER_MARK, row.token) for row in rows)


@given(runs(), st.data())
def test_a_removed_row_is_a_lost_vote(story: Run, data: st.DataObject) -> None:
    """The negative control: remove any confirmed row from one database, and it is named there and there alone."""
    run, before, rows = story
    confirmed = [attempt.token for attempt in run.requests if attempt.outcome == "ok"]
    assume(confirmed)
    token = data.draw(st.sampled_from(confirmed))
    after = both(rows) | {"postgres-2": contents([row for row in rows if row.token != token])}
    found = check(run, before, after)
    assert wrong(found) == {"lost", "differing"}
    assert found.nodes["postgres-1"].lost == ()
    assert found.nodes["postgres-2"].lost == (token,)
    assert found.differing == (token,)


@given(runs(), st.data())
def test_a_row_of_before_is_missed(story: Run, data: st.DataObject) -> None:
    """A vote from before the run that is gone is lost, too."""
    run, before, rows = story
    assume(before.rows)
    row = data.draw(st.sampled_from(before.rows))
    found = check(run, before, both([one for one in rows if one != row]))
    assert wrong(found) == {"lost_earlier"}
    assert found.union("lost_earlier") == (row.token,)


@given(runs())
def test_a_row_nobody_sent_is_unexpected(story: Run) -> None:
    """A row with the run's mark that was never sent; unless the voter was killed, and may have sent it."""
    run, before, rows = story
    token = tokens.token(MARK, 1000)
    after = both([*rows, Row(token, 1)])
    found = check(run, before, after)
    assert wrong(found) == {"unexpected"}
    assert found.union("unexpected") == (token,)
    killed = check(replace(run, ended=None), before, after)
    assert not wrong(killed)
    assert token in killed.union("landed")


@given(runs())
def test_a_refused_vote_that_counts_is_unexpected(story: Run) -> None:
    """What a voter was told is refused must not count."""
    run, before, rows = story
    refused = cast(tokens.token(MARK, 1000), 2, "fail")
    found = check(replace(run, requests=(*run.requests, refused)), before, both([*rows, Row(refused.token, 2)]))
    assert wrong(found) == {"unexpected"}


@given(runs())
def test_votes_of_others_are_told_from_ours(story: Run) -> None:
    """Somebody else's vote is no fault."""
    run, before, rows = story
    token = tokens.token(OTHER_MARK, 1000)
    after = both([*rows, Row(token, 1)])
    found = check(run, before, after)
    assert not wrong(found)
    assert token in found.union("foreign")


@given(runs(), st.data())
def test_a_row_twice_is_a_double(story: Run, data: st.DataObject) -> None:
    """As a broken index would have it: the same token twice, and the tally with it."""
    run, before, rows = story
    assume(rows)
    found = check(run, before, both([*rows, data.draw(st.sampled_from(rows))]))
    assert wrong(found) == {"doubled"}
    assert found.doubled == 1


@given(runs(), st.integers(1, 5), st.sampled_from(CHOICES))
def test_a_tally_beyond_its_ledger_is_a_double(
    story: Run,
    surplus: int,
    choice: int,
) -> None:
    """The ledger has one row, the page says two votes."""
    run, before, rows = story
    right = contents(rows)
    tallies = {**right.tallies, choice: Tally(right.tallies[choice].votes + surplus, 7)}
    found = check(run, before, {"postgres-1": right, "postgres-2": replace(right, tallies=tallies)})
    assert wrong(found) == {"doubled", "tally_difference"}
    assert (found.doubled, found.tally_difference) == (surplus, surplus)


@given(runs(), st.sampled_from(CHOICES))
def test_a_tally_short_of_its_ledger_is_seen(story: Run, choice: int) -> None:
    """A row whose vote does not show is no double, and a difference."""
    run, before, rows = story
    right = contents(rows)
    tallies = {**right.tallies, choice: Tally(right.tallies[choice].votes - 1, 7)}
    found = check(run, before, {"postgres-1": replace(right, tallies=tallies)})
    assert (found.doubled, found.tally_difference) == (0, 1)


@given(runs(), st.data())
def test_a_lost_row_whose_tally_stays_is_lost_and_not_double(
    story: Run,
    data: st.DataObject,
) -> None:
    """Deleting a row by hand leaves the tally: that is one wrong vote, not two."""
    run, before, rows = story
    confirmed = [attempt.token for attempt in run.requests if attempt.outcome == "ok"]
    assume(confirmed)
    token = data.draw(st.sampled_from(confirmed))
    right = contents(rows)
    found = check(run, before, {"a": replace(right, rows=tuple(row for row in right.rows if row.token != token))})
    assert (found.union("lost"), found.doubled, found.tally_difference) == ((token,), 0, 1)


@given(runs(), st.data())
def test_a_vote_for_another_choice_is_altered(story: Run, data: st.DataObject) -> None:
    """The token is there, and counts for somebody else."""
    run, before, rows = story
    known = [row for row in rows if not tokens.is_of(OTHER_MARK, row.token)]
    assume(known)
    row = data.draw(st.sampled_from(known))
    after = both([Row(one.token, 3 - one.choice) if one == row else one for one in rows])
    found = check(run, before, after)
    assert wrong(found) == {"altered"}
    assert found.union("altered") == (row.token,)


@given(runs(), st.randoms(use_true_random=False))
def test_order_does_not_matter(story: Run, chance: random.Random) -> None:
    """Neither the order of rows nor that of votes nor that of nodes changes anything."""
    run, before, rows = story
    spoiled = rows[1:]
    expected = check(run, before, both(spoiled))
    attempts, shuffled = list(run.requests), list(spoiled)
    chance.shuffle(attempts)
    chance.shuffle(shuffled)
    after = dict(reversed(both(shuffled).items()))
    assert check(replace(run, requests=tuple(attempts)), before, after) == expected


def test_different_opening_counts_are_a_difference() -> None:
    """Two databases that began with different counts are not the same data."""
    one, other = contents([]), contents([])
    other = replace(other, tallies={choice: Tally(8, 8) for choice in CHOICES})
    found = check(run_of(()), None, {"postgres-1": one, "postgres-2": other})
    assert found.differing == ("opening counts: 2 versions",)
    assert found.tally_difference == 0


def test_tables_are_compared_by_their_checksums() -> None:
    """Any table of the application, in whatever database it is missing or differs; but not while others vote."""
    run = run_of(())
    same, other = {"public.auth_user": "1 rows, checksum 7"}, {"public.auth_user": "1 rows, checksum 8"}
    tally = {1: Tally(0, 0)}
    left, right = Contents((), tally, same), Contents((), tally, other)
    assert check(run, None, {"a": left, "b": left}).tables == ()
    assert check(run, None, {"a": left, "b": right}).tables == ("public.auth_user",)
    assert check(run, None, {"a": left, "b": Contents((), tally)}).tables == ("public.auth_user",)
    theirs = Contents((Row("00000000-0000-4000-8000-000000000001", 1),), {1: Tally(1, 0)}, other)
    assert check(run, left, {"a": left, "b": theirs}).tables == ()


@given(st.integers(0, (1 << tokens.MARK_BITS) - 1), st.integers(0, (1 << tokens.NUMBER_BITS) - 1))
def test_tokens_are_uuids_that_tell_their_run(bits: int, number: int) -> None:
    """Every token is a valid UUID in its usual writing, and belongs to its run only."""
    mark = f"{bits:015x}"
    token = tokens.token(mark, number)
    assert str(UUID(token)) == token
    assert UUID(token).version == 8
    assert tokens.is_of(mark, token)
    assert not tokens.is_of(f"{bits ^ 1:015x}", token)


def test_token_numbers_are_checked() -> None:
    """A number that does not fit would be another vote's token."""
    with pytest.raises(ValueError, match="no vote number"):
        tokens.token(MARK, -1)
