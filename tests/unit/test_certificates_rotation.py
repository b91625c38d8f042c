"""The authority's rotation on the control node: what its files are after each step, also where one is taken again."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = "of-this-test-only"
PLAY = """
- hosts: localhost
  gather_facts: false
  vars:
    certificates_ca_dir: "{{ playbook_dir }}/ca"
    certificates_ca_passphrase: of-this-test-only
    certificates_address: 192.0.2.11
  tasks:
    - ansible.builtin.include_tasks: step.yml
      loop: "{{ steps.split() }}"
      loop_control: {loop_var: certificates_step, index_var: number}
"""
# Keeps what the folder then is.
STEP = """
- ansible.builtin.include_role: {name: certificates, tasks_from: rotate}
- ansible.builtin.command: {argv: [cp, -a, ca, "after-{{ number }}"], chdir: "{{ playbook_dir }}"}
  changed_when: false
"""


def rotate(folder: Path, steps: str, *options: str) -> str:
    """Take steps; return what Ansible said."""
    (folder / "play.yml").write_text(PLAY, encoding="utf-8")
    (folder / "step.yml").write_text(STEP, encoding="utf-8")
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "1000"}
    command = [program, "-i", "elsewhere,", str(folder / "play.yml"), "-e", f"steps='{steps}'", *options]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return run.stdout + run.stderr + f"\nrc {run.returncode}"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder with an authority in its folder `ca`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ansible-sre-stack internal CA")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    (tmp_path / "ca").mkdir()
    pem = serialization.Encoding.PEM
    (tmp_path / "ca" / "ca.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    encrypted = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    (tmp_path / "ca" / "ca.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encrypted))
    (tmp_path / "ca" / "ca.key").chmod(0o600)
    return tmp_path


def keys(path: Path) -> list[bytes]:
    """Return the public keys of a file: those of its certificates, or of its private key."""
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if path.suffix == ".crt":
        return [one.public_key().public_bytes(*form) for one in x509.load_pem_x509_certificates(path.read_bytes())]
    private = serialization.load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())
    return [private.public_key().public_bytes(*form)]


def test_each_step_is_told_by_the_files(site: Path) -> None:
    """One that is taken again, as after a cut, changes nothing; one whose turn it is not, neither."""
    (former,) = keys(site / "ca" / "ca.key")
    assert rotate(site, "sign trust trust end sign trust end drop sign end").endswith("rc 0")
    found = []
    for number in range(10):
        folder = site / f"after-{number}"
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        found.append((keys(folder / "ca.crt"), keys(folder / "ca.key"), files))
    both = found[1][0]
    (following,) = keys(site / "after-1" / "next.key")
    assert both == [former, following]
    states = [[former], both, both, [following], [following]]
    signers = [former, former, following, following, following]
    # The states before and after each step.
    told = [0, 1, 1, 1, 2, 2, 2, 3, 3, 4]
    assert [one[0] for one in found] == [states[state] for state in told]
    assert [one[1] for one in found] == [[signers[state]] for state in told]
    same = [one[2] == other[2] for one, other in itertools.pairwise(found)]
    assert same == [one == other for one, other in itertools.pairwise(told)]
    (kept,) = (site / "ca").glob("former-*")
    assert {path.name for path in (site / "ca").iterdir()} == {"ca.crt", "ca.key", kept.name}
    assert (keys(kept / "ca.crt"), keys(kept / "ca.key")) == ([former], [former])
    assert {path.stat().st_mode & 0o77 for path in (site / "ca" / "ca.key", kept / "ca.key")} == {0}


def test_a_lost_key_is_needed_for_none(site: Path) -> None:
    """Nor is there one to keep."""
    folder = site / "ca"
    (former,) = keys(folder / "ca.crt")
    (folder / "ca.key").unlink()
    assert rotate(site, "trust sign drop end").endswith("rc 0")
    assert keys(folder / "ca.crt") == keys(folder / "ca.key") != [former]
    assert [path.name for path in folder.glob("former-*/*")] == ["ca.crt"]


def test_a_check_changes_nothing(site: Path) -> None:
    """And says that there would be another authority."""
    before = {path.name: path.read_bytes() for path in (site / "ca").iterdir()}
    said = rotate(site, "trust sign drop end", "--check")
    assert said.endswith("rc 0")
    assert "changed=0" not in said
    assert {path.name: path.read_bytes() for path in (site / "ca").iterdir()} == before


def test_another_passphrase_is_refused(site: Path) -> None:
    """Before there is a key that only it opens."""
    said = rotate(site, "trust", "-e", "certificates_ca_passphrase=not-the-one-it-was-made-with")
    assert "certificates: certificates_ca_passphrase does not open" in said
    assert sorted(path.name for path in (site / "ca").iterdir()) == ["ca.crt", "ca.key"]


def test_a_folder_without_an_authority_is_refused(tmp_path: Path) -> None:
    """Rather than begun."""
    said = rotate(tmp_path, "trust", "-e", f"certificates_ca_dir={tmp_path}/none")
    assert f"certificates: {tmp_path}/none (certificates_ca_dir) has no ca.crt" in said
    assert not (tmp_path / "none").exists()
