"""The playbooks on a site that is up. That site.yml changes nothing is molecule's step idempotence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance import lab


def recap(output: str) -> dict[str, dict[str, int]]:
    """Return Ansible's counters for each host."""
    found = {}
    for host, counters in re.findall(r"^(\S+) +: (ok=.*)$", output, re.MULTILINE):
        found[host] = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", counters)}
    return found


def changes(output: str) -> dict[str, int]:
    """Return the number of changes for each host of the inventory."""
    counters = recap(output)
    assert set(counters) - {"localhost"} == set(lab.hosts())
    return {host: counters[host]["changed"] for host in lab.hosts()}


NOTHING = dict.fromkeys(lab.hosts(), 0)


def assert_nothing_is_left_to_do(*arguments: str) -> None:
    """Check that site.yml changes nothing."""
    site = lab.playbook("site.yml", *arguments)
    assert site.returncode == 0, site.stdout
    assert changes(site.stdout) == NOTHING, site.stdout


@pytest.mark.usefixtures("whole_cluster")
def test_dry_run_announces_no_change_after_a_switchover() -> None:
    """The primary role moves to the standby by the playbook; the dry run then finds nothing to change.

    Nor has any test before this one left anything: faults, upgraded packages, mended files.
    """
    old = lab.primary()
    switchover = lab.playbook("playbooks/switchover.yml")
    assert switchover.returncode == 0, switchover.stdout
    assert lab.primary() != old
    assert_nothing_is_left_to_do("--check", "--diff")
    assert lab.primary() != old


@pytest.mark.usefixtures("whole_cluster")
def test_status_names_every_member() -> None:
    """The table says who is primary and who follows it."""
    status = lab.playbook("playbooks/status.yml")
    assert status.returncode == 0, status.stdout
    for host in lab.group("postgres"):
        role = "primary" if host == lab.primary() else "standby"
        assert re.search(rf"{host} +{lab.address(host)} +{role} +(running|streaming)", status.stdout)


@pytest.mark.usefixtures("whole_cluster")
def test_smoke_playbook_finds_its_votes() -> None:
    """What `make lab` ends with works on a site that has been used."""
    smoke = lab.playbook("playbooks/smoke.yml")
    assert smoke.returncode == 0, smoke.stdout
    assert {counters["changed"] for counters in recap(smoke.stdout).values()} == {0}


def test_site_without_backups(tmp_path: Path) -> None:
    """With nobody in group backup nothing is asked of a host that is not there."""
    folder = lab.changed_inventory(tmp_path, lambda groups: groups["backup"].update(hosts={}))
    # No role has this tag: what is left are the checks before and the summary after.
    for arguments in (["playbooks/status.yml"], ["site.yml", "--tags", "none"]):
        run = lab.playbook("-i", str(folder), *arguments)
        assert run.returncode == 0, run.stdout
        assert "none: the inventory has no host in group backup" in run.stdout
