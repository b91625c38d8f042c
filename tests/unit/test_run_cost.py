"""The callback that counts what a run costs, in a real run on a host that is reached by a connection of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
# This machine, but not as the control node itself.
CONNECTION = """\
DOCUMENTATION = '''
name: other
short_description: This machine as another one
extends_documentation_fragment: [connection_pipelining]
'''
from ansible.plugins.connection.local import Connection as Local


class Connection(Local):
    transport = "other"
"""
PLAYBOOK = """\
- name: On a host
  hosts: all
  connection: other
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  roles: [files]
  tasks:
    - name: None, and skipped at that
      ansible.builtin.command: "true"
      when: false
    - name: On the control node
      ansible.builtin.command: "true"
      delegate_to: localhost
      vars:
        ansible_connection: local
"""
TASKS = """\
- name: Two, a look and the file
  ansible.builtin.copy:
    content: one
    dest: "{{ playbook_dir }}/file"
    mode: "0644"
- name: Two for each of three unchanged files
  ansible.builtin.copy:
    content: one
    dest: "{{ playbook_dir }}/file"
    mode: "0644"
  loop: [1, 2, 3]
- name: None
  ansible.builtin.assert:
    that: true
"""
FILES = {"connection_plugins/other.py": CONNECTION, "roles/files/tasks/main.yml": TASKS, "play.yml": PLAYBOOK}


def test_each_module_process_on_a_host_is_counted_once_and_none_of_the_control_node(tmp_path: Path) -> None:
    """Whatever action starts it, however many its task needs; shown, and in a file."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".collections"),
        "ANSIBLE_CALLBACKS_ENABLED": "sre.stack.run_cost",
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        "SRE_STACK_RUN_COST_FILE": str(tmp_path / "cost.json"),
    }
    done = subprocess.run(
        ["ansible-playbook", "--inventory", "here,", "play.yml"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 task results, 8 module runs and " in done.stdout
    cost: dict[str, Any] = json.loads((tmp_path / "cost.json").read_text("utf-8"))
    assert (cost["results"], cost["module_runs"], cost["changed"]) == (5, 8, 2)
    roles = cost["roles"]
    assert (roles["files"]["results"], roles["files"]["module_runs"]) == (3, 8)
    assert (roles["(no role)"]["results"], roles["(no role)"]["module_runs"]) == (2, 0)
    # A copy has a temporary folder made and removed besides.
    assert roles["files"]["commands"] >= 8 + 4 * 2
    assert roles["(no role)"]["commands"] == 0
    assert roles["files"]["seconds"] > 0
