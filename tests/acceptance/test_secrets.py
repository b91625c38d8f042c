"""No secret of the site can be read where it has no business to be."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.acceptance import lab

SEARCH = ["grep", "--recursive", "--files-with-matches", "--no-messages", "--fixed-strings", "--devices=skip"]


def secrets() -> list[str]:
    """Return all secrets of this lab."""
    return [path.read_text().strip() for path in sorted((lab.DIRECTORY / "secrets").iterdir())]


@pytest.fixture(params=lab.hosts())
def host(request: pytest.FixtureRequest) -> str:
    """Return each host in turn."""
    name: str = request.param
    return name


@pytest.fixture
def canary(host: str) -> Iterator[str]:
    """Put a made-up secret in each of the wrong places, so that a search which finds nothing would show."""
    value = f"canary-{uuid.uuid4().hex}"
    lab.run(host, "sh", "-c", "cat > /etc/canary && chmod 0644 /etc/canary", stdin=value)
    lab.run(host, "sh", "-c", "cat > /var/log/canary && chmod 0600 /var/log/canary", stdin=value)
    lab.run(host, "systemd-cat", "--identifier=canary", "cat", stdin=value)
    lab.run(host, "journalctl", "--sync")
    unit = "canary.service"
    lab.run(host, "systemd-run", "--quiet", f"--unit={unit}", "sh", "-c", "sleep infinity; true", value)
    yield value
    lab.run(host, "systemctl", "stop", unit)
    lab.run(host, "rm", "/etc/canary", "/var/log/canary")


def test_there_are_secrets_to_look_for() -> None:
    """Each is long enough that finding it means something."""
    # Numbers only: what an assertion compares is printed when it fails.
    lengths = [len(secret) for secret in secrets()]
    assert len(lengths) >= 14
    assert min(lengths) >= 16


def test_secrets_of_the_control_node_are_private() -> None:
    """Only their owner reads them."""
    files = [*(lab.DIRECTORY / "secrets").iterdir(), lab.DIRECTORY / "ca" / "ca.key"]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def test_nobody_reads_a_secret_in_a_file(host: str, canary: str) -> None:
    """An account without rights searches all that it can read."""
    folders = lab.on(host).check_output("find / -mindepth 1 -maxdepth 1 -not -name proc -not -name sys").split()
    found = lab.run(host, *SEARCH, "--file=-", *folders, user="nobody", stdin="\n".join([*secrets(), canary]))
    assert sorted(found.stdout.split()) == ["/etc/canary", "/run/systemd/transient/canary.service"]


def test_no_log_has_a_secret(host: str, canary: str) -> None:
    """Not even root finds one in the logs."""
    patterns = "\n".join([*secrets(), canary])
    found = lab.run(host, *SEARCH, "--file=-", "/var/log", "--exclude-dir=journal", stdin=patterns)
    assert found.stdout.split() == ["/var/log/canary"]


def test_the_journal_has_no_secret(host: str, canary: str) -> None:
    """Whatever was logged through systemd, all fields."""
    journal = lab.run(host, "journalctl", "--output=export").stdout
    assert canary in journal
    assert [secret for secret in secrets() if secret in journal] == []


def test_no_process_shows_a_secret(host: str, canary: str) -> None:
    """What `ps auxwwe` shows to an account without rights, and every command line."""
    patterns = "\n".join([*secrets(), canary])
    files = "/proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    search = f'grep -lsaF -f - {files} | while read -r file; do tr "\\0" " " < "$file"; done'
    found = lab.run(host, "sh", "-c", search, user="nobody", stdin=patterns).stdout
    assert canary in found
    assert [secret for secret in secrets() if secret in found] == []
