# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Action plugin: check a role's input in one task, and say what is wrong with it."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """Carries out a task of ``sre.stack.refuse``."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return that nothing is wrong, or fail with the message of the first check that does not hold."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        for check in self._task.args["checks"]:
            conditions = check["that"] if isinstance(check["that"], list) else [check["that"]]
            if not all(self._templar.evaluate_conditional(condition) for condition in conditions):
                raise AnsibleActionFail(check["fail_msg"])
        return result | {"changed": False}
