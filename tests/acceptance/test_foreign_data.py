"""A data directory that belongs to another cluster is somebody's data: refused and left alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.acceptance import lab
from tests.acceptance.test_site import recap

DATA = "/var/lib/postgresql/15/main"
KEPT = "/var/lib/postgresql/15/kept-by-test"
INITDB = "/usr/lib/postgresql/15/bin/initdb"


def fingerprint(host: str) -> str:
    """Return a checksum of names, times, owners and content of everything in the data directory."""
    listing = f"cd {DATA} && find . -printf '%p %u %m %s %T@\\n' | sort && find . -type f | sort | xargs sha256sum"
    text: str = lab.on(host).check_output(listing)
    return text


@pytest.fixture
def foreign(whole_cluster: None) -> Iterator[str]:
    """Give a standby the data of another cluster; put its own back afterwards."""
    host = lab.standby()
    on = lab.on(host)
    on.check_output("systemctl stop patroni")
    on.check_output(f"mv {DATA} {KEPT}")
    try:
        on.check_output(f"runuser -u postgres -- {INITDB} --pgdata={DATA}")
        yield host
    finally:
        on.check_output(f"rm -rf {DATA}")
        on.check_output(f"mv {KEPT} {DATA}")
        on.check_output("systemctl start patroni")


def test_data_of_another_cluster_is_refused_and_left_alone(foreign: str) -> None:
    """site.yml says so in one line, touches no host, and the data is as it was."""
    before = fingerprint(foreign)
    site = lab.playbook("site.yml")
    assert site.returncode != 0
    messages = re.findall(r"patroni: patroni_data_dir [^']*another", " ".join(site.stdout.split()))
    assert messages
    assert all(foreign in message for message in messages)
    assert {counters["changed"] for counters in recap(site.stdout).values()} == {0}
    assert fingerprint(foreign) == before
    assert lab.on(foreign).run("systemctl is-active patroni").stdout.strip() == "inactive"
