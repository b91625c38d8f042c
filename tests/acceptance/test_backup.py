"""Backups: what is archived, who may remove it, and that nothing that happens to the repository reaches a vote."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance import lab, load

KEEPER = lab.group("backup")[0]
REPOSITORY = "/var/lib/pgbackrest"
# archive_timeout and the time that sending takes.
ARCHIVED_SECONDS = 60


def stanza() -> str:
    """Return the name of the site's part of the repository."""
    return f"site-{lab.major(lab.primary())}"


def pgbackrest(host: str, *arguments: str, user: str, stdin: str = "") -> Any:
    """Run pgBackRest on a host; return what it did."""
    account = ["runuser", "-u", user, "-g", user, "-G", "pgbackrest", "-G", "site-tls", "--"]
    return lab.run(host, *account, "pgbackrest", f"--stanza={stanza()}", *arguments, stdin=stdin)


def backups() -> list[dict[str, Any]]:
    """Return the backups there are, the oldest first."""
    listing = json.loads(pgbackrest(KEEPER, "--output=json", "info", user="pgbackrest").stdout)
    found: list[dict[str, Any]] = listing[0]["backup"]
    return found


def wait_for_the_first_backup() -> None:
    """Wait until there is one: it is taken by itself after the site was set up."""
    lab.wait_until("the first backup", lambda: len(backups()) > 0, 60)


def archived() -> list[str]:
    """Return the names of all segments in the archive, in order."""
    files = lab.on(KEEPER).check_output(f"find {REPOSITORY}/archive -type f -printf '%f\\n'").split()
    return sorted(file[:24] for file in files if re.match(r"[0-9A-F]{24}-", file))


def is_archived(segment: str) -> bool:
    """Say whether a segment, or one after it on the same timeline, is in the archive."""
    return any(found[:8] == segment[:8] and found >= segment for found in archived())


def segment(primary: str) -> str:
    """Return the segment that the primary writes to."""
    return lab.sql(primary, "select pg_walfile_name(pg_current_wal_lsn())")


def end_segment(primary: str) -> None:
    """Have the primary begin another segment, also where nobody votes."""
    lab.sql(primary, "select pg_logical_emit_message(true, 'test', 'x'); select pg_switch_wal()")


def waiting(primary: str) -> int:
    """Return how many files PostgreSQL has yet to see archived."""
    return int(lab.sql(primary, "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'"))


def number(name: str) -> int:
    """Return where a segment stands in the log; 256 segments make up 4 GB."""
    return int(name[8:16], 16) * 256 + int(name[16:], 16)


def missing(first: str, end: int) -> set[str]:
    """Return the segments of a timeline that are not in the archive, from one up to a number."""
    numbers = range(number(first), end)
    return {f"{first[:8]}{at // 256:08X}{at % 256:08X}" for at in numbers} - set(archived())


def test_there_is_a_backup_that_was_read_from_the_standby() -> None:
    """The first one is taken by itself; one that is asked for is there when the playbook ends."""
    wait_for_the_first_backup()
    before = [backup["label"] for backup in backups()]
    run = lab.playbook("playbooks/backup.yml", "-e", "backup_type=diff")
    assert run.returncode == 0, run.stdout
    # One may be due by the clock at the same time.
    assert "diff" in [backup["type"] for backup in backups() if backup["label"] not in before]
    assert "Archive " in run.stdout
    journal = lab.run(KEEPER, "journalctl", "--unit=pgbackrest-backup@diff", "--output=cat").stdout
    assert "replay on the standby reached" in journal


def test_a_vote_on_a_quiet_site_is_archived_within_a_minute(tell: Callable[[str], None]) -> None:
    """Nobody votes after it."""
    with load.votes() as votes:
        lab.wait_until("a vote", lambda: len(votes.sent) > 0, 10)
    last = segment(lab.primary())
    seconds = lab.wait_until("its segment in the archive", lambda: is_archived(last), ARCHIVED_SECONDS)
    tell(f"after {seconds:.0f} s")


def put(host: str, file: str) -> int:
    """Write a file into the repository as the account that archives; return how pgBackRest ends."""
    return int(pgbackrest(host, "repo-put", file, user="postgres", stdin="x").returncode)


@pytest.mark.usefixtures("whole_cluster")
def test_a_database_host_can_add_and_not_change() -> None:
    """With all the rights of the account that archives, over the network."""
    host, name = lab.primary(), stanza()
    lab.run(KEEPER, "systemctl", "start", "pgbackrest-seal")
    files = f"cd {REPOSITORY} && find archive/{name} backup/{name} -type f -not -name '*.tmp*' | sort | xargs sha256sum"
    before = lab.on(KEEPER).check_output(files)
    kept = next(line.split()[1] for line in before.splitlines() if re.search(r"/[0-9A-F]{24}-", line))
    try:
        for file in (kept, f"archive/{name}/archive.info", f"backup/{name}/backup.info", f"backup/{name}/new"):
            assert put(host, file) != 0
        # The control: what it has to be able to do.
        assert put(host, f"archive/{name}/added") == 0
    finally:
        lab.run(KEEPER, "find", f"{REPOSITORY}/archive", "(", "-name", "added", "-or", "-name", "*.tmp", ")", "-delete")
    assert set(before.splitlines()) <= set(lab.on(KEEPER).check_output(files).splitlines())


def test_the_server_of_the_repository_cannot_remove_what_is_there() -> None:
    """Whatever a client makes it do."""
    lab.run(KEEPER, "systemctl", "start", "pgbackrest-seal")
    server = ["runuser", "-u", "pgbackrest-server", "-g", "pgbackrest", "--"]
    files = lab.on(KEEPER).check_output(f"find {REPOSITORY}/archive {REPOSITORY}/backup -type f").split()
    assert lab.run(KEEPER, *server, "cat", *files).returncode == 0
    assert "removed" not in lab.run(KEEPER, *server, "rm", "--force", "--verbose", *files).stdout
    for program in ("truncate --size=0", "touch", "mv --target-directory=/tmp"):
        for file in (files[0], files[-1]):
            assert lab.run(KEEPER, *server, *program.split(), file).returncode != 0
    assert lab.on(KEEPER).check_output(f"find {REPOSITORY}/archive {REPOSITORY}/backup -type f").split() == files
    # The control: what it has just written, before that is another account's.
    new = f"{REPOSITORY}/archive/new"
    assert lab.run(KEEPER, *server, "touch", new).returncode == 0
    assert lab.run(KEEPER, *server, "rm", new).returncode == 0


def test_a_certificate_without_the_right_name_is_refused() -> None:
    """The host's own one is of the same authority, and has no common name."""
    host = lab.primary()
    right = pgbackrest(host, "repo-ls", user="postgres")
    assert right.returncode == 0, right.stderr
    wrong = pgbackrest(
        host,
        "--repo1-host-cert-file=/etc/ssl/site/host.crt",
        "--repo1-host-key-file=/etc/ssl/site/host.key",
        "repo-ls",
        user="postgres",
    )
    assert wrong.returncode != 0
    # It says so, or, in 2.45, hangs up.
    assert re.search("access denied|unexpected eof", wrong.stderr + wrong.stdout)


def test_the_repository_host_can_change_nothing_on_a_database() -> None:
    """What it is let in for is to read: neither PostgreSQL's data nor its superuser."""
    host = lab.primary()
    data = lab.sql(host, "show data_directory")
    server = ["runuser", "-u", "pgbackrest-server", "--"]
    assert lab.run(host, *server, "head", "--bytes=1", f"{data}/PG_VERSION").returncode == 0
    assert lab.run(host, *server, "find", data, "-writable", "-not", "-type", "l").stdout == ""
    assert lab.run(host, *server, "head", "/etc/ssl/site/host.key").returncode != 0
    login = ["psql", "--dbname=postgres", "--tuples-only", "--no-align", "--username"]
    assert lab.run(host, *server, *login, "postgres", "--command=select 1").returncode != 0
    rights = "--command=select rolsuper or rolcreaterole or rolcreatedb or rolreplication from pg_roles"
    rights += " where rolname = current_user"
    assert lab.run(host, *server, *login, "pgbackrest", rights).stdout.strip() == "f"


def test_the_repository_cannot_be_read_without_its_passphrase() -> None:
    """Each file of it is encrypted."""
    command = f"find {REPOSITORY}/archive {REPOSITORY}/backup -type f -exec sh -c 'head -c 8 \"$0\"; echo' {{}} \\;"
    assert set(lab.run(KEEPER, "sh", "-c", command).stdout.split()) == {"Salted__"}


@pytest.fixture
def repository_off() -> Iterator[None]:
    """Have the repository's host drop what the databases send, as if it were off."""
    rules = "table inet off { chain input { type filter hook input priority -200; tcp dport 8432 drop; }; }"
    lab.run(KEEPER, "nft", "-f", "-", stdin=rules)
    yield
    lab.run(KEEPER, "nft", "delete", "table", "inet", "off")


@pytest.mark.usefixtures("whole_cluster")
def test_a_repository_that_is_off_costs_no_vote(repository_off: None, tell: Callable[[str], None]) -> None:
    """Nor much time in a switchover; the former primary comes back, and afterwards the archive has no gap."""
    first = segment(lab.primary())
    with load.votes() as votes:
        lab.sql(lab.primary(), "select pg_switch_wal()")
        assert lab.playbook("playbooks/switchover.yml").returncode == 0
    assert votes.failed() == []
    tell(f"{votes.longest_silence():.1f} s without a confirmed vote")
    assert votes.longest_silence() < 5
    lab.run(KEEPER, "nft", "delete", "table", "inet", "off")
    last = segment(lab.primary())
    lab.wait_until("the archive to catch up", lambda: is_archived(last), 2 * ARCHIVED_SECONDS)
    # On the former timeline it ends before the segment in which the new one began.
    data = lab.sql(lab.primary(), "show data_directory")
    history = lab.on(lab.primary()).check_output(f"tail --lines=1 {data}/pg_wal/{last[:8]}.history").split()
    assert int(history[0]) == int(first[:8], 16)
    end = int(history[1].split("/")[0], 16) * 256 + int(history[1].split("/")[1], 16) // 2**24
    assert end > number(first)
    lab.wait_until("the rest of the former timeline", lambda: not missing(first, end), 2 * ARCHIVED_SECONDS)
    assert not missing(last, number(last) + 1)


@pytest.mark.usefixtures("whole_cluster")
def test_a_standby_that_was_away_for_long_comes_back_from_the_archive() -> None:
    """The primary has removed the log that it needs."""
    primary, standby = lab.primary(), lab.standby()
    on = lab.on(standby)
    data = lab.sql(standby, "show data_directory")
    on.check_output("systemctl stop patroni")
    try:
        # More than the primary keeps by itself; Patroni's slot for this standby would keep it, too.
        kept = int(lab.sql(primary, "select setting::int / 16 from pg_settings where name = 'wal_keep_size'"))
        lab.sql(primary, f"select pg_drop_replication_slot('{standby.replace('-', '_')}')")
        for _ in range(kept + 4):
            last = segment(primary)
            end_segment(primary)
        lab.sql(primary, "checkpoint")
        lab.wait_until("the archive to have all", lambda: is_archived(last), ARCHIVED_SECONDS)
        # As long as it would have been.
        on.check_output(f"find {data}/pg_wal -type f -exec touch --date '1 hour ago' {{}} +")
    finally:
        on.check_output("systemctl start patroni")
    lab.wait_until("the standby to stream", lab.is_whole, 60)
    said = on.check_output("tail --lines=500 /var/log/postgresql/postgresql-*-main.log")
    assert "from archive" in said


@pytest.mark.usefixtures("whole_cluster")
def test_a_history_that_is_marked_once_more_does_not_stop_the_archive(tell: Callable[[str], None]) -> None:
    """pg_rewind copies the mark to another host; what is in the repository cannot be written again."""
    assert lab.playbook("playbooks/switchover.yml").returncode == 0
    primary = lab.primary()
    history = f"{segment(primary)[:8]}.history"
    mark = f"{lab.sql(primary, 'show data_directory')}/pg_wal/archive_status/{history}"
    lab.wait_until("the history in the archive", lambda: lab.on(primary).file(f"{mark}.done").exists, ARCHIVED_SECONDS)
    lab.run(KEEPER, "systemctl", "start", "pgbackrest-seal")
    # On another host pgBackRest does not remember that it was sent.
    lab.on(primary).check_output(
        f"find /var/spool/pgbackrest -name {history}.ok -delete && mv {mark}.done {mark}.ready"
    )
    end_segment(primary)
    # As its timer does within a minute. PostgreSQL tries again with the next segment.
    lab.on(primary).check_output("systemctl start pgbackrest-backfill")
    end_segment(primary)
    seconds = lab.wait_until("nothing that waits", lambda: waiting(primary) == 0, 2 * ARCHIVED_SECONDS)
    tell(f"after {seconds:.0f} s")


@pytest.fixture
def little_room_for_what_waits() -> Iterator[None]:
    """Let no more than four segments wait on the primary."""
    host, config = lab.primary(), "/etc/pgbackrest/pgbackrest.conf"
    lab.on(host).check_output(
        f"sed --in-place=.before 's/^archive-push-queue-max=.*/archive-push-queue-max=64MB/' {config}"
    )
    yield
    lab.on(host).check_output(f"mv {config}.before {config}")


@pytest.mark.usefixtures("whole_cluster", "repository_off", "little_room_for_what_waits")
def test_log_that_is_given_up_is_said(tell: Callable[[str], None]) -> None:
    """Beyond the limit the primary's disk goes first, and votes; the next backup begins anew."""
    with load.votes() as votes:
        for _ in range(8):
            end_segment(lab.primary())
        seconds = lab.wait_until("the log to be given up", lambda: waiting(lab.primary()) == 0, 60)
        tell(f"given up after {seconds:.0f} s")
        assert "WRITE-AHEAD LOG WAS GIVEN UP" in lab.playbook("playbooks/status.yml").stdout
    assert votes.failed() == []
    lab.run(KEEPER, "nft", "delete", "table", "inet", "off")
    assert lab.playbook("playbooks/backup.yml", "-e", "backup_type=full").returncode == 0
    last = segment(lab.primary())
    end_segment(lab.primary())
    lab.wait_until("what comes after it in the archive", lambda: is_archived(last), 2 * ARCHIVED_SECONDS)
    # Lines of somebody else would be events without a time.
    assert lab.run(lab.primary(), "sh", "-c", "grep -E '^(ERROR|WARN|HINT)' /var/log/postgresql/*.log").stdout == ""
