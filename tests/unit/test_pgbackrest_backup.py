"""What a backup is taken from, and that a failover which ends one costs no hour without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit import shell_script


def backup(folder: Path, *good: int) -> tuple[int, list[str]]:
    """Take a backup; those of pgBackRest's runs that are good, counted from one, end well. Return code and what ran."""
    log = folder / "log"
    log.write_text("")
    (folder / "site.env").write_text(f"QUEUE={folder}/queue\n")
    programs = {
        "pgbackrest": f"""echo "$*" >> {log}; case " {" ".join(map(str, good))} " in
            *" $(grep -c backup {log}) "*) ;;
            *) exit 56 ;;
            esac""",
        "sleep": f'echo "sleep $1" >> {log}',
    }
    script, paths = "pgbackrest/files/pgbackrest-backup", ("/etc/pgbackrest/site.env",)
    done = shell_script.run(script, "incr", folder=folder, programs=programs, paths=paths)
    return done.returncode, log.read_text().splitlines()


STANDBY, PRIMARY = "--type=incr --backup-standby backup", "--type=incr --no-backup-standby backup"


@pytest.mark.parametrize(
    ("good", "code", "ran"),
    [
        ((1,), 0, [STANDBY]),
        ((2,), 0, [STANDBY, PRIMARY]),
        # There is no primary until the standby has taken over.
        ((3,), 0, [STANDBY, PRIMARY, "sleep 60", STANDBY]),
        ((4,), 0, [STANDBY, PRIMARY, "sleep 60", STANDBY, PRIMARY]),
        ((), 56, [STANDBY, PRIMARY, "sleep 60", STANDBY, PRIMARY]),
    ],
)
def test_a_backup_that_a_failover_ends_is_begun_anew(
    tmp_path: Path, good: tuple[int, ...], code: int, ran: list[str]
) -> None:
    """Once, a minute later. What fails then has another cause."""
    assert backup(tmp_path, *good) == (code, ran)
