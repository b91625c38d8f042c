"""Maintenance is cut off at three steps and run again, while people vote: it goes on with what is left."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.acceptance import lab, load
from tests.acceptance.test_backup import stanza, wait_for_the_first_backup
from tests.acceptance.test_packages import AGE, old
from tests.acceptance.test_site import assert_nothing_is_left_to_do

# Up to five runs of a playbook, most of them on all hosts.
pytestmark = pytest.mark.timeout(3600)


def cut_off_three_times(steps: tuple[str, str, str], *arguments: str) -> load.Load:
    """Cut a playbook off at each of these tasks or plays, then let it end, and return the votes of that time."""
    with load.votes(5) as votes:
        for step in steps:
            lab.cut_off(f"[{step}]", *arguments)
        run = lab.playbook(*arguments)
        assert run.returncode == 0, run.stdout + run.stderr
    return votes


def assert_no_vote_failed(votes: load.Load, tell: Callable[[str], None]) -> None:
    """Check that each vote was confirmed and is in the ledger, and say how long none was confirmed."""
    tell(f"{votes.longest_silence():.1f} s without a confirmed vote")
    assert votes.failed() == []
    assert votes.confirmed() <= lab.ledger(lab.primary())
    lab.assert_explained(lab.primary())


@pytest.mark.usefixtures("whole_cluster")
def test_update(tell: Callable[[str], None]) -> None:
    """While packages are exchanged, while a role restarts what it looks after, and while the primary is handed over."""
    hosts = {host: ["etcd-server", f"postgresql-{lab.major(host)}"] for host in lab.group("postgres")}
    hosts |= {host: ["haproxy", "nginx"] for host in lab.group("app")}
    for host, packages in hosts.items():
        assert lab.run(host, "python3", "-", *packages, stdin=AGE).returncode == 0
        assert old(host, packages) == packages
    votes = cut_off_three_times(
        (
            "update_packages | Upgrade",
            "update_restart | Restart what a role looks after, in its way",
            "switchover | Hand the primary role over",
        ),
        "playbooks/update.yml",
    )
    assert_no_vote_failed(votes, tell)
    for host, packages in hosts.items():
        assert old(host, packages) == []
        assert "patroni" not in lab.on(host).check_output("needrestart -b -l -r l")
    assert_nothing_is_left_to_do()


@pytest.mark.usefixtures("whole_cluster")
def test_restart_of_the_databases(tell: Callable[[str], None]) -> None:
    """While each of the two restarts, and while the primary is handed over."""
    shown = "show max_connections"
    usual = lab.sql(lab.primary(), shown)
    raised = json.dumps({"patroni_parameters": {"max_connections": int(usual) + 5}})
    site = ("site.yml", "-l", "postgres", "--tags", "patroni")
    assert lab.playbook(*site, "-e", raised).returncode == 0
    votes = cut_off_three_times(
        ("Restart the standbys", "Relieve the primary", "Restart the former primary"), "playbooks/restart-databases.yml"
    )
    assert_no_vote_failed(votes, tell)
    assert {lab.sql(host, shown) for host in lab.group("postgres")} == {str(int(usual) + 5)}
    for arguments in (site, ("playbooks/restart-databases.yml",)):
        assert lab.playbook(*arguments).returncode == 0
    assert {lab.sql(host, shown) for host in lab.group("postgres")} == {usual}
    assert_nothing_is_left_to_do()


@pytest.mark.usefixtures("whole_cluster")
def test_replaced_host(tell: Callable[[str], None]) -> None:
    """Between the lost voter and the new one, while the data is copied, and while the last roles are set up."""
    host = lab.standby()
    lab.put_a_bare_vm_in_place_of(host)
    votes = cut_off_three_times(
        (
            "etcd : join | Remove the lost member and add the new one",
            "patroni : service | Wait until this member runs",
            "filebeat : Install Filebeat",
        ),
        "playbooks/replace-host.yml",
        "-e",
        f"host={host}",
    )
    assert_no_vote_failed(votes, tell)
    assert_nothing_is_left_to_do()


@pytest.mark.usefixtures("whole_cluster")
def test_changed_secrets(tell: Callable[[str], None]) -> None:
    """While etcd's users change, while the app learns its password, and while Elasticsearch's change."""
    votes = cut_off_three_times(
        (
            "etcd : users | Manage users and their roles",
            "polls : install | Create the folders and write the configuration",
            "elasticsearch : state | Wait for the cluster and keep its passwords, roles, users and lifecycle policy",
        ),
        "playbooks/rotate-secrets.yml",
        "-e",
        "secrets=all",
    )
    assert_no_vote_failed(votes, tell)
    assert_nothing_is_left_to_do()


@pytest.mark.usefixtures("whole_cluster")
def test_changed_authority(tell: Callable[[str], None]) -> None:
    """While both are made known, while the new one signs, and before the former one is put away."""
    votes = cut_off_three_times(
        (
            "etcd : Restart a member that runs on older ones",
            "certificates : sign | Sign it on the control node",
            "Put the former authority away",
        ),
        "playbooks/rotate-ca.yml",
    )
    assert_no_vote_failed(votes, tell)
    assert_nothing_is_left_to_do()


@pytest.mark.usefixtures("whole_cluster")
def test_restore() -> None:
    """While it recovers, while data is exchanged, and while the last backup is taken. Votes wait, or are refused."""
    wait_for_the_first_backup()
    with load.votes() as kept:
        lab.wait_until("votes that stay", lambda: len(kept.sent) > 40, 10)
    moment = lab.sql(lab.primary(), "select now()")
    with load.votes() as given_up:
        lab.wait_until("votes that are given up", lambda: len(given_up.sent) > 40, 10)
    cut_off_three_times(
        (
            "restore_first | Restore and recover",
            "restore_first | Put the old data aside and the restored data in its place",
            "restore_restore | Take a full backup of what there is now",
        ),
        "playbooks/restore.yml",
        "-e",
        json.dumps({"restore_time": moment, "restore_confirmed": stanza()}),
    )
    ledger = lab.ledger(lab.primary())
    assert kept.confirmed() <= ledger
    assert given_up.confirmed() & ledger == set()
    for host in lab.group("postgres"):
        assert lab.ledger(host) == ledger
        lab.assert_explained(host)
    assert lab.playbook("playbooks/restore.yml", "-e", "restore_step=drop").returncode == 0
    assert_nothing_is_left_to_do()
