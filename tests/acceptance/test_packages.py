"""Nobody restarts what votes wait for behind the site's back. Updates in order: tests/long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance import lab, load

# Gives installed packages a version, as far as dpkg can tell, for which the archive has a newer one.
AGE = r"""
import pathlib, re, sys
status = pathlib.Path("/var/lib/dpkg/status")
text = status.read_text()
for name in sys.argv[1:]:
    text = re.sub(rf"(?ms)^(Package: {re.escape(name)}\n.*?^Version: [^\n]*)", r"\1~old", text, count=1)
status.write_text(text)
"""


def old(host: str, packages: list[str]) -> list[str]:
    """Return the packages that have not been upgraded."""
    command = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *packages]
    return [line.split()[0] for line in lab.run(host, *command).stdout.splitlines() if line.endswith("~old")]


def processes(host: str, units: list[str]) -> list[str]:
    """Return the main processes of units, which change when one is restarted."""
    return [lab.on(host).check_output(f"systemctl show --property=MainPID --value {unit}") for unit in units]


@pytest.mark.parametrize("role", ["application", "standby", "primary"])
@pytest.mark.usefixtures("whole_cluster")
def test_upgrades_do_not_restart_what_votes_wait_for(role: str, tell: Callable[[str], None]) -> None:
    """Those by the clock leave it alone, and take the others; those by hand do not restart it."""
    host = {"application": lab.group("app")[0], "standby": lab.standby(), "primary": lab.primary()}[role]
    if role == "application":
        own, others, units = (
            ["etcd-server", "haproxy", "supervisor"],
            ["curl", "nginx"],
            ["etcd", "haproxy", "supervisor"],
        )
    else:
        own, others, units = (
            ["etcd-server", "pgbackrest", f"postgresql-{lab.major(host)}"],
            ["curl"],
            ["etcd", "patroni"],
        )
    before = processes(host, units)
    with load.votes() as votes:
        lab.wait_until("votes", lambda: len(votes.sent) > 20, 10)
        assert lab.run(host, "python3", "-", *own, *others, stdin=AGE).returncode == 0
        assert sorted(old(host, own + others)) == sorted(own + others)
        upgraded = lab.run(host, "unattended-upgrade", "--verbose")
        assert upgraded.returncode == 0, upgraded.stdout + upgraded.stderr
        assert sorted(old(host, own + others)) == sorted(own), upgraded.stdout
        by_hand = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends --quiet=2 "
        lab.on(host).check_output(by_hand + " ".join(own))
        assert old(host, own) == []
    assert processes(host, units) == before
    assert votes.failed() == []
    tell(f"{votes.longest_silence():.1f} s without a confirmed vote")
