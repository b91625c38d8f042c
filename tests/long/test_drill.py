"""The restore drill: green for backups that are good, red for the right reason where they are not."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.acceptance import lab, load, pages
from tests.acceptance.test_backup import ARCHIVED_SECONDS, KEEPER, REPOSITORY, backups, is_archived, segment, stanza

COPY = "/var/lib/pgbackrest-copy"
FOLDER = "/var/lib/pgbackrest-drill"


def drill(**variables: str) -> str:
    """Run the playbook and return what it says, in one line."""
    run = lab.playbook("playbooks/restore-drill.yml", "-e", json.dumps(variables))
    said = " ".join(run.stdout.split())
    assert ("PASS restore-drill" in said) is (run.returncode == 0), said
    return said


@pytest.fixture(scope="module")
def copied() -> Iterator[tuple[str, str]]:
    """Copy the repository; return a moment that it reaches, and a segment of the log that has votes before that."""
    assert lab.playbook("playbooks/backup.yml", "-e", "backup_type=full").returncode == 0
    with load.votes() as votes:
        lab.wait_until("votes", lambda: len(votes.sent) > 20, 10)
        middle = segment(lab.primary())
        lab.sql(lab.primary(), "select pg_switch_wal()")
        lab.wait_until("more votes", lambda: len(votes.sent) > 60, 10)
        moment = lab.sql(lab.primary(), "select now()")
        lab.wait_until("votes after that moment", lambda: len(votes.sent) > 80, 10)
    last = segment(lab.primary())
    lab.sql(lab.primary(), "select pg_switch_wal()")
    lab.wait_until("the archive to have them", lambda: is_archived(last), ARCHIVED_SECONDS)
    yield moment, middle
    lab.run(KEEPER, "rm", "--recursive", "--force", COPY)


@pytest.fixture
def moment(copied: tuple[str, str]) -> str:
    """Return the moment; the copy of the repository is as good as the repository."""
    lab.run(KEEPER, "rm", "--recursive", "--force", COPY)
    lab.on(KEEPER).check_output(f"cp --archive {REPOSITORY} {COPY}")
    return copied[0]


def last() -> dict[str, Any]:
    """Return the verdict that the last drill left on the repository's host."""
    found: dict[str, Any] = json.loads(lab.on(KEEPER).check_output(f"cat {FOLDER}/verdict.json"))
    return found


def test_good_backups_come_out_green(tell: Callable[[str], None], chromium: Browser) -> None:
    """As of a moment ago; nothing of it stays but the report."""
    # A test before this one may have taken a vote away for a while: as of that moment, red is right.
    settled = "select max(pg_xact_commit_timestamp(xmin)) < clock_timestamp() - interval '16 s' from polls_vote"
    lab.wait_until("the last change to be long ago", lambda: lab.sql(lab.primary(), settled) == "t", 30)
    said = drill()
    assert "PASS restore-drill" in said
    tell(said[said.index("restored in") :].split("'")[0])
    left = lab.run(KEEPER, "sh", "-c", f"ls {FOLDER}; pgrep --uid pgbackrest postgres").stdout
    assert left.split() == ["lock", "report.html", "verdict.json"]
    report = lab.DIRECTORY / "restore-drill.html"
    assert last()["verdict"] in html.unescape(report.read_text(encoding="utf-8"))
    pages.assert_file_is_whole(chromium, report)


def test_the_drill_may_read_and_no_more() -> None:
    """Its account on the primary is no way to change a vote."""
    password = (lab.DIRECTORY / "secrets" / "pgbackrest_drill_password").read_text(encoding="utf-8").strip()
    where = f"host={lab.address(lab.primary())} user=drill dbname=polls sslmode=verify-full"
    login = ["env", f"PGPASSWORD={password}", "psql", "--tuples-only", "--no-align"]
    login.append(f"--dbname={where} sslrootcert=/etc/ssl/site/ca.crt")
    assert lab.run(KEEPER, *login, "--command=select count(*) > 0 from polls_vote").stdout.strip() == "t"
    for statement in ("delete from polls_vote", "create table public.mine ()", "select pg_read_file('/etc/passwd')"):
        refused = lab.run(KEEPER, *login, f"--command={statement}")
        assert refused.returncode != 0
        assert "permission denied" in refused.stderr


def test_the_inventory_has_it_done_by_the_clock(tell: Callable[[str], None]) -> None:
    """While its calendar says so, and status.yml tells how it came out."""
    site = ("site.yml", "-l", KEEPER, "--tags", "pgbackrest")
    before = last()
    run = lab.playbook(*site, "-e", "pgbackrest_drill_calendar='*-*-* *:*:00/20'")
    assert run.returncode == 0, run.stdout
    try:
        lab.wait_until("a drill by the clock", lambda: last()["time"] > before["time"], 60)
        found = last()
        assert found["wrong"] == []
        tell(found["verdict"].split("; ")[-1])
        assert "restore-drill: " in lab.playbook("playbooks/status.yml").stdout
    finally:
        off = lab.playbook(*site)
    assert off.returncode == 0, off.stdout
    assert lab.run(KEEPER, "systemctl", "is-enabled", "pgbackrest-drill.timer").stdout.strip() == "disabled"
    assert lab.run(KEEPER, "systemctl", "is-active", "pgbackrest-drill.timer").stdout.strip() == "inactive"
    lab.wait_until(
        "the last drill to end",
        lambda: lab.run(KEEPER, "systemctl", "is-active", "pgbackrest-drill").stdout.strip() == "inactive",
        60,
    )


def test_a_good_copy_comes_out_green(moment: str) -> None:
    """The control of the two below."""
    assert "PASS restore-drill" in drill(drill_time=moment, drill_repository=COPY)


def test_a_missing_segment_comes_out_red(moment: str, copied: tuple[str, str]) -> None:
    """Recovery cannot get there."""
    lab.on(KEEPER).check_output(f"find {COPY}/archive -name '{copied[1]}-*' -print -delete | grep .")
    said = drill(drill_time=moment, drill_repository=COPY)
    assert "recovery ended before configured recovery target was reached" in said


def test_a_flipped_bit_comes_out_red(moment: str) -> None:
    """What was backed up is not what comes back."""
    # Whatever was taken since, by the clock, begins with the full one.
    full = [backup["label"] for backup in backups() if backup["type"] == "full"][-1]
    folder = f"{COPY}/backup/{stanza()}/{full}"
    flip = """
import pathlib, sys
file = max(pathlib.Path(sys.argv[1]).glob("bundle/*"), key=lambda path: path.stat().st_size)
data = bytearray(file.read_bytes())
data[len(data) // 2] ^= 1
file.write_bytes(data)
"""
    lab.on(KEEPER).check_output("python3 -c %s %s", flip, folder)
    said = drill(drill_time=moment, drill_repository=COPY)
    # By where the bit is: what does not decompress, or a file that is another one.
    assert re.search(r"it cannot be restored: .* (zst error|does not match expected checksum)", said)


def test_a_vote_that_the_ledger_does_not_have_comes_out_red(moment: str) -> None:
    """The backups have one that is not in the running ledger any more."""
    primary = lab.primary()
    lab.sql(primary, "create table removed as select * from polls_vote order by created limit 1")
    lab.sql(primary, "delete from polls_vote where token in (select token from removed)")
    try:
        assert "and the running ledger had" in drill(drill_time=moment, drill_repository=COPY)
    finally:
        lab.sql(primary, "insert into polls_vote select * from removed; drop table removed")
