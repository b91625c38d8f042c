"""A restore to a point in time is judged by the ledger: what was committed before is there, what came after is not."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest

from tests.acceptance import lab, load
from tests.acceptance.test_backup import backups, stanza, wait_for_the_first_backup


def restore(**variables: str) -> str:
    """Run the playbook and return what it says, in one line."""
    run = lab.playbook("playbooks/restore.yml", "-e", json.dumps(variables))
    return f"{run.returncode} " + " ".join(run.stdout.split())


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"restore_time": "yesterday"}, "a time with its offset from UTC"),
        ({"restore_time": "2020-01-01 00:00:00+00"}, "the end of the first backup"),
        ({"restore_time": "2120-01-01 00:00:00+00"}, "the end of the first backup"),
        ({"restore_name": "a", "restore_transaction": "1"}, "give one of the three"),
        ({"restore_step": "undo"}, "restore_step is undo"),
        ({"restore_confirmed": "another"}, "Nothing was touched"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused(variables: dict[str, str], reason: str) -> None:
    """Before anything is touched."""
    wait_for_the_first_backup()
    said = restore(**variables)
    assert not said.startswith("0 ")
    assert reason in said
    assert lab.is_whole()


@pytest.mark.usefixtures("whole_cluster")
def test_votes_that_were_deleted_by_hand_come_back(tell: Callable[[str], None]) -> None:
    """An operator empties the ledger; the site goes back to just before, and everything works on."""
    wait_for_the_first_backup()
    # At that moment, replication still has another password than today.
    today = lab.sql(lab.primary(), "select rolpassword from pg_authid where rolname = 'repuser'")
    lab.sql(lab.primary(), "alter role repuser password 'that of another day'")
    with load.votes() as votes:
        lab.wait_until("votes", lambda: len(votes.sent) > 40, 10)
        moment = lab.sql(lab.primary(), "select now()")
        lab.sql(lab.primary(), f"alter role repuser password '{today}'")
        lab.wait_until("votes after that moment", lambda: len(votes.sent) > 80, 10)
    committed = "select token from polls_vote where pg_xact_commit_timestamp(xmin)"
    before = set(lab.sql(lab.primary(), f"{committed} <= '{moment}'").split())
    after = set(lab.sql(lab.primary(), f"{committed} > '{moment}'").split())
    assert len(after) > 10
    assert before & votes.confirmed()
    lab.sql(lab.primary(), "delete from polls_vote where created > now() - interval '1 minute'")
    # Those after it are among the deleted ones: nothing is left to be lost.
    assert "Votes after it, which will be lost: 0 of" in restore(restore_time=moment)
    taken = [backup["label"] for backup in backups()]
    begun = time.monotonic()
    said = restore(restore_time=moment, restore_confirmed=stanza())
    tell(f"restored after {time.monotonic() - begun:.0f} s")
    assert said.startswith("0 "), said
    for host in lab.group("postgres"):
        assert lab.ledger(host) == before
        lab.assert_explained(host)
    assert "full" in [backup["type"] for backup in backups() if backup["label"] not in taken]
    with load.votes() as votes:
        lab.wait_until("votes on the restored site", lambda: len(votes.sent) > 20, 10)
    assert votes.failed() == []
    site = lab.playbook("site.yml", "--tags", "patroni,pgbackrest")
    assert site.returncode == 0, site.stdout
    assert set(re.findall(r"changed=(\d+)", site.stdout)) == {"0"}
    # What was there before is kept until it is dropped.
    assert "before-restore" in restore(restore_confirmed=stanza())
    assert restore(restore_step="drop").startswith("0 ")
    for host in lab.group("postgres"):
        assert lab.run(host, "sh", "-c", "ls -d /var/lib/postgresql/*/*.before-restore").stdout == ""
