"""A data directory of another cluster or major version is somebody's data: refused and left alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import lab
from tests.acceptance.test_site import recap

KEPT = "/var/lib/postgresql/kept-by-test"


def fingerprint(host: str, data: str) -> str:
    """Return a checksum of names, times, owners and content of everything in the data directory."""
    listing = f"cd {data} && find . -printf '%p %u %m %s %T@\\n' | sort && find . -type f | sort | xargs sha256sum"
    text: str = lab.on(host).check_output(listing)
    return text


@pytest.fixture
def foreign(whole_cluster: None) -> Iterator[tuple[str, str]]:
    """Give a standby the data of another cluster; put its own back afterwards."""
    host = lab.standby()
    on = lab.on(host)
    data, programs = lab.sql(host, "show data_directory"), on.check_output("echo /usr/lib/postgresql/*/bin")
    on.check_output("systemctl stop patroni")
    on.check_output(f"mv {data} {KEPT}")
    try:
        on.check_output(f"runuser -u postgres -- {programs}/initdb --pgdata={data}")
        yield host, data
    finally:
        on.check_output(f"rm -rf {data}")
        on.check_output(f"mv {KEPT} {data}")
        on.check_output("systemctl start patroni")


def test_data_of_another_cluster_is_refused_and_left_alone(foreign: tuple[str, str]) -> None:
    """site.yml says so in one line, touches no host, and the data is as it was."""
    host, data = foreign
    before = fingerprint(host, data)
    site = lab.playbook("site.yml")
    assert site.returncode != 0
    messages = re.findall(r"patroni: patroni_data_dir [^']*another", " ".join(site.stdout.split()))
    assert messages
    assert all(host in message for message in messages)
    assert {counters["changed"] for counters in recap(site.stdout).values()} == {0}
    assert fingerprint(host, data) == before
    assert lab.on(host).run("systemctl is-active patroni").stdout.strip() == "inactive"


def test_another_major_version_is_refused(tmp_path: Path) -> None:
    """site.yml neither changes the major version of a cluster nor gives it members of two."""
    runs = lab.major(lab.primary())
    other = {15: 17, 17: 15}[runs]
    mixed = tmp_path / "hosts.yml"
    next_pair = f"{{main: {{patroni_postgresql_version: {other}}}, monitoring: {{}}}}"
    mixed.write_text(f"postgres_next: {{hosts: {next_pair}}}\n", encoding="utf-8")
    refusals = {
        (
            "-e",
            f"patroni_postgresql_version={other}",
        ): f"runs PostgreSQL {runs}, and patroni_postgresql_version is {other}",
        ("-i", "inventories/lab", "-i", str(mixed)): f"PostgreSQL would be {other} on main, {runs} on monitoring",
    }
    for arguments, words in refusals.items():
        site = lab.playbook("site.yml", *arguments)
        assert site.returncode != 0, site.stdout
        assert words in " ".join(site.stdout.split()), site.stdout
        assert {counters["changed"] for counters in recap(site.stdout).values()} == {0}, site.stdout
