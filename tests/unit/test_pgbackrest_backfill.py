"""What a database host archives after a failover, with PostgreSQL and pgBackRest played by small programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit import shell_script

SEGMENT, HISTORY = "000000020000000000000007", "00000003.history"
# As pgBackRest lists a segment, with the sum of its content.
ARCHIVED_SEGMENT = f"17-1/0000000200000000/{SEGMENT}-0123456789abcdef0123456789abcdef01234567.zst"


@dataclass(frozen=True, slots=True)
class Database:
    """A database's folder, the programs that the script calls, and what they were asked to push."""

    folder: Path

    @property
    def marks(self) -> set[str]:
        """Return what PostgreSQL's archiver has marked."""
        return {path.name for path in (self.folder / "data/pg_wal/archive_status").iterdir()}

    @property
    def told(self) -> list[str]:
        """Return what PostgreSQL was told."""
        told = self.folder / "told"
        return told.read_text().split() if told.exists() else []

    def mark(self, *names: str) -> None:
        """Mark files as the archiver does."""
        for name in names:
            (self.folder / "data/pg_wal/archive_status" / name).touch()

    def run(
        self, archived: str = "", *, at_list: str = ":", at_push: str = ":", at_reload: str = ":"
    ) -> tuple[int, list[str]]:
        """Run the script while the archive has these; return its code and what it pushed. at_...: shell commands."""
        pushed = self.folder / "pushed"
        pushed.write_text("")
        programs = {
            "pgbackrest": f"""case "$*" in
                *repo-ls*) echo "{archived}"; {at_list} ;;
                *archive-push*) echo "${{2##*/}}" >> {pushed}; {at_push} ;;
                esac""",
            "pg_controldata": """echo "Latest checkpoint's TimeLineID:       3\"""",
            "pg_ctl": f"echo $1 >> {self.folder}/told; {at_reload}",
        }
        site = f"PGBACKREST_STANZA=site PROGRAMS={self.folder} DATA={self.folder}/data\n"
        (self.folder / "site.env").write_text(site)
        script = "pgbackrest/files/pgbackrest-backfill"
        paths = ("/etc/pgbackrest/site.env", "/var/spool/pgbackrest/backfilled")
        done = shell_script.run(script, folder=self.folder, programs=programs, paths=paths)
        return done.returncode, pushed.read_text().split()


@pytest.fixture
def primary(tmp_path: Path) -> Database:
    """Return a primary that was promoted, with nothing to archive."""
    (tmp_path / "data/pg_wal/archive_status").mkdir(parents=True)
    return Database(tmp_path)


@pytest.fixture
def standby(primary: Database) -> Database:
    """Return a standby, with nothing to archive."""
    (primary.folder / "data/standby.signal").touch()
    return primary


def test_a_standby_archives_what_it_was_left_with(standby: Database) -> None:
    """And takes what the archive has for done; PostgreSQL asks for a segment of its own once more otherwise."""
    standby.mark(f"{SEGMENT}.ready", f"{HISTORY}.ready")
    assert standby.run(ARCHIVED_SEGMENT) == (0, [HISTORY])
    assert standby.marks == {f"{SEGMENT}.done", f"{HISTORY}.done"}


def test_a_primary_has_postgresql_archive_what_the_former_one_kept(primary: Database) -> None:
    """It looks once in a timeline. Two programs that send at the same time would be in each other's way."""
    present = SEGMENT.replace("7", "6")
    primary.mark(f"{present}.done", f"{SEGMENT}.done", f"{HISTORY}.ready")
    archived = ARCHIVED_SEGMENT.replace(SEGMENT, present)
    assert primary.run(archived) == (0, [])
    marks = {f"{present}.done", f"{SEGMENT}.ready", f"{HISTORY}.ready"}
    assert primary.marks == marks
    assert primary.told == ["reload"]
    primary.mark(f"{SEGMENT}.done")
    assert primary.run() == (0, [])
    assert primary.marks == marks | {f"{SEGMENT}.done"}
    assert primary.told == ["reload"]


def test_postgresql_that_stops_meanwhile_is_no_failure(primary: Database) -> None:
    """It looks for marks when it starts. One that runs and cannot be told is a failure."""
    primary.mark(f"{SEGMENT}.done")
    assert primary.run(at_reload="exit 1") == (0, [])
    (primary.folder / "backfilled").unlink()
    (primary.folder / "data/postmaster.pid").touch()
    primary.mark(f"{SEGMENT}.done")
    assert primary.run(at_reload="exit 1") == (1, [])


def test_a_mark_that_postgresql_takes_away_meanwhile_is_no_failure(primary: Database) -> None:
    """Its archiver sends a history right after the promotion, while the script is at work."""
    primary.mark(f"{HISTORY}.ready")
    marks = f"{primary.folder}/data/pg_wal/archive_status"
    code, _ = primary.run(f"17-1/{HISTORY}", at_list=f"mv {marks}/{HISTORY}.ready {marks}/{HISTORY}.done")
    assert code == 0
    assert primary.marks == {f"{HISTORY}.done"}
    assert primary.told == []


def test_a_segment_that_a_rewind_takes_away_meanwhile_is_no_failure(standby: Database) -> None:
    """pg_rewind removes what the new primary does not have, and its mark."""
    standby.mark(f"{SEGMENT}.ready")
    code, _ = standby.run(at_push=f"rm {standby.folder}/data/pg_wal/archive_status/{SEGMENT}.ready; exit 1")
    assert code == 0
    assert standby.marks == set()


def test_a_standby_waits_its_turn(standby: Database) -> None:
    """The archive takes from one host at a time; that the primary is sending is no failure."""
    standby.mark(f"{SEGMENT}.ready", f"{HISTORY}.ready")
    assert standby.run(at_push="echo '[LockAcquireError] raised from remote-0' >&2; exit 103") == (0, [SEGMENT])
    assert standby.marks == {f"{SEGMENT}.ready", f"{HISTORY}.ready"}


def test_what_cannot_be_archived_is_a_failure(standby: Database) -> None:
    """It stays marked as ready, for the next time."""
    standby.mark(f"{SEGMENT}.ready")
    code, _ = standby.run(at_push="exit 1")
    assert code != 0
    assert standby.marks == {f"{SEGMENT}.ready"}
