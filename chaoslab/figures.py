"""Figures from requests and samples. Pure functions; times are wall-clock seconds, durations seconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from chaoslab.records import Request
from chaoslab.sampler import Finding, Sample, Watch
from chaoslab.voter import OK

# A sample older than this says nothing about its node any more.
STALE_SECONDS = 3.0
# The pair counts as whole again when it has been whole for this long.
WHOLE_SECONDS = 2.0
QUANTILES = (0.5, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without an acknowledged vote. is_open: it had not ended when the observation did."""

    begin: float
    end: float
    is_open: bool = False

    @property
    def seconds(self) -> float:
        """How long it lasted, or at least lasted if it is open."""
        return self.end - self.begin


def gaps(votes: Iterable[Request], begin: float, end: float) -> list[Gap]:
    """Return the times between one acknowledgement and the next, in order.

    The edges count: the first gap begins when the first vote was due, and the last ends when the last was due, if no
    acknowledgement came later. An answer that came after the last vote was due still ends a gap: those who voted
    during an outage at the end waited that long.
    """
    times = sorted(vote.done for vote in votes if vote.outcome == OK)
    found = [Gap(before, after) for before, after in itertools.pairwise([begin, *times])]
    last = times[-1] if times else begin
    return [*found, Gap(last, end, is_open=True)] if end > last or not times else found


def longest(found: Iterable[Gap]) -> Gap:
    """Return the longest gap, the first of equals; raise ValueError when there is none."""
    return max(found, key=lambda gap: gap.seconds)


def resumed(votes: Sequence[Request], rate: float) -> bool:
    """Tell whether votes were acknowledged at the end: any of those due in the last second, or the last five."""
    last = max(vote.intended for vote in votes)
    window = max(1.0, 5 / rate)
    return any(vote.outcome == OK for vote in votes if vote.intended >= last - window)


def quantiles(waits: Iterable[float]) -> dict[str, float]:
    """Return quantiles of waiting times as {"p50": seconds, ...}; none for no waits. Each is a wait that happened."""
    ordered = sorted(waits)
    if not ordered:
        return {}
    names = {1.0: "max"}
    return {
        names.get(quantile, f"p{quantile * 100:.0f}"): ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]
        for quantile in QUANTILES
    }


@dataclass(frozen=True, slots=True)
class Split:
    """What an outage was made of; each stage in seconds, in this order.

    to_gone: from the last acknowledged vote until the primary was seen not to be it any more, or another in its place.
    to_elected: from then until a node was seen with the leader's lease: detection and election.
    to_promoted: from then until that node was seen as primary: promotion.
    to_vote: from then until the next acknowledged vote: routing and the first vote.
    """

    to_gone: float
    to_elected: float
    to_promoted: float
    to_vote: float


def split(gap: Gap, samples: Sequence[Sample]) -> Split | None:
    """Split an outage by the samples in it, to within their interval.

    Returns None where that is not possible: an outage that is open, or whose votes failed for another reason than the
    primary (it was primary all the time).
    """
    leader = next((one.node for one in reversed(samples) if one.answered <= gap.begin and one.writable), None)
    inside = [one for one in samples if gap.begin < one.answered <= gap.end + STALE_SECONDS]
    # Cut off, it may believe in its lease for longer than the other needs to take over.
    gone = next((one for one in inside if (one.lease if one.node != leader else not one.writable)), None)
    if gap.is_open or leader is None or gone is None or gone.asked > gap.end:
        return None
    later = [one for one in inside if one.answered >= gone.answered and (gone.node == leader or one.node != leader)]
    elected = next((one for one in later if one.lease), None)
    promoted = next((one for one in later if one.writable), None)
    if elected is None or promoted is None:
        return None
    marks = [gap.begin]
    # A missing answer was missing from when it was asked for. Samples lag behind the votes by up to their interval.
    for moment in (gone.asked, elected.answered, promoted.answered):
        marks.append(min(max(moment, marks[-1]), gap.end))
    marks.append(gap.end)
    return Split(*(after - before for before, after in itertools.pairwise(marks)))


def findings(samples: Iterable[Sample]) -> list[Finding]:
    """Return every proof that two nodes were writable at once."""
    watch = Watch()
    return [found for sample in samples if (found := watch.feed(sample))]


def is_whole(latest: Mapping[str, Sample], now: float, nodes: Iterable[str]) -> bool:
    """Tell whether one node is writable, all others stream from it, and one of them is its synchronous standby."""
    known = [latest.get(node) for node in nodes]
    fresh = [one for one in known if one is not None and one.error is None and now - one.answered < STALE_SECONDS]
    if len(fresh) < len(known):
        return False
    primaries = [one for one in fresh if one.writable]
    standbys = [one for one in fresh if one.role == "replica" and one.replication_state == "streaming"]
    return (
        len(primaries) == 1
        and len(primaries) + len(standbys) == len(known)
        and all(one.timeline == primaries[0].timeline for one in standbys)
        and "sync" in primaries[0].standbys.values()
    )


def whole_times(samples: Sequence[Sample]) -> Iterator[tuple[float, bool]]:
    """Yield, for every sample, its time and whether the cluster was whole then."""
    nodes = sorted({one.node for one in samples})
    latest: dict[str, Sample] = {}
    for one in samples:
        # One answer that is late on a busy machine is no outage: the one before it holds until it is stale.
        if one.error is None or one.answered - latest.get(one.node, one).answered >= STALE_SECONDS:
            latest[one.node] = one
        yield one.answered, is_whole(latest, one.answered, nodes)


def whole_after(samples: Sequence[Sample], begin: float) -> float | None:
    """Return how long after `begin` the cluster was whole for good: at least 2 s, or to the end; None for never."""
    since: float | None = None
    for time, whole in whole_times(samples):
        if time < begin:
            continue
        if not whole:
            since = None
        elif since is None:
            since = time
        elif time - since >= WHOLE_SECONDS:
            return since - begin
    return None if since is None else since - begin


def promotions(samples: Iterable[Sample], begin: float) -> int:
    """Return how many times another node than the primary before it began a new timeline after `begin`.

    A primary that was stopped and comes back as primary begins a timeline, too, and is no takeover.
    """
    count, leader, timeline = 0, "", 0
    for one in samples:
        if one.writable and one.timeline is not None and one.timeline > timeline:
            count += one.answered > begin and leader not in {"", one.node}
            leader, timeline = one.node, one.timeline
    return count


@dataclass(frozen=True, slots=True)
class Segment:
    """A time during which a node said the same."""

    node: str
    begin: float
    end: float
    role: str
    timeline: int | None


def describe(sample: Sample) -> str:
    """Say what a node is, in a word or two. A primary is alone while no standby is synchronous."""
    if sample.error is not None:
        return "no answer"
    if sample.role == "primary":
        if not sample.lease:
            return "primary without lease"
        return (
            "primary" if {"sync", "quorum"} & set(sample.standbys.values()) else "primary without a synchronous standby"
        )
    if sample.role == "replica" and sample.lease:
        return "being promoted"
    if sample.role == "replica" and sample.replication_state == "streaming":
        return "synchronous standby" if sample.sync_standby else "standby"
    return "starting or catching up" if sample.role == "replica" else "not running"


def segments(samples: Sequence[Sample]) -> list[Segment]:
    """Merge samples into segments, node by node."""
    found: list[Segment] = []
    for node in sorted({one.node for one in samples}):
        for one in (sample for sample in samples if sample.node == node):
            role = describe(one)
            begin = one.asked if one.error else one.answered
            if found and found[-1].node == node:
                last = found.pop()
                same = (last.role, last.timeline) == (role, one.timeline)
                begin = max(last.begin, begin)
                found.append(replace(last, end=one.answered if same else begin))
                if same:
                    continue
            found.append(Segment(node, begin, one.answered, role, one.timeline))
    return found
