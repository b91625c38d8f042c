"""What status.yml and the summary say about certificates: which ones end soon, and whether a rotation waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.import_tasks: {tasks}
    - ansible.builtin.copy:
        content: "{{{{ [lookup('ansible.builtin.template', '{template}')] | to_json }}}}"
        dest: "{said}"
        mode: "0644"
      run_once: true
"""


def certificate(days: float) -> bytes:
    """Return a certificate that ends in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([]))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=400)).not_valid_after(now + timedelta(days=days))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def said(folder: Path, hosts: dict[str, float], authority: float, *files: str, **variables: object) -> list[str]:
    """Return what is said about hosts whose certificates, and the authority's, end in so many days."""
    (folder / "ca").mkdir()
    (folder / "ca" / "ca.crt").write_bytes(certificate(authority))
    for name in files:
        (folder / "ca" / name).write_bytes(certificate(authority))
    for name, days in hosts.items():
        (folder / name).mkdir()
        (folder / name / "host.crt").write_bytes(certificate(days))
    known = {name: {"certificates_dir": str(folder / name)} for name in [*hosts, "bare"]}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"hosts": known, "vars": local | {"certificates_ca_dir": str(folder / "ca")} | variables}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    play = PLAY.format(
        tasks=ROOT / "playbooks/tasks/certificates.yml",
        template=ROOT / "playbooks/templates/certificates.txt.j2",
        said=folder / "said",
    )
    (folder / "play.yml").write_text(play, encoding="utf-8")
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    command = [program, "-i", str(folder / "hosts.yml"), str(folder / "play.yml")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    text: str | None = json.loads((folder / "said").read_text(encoding="utf-8"))[0]
    return (text or "").splitlines()


def day(days: float) -> str:
    """Return the date of so many days from now."""
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"


def test_nothing_is_said_while_all_last(tmp_path: Path) -> None:
    """Nor about a host that has none yet."""
    assert said(tmp_path, {"main": 31.5, "monitoring": 365}, 3650) == []


def test_what_ends_within_a_month_is_said_with_host_and_date(tmp_path: Path) -> None:
    """And what has ended already, and the authority's own."""
    assert said(tmp_path, {"main": 29.5, "monitoring": -1.5, "postgres-1": 40}, 20.5) == [
        f"CERTIFICATE  of main ends on {day(29.5)}; site.yml renews it",
        f"CERTIFICATE  of monitoring ended on {day(-1.5)}; site.yml renews it",
        f"CERTIFICATE  of the authority ends on {day(20.5)}; playbooks/rotate-ca.yml replaces it",
    ]


def test_what_is_due_for_renewal_is_said(tmp_path: Path) -> None:
    """Where that is earlier than a month."""
    line = f"CERTIFICATE  of main ends on {day(59.5)}; site.yml renews it"
    assert said(tmp_path, {"main": 59.5, "monitoring": 61}, 3650, certificates_renew_days=60) == [line]


def test_a_rotation_that_was_cut_off_is_said(tmp_path: Path) -> None:
    """Instead of the former authority's end."""
    line = "CERTIFICATE  of the authority: its rotation is not complete; playbooks/rotate-ca.yml goes on with it"
    assert said(tmp_path, {"main": 365}, 3, "former.crt") == [line]
