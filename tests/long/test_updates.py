"""Hosts are brought up to date, and settings that need a restart take effect, while people vote."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.acceptance import lab, load
from tests.acceptance.test_chaos import assert_green, experiment
from tests.acceptance.test_packages import old, processes


@pytest.mark.usefixtures("whole_cluster")
def test_every_host_is_brought_up_to_date_under_votes(tell: Callable[[str], None]) -> None:
    """One after the other. What ran on older files is restarted, but for supervisord, and nothing is left to do."""
    units = {host: ["etcd", "patroni"] for host in lab.group("postgres")} | {lab.group("app")[0]: ["etcd", "nginx"]}
    before = {host: processes(host, names) for host, names in units.items()}
    assert_green(experiment("playbooks/chaos-rolling-update.yml"), "rolling-update", tell)
    packages = ["curl", "etcd-server", "haproxy", "nginx", "pgbackrest", f"postgresql-{lab.major(lab.primary())}"]
    for host, names in units.items():
        after = processes(host, names)
        assert [name for name, old_one, new in zip(names, before[host], after, strict=True) if old_one == new] == []
        assert old(host, packages) == []
        outdated = lab.on(host).check_output("needrestart -b -l -r l | grep SVC || true").split()
        assert set(outdated) <= {"NEEDRESTART-SVC:", "supervisor.service", "supervisor"}


@pytest.mark.usefixtures("whole_cluster")
def test_a_setting_that_needs_a_restart_waits_for_its_playbook(tell: Callable[[str], None]) -> None:
    """Raised, then lowered to what it was, both under votes."""
    site = ("site.yml", "-l", "postgres", "--tags", "patroni")
    shown = "show max_connections"
    usual = lab.sql(lab.primary(), shown)
    more = str(int(usual) + 5)
    raised = ("-e", json.dumps({"patroni_parameters": {"max_connections": int(more)}}))
    with load.votes() as votes:
        for value, variables in ((more, raised), (usual, ())):
            assert lab.playbook(*site, *variables).returncode == 0
            assert lab.sql(lab.primary(), shown) != value
            assert "RESTART      pending on" in lab.playbook("playbooks/status.yml").stdout
            run = lab.playbook("playbooks/restart-databases.yml")
            assert run.returncode == 0, run.stdout
            assert "RESTART" not in run.stdout
            assert {lab.sql(host, shown) for host in lab.group("postgres")} == {value}
    assert votes.failed() == []
    tell(f"{votes.longest_silence():.1f} s without a confirmed vote")
    assert votes.confirmed() <= lab.ledger(lab.primary())
    assert "changed=0" in lab.playbook("playbooks/restart-databases.yml").stdout
    # Recovery with a configuration from before that goes over both changes.
    drill = lab.playbook("playbooks/restore-drill.yml")
    assert drill.returncode == 0, drill.stdout
