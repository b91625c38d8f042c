"""The copy of the repository: it is made by the clock, follows what is expired, and a fresh host begins with it.

The other side is rclone's own WebDAV server, from Debian, over TLS.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import lab
from tests.acceptance.test_backup import KEEPER, REPOSITORY, backups, pgbackrest, wait_for_the_first_backup

ELSEWHERE = "/var/lib/elsewhere"
AUTHORITY = "/usr/local/share/ca-certificates/site.crt"
SITE = ("site.yml", "-l", KEEPER, "--tags", "pgbackrest")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Run what is copied to, have it trusted, and return how a playbook is told; put all back afterwards."""
    on = lab.on(KEEPER)
    url = f"https://{lab.address(KEEPER)}:8090"
    on.check_output("apt-get install -qy --no-install-recommends rclone")
    on.check_output(f"cp /etc/ssl/site/ca.crt {AUTHORITY} && update-ca-certificates && mkdir {ELSEWHERE}")
    on.check_output(
        f"systemd-run --unit=elsewhere rclone serve webdav {ELSEWHERE}"
        f" --addr={lab.address(KEEPER)}:8090 --cert=/etc/ssl/site/host.crt --key=/etc/ssl/site/host.key"
    )
    lab.wait_until("the other side", lambda: on.socket(f"tcp://{lab.address(KEEPER)}:8090").is_listening, 30)
    given: Path = tmp_path_factory.mktemp("copy") / "copy.json"
    remote = {"type": "webdav", "url": url}
    given.write_text(json.dumps({"pgbackrest_copy_path": "polls/backups", "pgbackrest_copy_remote": remote}))
    yield ["-e", f"@{given}"]
    assert lab.playbook(*SITE).returncode == 0
    assert lab.run(KEEPER, "systemctl", "is-enabled", "pgbackrest-copy.timer").stdout.strip() == "disabled"
    assert lab.run(KEEPER, "ls", "/etc/pgbackrest/copy.conf").returncode != 0
    on.check_output(
        f"systemctl stop elsewhere && rm --recursive {ELSEWHERE} {AUTHORITY} && update-ca-certificates --fresh"
    )


def copied() -> set[str]:
    """Return the files that the other side has."""
    return set(lab.on(KEEPER).check_output(f"cd {ELSEWHERE} && find . -type f").split())


def kept() -> set[str]:
    """Return the files of the repository that belong into a copy."""
    files = f"cd {REPOSITORY} && find archive backup -type f -not -name '*.tmp*' -printf './polls/backups/%p\\n'"
    links = f"cd {REPOSITORY} && find archive backup -type l -printf './polls/backups/%p.rclonelink\\n'"
    return set(lab.on(KEEPER).check_output(f"({files}; {links})").split())


def test_the_repository_is_copied_by_the_clock(variables: list[str]) -> None:
    """All of it, as encrypted as it is, and status.yml says when."""
    wait_for_the_first_backup()
    assert "Copy " not in lab.playbook("playbooks/status.yml").stdout
    run = lab.playbook(*SITE, *variables)
    assert run.returncode == 0, run.stdout
    before = kept()
    lab.wait_until("a copy", lambda: before <= copied(), 60)
    again = lab.playbook(*SITE, *variables)
    assert f"{KEEPER:26} : ok=" in again.stdout
    assert "changed=0" in again.stdout, again.stdout
    said = lab.playbook("playbooks/status.yml", *variables).stdout
    assert "minutes ago in webdav:polls/backups" in said


def test_what_is_removed_is_removed_there(variables: list[str]) -> None:
    """Backups that are expired go, with what belongs to them."""
    run = lab.playbook("playbooks/backup.yml", "-e", "backup_type=full")
    assert run.returncode == 0, run.stdout
    assert pgbackrest(KEEPER, "--repo1-retention-full=1", "expire", user="pgbackrest").returncode == 0
    lab.on(KEEPER).check_output("systemctl start pgbackrest-copy")
    assert {file for file in copied() - kept() if "/archive/" not in file} == set()


def test_a_fresh_host_begins_with_the_copy(variables: list[str]) -> None:
    """And not with an empty repository, which is not copied over a full one either."""
    on = lab.on(KEEPER)
    before = [backup["label"] for backup in backups()]
    # What is archived after the last copy would be a gap.
    on.check_output("systemctl stop pgbackrest && systemctl start pgbackrest-seal pgbackrest-copy")
    on.check_output(f"mv {REPOSITORY} {REPOSITORY}.lost")
    there = copied()
    on.check_output(
        f"install -d -o pgbackrest -g pgbackrest {REPOSITORY} {REPOSITORY}/lock && systemctl start pgbackrest-copy"
    )
    assert copied() == there
    on.check_output(f"rm --recursive {REPOSITORY}")
    run = lab.playbook(*SITE, *variables)
    assert run.returncode == 0, run.stdout
    assert [backup["label"] for backup in backups()] == before
    drill = lab.playbook("playbooks/restore-drill.yml")
    assert "PASS restore-drill" in drill.stdout, drill.stdout
    on.check_output(f"rm --recursive {REPOSITORY}.lost")
