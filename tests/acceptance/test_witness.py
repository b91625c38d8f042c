"""The primary's VM is lost: a witness ends its lease; without a witness, Patroni does it by itself."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance import lab, load

WITNESSES = lab.group("witness")
# Longer than the hold-off after the last relief and the time that a new leader has to have led.
READY_SECONDS = 120
# Longer than the lease.
TAKEOVER_SECONDS = 60
# The VM boots, and its database follows the new primary.
REJOIN_SECONDS = 120


def status(host: str) -> dict[str, Any]:
    """Return what a witness says about itself."""
    found: dict[str, Any] = json.loads(lab.on(host).check_output("cat /run/patroni-witness/status.json"))
    return found


def is_ready() -> bool:
    """Say whether one witness would act now."""
    return [status(host)["ready"] for host in WITNESSES].count(True) == 1


def relieved(begun: float) -> list[str]:
    """Return what the witnesses have written about relieving a leader since ``begun`` (seconds of the epoch)."""
    lines: list[str] = []
    for host in WITNESSES:
        said = lab.run(host, "journalctl", "--unit=patroni-witness", f"--since=@{int(begun)}", "--output=cat").stdout
        lines += [line for line in said.splitlines() if line.startswith("relieving ")]
    return lines


@contextmanager
def switched_off(host: str) -> Iterator[None]:
    """Take a VM's power away, and give it back."""
    subprocess.run(["docker", "kill", f"{lab.NAME}-{host}"], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "start", f"{lab.NAME}-{host}"], check=True, capture_output=True)


def lose_the_primary() -> tuple[str, str, load.Stream]:
    """Switch the primary's VM off while people vote, until the other is primary; return both, and the votes."""
    old, new = lab.primary(), lab.standby()
    with load.votes() as votes:
        time.sleep(2)
        with switched_off(old):
            lab.wait_until(
                f"{new} is primary",
                lambda: lab.sql(new, "select pg_is_in_recovery()") == "f",
                TAKEOVER_SECONDS,
            )
            time.sleep(3)
    return old, new, votes


def assert_nothing_lost(new: str, votes: load.Stream) -> None:
    """Wait until the pair is whole, then look for every acknowledged vote in every database."""

    def whole() -> bool:
        listing = {(member["Role"], member["State"]) for member in lab.members(new)}
        return listing == {("Leader", "running"), ("Sync Standby", "streaming")}

    lab.wait_until("a whole cluster", whole, REJOIN_SECONDS)
    lab.wait_until("the same choices in every database", lab.same_everywhere, 10)
    acknowledged = {vote.token for vote in votes.outcomes if vote.status == 302}
    assert acknowledged
    for host in lab.group("postgres"):
        assert acknowledged <= lab.ledger(host)
        lab.assert_explained(host)


def test_one_witness_holds_the_lock() -> None:
    """All of them see the pair well; one acts."""
    lab.wait_until("a witness that is ready", is_ready, READY_SECONDS)
    found = [status(host) for host in WITNESSES]
    assert [one["acts"] for one in found].count(True) == 1
    assert {one["leader"] for one in found} == {lab.primary()}
    assert all(one["standbys"] == [lab.standby()] for one in found)


def test_status_shows_the_witnesses() -> None:
    """As a person asks for it."""
    lab.wait_until("a witness that is ready", is_ready, READY_SECONDS)
    shown = lab.playbook("playbooks/status.yml").stdout
    assert shown.count("ready to act: ") == 1
    assert shown.count("stands by: ") == len(WITNESSES) - 1


@pytest.mark.usefixtures("whole_cluster")
def test_losing_the_vm_of_the_primary_is_noticed_by_a_witness(tell: Callable[[str], None]) -> None:
    """It relieves the primary, once, and the standby has every acknowledged vote."""
    lab.wait_until("a witness that is ready", is_ready, READY_SECONDS)
    begun = time.time()
    old, new, votes = lose_the_primary()
    tell(f"longest time without an acknowledged vote {votes.longest_silence(302):.1f} s")
    assert relieved(begun) == [f"relieving {old} in favour of {new}: done."]
    assert_nothing_lost(new, votes)


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
    _, new, votes = lose_the_primary()
    tell(f"longest time without an acknowledged vote {votes.longest_silence(302):.1f} s")
    assert relieved(begun) == []
    assert_nothing_lost(new, votes)
