"""The collection as whoever wants single roles has it: built, installed into an empty folder, used from there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PLAYBOOK = """\
- name: Use the collection
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Use a role
      ansible.builtin.include_role:
        name: sre.stack.certificates
        tasks_from: authority
      vars:
        certificates_ca_dir: "{{ playbook_dir }}/ca"
        certificates_ca_passphrase: of-this-test-only

    - name: Use a module
      sre.stack.etcd_auth:
        endpoint: http://127.0.0.1:2379
        ca_file: ca/ca.crt
        cert_file: ca/ca.crt
        key_file: ca/ca.key
        root_password: not used
      register: refused
      failed_when: "'must start with https://' not in refused.msg"
"""


def test_roles_and_modules_work_from_the_built_collection(tmp_path: Path) -> None:
    """Nothing of the checkout is needed: neither its configuration nor a file outside the archive."""
    # Ansible's own defaults, in a folder without any configuration.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
    }

    def run(*command: str, cwd: Path = tmp_path) -> str:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("ansible-galaxy", "collection", "build", str(REPOSITORY), "--output-path", str(tmp_path))
    (archive,) = tmp_path.glob("sre-stack-*.tar.gz")
    run("ansible-galaxy", "collection", "install", str(archive), "--no-deps", "--collections-path", "collections")
    (tmp_path / "play.yml").write_text(PLAYBOOK, "utf-8")
    output = run("ansible-playbook", "play.yml")
    assert "failed=0" in output
    assert (tmp_path / "ca" / "ca.crt").read_text("utf-8").startswith("-----BEGIN CERTIFICATE-----")
