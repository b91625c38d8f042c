"""When a leader is relieved of its lease, and by which transaction. Only thought: no clock, no network.

Why it is safe is in docs/adr/0014. In short: Patroni keeps a standby in the key ``sync`` only while the primary cannot
acknowledge without it, and takes it out by compare-and-set before the primary may. The transaction that removes the key
``leader`` holds only while ``sync`` is as it was read, and writes it anew, so that an old primary in the middle of its
loop can no longer take the standby out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

TRUE = (True, "true", "on", "yes", "1")
# A primary writes its position to etcd every ``loop_wait`` seconds, of which this is Patroni's default; it may be late
# by this many.
LOOP_WAIT = 10
LATE = 1


@dataclass(frozen=True)
class Key:
    """A key of etcd."""

    value: str
    # Revisions of the store at which it was created and last written. Every write changes the second.
    created: int
    modified: int


@dataclass(frozen=True)
class View:
    """The keys that a decision rests on, at one revision that a majority of etcd stands behind; None for no key."""

    # Patroni's
    leader: Key | None = None
    sync: Key | None = None
    config: Key | None = None
    failover: Key | None = None
    status: Key | None = None
    # The witnesses' own: whether one has just acted.
    relief: Key | None = None


@dataclass(frozen=True)
class Answer:
    """What a member's Patroni says about its PostgreSQL."""

    primary: bool
    running: bool = True
    streaming: bool = False
    # Position up to which it has received the primary's log; and, of a primary, up to which it has written it.
    received: int = 0
    written: int = 0


@dataclass(frozen=True)
class Look:
    """What was seen at one time: etcd, unless it did not answer, and the members, None for one that did not."""

    view: View | None
    answers: Mapping[str, Answer | None]
    # When, in seconds of any clock that only goes on.
    at: float = 0.0


@dataclass(frozen=True)
class Sight:
    """A leader and its synchronous standbys as they were last seen, all well."""

    leader: str
    # The revision at which the leader's key was created: a leader elected anew is another one.
    term: int
    standbys: frozenset[str]


@dataclass(frozen=True)
class Memory:
    """What is remembered from one look to the next."""

    sight: Sight | None = None
    # Looks in a row at which the leader did not answer as primary, and those of them at which a standby did answer: one
    # at which nobody does may say more about who looks.
    misses: int = 0
    alone: int = 0
    # How far the standbys had received at the last look, added up, and whether that was further than the look before.
    received: int = 0
    receiving: bool = False
    # Looks at which all was well under this leader, and looks in a row at which its commits waited.
    settled: int = 0
    waiting: int = 0
    # A position that the leader had written and etcd has not heard of, for so many seconds; and when the last look was.
    untold: int = 0
    untold_seconds: float = 0.0
    at: float = 0.0


@dataclass(frozen=True)
class Limits:
    """How many looks a decision takes."""

    # In a row, at which the leader did not answer as primary, or at which its commits waited.
    misses: int = 3
    # At which it led and all was well before. A primary that has just taken its lease back may not yet have read what
    # it has to go by.
    settled: int = 20


@dataclass(frozen=True)
class Compare:
    """A condition of a transaction: this key was last written at that revision, 0 for no key."""

    key: str
    modified: int


@dataclass(frozen=True)
class Delete:
    """Remove a key."""

    key: str


@dataclass(frozen=True)
class Put:
    """Write a key; ``passing`` ones vanish by themselves after the hold-off."""

    key: str
    value: str
    passing: bool = False


@dataclass(frozen=True)
class Relief:
    """The transaction that takes the lease away: all of it or nothing."""

    leader: str
    standbys: frozenset[str]
    compares: tuple[Compare, ...]
    changes: tuple[Delete | Put, ...]
    # What the transaction leaves behind in etcd.
    note: str


@dataclass(frozen=True)
class Verdict:
    """What to do now, and why."""

    reason: str
    # True when a leader is lost and something forbids to act.
    held: bool = False
    relief: Relief | None = None


def parse(key: Key | None) -> dict[str, Any]:
    """Return the JSON object in a key, an empty one for anything else."""
    try:
        content = json.loads(key.value) if key else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def synchronous(view: View) -> frozenset[str]:
    """Return the standbys that the present leader has declared synchronous; none in Patroni's other modes."""
    sync = parse(view.sync)
    if view.leader is None or sync.get("leader") != view.leader.value:
        return frozenset()
    return frozenset(filter(None, str(sync.get("sync_standby") or "").split(",")))


def sighted(view: View, look: Look) -> Sight | None:
    """Return the leader and its standbys if all is well with them now."""
    if view.leader is None:
        return None
    leader = look.answers.get(view.leader.value)
    standbys = {name: look.answers.get(name) for name in synchronous(view)}
    well = {name for name, answer in standbys.items() if answer and answer.running and answer.streaming}
    if leader is None or not leader.primary or not leader.running or not well:
        return None
    return Sight(view.leader.value, view.leader.created, frozenset(well))


def commits_wait(memory: Memory, sight: Sight, look: Look) -> bool:
    """Say whether the leader has written what nobody receives: all standbys answer, and none has moved."""
    leader = look.answers.get(sight.leader)
    standbys = [look.answers.get(name) for name in sight.standbys]
    behind = [one.received for one in standbys if one and one.running and leader and 0 < one.received < leader.written]
    return len(behind) == len(standbys) and sum(behind) == memory.received


def listen(memory: Memory, look: Look, leader: Answer) -> tuple[int, float]:
    """Return a position that the leader had written and not told etcd, and for how long, in seconds.

    With its lease it renews the position that it has written, so that one which etcd does not hear of shows that the
    lease is not renewed. Time in which etcd could not be read does not count: nobody could write then, either.
    """
    if look.view is None:
        return memory.untold, memory.untold_seconds
    told = int(parse(look.view.status).get("optime") or 0)
    if memory.untold > told:
        return memory.untold, memory.untold_seconds + look.at - memory.at
    return (leader.written, 0.0) if leader.written > told else (0, 0.0)


def cut_off(memory: Memory, look: Look, limits: Limits) -> bool:
    """Say whether a leader that answers reaches neither its standby nor etcd."""
    config = parse(look.view.config) if look.view else {}
    loop_wait = config.get("loop_wait", LOOP_WAIT)
    silent = isinstance(loop_wait, int) and memory.untold_seconds > loop_wait + LATE
    return silent and memory.waiting >= limits.misses


def remember(memory: Memory, look: Look, limits: Limits) -> Memory:
    """Return what to remember after a look; nothing is counted further than ``limits``."""
    sight, settled = memory.sight, memory.settled
    if look.view is not None:
        now = sighted(look.view, look)
        leader = look.view.leader
        if sight and (leader is None or (leader.value, leader.created) != (sight.leader, sight.term)):
            # Gone, or elected anew: that one has to be seen first.
            memory, sight, settled = Memory(), None, 0
        if now is not None:
            sight, settled = now, min(settled + 1, limits.settled)
    if sight is None:
        return Memory()

    received = sum(answer.received for name in sight.standbys if (answer := look.answers.get(name)))
    answer = look.answers.get(sight.leader)
    if answer is None or not answer.primary:
        misses = min(memory.misses + 1, limits.misses)
        if not any(look.answers.get(name) for name in sight.standbys):
            return Memory(sight, misses, memory.alone, memory.received, memory.receiving, settled)
        alone = min(memory.alone + 1, limits.misses)
        return Memory(sight, misses, alone, received, received > memory.received, settled)
    waiting = min(memory.waiting + 1, limits.misses) if commits_wait(memory, sight, look) else 0
    # The leader answers. A standby that only failed to answer stays in sight; one that is synchronous no more goes, and
    # so does one that streams no more, unless commits wait for it or the leader is stopping.
    if look.view is not None:
        said = {name for name in sight.standbys if (one := look.answers.get(name)) and not one.streaming}
        remaining = sight.standbys & synchronous(look.view) - (said if answer.running and not waiting else set())
        if not remaining:
            return Memory()
        sight = replace(sight, standbys=remaining)
    untold, seconds = listen(memory, look, answer)
    return Memory(
        sight,
        received=received,
        settled=settled,
        waiting=waiting,
        untold=untold,
        untold_seconds=seconds,
        at=look.at,
    )


def objection(view: View, memory: Memory, look: Look, *, settled: bool) -> str:
    """Return what forbids to relieve the leader in sight, or nothing."""
    config = parse(view.config)
    standbys = memory.sight.standbys & synchronous(view) if memory.sight else frozenset()
    able = [name for name in standbys if (answer := look.answers.get(name)) and answer.running and not answer.primary]
    objections = (
        (config.get("synchronous_mode") not in TRUE, "the cluster does not replicate synchronously"),
        (config.get("pause") in TRUE, "the cluster is paused for maintenance"),
        # After a switchover Patroni leaves an empty object in the key.
        (view.failover is not None and view.failover.value not in {"", "{}"}, "a switchover is under way"),
        (view.relief is not None, "a leader was relieved only just now"),
        (not settled, "it had led for too short a time"),
        (not standbys, "no standby is synchronous"),
        (not able, "the synchronous standby does not answer either"),
        (memory.receiving, "the standby still receives from it"),
    )
    return next((text for forbidden, text in objections if forbidden), "")


def ready(memory: Memory, look: Look, limits: Limits) -> bool:
    """Say whether the leader would be relieved if it was lost from now on."""
    settled = memory.settled >= limits.settled
    return look.view is not None and not objection(look.view, memory, look, settled=settled)


def decide(memory: Memory, look: Look, limits: Limits, note: Mapping[str, str] | None = None) -> tuple[Memory, Verdict]:
    """Take in a look, and say what to do; ``note`` is left in etcd for the hold-off, beside the leader's name."""
    memory = remember(memory, look, limits)
    return memory, judge(memory, look, limits, note or {})


def judge(memory: Memory, look: Look, limits: Limits, note: Mapping[str, str]) -> Verdict:
    """Say what follows from what is remembered and seen."""
    view, sight = look.view, memory.sight
    isolated = cut_off(memory, look, limits)
    lost = sight is not None and (isolated or memory.misses >= limits.misses)
    how = "is lost: it does not reach etcd, and its standby receives nothing" if isolated else "is lost"
    if view is None:
        return Verdict("etcd does not answer with a majority", held=lost)
    if view.leader is None or sight is None:
        unseen = f"{view.leader.value} has not been seen together with a synchronous standby" if view.leader else ""
        return Verdict(unseen or "nobody holds the lease")
    if not lost:
        return Verdict(f"{sight.leader} and its synchronous standby {', '.join(sorted(sight.standbys))} are well")
    why = objection(view, memory, look, settled=memory.settled >= limits.settled)
    if not why and not isolated and memory.alone < limits.misses:
        why = "the synchronous standby did not always answer either"
    if why:
        return Verdict(f"{sight.leader} {how}; nothing is done: {why}", held=True)
    return Verdict(f"{sight.leader} {how}; it is relieved", relief=relieve(view, sight, note))


def relieve(view: View, sight: Sight, note: Mapping[str, str]) -> Relief:
    """Return the transaction that removes the leader's key as it is in ``view``."""
    compares = [
        Compare(name, key.modified if key else 0)
        for name, key in (
            ("leader", view.leader),
            ("sync", view.sync),
            ("config", view.config),
            ("failover", view.failover),
            ("relief", view.relief),
        )
    ]
    left = json.dumps({"leader": sight.leader, **note})
    changes = (
        # In this order: Patroni takes in a transaction change by change, and must never see the new revision of "sync"
        # beside the old leader.
        Delete("leader"),
        Put("sync", view.sync.value if view.sync else ""),
        Put("relief", left, passing=True),
    )
    return Relief(sight.leader, sight.standbys & synchronous(view), tuple(compares), changes, left)


def relieved(view: View) -> str | None:
    """Return the member that was relieved and does not lead again: for a while it may believe that it does."""
    name = parse(view.relief).get("leader")
    leads = view.leader is not None and view.leader.value == name
    return name if isinstance(name, str) and not leads else None
