#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Ansible module: keep the entries of Elasticsearch's keystore."""

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch_keystore
short_description: Keep the entries of Elasticsearch's keystore
description:
  - Creates the keystore, adds the bootstrap password where it is missing, and takes unwanted entries out.
  - Values go to the tool by its standard input. An entry that exists keeps its value, which the tool does not show.
options:
  bootstrap_password: {type: str, required: true, description: Value of a missing C(bootstrap.password).}
  unwanted:
    type: list
    elements: str
    default: []
    description: Entries to take out.
  config_dir: {type: path, default: /etc/elasticsearch, description: Folder of the keystore.}
  program: {type: path, default: /usr/share/elasticsearch/bin/elasticsearch-keystore, description: The tool.}
author: ansible-sre-stack authors
"""

EXAMPLES = r"""
- name: Let the first sign-in happen
  sre.stack.elasticsearch_keystore:
    bootstrap_password: "{{ elasticsearch_bootstrap_password }}"
    unwanted: [autoconfiguration.password_hash]
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

BOOTSTRAP = "bootstrap.password"


class Keystore:
    """Elasticsearch's own tool for its keystore."""

    def __init__(self, module: AnsibleModule) -> None:
        """Use the program and folder of the module's parameters."""
        self.module = module
        self.program = module.params["program"]
        self.file = Path(module.params["config_dir"]) / "elasticsearch.keystore"
        self.actions: list[str] = []

    def run(self, *arguments: str, value: str | None = None) -> str:
        """Run the tool and return its output; ends the module where the tool fails."""
        _, output, _ = self.module.run_command(
            [self.program, *arguments],
            data=value,
            check_rc=True,
            environ_update={"ES_PATH_CONF": str(self.file.parent)},
        )
        return str(output)

    def act(self, note: str, *arguments: str, value: str | None = None) -> None:
        """Note an action and, unless in check mode, do it."""
        self.actions.append(note)
        if not self.module.check_mode:
            self.run(*arguments, value=value)

    def ensure(self, bootstrap_password: str, unwanted: list[str]) -> None:
        """Bring the keystore to the wanted state."""
        entries: list[str] = []
        if self.file.exists():
            entries = self.run("list").split()
        else:
            self.act("create the keystore", "create")
        for name in unwanted:
            if name in entries:
                self.act(f"remove {name}", "remove", name)
        if BOOTSTRAP not in entries:
            self.act(f"add {BOOTSTRAP}", "add", "--stdin", BOOTSTRAP, value=bootstrap_password)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bootstrap_password": {"type": "str", "required": True, "no_log": True},
            "unwanted": {"type": "list", "elements": "str", "default": []},
            "config_dir": {"type": "path", "default": "/etc/elasticsearch"},
            "program": {"type": "path", "default": "/usr/share/elasticsearch/bin/elasticsearch-keystore"},
        },
        supports_check_mode=True,
    )
    keystore = Keystore(module)
    keystore.ensure(module.params["bootstrap_password"], module.params["unwanted"])
    module.exit_json(changed=bool(keystore.actions), actions=keystore.actions)


if __name__ == "__main__":
    main()
