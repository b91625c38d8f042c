"""A host is replaced while people vote."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance import elastic, lab, load
from tests.acceptance.test_chaos import LOW_RATE, assert_green, experiment
from tests.acceptance.test_site import assert_nothing_is_left_to_do


def replace_vm(host: str) -> None:
    """Lose a VM with all that it holds, and set a bare one up in its place."""
    lab.put_a_bare_vm_in_place_of(host)
    run = lab.playbook("playbooks/replace-host.yml", "-e", f"host={host}")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.usefixtures("whole_cluster")
def test_the_vm_of_either_database_is_replaced_under_votes(tell: Callable[[str], None]) -> None:
    """A bare VM comes in the place of each; afterwards nothing is left to do, and neither is one to replace."""
    assert_green(experiment("playbooks/chaos-host-replaced.yml", *LOW_RATE), "host-replaced", tell)
    assert_nothing_is_left_to_do()
    again = lab.playbook("playbooks/replace-host.yml", "-e", f"host={lab.primary()}")
    assert again.returncode != 0
    assert f"{lab.primary()} is no new VM" in again.stdout + again.stderr


@pytest.mark.usefixtures("whole_cluster")
def test_a_voter_that_has_lost_its_data_takes_its_own_place() -> None:
    """Not while another one is off, too; nobody is removed from etcd then."""
    replace = ("playbooks/replace-host.yml", "-e", f"host={lab.standby()}")
    on_lost, on_other = lab.on(lab.standby()), lab.on(lab.group("app")[0])
    with load.votes(5) as votes:
        on_lost.check_output("systemctl stop etcd && rm -r /var/lib/etcd/site")
        on_other.check_output("systemctl stop etcd")
        try:
            refused = lab.playbook(*replace)
        finally:
            on_other.check_output("systemctl start etcd")
        assert refused.returncode != 0
        assert "can only join while all other voters are well" in refused.stdout + refused.stderr
        replaced = lab.playbook(*replace)
        assert replaced.returncode == 0, replaced.stdout + replaced.stderr
        assert on_lost.file("/run/etcd-join.env").exists is False
    assert votes.failed() == []


@pytest.mark.usefixtures("whole_cluster")
def test_the_vm_of_an_app_host_is_replaced_under_votes() -> None:
    """Those at the other app host do not wait, and the new one takes votes."""
    with load.votes(5, app=1) as votes:
        replace_vm(lab.group("app")[0])
    with load.votes(5) as more:
        lab.wait_until("votes at the new host", lambda: len(more.sent) >= 10, 10)
    assert votes.failed() + more.failed() == []
    assert votes.confirmed() | more.confirmed() <= lab.ledger(lab.primary())
    assert_nothing_is_left_to_do()


@pytest.mark.usefixtures("whole_cluster")
def test_the_vm_with_backups_and_logs_is_replaced_under_votes() -> None:
    """It begins with a full backup, which can be restored, and with what is left of the logs on the other hosts.

    The last one of the hosts: of those before it Elasticsearch had lines that are gone with them.
    """
    with load.votes(5) as votes:
        replace_vm(elastic.MONITORING)
    assert votes.failed() == []
    assert votes.confirmed() <= lab.ledger(lab.primary())
    drill = lab.playbook("playbooks/restore-drill.yml")
    assert drill.returncode == 0, drill.stdout
    elastic.wait_until_complete()
    assert_nothing_is_left_to_do()
