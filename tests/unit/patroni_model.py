"""A small model of Patroni 4.1's failover, in which the witness's real decision code acts.

Two members: ``a`` leads, ``b`` is its synchronous standby. Each runs the steps of Patroni's loop one at a time, with
the view of etcd that it loaded before; the witness looks at one time and its transaction arrives at any later one.
``explore`` takes every order of all steps. The names in brackets are the functions of Patroni that a step stands for.

More happens here than in reality: nothing takes time, so that whatever may come in between does; the witness waits for
one look instead of three or four; and its caution that safety does not need, such as looking whether the standby still
receives, is not there. With ``always`` it may take a leader that answers for one that is cut off from etcd and from its
standby, whatever is true.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from patroni_witness.decision import Answer, Compare, Delete, Key, Limits, Look, Memory, Relief, View, decide

LIMITS = Limits(misses=1, settled=1)
# In seconds, longer than any loop.
LONG = 99.0
# Revisions up to this one are those of the beginning.
START = 10


class Leader(NamedTuple):
    """The key ``leader``."""

    name: str
    created: int
    modified: int


class Sync(NamedTuple):
    """The key ``sync``: who leads, and the standby that it can not acknowledge without."""

    leader: str
    standby: str
    modified: int


class Seen(NamedTuple):
    """What a member has loaded of both."""

    leader: Leader | None
    sync: Sync


class State(NamedTuple):
    """Everything at one time."""

    # etcd
    revision: int = START
    leader: Leader | None = Leader("a", 2, 2)
    sync: Sync = Sync("a", "b", 3)
    relief: int = 0
    # What is seen by whoever takes in the last transaction change by change and is halfway through.
    halfway: Seen | None = None
    # Member a: its place in the loop, what it loaded, whether its lease lives, its PostgreSQL
    a_at: str = "load"
    a_seen: Seen | None = None
    a_lease: bool = True
    a_primary: bool = True
    a_frozen: bool = False
    # It waits for b before it acknowledges (synchronous_standby_names).
    a_waits: bool = True
    # It has acknowledged what b does not have.
    a_ahead: bool = False
    # Member b
    b_at: str = "load"
    b_seen: Seen | None = None
    b_primary: bool = False
    # Links of a: to b, to etcd, to the witness
    ab: bool = True
    ae: bool = True
    aw: bool = True
    # The witness, and transactions that have not arrived; the older one may be that of another or of a former witness.
    memory: Memory = Memory()
    sent: tuple[Relief, ...] = ()


FAULTS = frozenset({"cut ab", "cut ae", "cut aw", "mend", "freeze", "thaw", "hold-off ends", "start anew"})


def isolated(state: State) -> bool:
    """Say whether a answers, and reaches neither etcd nor b."""
    return not state.ab and not state.ae


def always(state: State) -> bool:
    """Let the witness be wrong in every way."""
    return True


class Rules(NamedTuple):
    """What may happen in an exploration, and which mistakes the witness makes."""

    faults: frozenset[str] = FAULTS
    # That act at the same time.
    witnesses: int = 1
    # The lease can end while a is frozen: between two rounds of its loop, or anywhere in one.
    expiry: str = "never"
    # Whether the witness trusts a leader that has taken its lease and not yet read etcd anew.
    hasty: bool = False
    # When the witness may take an answering leader for one that is cut off from etcd and from its standby.
    alarm: Callable[[State], bool] = always
    # Changes what the witness sees before it decides, and what it sends.
    doctor: Callable[[View], View] = lambda view: view
    spoil: Callable[[Relief], Relief] = lambda relief: relief


def trouble(state: State) -> str:
    """Return what must never be, or nothing."""
    if state.b_primary and state.a_ahead:
        return "the promoted member lacks an acknowledged vote"
    if state.b_primary and state.a_primary and not state.a_frozen and not state.a_waits:
        return "both members can acknowledge"
    return ""


Step = tuple[str, State]


def write_sync(state: State, seen: Sync, leader: str, standby: str) -> State | None:
    """Write ``sync`` if it is as it was seen (write_sync_state)."""
    if state.sync.modified != seen.modified:
        return None
    revision = state.revision + 1
    return state._replace(revision=revision, sync=Sync(leader, standby, revision), halfway=None)


def create_leader(state: State, name: str) -> State | None:
    """Take the lease if nobody has it (attempt_to_acquire_leader)."""
    if state.leader is not None:
        return None
    revision = state.revision + 1
    return state._replace(revision=revision, leader=Leader(name, revision, revision), halfway=None)


def replicating(state: State) -> bool:
    """Say whether b receives from a."""
    return state.ab and state.a_primary and not state.a_frozen and not state.b_primary


def demoted(state: State) -> State:
    """Stop a's PostgreSQL being primary (demote)."""
    return state._replace(a_primary=False, a_at="load", a_seen=None)


def without_etcd(state: State) -> State:
    """Go on as primary while b agrees, otherwise stop (_handle_dcs_error, check_failsafe_topology)."""
    agreed = state.ab and not state.b_primary
    return state._replace(a_at="load", a_seen=None) if agreed else demoted(state)


def views(state: State) -> list[Seen]:
    """Return what a member may load now (KVCache.copy, while KVCache takes in events one by one)."""
    return [Seen(state.leader, state.sync), *([state.halfway] if state.halfway else [])]


def steps_of_a(state: State) -> Iterator[Step]:  # noqa: C901, PLR0912 - one arm for each place in Patroni's loop
    """Yield what a may do next (_run_cycle)."""
    if state.a_frozen or not state.a_primary:
        return
    back = state._replace(a_at="load", a_seen=None)
    if not state.ae and state.a_at != "acknowledge alone":
        yield "a misses etcd", without_etcd(state)
        return
    seen = state.a_seen
    match state.a_at:
        case "load":
            for view in views(state):
                if view.leader is None:
                    yield "a sees no leader", state._replace(a_at="race", a_seen=view)
                elif view.leader.name == "a":
                    yield "a sees itself lead", state._replace(a_at="renew", a_seen=view)
                else:
                    yield "a sees b lead", demoted(state)
        case "renew":  # update_lock: a lease that lives is renewed, and nobody looks whether the key is there
            if state.a_lease:
                yield "a renews its lease", state._replace(a_at="synchronize")
            elif state.leader is None and (taken := create_leader(state, "a")):
                yield "a makes its key anew", taken._replace(a_lease=True, a_at="synchronize")
            elif state.leader is not None and state.leader.name != "a":
                yield "a finds b's key", demoted(state)
        case "race":  # is_healthiest_node lets a running primary have it
            taken = create_leader(state, "a")
            yield "a races", taken._replace(a_lease=True, a_at="reload") if taken else back
        case "reload":
            for view in views(state):
                yield "a loads anew", state._replace(a_at="synchronize", a_seen=view)
        case "synchronize":  # _process_multisync_replication
            assert seen is not None
            if seen.sync.leader != "a" or (seen.sync.standby and not replicating(state)):
                written = write_sync(state, seen.sync, "a", "")
                yield "a takes b out", written._replace(a_at="acknowledge alone", a_seen=None) if written else back
            elif not seen.sync.standby and replicating(state):
                waits = state._replace(a_waits=True)
                added = None if state.a_ahead else write_sync(waits, seen.sync, "a", "b")
                yield "a adds b", added._replace(a_at="load", a_seen=None) if added else back._replace(a_waits=True)
            elif not seen.sync.standby:
                yield "a stays alone", state._replace(a_at="acknowledge alone", a_seen=None)
            else:
                yield "a has nothing to do", back
        case "acknowledge alone":  # set_synchronous_standby_names
            yield "a waits for nobody", back._replace(a_waits=False)


def steps_of_b(state: State) -> Iterator[Step]:  # noqa: C901 - likewise
    """Yield what b may do next, until it is primary."""
    seen = state.b_seen
    match state.b_at:
        case _ if state.b_primary:
            return
        case "load":
            for view in views(state):
                if view.leader is None and "b" in (view.sync.standby, view.sync.leader):
                    yield "b sees no leader", state._replace(b_at="ask", b_seen=view)
                elif view.leader is not None and view.leader.name == "b":
                    yield "b sees itself lead", state._replace(b_at="write", b_seen=view)
        case "ask":  # is_healthiest_node, fetch_node_status
            alive = state.ab and state.a_primary and not state.a_frozen
            yield "b asks a", state._replace(b_at="load", b_seen=None) if alive else state._replace(b_at="take")
        case "take":
            taken = create_leader(state, "b")
            yield "b takes the lease", (taken or state)._replace(b_at="reload" if taken else "load", b_seen=None)
        case "reload":
            for view in views(state):
                yield "b loads anew", state._replace(b_at="write", b_seen=view)
        case "write":  # process_sync_replication_prepromote
            assert seen is not None
            written = write_sync(state, seen.sync, "b", "")
            yield "b writes sync", (written or state)._replace(b_at="promote" if written else "load", b_seen=None)
        case "promote":
            yield "b is promoted", state._replace(b_primary=True)


def steps_of_votes(state: State) -> Iterator[Step]:
    """Yield an acknowledgement without b, and b's catching up."""
    if state.a_primary and not state.a_frozen and not state.a_waits and not state.a_ahead:
        yield "a acknowledges alone", state._replace(a_ahead=True)
    if state.a_ahead and replicating(state):
        yield "b catches up", state._replace(a_ahead=False)


def steps_of_faults(state: State, rules: Rules) -> Iterator[Step]:
    """Yield what breaks and heals."""
    for link in ("ab", "ae", "aw"):
        whole = getattr(state, link)
        turned = State(*(state._asdict() | {link: not whole}).values())
        if whole and f"cut {link}" in rules.faults:
            yield f"cut {link}", turned
        if not whole and "mend" in rules.faults:
            yield f"mend {link}", turned
    if "freeze" in rules.faults and not state.a_frozen:
        yield "a freezes", state._replace(a_frozen=True)
    if "thaw" in rules.faults and state.a_frozen:
        yield "a thaws", state._replace(a_frozen=False)
    if "hold-off ends" in rules.faults and state.relief:
        yield "the hold-off ends", state._replace(relief=0)
    # A lease made during b's race outlasts it: the race takes seconds, a lease at least 20 of them.
    racing = state.b_at in {"ask", "take"}
    resting = rules.expiry == "anywhere" or (rules.expiry == "between rounds" and state.a_at == "load")
    if state.a_frozen and state.a_lease and resting and not racing:
        after = state._replace(a_lease=False)
        if state.leader is not None and state.leader.name == "a":
            after = after._replace(leader=None, revision=state.revision + 1, halfway=None)
        yield "the lease ends", after


def view_of(state: State) -> View:
    """Return what the witness reads in etcd."""
    value = json.dumps({"leader": state.sync.leader, "sync_standby": state.sync.standby, "quorum": 0})
    return View(
        leader=Key(*state.leader) if state.leader else None,
        sync=Key(value, 3, state.sync.modified),
        config=Key('{"synchronous_mode": true}', 1, 1),
        relief=Key("", state.relief, state.relief) if state.relief else None,
        status=Key('{"optime": 1}', 4, 4),
    )


def carry_out(state: State, relief: Relief) -> State:
    """Let the transaction arrive in etcd."""
    view = view_of(state)
    state = state._replace(sent=tuple(one for one in state.sent if one is not relief))
    for compare in relief.compares:
        key = getattr(view, compare.key)
        if (key.modified if key else 0) != compare.modified:
            return state
    revision = state.revision + 1
    moments = [Seen(state.leader, state.sync)]
    for change in relief.changes:
        leader, sync = moments[-1]
        if change.key == "leader":
            moments.append(Seen(None, sync))
        elif change.key == "sync" and not isinstance(change, Delete):
            said = json.loads(change.value)
            moments.append(Seen(leader, Sync(said["leader"], said["sync_standby"], revision)))
    leader, sync = moments[-1]
    halfway = moments[1] if len(moments) > len(("before", "after")) else None
    return state._replace(revision=revision, leader=leader, sync=sync, halfway=halfway, relief=revision)


def steps_of_witness(state: State, rules: Rules) -> Iterator[Step]:
    """Yield a look with the decision that follows from it, and the arrival of what was sent."""
    for relief in state.sent:
        yield "a transaction arrives", carry_out(state, relief)
    if len(state.sent) >= rules.witnesses:
        return
    if state.a_at == "reload" and not rules.hasty:
        # Limits.settled is many times as long as this takes.
        return
    heard = state.aw and not state.a_frozen
    b = Answer(primary=state.b_primary, streaming=replicating(state), received=1)
    for alarm in (False, True) if heard and state.a_primary and rules.alarm(state) else (False,):
        a = Answer(primary=state.a_primary, written=2 if alarm else 1) if heard else None
        look = Look(rules.doctor(view_of(state)), {"a": a, "b": b})
        # With limits of one look, what was counted before decides nothing: for an alarm it has always been long enough.
        memory = replace(state.memory, untold=2 if alarm else 0, untold_seconds=LONG)
        memory, verdict = decide(memory, look, LIMITS)
        memory = replace(memory, misses=0, waiting=0, untold=0, untold_seconds=0.0)
        sent = (*state.sent, rules.spoil(verdict.relief)) if verdict.relief else state.sent
        label = "the witness takes a for cut off" if alarm else "the witness looks"
        yield label, state._replace(memory=memory, sent=sent)
    if "start anew" in rules.faults:
        yield "the witness starts anew", state._replace(memory=Memory())


def steps(state: State, rules: Rules) -> Iterator[Step]:
    """Yield everything that may happen next."""
    yield from steps_of_a(state)
    yield from steps_of_b(state)
    yield from steps_of_votes(state)
    yield from steps_of_faults(state, rules)
    if rules.witnesses:
        yield from steps_of_witness(state, rules)


def canonical(state: State) -> State:
    """Return the same state with its revisions numbered anew, so that histories that end alike are one."""
    seens = [seen for seen in (state.halfway, state.a_seen, state.b_seen) if seen]
    used = {state.sync.modified, state.relief, *(seen.sync.modified for seen in seens)}
    for leader in (state.leader, *(seen.leader for seen in seens)):
        used |= {leader.created, leader.modified} if leader else set()
    sight = state.memory.sight
    used |= {sight.term} if sight else set()
    used |= {compare.modified for relief in state.sent for compare in relief.compares}
    new = {old: START + number for number, old in enumerate(sorted(one for one in used if one > START), 1)}
    if state.revision == START + len(new):
        return state

    def lead(leader: Leader | None) -> Leader | None:
        return leader and Leader(leader.name, *(new.get(one, one) for one in leader[1:]))

    def sync(old: Sync) -> Sync:
        return old._replace(modified=new.get(old.modified, old.modified))

    def see(seen: Seen | None) -> Seen | None:
        return seen and Seen(lead(seen.leader), sync(seen.sync))

    def compares(relief: Relief) -> tuple[Compare, ...]:
        return tuple(replace(one, modified=new.get(one.modified, one.modified)) for one in relief.compares)

    memory = state.memory
    if sight is not None:
        memory = replace(memory, sight=replace(sight, term=new.get(sight.term, sight.term)))
    return state._replace(
        revision=START + len(new),
        leader=lead(state.leader),
        sync=sync(state.sync),
        relief=new.get(state.relief, state.relief),
        halfway=see(state.halfway),
        a_seen=see(state.a_seen),
        b_seen=see(state.b_seen),
        memory=memory,
        sent=tuple(replace(one, compares=compares(one)) for one in state.sent),
    )


def explore(rules: Rules, limit: int) -> tuple[int, str, list[str]]:
    """Take every order of all steps; return the number of states, what went wrong, and how it came to that."""
    start = State()
    came: dict[State, tuple[str, State] | None] = {start: None}
    frontier = [start]
    while frontier:
        following = []
        for state in frontier:
            for label, raw in steps(state, rules):
                after = canonical(raw)
                if after in came:
                    continue
                came[after] = (label, state)
                if wrong := trouble(after):
                    return len(came), wrong, history(came, after)
                following.append(after)
        assert len(came) <= limit, f"more than {limit} states: the model does not end"
        frontier = following
    return len(came), "", []


def history(came: dict[State, tuple[str, State] | None], state: State) -> list[str]:
    """Return the steps that led to a state."""
    labels = []
    while (step := came[state]) is not None:
        label, state = step
        labels.append(label)
    return labels[::-1]
