"""Maintenance: nobody restarts what votes wait for behind the site's back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.acceptance import lab, load
from tests.acceptance.test_chaos import assert_green, experiment

# Gives installed packages a version, as far as dpkg can tell, for which the archive has a newer one.
AGE = r"""
import pathlib, re, sys
status = pathlib.Path("/var/lib/dpkg/status")
text = status.read_text()
for name in sys.argv[1:]:
    text = re.sub(rf"(?ms)^(Package: {re.escape(name)}\n.*?^Version: [^\n]*)", r"\1~old", text, count=1)
status.write_text(text)
"""


def old(host: str, packages: list[str]) -> list[str]:
    """Return the packages that have not been upgraded."""
    command = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *packages]
    return [line.split()[0] for line in lab.run(host, *command).stdout.splitlines() if line.endswith("~old")]


def processes(host: str, units: list[str]) -> list[str]:
    """Return the main processes of units, which change when one is restarted."""
    return [lab.on(host).check_output(f"systemctl show --property=MainPID --value {unit}") for unit in units]


@pytest.mark.parametrize("role", ["application", "standby", "primary"])
@pytest.mark.usefixtures("whole_cluster")
def test_upgrades_do_not_restart_what_votes_wait_for(role: str, tell: Callable[[str], None]) -> None:
    """Those by the clock leave it alone, and take the others; those by hand do not restart it."""
    host = {"application": lab.group("app")[0], "standby": lab.standby(), "primary": lab.primary()}[role]
    if role == "application":
        own, others, units = (
            ["etcd-server", "haproxy", "supervisor"],
            ["curl", "nginx"],
            ["etcd", "haproxy", "supervisor"],
        )
    else:
        own, others, units = (
            ["etcd-server", "pgbackrest", f"postgresql-{lab.major(host)}"],
            ["curl"],
            ["etcd", "patroni"],
        )
    before = processes(host, units)
    with load.votes() as votes:
        lab.wait_until("votes", lambda: len(votes.sent) > 20, 10)
        assert lab.run(host, "python3", "-", *own, *others, stdin=AGE).returncode == 0
        assert sorted(old(host, own + others)) == sorted(own + others)
        upgraded = lab.run(host, "unattended-upgrade", "--verbose")
        assert upgraded.returncode == 0, upgraded.stdout + upgraded.stderr
        assert sorted(old(host, own + others)) == sorted(own), upgraded.stdout
        by_hand = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends --quiet=2 "
        lab.on(host).check_output(by_hand + " ".join(own))
        assert old(host, own) == []
    assert processes(host, units) == before
    assert votes.failed() == []
    tell(f"{votes.longest_silence():.1f} s without a confirmed vote")


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
