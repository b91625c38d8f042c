"""Count what a run costs: task results, module processes on hosts, and the time that each role took."""

from __future__ import annotations

DOCUMENTATION = r"""
name: run_cost
type: aggregate
short_description: Counts what a run costs, by role
description:
  - Counts the task results of a run and the module processes that it starts on managed hosts, and takes the time of
    each role.
  - A module process is counted where action plugins start it, one by one. So a C(template) of an unchanged file is two
    of them, a loop over three such files six, and an C(assert) none. What runs on the control node is not counted.
  - A command is whatever is sent to a host to be run there, the start of a module as well as what some actions need
    around it, such as making a temporary folder. The transfer of a file is none.
  - The time between the beginnings of two tasks belongs to the role of the first of them. With the strategy C(linear),
    these times add up to the run.
requirements:
  - to be enabled, for instance with C(ANSIBLE_CALLBACKS_ENABLED=sre.stack.run_cost)
options:
  file:
    description: File to write the figures to as JSON, besides showing them at the end of the run.
    type: path
    env:
      - name: SRE_STACK_RUN_COST_FILE
    ini:
      - section: callback_run_cost
        key: file
"""

import fcntl
import functools
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

NO_ROLE = "(no role)"


def role_of(task: Any) -> str:
    """Return the name of the role that a task belongs to."""
    return str(task._role) if task._role else NO_ROLE


def note_calls(file: IO[bytes]) -> None:
    """Have every module run and every command on a managed host append its kind and role to a file, a line each.

    The places are the methods through which all action plugins start them. They do so in Ansible's workers, which are
    forked off this process: the methods and the open file are theirs, too. What is appended in one go is not torn.
    """
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)

    def noted(method: Callable[..., Any], kind: str) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(action: Any, *arguments: Any, **options: Any) -> Any:
            result = method(action, *arguments, **options)
            if action._connection.transport != "local":
                os.write(file.fileno(), f"{kind} {role_of(action._task)}\n".encode())
            return result

        return call

    ActionBase._execute_module = noted(ActionBase._execute_module, "module_runs")
    ActionBase._low_level_execute_command = noted(ActionBase._low_level_execute_command, "commands")


def table(roles: dict[str, dict[str, float]]) -> list[str]:
    """Return the lines of a table, the role that took longest first."""
    lines = [f"{'':24} {'seconds':>8} {'results':>8} {'module runs':>12} {'commands':>9}"]
    for role, cost in sorted(roles.items(), key=lambda item: -item[1]["seconds"]):
        counts = f"{cost['results']:8} {cost['module_runs']:12} {cost['commands']:9}"
        lines.append(f"{role:24} {cost['seconds']:8.1f} {counts}")
    return lines


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The counters of one run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "sre.stack.run_cost"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Begin to count."""
        super().__init__()
        self._results: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        self._since = time.monotonic()
        self._role = NO_ROLE
        self._calls = tempfile.TemporaryFile()  # noqa: SIM115 - open until this process ends
        note_calls(self._calls)

    def _begin(self, role: str) -> None:
        """Close the account of the task before this one."""
        now = time.monotonic()
        self._seconds[self._role] = self._seconds.get(self._role, 0.0) + now - self._since
        self._since, self._role = now, role

    def v2_playbook_on_task_start(self, task: Any, **_: object) -> None:
        """Note the beginning of a task or handler."""
        self._begin(role_of(task))

    v2_playbook_on_handler_task_start = v2_playbook_on_task_start

    def v2_runner_on_ok(self, result: Any, **_: object) -> None:
        """Count a result, of whatever kind."""
        self._results[role_of(result._task)] += 1

    v2_runner_on_failed = v2_runner_on_skipped = v2_runner_on_unreachable = v2_runner_on_ok

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Sum up."""
        self._begin(NO_ROLE)
        self._calls.seek(0)
        calls = Counter(self._calls.read().decode().splitlines())
        roles: dict[str, dict[str, float]] = {
            role: {"seconds": round(seconds, 2), "results": self._results[role]}
            | {kind: calls[f"{kind} {role}"] for kind in ("module_runs", "commands")}
            for role, seconds in self._seconds.items()
        }
        total = {kind: sum(cost[kind] for cost in roles.values()) for kind in ("results", "module_runs", "commands")}
        total["changed"] = sum(stats.changed.values())
        if file := self.get_option("file"):
            Path(file).write_text(json.dumps(total | {"roles": roles}, indent=2) + "\n", "utf-8")
        line = "{results} task results, {module_runs} module runs and {commands} commands on hosts, {changed} changed"
        for text in ["", line.format(**total), *table(roles)]:
            self._display.display(text)
