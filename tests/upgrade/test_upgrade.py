"""PostgreSQL's major version is upgraded while people vote: there, back, there again and for good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance import lab, load
from tests.acceptance.test_site import recap

INVENTORIES = ("-i", "inventories/lab", "-i", "inventories/lab-next")
UPGRADE = (*INVENTORIES, "playbooks/upgrade-postgresql.yml")
OLD, NEW = ("postgres-1", "postgres-2"), ("postgres-3", "postgres-4")


def step(name: str, *arguments: str) -> None:
    """Take a step of the upgrade."""
    done = lab.playbook(*UPGRADE, "-e", f"upgrade_step={name}", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def refused(*arguments: str) -> str:
    """Return what a playbook says that has to refuse."""
    done = lab.playbook(*arguments)
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.split())


def check_ledger(host: str, cast: load.Load) -> None:
    """Check that each confirmed vote is in the ledger once, and that tallies are what the ledger says."""
    ledger = lab.sql(host, "select token from polls_vote").split()
    assert len(ledger) == len(set(ledger))
    assert not cast.confirmed() - set(ledger)
    counted = "select sum(votes) - (select sum(votes) from polls_openingcount) - (select count(*) from polls_vote)"
    assert lab.sql(host, f"{counted} from polls_choice") == "0"


def test_upgrade_there_and_back_and_for_good(tell: Callable[[str], None]) -> None:
    """No vote is lost or counted twice, and no old and new database take votes at the same time."""
    assert "does not follow" in refused(*UPGRADE, "-e", "upgrade_step=switch")
    assert (lab.major(lab.primary(OLD)), lab.major(lab.primary(NEW))) == (15, 17)
    step("feed")
    # As a switch leaves it that was cut off: the next feed takes the fence away.
    lab.sql(lab.primary(OLD), "alter database polls set default_transaction_read_only = on")
    step("feed")
    step("switch", "--check")
    for name, left, reached in (("switch", OLD, NEW), ("back", NEW, OLD), ("switch", OLD, NEW)):
        with load.votes() as cast:
            step(name)
        tell(f"{name}: {len(cast.confirmed())} votes, {cast.longest_silence():.1f} s without one")
        assert not cast.failed()
        check_ledger(lab.primary(reached), cast)
        # The cluster that was left has them, too, and takes none.
        lab.wait_until("the other cluster has every vote", lambda: _same(lab.primary(left), lab.primary(reached)), 10)  # noqa: B023
        assert (
            "read-only transaction"
            in lab.run(
                lab.primary(left), "psql", "-U", "postgres", "-d", "polls", "-c", "update polls_choice set votes = 0"
            ).stderr
        )
    assert "was replaced by site-17" in refused(*INVENTORIES, "site.yml", "--check")
    with load.votes() as cast:
        step("finish")
    assert not cast.failed()
    check_ledger(lab.primary(NEW), cast)
    assert all(lab.run(host, "systemctl", "is-active", "patroni").stdout.strip() == "inactive" for host in OLD)
    assert "is not whole" in refused(*INVENTORIES, "playbooks/upgrade-postgresql.yml")


def _same(one: str, other: str) -> bool:
    query = "select count(*), sum(hashtextextended(v::text, 0)) from polls_vote v"
    return lab.sql(one, query) == lab.sql(other, query)


@pytest.fixture
def changed_inventory(tmp_path: Path) -> Path:
    """Return an inventory as the runbook ends with: the new hosts in the place of the old ones, which stay voters."""
    coming = yaml.safe_load((lab.ROOT / "inventories" / "lab-next" / "hosts.yml").read_text(encoding="utf-8"))

    def change(groups: dict[str, Any]) -> None:
        groups["etcd"]["hosts"] |= {name: groups["postgres"]["hosts"][name] for name in OLD}
        groups["postgres"] = coming["all"]["children"]["postgres_next"]
        # It has the release of the old ones, whose pgBackRest the new ones do not understand.
        groups["backup"]["hosts"] = {}

    return lab.changed_inventory(tmp_path, change)


def test_the_new_pair_is_the_sites(changed_inventory: Path) -> None:
    """site.yml runs, changes nothing the second time, and a witness watches over the new primary."""
    for changes in (None, {0}):
        done = lab.playbook("-i", str(changed_inventory), "site.yml")
        assert done.returncode == 0, done.stdout
        assert changes is None or {counters["changed"] for counters in recap(done.stdout).values()} == changes, (
            done.stdout
        )
    status = "/run/patroni-witness/status.json"
    host = lab.group("witness")[0]
    lab.wait_until(
        "a witness is ready", lambda: '"ready": true' in lab.on(host).file(status).content_string, lab.READY_SECONDS
    )
