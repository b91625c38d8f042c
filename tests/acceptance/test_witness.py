"""Witnesses are ready, and without any Patroni does the same later. What one does: test_chaos.py, the VM off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance import lab, load

WITNESSES = lab.group("witness")
# Longer than the lease.
TAKEOVER_SECONDS = 60
# The VM boots, and its database follows the new primary.
REJOIN_SECONDS = 120


def lose_the_primary() -> tuple[str, load.Load]:
    """Switch the primary's VM off while people vote, until the other is primary; return that, and the votes."""
    old, new = lab.primary(), lab.standby()
    with load.votes() as votes:
        time.sleep(2)
        with lab.switched_off(old):
            lab.wait_until(
                f"{new} is primary",
                lambda: lab.sql(new, "select pg_is_in_recovery()") == "f",
                TAKEOVER_SECONDS,
            )
            time.sleep(3)
    return new, votes


def assert_nothing_lost(new: str, votes: load.Load) -> None:
    """Wait until the pair is whole, then look for every acknowledged vote in every database."""
    lab.wait_until("a whole cluster", lambda: lab.is_whole(new), REJOIN_SECONDS)
    lab.wait_until("the same choices in every database", lab.same_everywhere, 10)
    assert votes.confirmed()
    for host in lab.group("postgres"):
        assert votes.confirmed() <= lab.ledger(host)
        lab.assert_explained(host)


def test_every_witness_is_ready() -> None:
    """All of them see the pair well, so that any of them may be lost."""
    lab.wait_until("witnesses that are ready", lab.witness_is_ready, lab.READY_SECONDS)
    found = [lab.witness(host) for host in WITNESSES]
    assert {one["leader"] for one in found} == {lab.primary()}
    assert all(one["standbys"] == [lab.standby()] for one in found)


@pytest.mark.usefixtures("whole_cluster")
def test_every_witness_is_ready_after_all_of_etcd_was_restarted() -> None:
    """A member that starts knows no login of before, so a witness has to log in there again."""
    lab.wait_until("witnesses that are ready", lab.witness_is_ready, lab.READY_SECONDS)
    for host in lab.group("etcd"):
        lab.on(host).check_output("systemctl restart etcd")
    # They look twice a second.
    time.sleep(3)
    lab.wait_until("witnesses that are ready again", lab.witness_is_ready, lab.READY_SECONDS)


def test_status_shows_the_witnesses() -> None:
    """As a person asks for it."""
    lab.wait_until("witnesses that are ready", lab.witness_is_ready, lab.READY_SECONDS)
    assert lab.playbook("playbooks/status.yml").stdout.count("ready to act: ") == len(WITNESSES)


@pytest.fixture
def without_witnesses() -> Iterator[None]:
    """Stop every witness until the test is over."""
    for host in WITNESSES:
        lab.on(host).check_output("systemctl stop patroni-witness")
    yield
    for host in WITNESSES:
        lab.on(host).check_output("systemctl start patroni-witness")


@pytest.mark.usefixtures("whole_cluster", "without_witnesses")
def test_without_a_witness_the_standby_takes_over_when_the_lease_ends(tell: Callable[[str], None]) -> None:
    """Later, and otherwise the same."""
    begun = time.time()
    new, votes = lose_the_primary()
    tell(f"longest time without an acknowledged vote {votes.longest_silence():.1f} s")
    assert lab.relieved(begun) == []
    assert_nothing_lost(new, votes)
