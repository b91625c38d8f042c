"""Gaps, splits and what samples prove."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoslab import figures
from chaoslab.records import Request
from chaoslab.sampler import Sample, Watch, parse

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

TIMES = st.lists(st.floats(0, 100), max_size=30)


def vote(done: float, outcome: str = "ok", intended: float | None = None) -> Request:
    """Return a vote that was answered at `done`."""
    due = done - 0.02 if intended is None else intended
    return Request(0, due, due, done, 302 if outcome == "ok" else 503, outcome)


def test_gap_is_between_confirmations_and_counts_the_edges() -> None:
    """A run that begins or ends in silence does not hide it."""
    found = figures.gaps([vote(2.0), vote(2.5), vote(9.0, "info")], begin=0.0, end=10.0)
    assert [(gap.begin, gap.end, gap.is_open) for gap in found] == [(0, 2, False), (2, 2.5, False), (2.5, 10, True)]
    assert figures.longest(found).seconds == 7.5


def test_answers_after_the_last_vote_end_the_gap() -> None:
    """Who voted in an outage at the end waited until the answer, not until we stopped sending."""
    found = figures.gaps([vote(1.0), vote(9.0, intended=2.0)], begin=0.0, end=3.0)
    assert figures.longest(found) == figures.Gap(1.0, 9.0)


def test_no_confirmation_at_all_is_one_open_gap() -> None:
    """The whole run was an outage."""
    assert figures.gaps([vote(1.0, "fail")], 0.0, 5.0) == [figures.Gap(0.0, 5.0, is_open=True)]


@given(TIMES, st.randoms(use_true_random=False))
def test_gaps_do_not_depend_on_order_and_fill_the_run(times: list[float], chance: random.Random) -> None:
    """Together they are the run."""
    votes = [vote(time) for time in times]
    found = figures.gaps(votes, 0.0, 100.0)
    chance.shuffle(votes)
    assert figures.gaps(votes, 0.0, 100.0) == found
    assert sum(gap.seconds for gap in found) == pytest.approx(100.0)


@given(TIMES.filter(bool), st.integers(0, 29))
def test_a_lost_confirmation_never_shortens_the_longest_gap(times: list[float], which: int) -> None:
    """The figure cannot be bettered by failing."""
    votes = [vote(time) for time in times]
    fewer = [one for number, one in enumerate(votes) if number != which % len(votes)]
    assert figures.longest(figures.gaps(fewer, 0, 100)).seconds >= figures.longest(figures.gaps(votes, 0, 100)).seconds


def test_quantiles_are_waits_that_happened() -> None:
    """No interpolation."""
    assert figures.quantiles(float(n) for n in range(1, 101)) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert figures.quantiles([]) == {}


def test_resumed_looks_at_the_end() -> None:
    """Votes of the last second tell."""
    votes = [vote(n / 20) for n in range(100)]
    assert figures.resumed(votes, 20)
    assert not figures.resumed([*votes, *(vote(5 + n / 20, "info") for n in range(40))], 20)


def sample(node: str, asked: float, **values: Any) -> Sample:
    """Return an answer that took 10 ms."""
    return Sample(node, asked, asked + 0.01, **values)


PRIMARY: dict[str, Any] = {"lease": True, "role": "primary", "state": "running"}
STANDBY: dict[str, Any] = {"role": "replica", "state": "running", "replication_state": "streaming"}


def failover() -> list[Sample]:
    """Return samples: a is primary until 10, b gets the lease at 12, is primary at 13; a rejoins at 20."""
    found = []
    for tick in range(150):
        time = tick / 5
        if time < 10:
            first = PRIMARY | {"timeline": 1, "standbys": {"b": "sync"}}
        elif time < 20:
            first = {"error": "TimeoutError"}
        else:
            first = STANDBY | {"timeline": 2}
        second = STANDBY | {"timeline": 1, "lease": time >= 12}
        if time >= 13:
            second = PRIMARY | {"timeline": 2, "standbys": {"a": "sync"} if time >= 20 else {}}
        found += [sample("a", time, **first), sample("b", time, **second)]
    return found


CUT_OFF = [sample("a", one.asked, **PRIMARY, timeline=1) if one.node == "a" else one for one in failover()]


@pytest.mark.parametrize(
    ("samples", "stages"), [(failover(), (0.02, 2.01, 1.0, 0.49)), (CUT_OFF, (2.02, 0.01, 1.0, 0.49))]
)
def test_split_names_the_stages(samples: list[Sample], stages: tuple[float, ...]) -> None:
    """Gone (also when another has the lease before it notices), elected, promoted, first vote; together the outage."""
    parts = figures.split(figures.Gap(9.98, 13.5), samples)
    assert parts is not None
    assert (parts.to_gone, parts.to_elected, parts.to_promoted, parts.to_vote) == pytest.approx(stages)
    assert sum(stages) == pytest.approx(13.5 - 9.98)


def test_split_is_none_where_the_primary_was_not_the_reason() -> None:
    """A gap with the primary in place, one before any sample, and one that did not end."""
    assert figures.split(figures.Gap(2.0, 4.0), failover()) is None
    assert figures.split(figures.Gap(-5.0, -4.0), failover()) is None
    assert figures.split(figures.Gap(-0.5, 1.0), failover()) is None
    assert figures.split(figures.Gap(9.98, 13.5, is_open=True), failover()) is None


def test_whole_again_counts_from_the_heal() -> None:
    """One writable, the other streaming and synchronous."""
    assert figures.whole_after(failover(), 15.0) == pytest.approx(5.01, abs=0.21)
    assert figures.whole_after(failover(), 2.0) == pytest.approx(0.0, abs=0.21)
    assert figures.whole_after([one for one in failover() if one.answered < 19], 15.0) is None


def test_one_late_answer_does_not_break_the_whole() -> None:
    """A busy machine is no outage."""
    samples = failover()
    late = [
        sample("b", one.asked, error="TimeoutError") if one.node == "b" and 4 <= one.asked < 4.3 else one
        for one in samples
    ]
    assert figures.whole_after(late, 3.0) == pytest.approx(0.0, abs=0.21)


def test_promotions_are_new_timelines() -> None:
    """Counted from the given moment."""
    assert figures.promotions(failover(), 5.0) == 1
    assert figures.promotions(failover(), 14.0) == 0
    assert figures.promotions([], 0.0) == 0


def test_segments_follow_each_node() -> None:
    """What the time line draws, without holes."""
    found = [(one.node, one.role, one.timeline) for one in figures.segments(failover())]
    assert found == [
        ("a", "primary", 1),
        ("a", "no answer", None),
        ("a", "standby", 2),
        ("b", "standby", 1),
        ("b", "being promoted", 1),
        ("b", "primary without a synchronous standby", 2),
        ("b", "primary", 2),
    ]
    for before, after in zip(figures.segments(failover()), figures.segments(failover())[1:], strict=False):
        assert before.node != after.node or before.end == after.begin


def test_a_failover_is_no_violation() -> None:
    """Nor is a handover within one round."""
    assert figures.findings(failover()) == []
    quick = [
        sample("a", 0.0, **PRIMARY, timeline=1),
        Sample("b", 0.0, 0.9, **PRIMARY, timeline=2),
        sample("a", 1.0, **STANDBY),
        sample("b", 1.0, **PRIMARY, timeline=2),
    ]
    assert figures.findings(quick) == []


def test_two_writable_nodes_are_a_violation_within_two_rounds() -> None:
    """Each answers before and after the other: then both were writable at once."""
    watch = Watch()
    samples = [sample(node, tick / 5, **PRIMARY, timeline=1) for tick in range(3) for node in ("a", "b")]
    found = [watch.feed(one) for one in samples]
    assert [one.kind for one in found if one] != []
    assert {one.kind for one in found if one} == {"violation"}
    assert found.index(next(one for one in found if one)) <= 4


def test_a_primary_without_the_lease_is_no_violation() -> None:
    """Votes are not sent to it."""
    samples = [
        sample(node, tick / 5, **(PRIMARY | {"lease": node == "a"})) for tick in range(20) for node in ("a", "b")
    ]
    assert figures.findings(samples) == []


def naming(kind: str, last: float) -> dict[str, Any]:
    """Return what a primary says that names the other as a standby until then."""
    return PRIMARY | {"timeline": 1, "standbys": {"b": kind} if last > 0 else {}}


# What the old primary says at each time, when the other becomes primary, what that proves, and until when.
STORIES: dict[str, tuple[Callable[[float], dict[str, Any]], float, str, float]] = {
    "thawed, told by its silence": (
        lambda time: {"error": "TimeoutError"} if 10 <= time < 20 else PRIMARY | {"timeline": 1}, 15, "stale", 22,
    ),
    "cut off, needs the new one to confirm": (lambda time: naming("sync", 12 - time), 10, "stale", 30),
    "cut off, needs nobody": (lambda time: naming("async", 12 - time), 10, "violation", 30),
    "stepped down and back": (
        lambda time: STANDBY if 8 <= time < 15 else naming("sync", 5 - time), 10, "violation", 17,
    ),
    "away and back": (
        lambda time: {"error": "OSError"} if 8 <= time < 15 else naming("sync", 5 - time), 10, "stale", 17,
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_a_stale_primary_becomes_a_violation(story: str) -> None:
    """After a moment to notice, or the length of a lease; what it named before it was away binds it no more."""
    first, promoted, kind, until = STORIES[story]
    samples = []
    for tick in range(200):
        time = tick / 5
        samples.append(sample("a", time, **first(time)))
        samples.append(sample("b", time, **(PRIMARY | {"timeline": 2} if time >= promoted else STANDBY)))
    found = figures.findings(samples)
    assert {one.kind for one in found if one.time < until} == {kind}
    assert {one.kind for one in found if one.time > until + 0.5} == {"violation"}


@pytest.mark.parametrize(("named", "kind"), [("sync", "stale"), ("async", "violation")])
def test_what_bound_a_primary_is_not_forgotten_when_it_steps_down(named: str, kind: str) -> None:
    """Its last claim is told by the new one's next answer, which may come after word that it has stepped down."""
    samples = [
        sample("a", 9.0, **PRIMARY, timeline=1, standbys={"b": named}),
        sample("b", 9.0, **PRIMARY, timeline=2),
        sample("a", 9.2, **(PRIMARY | {"state": "stopping"})),
        sample("a", 9.4, **STANDBY),
        sample("b", 9.6, **PRIMARY, timeline=2),
    ]
    assert [one.kind for one in figures.findings(samples)] == [kind]


@given(st.binary(max_size=50))
def test_any_answer_becomes_a_sample(body: bytes) -> None:
    """A node that talks nonsense does not end the sampling."""
    assert parse("a", 0.0, 0.1, 200, body).node == "a"


def test_answers_of_patroni_are_read() -> None:
    """As Patroni 4.1 words them."""
    primary = parse(
        "a", 0, 1, 200,
        b'{"state": "running", "role": "primary", "xlog": {"location": 5}, "timeline": 3,'
        b' "replication": [{"application_name": "b", "state": "streaming", "sync_state": "sync"}]}',
    )  # fmt: skip
    assert primary.writable
    assert (primary.timeline, primary.position, primary.standbys) == (3, 5, {"b": "sync"})
    standby = parse(
        "b", 0, 1, 503,
        b'{"state": "running", "role": "replica", "xlog": {"received_location": 5, "replayed_location": 4},'
        b' "sync_standby": true, "timeline": 3, "replication_state": "streaming"}',
    )  # fmt: skip
    assert not standby.writable
    assert not parse("a", 0, 1, 503, b"{}").lease
    assert (standby.position, standby.sync_standby, standby.replication_state) == (4, True, "streaming")
    assert not parse("b", 0, 1, 503, b'{"state": "stopped", "role": "replica"}').writable
