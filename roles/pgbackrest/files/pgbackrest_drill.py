#!/usr/bin/python3
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Restore the backups to a moment ago beside the running site, and compare with its ledger whether they are good.

    pgbackrest-drill [--time '2026-11-26 14:03:20+00'] [--repository FOLDER]

Runs as the account that owns the repository. Prints the verdict in one line, and exits with 1 where it is FAIL. What
was restored is removed; the verdict stays in report.html and verdict.json in the configuration's folder.
"""

from __future__ import annotations

import argparse
import fcntl
import html
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/pgbackrest/drill.json")
RECOVER = "/usr/local/sbin/pgbackrest-recover"
# A quiet site's log goes to the archive within its archive_timeout; what is asked for goes at once.
ARCHIVED_SECONDS = 60.0
# What is restored is on the disk of the repository, which has to go on taking log meanwhile; recovery writes log of its
# own, up to max_wal_size, 1 GB where nobody has changed it.
ROOM_BYTES = 2 * 2**30
# A vote is written up to ten seconds before it is confirmed: by then it is there, or it is not.
MOMENT = "clock_timestamp() - interval '15 s'"
# How many votes there are, and the sum of their checksums: whether they are the same ones for the same choices.
LEDGER = (
    "select json_build_object('votes', count(*),"
    " 'checksum', coalesce(sum(hashtextextended(token || ' ' || choice_id, 0)), 0)::text) from polls_vote"
)
# Asked of the running primary. At stake is what the archive does not have: it would be lost with the databases.
NOTE = f"""
select coalesce(nullif(:'time', '')::timestamptz, {MOMENT}) as moment \\gset
select json_build_object(
    'moment', :'moment',
    'bytes', (select sum(pg_database_size(oid)) from pg_database),
    'ledger', ({LEDGER} where coalesce(pg_xact_commit_timestamp(xmin), '-infinity') <= :'moment'),
    'at_stake', (select json_build_object(
        'votes', (select count(*) from polls_vote where pg_xact_commit_timestamp(xmin) > last_archived_time),
        'seconds', extract(epoch from clock_timestamp() - last_archived_time)) from pg_stat_archiver))
"""  # noqa: S608 - no word of it is a user's
# Recovery knows that it has reached a moment by a transaction that was committed later, of which a quiet site has none.
SWITCH = "select pg_logical_emit_message(true, 'drill', '') \\g /dev/null\nselect pg_walfile_name(pg_switch_wal())"
ARCHIVED = "select coalesce(last_archived_wal >= :'segment', false) from pg_stat_archiver"
# What the restored database says of itself. amcheck looks at every table and index of it.
RESTORED = f"""
set client_min_messages = error;
create extension if not exists amcheck;
select json_build_object(
    'ledger', ({LEDGER}),
    'unexplained', (
        select count(*) from polls_choice c left join polls_openingcount o on o.choice_id = c.id
        where c.votes <> coalesce(o.votes, 0) + (select count(*) from polls_vote v where v.choice_id = c.id)),
    'checksums', current_setting('data_checksums'),
    'corrupt', (
        select count(*) from pg_class t, lateral verify_heapam(t.oid)
        where t.relkind in ('r', 't', 'm') and t.relpersistence = 'p'),
    'indexes', (
        select count(bt_index_check(i.indexrelid, true)::text) from pg_index i
        join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
        where a.amname = 'btree' and c.relpersistence = 'p' and i.indisready and i.indisvalid));
"""  # noqa: S608

Json = dict[str, Any]


class DrillError(Exception):
    """What keeps the backups from being judged good; the text says it as the verdict does."""


@dataclass(frozen=True)
class Check:
    """A question, what was found, and what should have been; wrong is what the verdict says where it was not."""

    title: str
    found: str
    wanted: str
    wrong: str = ""


def judge(noted: Json, restored: Json) -> list[Check]:
    """Compare what the running ledger had with what was restored; both as NOTE and RESTORED return them."""
    had, has = noted["ledger"], restored["ledger"]
    same = had["checksum"] == has["checksum"]

    def check(title: str, found: object, wanted: object, wrong: str) -> Check:
        return Check(title, str(found), str(wanted), "" if found == wanted else wrong)

    return [
        check("Votes", has["votes"], had["votes"], f"{has['votes']} votes, and the running ledger had {had['votes']}"),
        check("The same votes", "yes" if same else "no", "yes", "other votes than the running ledger had"),
        check(
            "Tallies that opening counts and votes do not explain",
            restored["unexplained"],
            0,
            f"{restored['unexplained']} tallies that opening counts and votes do not explain",
        ),
        check("Checksums of pages", restored["checksums"], "on", "checksums are off"),
        check("Corrupt places in tables", restored["corrupt"], 0, f"{restored['corrupt']} corrupt places in tables"),
        Check("Indexes that amcheck found whole", str(restored["indexes"]), "all"),
    ]


def verdict(found: Json) -> str:
    """Return the line that is printed, of what verdict.json holds."""
    if found["wrong"]:
        return f"FAIL restore-drill: {'; '.join(found['wrong'])}"
    parts = [
        f"{found['votes']} votes as of {found['moment']}, all that the running ledger had then and no other",
        f"tallies explained, checksums on, {found['indexes']} indexes and all tables sound",
        f"{found['at_stake_votes']} votes in {found['at_stake_seconds']:.0f} s were not archived yet",
        f"restored in {found['restored_seconds']:.1f} s",
    ]
    return f"PASS restore-drill: {'; '.join(parts)}"


def page(found: Json) -> str:
    """Return the verdict as a page that needs nothing else."""
    rows = "\n".join(
        f"<tr><td>{'✗' if one['wrong'] else '✓'}</td>"
        + "".join(f"<td>{html.escape(one[key])}</td>" for key in ("title", "found", "wanted"))
        + "</tr>"
        for one in found["checks"]
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{"Failed" if found["wrong"] else "Passed"}: restore drill of {html.escape(found["stanza"])}</title>
<style>body {{ font-family: sans-serif; margin: 2em auto; max-width: 50em; padding: 0 1em }}
table {{ border-collapse: collapse }}
td, th {{ border-bottom: 1px solid #ccc; padding: .3em .6em .3em 0; text-align: left }}
.wide {{ overflow-x: auto }}</style>
</head>
<body>
<h1>Restore drill of {html.escape(found["stanza"])}</h1>
<p>{html.escape(found["time"])}. Restored and recovered beside the running site, on the host that keeps the backups.</p>
<p><strong>{html.escape(found["verdict"])}</strong></p>
<div class="wide"><table>
<tr><th></th><th>Checked</th><th>Restored</th><th>Wanted</th></tr>
{rows}
</table></div>
</body>
</html>
"""


class Drill:
    """One drill. The configuration has stanza, databases (addresses), password, authority (file), programs, folder."""

    def __init__(self, config: Json) -> None:
        """Take the configuration."""
        self.config = config
        self.folder = Path(config["folder"])

    def ask(self, database: str, query: str, **variables: str) -> str:
        """Ask the running primary; raise DrillError when none answers."""
        where = {
            "host": ",".join(self.config["databases"]),
            "dbname": database,
            "user": "drill",
            "sslmode": "verify-full",
            "sslrootcert": self.config["authority"],
            "target_session_attrs": "primary",
            "connect_timeout": "5",
        }
        done = subprocess.run(
            [
                f"{self.config['programs']}/psql",
                *("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"),
                *(f"--set={name}={value}" for name, value in variables.items()),
                "--dbname=" + " ".join(f"{name}={value}" for name, value in where.items()),
            ],
            input=query,
            env={**os.environ, "PGPASSWORD": self.config["password"]},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DrillError(f"the running ledger cannot be read: {' '.join(done.stderr.split())}")
        return done.stdout.strip()

    def note(self, moment: str) -> Json:
        """Note what the running ledger had at a moment, and wait until the archive has that moment."""
        noted: Json = json.loads(self.ask("polls", NOTE, time=moment))
        segment = self.ask("postgres", SWITCH)
        end = time.monotonic() + ARCHIVED_SECONDS
        while self.ask("postgres", ARCHIVED, segment=segment) != "t":
            if time.monotonic() > end:
                raise DrillError(f"the archive does not get {segment}, which ended {ARCHIVED_SECONDS:.0f} s ago")
            time.sleep(0.5)
        return noted

    def make_sure_of_room(self, data: int) -> None:
        """Raise DrillError where the disk has no room for that many bytes of data beside the repository."""
        free = shutil.disk_usage(self.folder).free
        if free < data + ROOM_BYTES:
            need, have = (f"{size / 1e9:.1f} GB" for size in (data + ROOM_BYTES, free))
            raise DrillError(f"{self.folder} has {have} free, and {need} are needed to restore there; nothing was done")

    def restore(self, moment: str, repository: str) -> tuple[Json, float]:
        """Restore and recover to a moment; return what the database says of itself, and how long it took in seconds."""
        data = self.folder / "data"
        begun = time.monotonic()
        try:
            done = subprocess.run(
                [
                    *(RECOVER, str(data), "polls", "-c archive_mode=off -c shared_buffers=16MB"),
                    *("--type=time", f"--target={moment}", "--target-action=promote"),
                ],
                input=RESTORED,
                env={**os.environ, **({"PGBACKREST_REPO1_PATH": repository} if repository else {})},
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            if data.exists():
                shutil.rmtree(data)
        if done.returncode != 0:
            raise DrillError(f"it cannot be restored: {done.stderr.strip()}")
        return json.loads(done.stdout), time.monotonic() - begun

    def run(self, moment: str, repository: str) -> Json:
        """Drill, leave the verdict in the folder and return it."""
        found: Json = {"stanza": self.config["stanza"], "time": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())}
        found |= {"checks": [], "wrong": []}
        try:
            noted = self.note(moment)
            self.make_sure_of_room(noted["bytes"])
            restored, seconds = self.restore(noted["moment"], repository)
            checks = judge(noted, restored)
            found["checks"] = [vars(check) for check in checks]
            found["wrong"] = [check.wrong for check in checks if check.wrong]
            found |= {"moment": noted["moment"], "votes": restored["ledger"]["votes"], "indexes": restored["indexes"]}
            found |= {f"at_stake_{key}": value or 0 for key, value in noted["at_stake"].items()}
            found["restored_seconds"] = seconds
        except DrillError as error:
            found["wrong"] = [str(error)]
        found["verdict"] = verdict(found)
        (self.folder / "verdict.json").write_text(json.dumps(found), encoding="utf-8")
        (self.folder / "report.html").write_text(page(found), encoding="utf-8")
        return found


def main() -> int:
    """Run one drill, after another that is running."""
    parser = argparse.ArgumentParser(description="Restore the backups beside the site, and compare with its ledger.")
    parser.add_argument("--time", default="", metavar="TIME", help="the moment, with offset from UTC (a moment ago)")
    parser.add_argument("--repository", default="", metavar="FOLDER", help="a copy of the repository (the repository)")
    options = parser.parse_args()
    drill = Drill(json.loads(CONFIG.read_text(encoding="utf-8")))
    with (drill.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = drill.run(options.time, options.repository)
    print(found["verdict"])
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
