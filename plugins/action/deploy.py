# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Action plugin: render a role's files on the control node and hand them to the host in one module run."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.sre.stack.plugins.modules.deploy import ARGUMENTS, pack


class ActionModule(ActionBase):  # type: ignore[misc]
    """Carries out a task of ``sre.stack.deploy``."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module on the host."""
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        units = arguments["units"]
        for entry in arguments["files"]:
            for unit in (entry["reload"], entry["restart"]):
                if unit and unit not in units:
                    raise AnsibleActionFail(
                        f"deploy: {entry['path']} is loaded by {unit}, which is not among the units."
                    )
        payload = pack([self.rendered(entry, task_vars or {}) for entry in arguments["files"]])
        result: dict[str, Any] = self._execute_module(
            module_name="sre.stack.deploy",
            module_args={"units": units, "ports": arguments["ports"], "payload": payload},
            task_vars=task_vars,
        )
        return result

    def rendered(self, entry: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return a file as the host gets it: with its content, and without what made that."""
        data: bytes | None = None
        if entry["template"]:
            lookup = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
            variables = task_vars | entry["vars"]
            text = lookup.run([entry["template"]], variables=variables, lstrip_blocks=True)[0]
            data = str(text).encode()
        elif entry["source"]:
            data = Path(self._find_needle("files", entry["source"])).read_bytes()
        elif entry["content"] is not None:
            data = entry["content"].encode()
        kept = {
            name: value
            for name, value in entry.items()
            if value and name not in {"template", "source", "content", "vars"}
        }
        return kept | ({} if data is None else {"data": base64.b64encode(data).decode()})
