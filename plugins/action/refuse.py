# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Action plugin: check a role's input in one task, and say what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """Carries out a task of ``sre.stack.refuse``."""

    _requires_connection = False

    @classmethod
    def finalize_task_arg(cls, _name: str, value: object, _templar: object, _context: object) -> object:
        """Leave the checks as they are: a message about an option makes sense only where the option is of its type."""
        return value

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return that nothing is wrong, or fail with all invalid options or the first check that does not hold."""
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        role = Path(variables["role_path"])
        entry_points = self._loader.load_from_file(str(role / "meta/argument_specs.yml"))["argument_specs"]
        options = entry_points.get("main", {}).get("options", {})
        given = self._templar.template({name: variables[name] for name in options if name in variables})
        errors = ArgumentSpecValidator(options).validate(given, validate_role_argument_spec=True).error_messages
        if errors:
            raise AnsibleActionFail(f"{role.name}: {'; '.join(errors)}")
        for check in self._task.args["checks"]:
            conditions = check["that"] if isinstance(check["that"], list) else [check["that"]]
            if not all(self._templar.evaluate_conditional(condition) for condition in conditions):
                raise AnsibleActionFail(self._templar.template(check["fail_msg"]))
        return result | {"changed": False}
