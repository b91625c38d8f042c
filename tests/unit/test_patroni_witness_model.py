"""No order of events makes the witness lose an acknowledged vote, and the model sees what would."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from patroni_witness.decision import Relief, View
from tests.unit.patroni_model import FAULTS, Rules, explore, isolated

LIMIT = 200_000


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(faults=frozenset({"cut ab", "cut ae", "mend", "hold-off ends"}), alarm=isolated),
        Rules(faults=FAULTS - {"mend", "start anew"}, expiry="between rounds"),
        Rules(faults=FAULTS - {"mend"}, witnesses=2),
    ],
    ids=["every fault", "leaders relieved where they are cut off", "leases that end", "two witnesses at once"],
)
def test_no_acknowledged_vote_is_lost(rules: Rules) -> None:
    """However the old primary is frozen and cut off: one member acknowledges, and the promoted one has every vote."""
    states, wrong, story = explore(rules, LIMIT)
    assert not wrong, story
    assert states > 1000


def spoil_changes(*keys: str) -> Callable[[Relief], Relief]:
    """Return what makes the witness send only the changes of ``keys``, in that order."""
    return lambda relief: replace(
        relief, changes=tuple(change for key in keys for change in relief.changes if change.key == key)
    )


def leave_out(key: str) -> Callable[[Relief], Relief]:
    """Return what makes the witness not compare ``key``."""
    return lambda relief: replace(relief, compares=tuple(one for one in relief.compares if one.key != key))


def pretend_synchronous(view: View) -> View:
    """Take b for a synchronous standby whatever etcd says."""
    if view.sync is None or view.leader is None:
        return view
    value = json.dumps({"leader": view.leader.value, "sync_standby": "b"})
    return replace(view, sync=replace(view.sync, value=value))


MISTAKES = {
    "does not write sync anew": Rules(spoil=spoil_changes("leader", "relief")),
    "writes sync before it removes the leader": Rules(spoil=spoil_changes("sync", "leader", "relief")),
    "does not compare sync": Rules(spoil=leave_out("sync")),
    "does not compare the leader": Rules(
        spoil=leave_out("leader"), faults=FAULTS - {"mend", "start anew"}, expiry="between rounds"
    ),
    "acts while no standby is synchronous": Rules(doctor=pretend_synchronous),
    "trusts a leader that has only just led": Rules(hasty=True),
    "does not write sync anew and relieves a leader that answers": Rules(
        spoil=spoil_changes("leader", "relief"), faults=frozenset({"cut ab"})
    ),
    "does not write sync anew and relieves a leader that is cut off": Rules(
        spoil=spoil_changes("leader", "relief"), faults=frozenset({"cut ab", "cut ae", "mend"}), alarm=isolated
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_would_be_seen(mistake: str) -> None:
    """With each of these the model finds a way to lose a vote: so the tests above mean something."""
    _, wrong, story = explore(MISTAKES[mistake], LIMIT)
    assert wrong
    assert story[-1] in {"b is promoted", "a waits for nobody", "a acknowledges alone"}


def test_patroni_alone() -> None:
    """Without a witness the model holds, too, but for a primary that freezes within a round and outlives its lease."""
    assert not explore(Rules(witnesses=0, expiry="between rounds"), LIMIT)[1]
    _, wrong, story = explore(Rules(witnesses=0, expiry="anywhere"), LIMIT)
    assert wrong
    assert "the lease ends" in story
