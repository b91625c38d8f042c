"""Every rule can fail: a small repository without findings, spoiled in one place at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy.repository import Repository
from tests.policy.rules import RULES, bundled_collections

DEFAULTS = "roles/web/defaults/main.yml"
SPECS = "roles/web/meta/argument_specs.yml"
PREFLIGHT = "roles/web/tasks/preflight.yml"
TASKS = "roles/web/tasks/main.yml"
CONFIG = "roles/web/tasks/config.yml"
README = "roles/web/README.md"
TEMPLATE = "roles/web/templates/web.conf.j2"
ADR = "docs/adr/0001-web.md"
ALERTS = "roles/web/files/rules.yml"
RINGS = "tests/acceptance/alerts.yml"

GOOD = {
    DEFAULTS: "---\nweb_port: 443\n",
    SPECS: """\
---
argument_specs:
  main:
    options:
      web_port: {type: int, default: 443, description: Port.}
      web_password: {type: str, required: true, description: Password.}
""",
    "roles/web/meta/main.yml": "---\ngalaxy_info: {}\n",
    PREFLIGHT: """\
---
- name: preflight | Refuse invalid input
  sre.stack.refuse:
    checks:
      - name: Refuse a short password
        that: web_password | length >= 16
        fail_msg: "web: web_password is too short; give at least 16 characters."
""",
    TASKS: "---\n- name: Configure\n  ansible.builtin.import_tasks: config.yml\n",
    CONFIG: """\
---
- name: config | Write the options
  block:
    - name: config | Write the file
      ansible.builtin.template:
        src: web.conf.j2
        dest: /etc/web.conf
        mode: "0644"
      notify: Reload web
""",
    "roles/web/vars/main.yml": "---\n__web_user: web\n",
    "roles/web/handlers/main.yml": """\
---
- name: Reload web
  ansible.builtin.systemd_service:
    name: web
    state: reloaded
""",
    TEMPLATE: "{{ ansible_managed | comment }}\nlisten {{ web_port }};\n",
    README: """\
# web

## Requirements

## Variables

<!-- variables -->

| Variable | Type | Default | Description |
| --- | --- | --- | --- |
| `web_port` | int | `443` | Port. |
| `web_password` | str | required | Password. |

<!-- /variables -->

## Dependencies

## Example

## Limits
""",
    "group_vars/all/web.yml": "---\nsite_names: []\nweb_port: 444\n",
    "playbooks/site.yml": """\
---
- name: Web
  hosts: all
  pre_tasks:
    - name: Gather facts
      ansible.builtin.setup:
  roles:
    - {role: web, tags: [web]}
""",
    "playbooks/status.yml": """\
---
- name: Status
  hosts: all
  tasks:
    - name: Show it
      ansible.builtin.debug:
""",
    "site.yml": "---\n- name: Set up\n  import_playbook: playbooks/site.yml\n",
    "requirements.yml": "---\ncollections:\n  - {name: ansible.posix, version: @posix@}\n",
    "Makefile": "test: lint ## Run the tests\n\t@true\nlint: ## Run the linters\n\t@true\n",
    "README.md": """\
# Stack

[web](roles/web/README.md), [limits](roles/web/README.md#limits), [site](https://example.org/x)

Needs ansible-core 2.19 or newer.

Type `make test` or

    make lint
    ansible-playbook -i inventories/production site.yml
""",
    ADR: "# Web\n\n## Context\n\n## Decision\n\n## Consequences\n\n## What would change our mind\n",
    "docs/adr/README.md": "[Web](0001-web.md)\n",
    "molecule/default/molecule.yml": (
        "---\nscenario: {test_sequence: [create, converge, verify]}\nverifier: {directory: ../../tests/acceptance}\n"
    ),
    "tests/acceptance/test_site.py": '"""The site."""\n',
    ALERTS: """\
groups:
  - rules:
      - {alert: Down, labels: {severity: page}, annotations: {runbook: docs/runbooks/alerts.md#down}}
""",
    "docs/runbooks/alerts.md": "# An alert rings\n\n## Down\n",
    RINGS: "tests: [{alert_rule_test: [{alertname: Down, exp_alerts: [{}]}]}]\n",
    "experiments/off.yml": "alerts: {ring: [{name: Down, within_seconds: 9}], may: [Down]}\n",
    "requirements/dev.txt": "ansible==1 --hash=sha256:00\nansible-core==2.19.1 --hash=sha256:00\n",
    "meta/runtime.yml": '---\nrequires_ansible: ">=2.19.0"\n',
}

# Rule, file to spoil, text in it (None: the file as a whole), what takes its place (None: nothing at all)
HTTPS = "https" + "://"
KEY = "-----BEGIN EC PRIVATE " + "KEY-----\n"
SPOILED: list[tuple[str, str, str | None, str | None]] = [
    ("role_has_its_files", "roles/web/meta/main.yml", None, None),
    ("specs_equal_defaults", DEFAULTS, "443", "80"),
    ("specs_equal_defaults", DEFAULTS, "443\n", "443\nweb_host: a\n"),
    ("specs_equal_defaults", DEFAULTS, "web_port: 443\n", ""),
    ("specs_equal_defaults", DEFAULTS, "443\n", "443\nweb_password: ''\n"),
    ("specs_equal_defaults", SPECS, "default: 443, ", ""),
    ("specs_have_their_tasks", SPECS, "Password.}", "Password.}\n  other: {}"),
    ("specs_have_their_tasks", SPECS, None, "argument_specs: {}\n"),
    ("specs_have_their_tasks", PREFLIGHT, "sre.stack.refuse", "ansible.builtin.assert"),
    ("options_are_described", SPECS, ", description: Port.", ""),
    ("options_are_described", SPECS, "type: int, ", ""),
    ("secrets_have_no_default", DEFAULTS, "443\n", "443\nweb_password: changeme\n"),
    ("options_are_used", TEMPLATE, "web_port", "web_ports"),
    ("options_are_used", TEMPLATE, "web_port", "443"),
    ("roles_know_no_groups", TEMPLATE, "web_port", "groups['app']"),
    ("roles_know_no_groups", TASKS, "config.yml", "{{ hostvars.a }}"),
    ("roles_know_no_groups", CONFIG, "web.conf.j2", "{{ 'app' in group_names }}"),
    ("readme_tables_are_current", README, "`443`", "`80`"),
    ("readme_tables_are_current", README, "<!-- /variables -->", ""),
    ("role_readme_has_its_sections", README, "## Limits", "## Remarks"),
    ("role_readme_has_its_sections", README, "## Example\n\n## Limits", "## Limits\n\n## Example"),
    ("roles_carry_their_tag", "playbooks/site.yml", "tags: [web]", "tags: [www]"),
    ("roles_carry_their_tag", "playbooks/site.yml", "{role: web, tags: [web]}", "web"),
    ("task_files_are_short", TASKS, "---\n", "---\n" + "# Why\n" * 120),
    ("nothing_forbidden", CONFIG, "notify: Reload web", "ignore_errors: true"),
    ("nothing_forbidden", CONFIG, "notify: Reload web", "failed_when: false"),
    ("nothing_forbidden", TEMPLATE, "listen", "allow 0.0.0.0/0;\nlisten"),
    ("nothing_forbidden", TEMPLATE, "listen", "allow ::/0;\nlisten"),
    ("nothing_forbidden", TEMPLATE, "listen", "ssl.verification_mode: none\nlisten"),
    ("nothing_forbidden", TEMPLATE, "listen", "server a ssl verify none\nlisten"),
    ("nothing_forbidden", TEMPLATE, "listen", "sslmode = require\nlisten"),
    ("nothing_forbidden", TEMPLATE, "listen", "curl -sS -k https://a\nlisten"),
    ("nothing_forbidden", "playbooks/status.yml", "debug:", "uri:\n        validate_certs: false"),
    ("control_node_tasks_become_nobody", CONFIG, "notify: Reload web", "delegate_to: localhost\n      become: false"),
    ("control_node_tasks_become_nobody", "playbooks/status.yml", "hosts: all", "hosts: localhost"),
    ("own_calls_use_no_proxy", CONFIG, "ansible.builtin.template:", "ansible.builtin.uri:"),
    ("own_calls_use_no_proxy", TEMPLATE, "listen", "curl -sS https://a\nlisten"),
    ("templates_say_who_manages_them", TEMPLATE, "{{ ansible_managed | comment }}\n", ""),
    ("group_vars_name_options", "group_vars/all/web.yml", "web_port", "web_prot"),
    ("group_vars_name_options", "group_vars/all/wbe.yml", None, "---\nsite_a: 1\n"),
    ("supported_ansible_is_the_tested_one", "meta/runtime.yml", "2.19", "2.17"),
    ("supported_ansible_is_the_tested_one", "README.md", "2.19", "2.17"),
    ("collections_are_the_bundled_ones", "requirements.yml", "@posix@", "0.0.1"),
    ("collections_are_the_bundled_ones", CONFIG, "ansible.builtin.template", "community.general.xml"),
    ("no_private_key", "docs/notes.md", None, KEY),
    ("urls_lead_to_known_places", "README.md", "example.org", "registry.corp.test"),
    ("urls_lead_to_known_places", TEMPLATE, "listen", f"url {HTTPS}u:p@mirror.corp.test:8080/a\nlisten"),
    ("urls_lead_to_known_places", "requirements/dev.txt", "ansible", "--index-url x\nansible"),
    ("links_lead_somewhere", "README.md", "(roles/web/README.md)", "(roles/web/READ.md)"),
    ("links_lead_somewhere", "README.md", "#limits", "#limit"),
    ("commands_in_markdown_exist", "README.md", "`make test`", "`make tests`"),
    ("commands_in_markdown_exist", "README.md", "    make lint", "    make LAB=a lin"),
    ("commands_in_markdown_exist", "README.md", "production site.yml", "production sites.yml"),
    ("readme_lists_every_role", "README.md", "[web](roles/web/README.md)", "web"),
    ("molecule_steps_exist", "tests/acceptance/test_site.py", None, None),
    ("molecule_steps_exist", "molecule/default/molecule.yml", "verify]", "verify, side_effect]"),
    ("locks_agree", "app/requirements.txt", None, "Ansible==2\n"),
    ("decisions_are_whole", ADR, "## Consequences\n", ""),
    ("decisions_are_whole", "docs/adr/README.md", "0001-web.md", "web.md"),
    ("decisions_are_whole", "docs/adr/0003-c.md", None, "# C\n"),
    ("alerts_are_explained_and_proven", ALERTS, "#down", "#up"),
    ("alerts_are_explained_and_proven", ALERTS, "severity: page", "severity: warning"),
    ("alerts_are_explained_and_proven", "docs/runbooks/alerts.md", "## Down", "## Up"),
    ("alerts_are_explained_and_proven", RINGS, "[{}]", "[]"),
    ("alerts_are_explained_and_proven", "experiments/off.yml", "may: [Down]", "may: [Up]"),
]


def write(root: Path, name: str, text: str) -> None:
    """Write one file of the small repository."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a small repository in which no rule finds anything."""
    for name, text in GOOD.items():
        write(tmp_path, name, text.replace("@posix@", bundled_collections()["ansible.posix"]))
    return tmp_path


@pytest.mark.parametrize("name", RULES)
def test_rule_accepts_what_is_right(root: Path, name: str) -> None:
    """No rule cries wolf."""
    assert not list(RULES[name](Repository(root)))


@pytest.mark.parametrize(("name", "file", "old", "new"), SPOILED)
def test_rule_finds_what_is_wrong(root: Path, name: str, file: str, old: str | None, new: str | None) -> None:
    """Each finding is one line that says in which file."""
    path = root / file
    if new is None:
        path.unlink()
    elif old is None:
        write(root, file, new)
    else:
        old = old.replace("@posix@", bundled_collections()["ansible.posix"])
        text = path.read_text(encoding="utf-8")
        assert old in text, "the example has changed: spoil something else"
        write(root, file, text.replace(old, new))
    findings = list(RULES[name](Repository(root)))
    assert findings
    for finding in findings:
        assert "\n" not in finding
        assert str(root) not in finding


def test_every_rule_is_proved_able_to_fail() -> None:
    """A rule that cannot fail is no rule."""
    assert {name for name, *_ in SPOILED} == RULES.keys()
