"""What a slip must not destroy: the authority's key, an administrator's rules, the way in by SSH."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import lab
from tests.acceptance.test_site import recap

APP = lab.group("app")[0]
# An administrator's file: like Debian's own it takes away the rules that are loaded (there everybody's, here the
# site's, since a container's name service would not live through that), and adds a table.
RULES = """
table inet site_firewall
flush table inet site_firewall
table inet mine { chain input { type filter hook input priority 10; ip saddr 192.0.2.1 drop; }; }
"""
SSHD = 2222


def authority() -> tuple[bytes, ...]:
    """Return the authority's key and certificate on the control node, and the certificate that each host trusts."""
    kept = tuple((lab.DIRECTORY / "ca" / name).read_bytes() for name in ("ca.key", "ca.crt"))
    return kept + tuple(lab.on(host).file("/etc/ssl/site/ca.crt").content for host in lab.hosts())


def test_authority_is_not_replaced_by_a_slip(tmp_path: Path) -> None:
    """A mistyped passphrase does not make another one, nor does a control node without its folder or its key."""
    before = authority()
    (tmp_path / "keyless").mkdir()
    shutil.copy(lab.CA_FILE, tmp_path / "keyless")
    slips = {
        f"certificates_ca_dir={tmp_path}/keyless": "has ca.crt and not its key",
        "certificates_ca_passphrase=not-the-one-it-was-made-with": "certificates_ca_passphrase does not open",
        f"certificates_ca_dir={tmp_path}/ca": f"trusts another authority than the one in {tmp_path}/ca",
    }
    for slip, words in slips.items():
        run = lab.playbook("site.yml", "--tags", "certificates", "-e", slip)
        assert run.returncode != 0, run.stdout
        assert words in " ".join(run.stdout.split()), run.stdout
        assert {counters["changed"] for counters in recap(run.stdout).values()} == {0}, run.stdout
    assert authority() == before
    assert not (tmp_path / "ca").exists()


@pytest.fixture
def administered() -> Iterator[None]:
    """Give the host an administrator's own rules, and an sshd at another port than the inventory's; then take both."""
    host = lab.on(APP)
    stock = host.file("/etc/nftables.conf").content_string
    try:
        lab.run(APP, "tee", "/etc/nftables.conf", stdin=RULES)
        host.check_output("apt-get -q update && apt-get -qy --no-install-recommends install openssh-server")
        host.check_output(f"echo 'Port {SSHD}' > /etc/ssh/sshd_config.d/port.conf && systemctl restart ssh")
        yield
    finally:
        host.check_output("apt-get -qy purge openssh-server")
        lab.run(APP, "tee", "/etc/nftables.conf", stdin=stock)
        host.run("nft delete table inet mine")
    assert lab.playbook("site.yml", "--limit", APP, "--tags", "firewall").returncode == 0


@pytest.mark.usefixtures("administered")
def test_firewall_keeps_rules_of_others_and_the_way_in() -> None:
    """The administrator's file is as it was, its rules and the site's are loaded beside each other, and SSH is open."""
    run = lab.playbook("site.yml", "--limit", APP, "--tags", "firewall", "-e", "ansible_port=22222")
    assert run.returncode == 0, run.stdout
    assert lab.on(APP).file("/etc/nftables.conf").content_string == RULES
    for word in ("start", "reload"):
        lab.on(APP).check_output(f"systemctl {word} nftables")
        lab.on(APP).check_output("nft list chain inet mine input")
        assert "drop" in lab.on(APP).check_output("nft list chain inet site_firewall input"), word
        socket.create_connection((lab.address(APP), SSHD), timeout=2).close()
        with pytest.raises(OSError, match="No route to host"):
            socket.create_connection((lab.address(APP), 22222), timeout=2)
