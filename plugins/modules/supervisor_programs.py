#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Ansible module: bring supervisord's programs in line with their definitions, one after the other."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supervisor_programs
short_description: Bring supervisord's programs in line with their definitions, one after the other
description:
  - Asks supervisord which definitions differ from what runs, and which of the programs do not run. One that has loaded
    programs or libraries of the system that were replaced since is restarted as well.
  - Removes programs without a definition; adds, restarts or starts the others in the order given. Each must answer,
    also one that needed nothing, before the next is touched, so that one of them always serves.
  - Programs that are not listed are left alone, except those of the same prefix that have no definition any more.
options:
  programs:
    type: list
    elements: dict
    required: true
    description: The programs, in the order of their restart.
    suboptions:
      name: {type: str, required: true, description: Name of the program.}
      url: {type: str, required: true, description: Answers 200 as soon as the program serves requests.}
  prefix: {type: str, required: true, description: What the names of all programs of this kind begin with.}
  headers: {type: dict, default: {}, description: Headers sent to the URLs.}
  timeout: {type: int, default: 60, description: "How long a program may take to answer, in seconds."}
  socket: {type: path, default: /run/supervisor.sock, description: Socket of supervisord.}
author: ansible-sre-stack authors
"""

EXAMPLES = r"""
- name: Run both programs as they are defined
  sre.stack.supervisor_programs:
    prefix: gunicorn-
    programs:
      - {name: gunicorn-8000, url: "http://127.0.0.1:8000/healthz"}
      - {name: gunicorn-8001, url: "http://127.0.0.1:8001/healthz"}
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

import http.client
import re
import socket
import time
import xmlrpc.client
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from ansible.module_utils.basic import AnsibleModule

POLL_SECONDS = 0.2
STOPPED = {"STOPPED", "EXITED", "FATAL"}
PROC = Path("/proc")
# Executable, below /usr, and gone from disk.
REPLACED = re.compile(r"^\S+ ..x. \S+ \S+ \d+ +/usr/.* \(deleted\)$", re.MULTILINE)


class ProgramError(Exception):
    """A program that does not come up; the text says which and why."""


class SocketTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket."""

    def __init__(self, path: str) -> None:
        """Remember the socket's path."""
        super().__init__()
        self.path = path

    def make_connection(self, host: tuple[str, dict[str, str]] | str) -> http.client.HTTPConnection:
        """Return a connection to the socket; the host's name means nothing."""
        connection = http.client.HTTPConnection(str(host))
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(self.path)
        return connection


def plan(
    wanted: Iterable[str],
    prefix: str,
    difference: tuple[list[str], list[str], list[str]],
    states: dict[str, str],
    outdated: Collection[str] = (),
) -> dict[str, str]:
    """Return the verb for each program that needs one.

    ``difference`` is supervisord's own: names whose definition is new, changed, gone.
    ``states`` are those of the programs it runs now, ``outdated`` those of them whose files were replaced.
    """
    added, changed, gone = difference
    actions = {name: "remove" for name in gone if name.startswith(prefix)}
    for name in wanted:
        if name in changed or name in outdated:
            actions[name] = "restart"
        elif name in added:
            actions[name] = "add"
        elif name not in states:
            raise ProgramError(f"supervisord has no definition of {name}")
        elif states[name] in STOPPED:
            actions[name] = "start"
    return actions


def is_outdated(pid: int, proc: Path = PROC) -> bool:
    """Tell whether a process or a child of it runs code of the system that is not on disk any more (proc(5), maps)."""
    try:
        children = (proc / f"{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        maps = [(proc / f"{one}/maps").read_text(encoding="utf-8", errors="replace") for one in (pid, *children)]
    except FileNotFoundError:
        return False  # one of them has just ended
    return any(REPLACED.search(text) for text in maps)


def act(server: xmlrpc.client.ServerProxy, verb: str, name: str) -> None:
    """Do one action. A program that is added is started by supervisord (``autostart``)."""
    if verb in ("remove", "restart"):
        server.supervisor.stopProcessGroup(name)
        server.supervisor.removeProcessGroup(name)
    if verb in ("add", "restart"):
        server.supervisor.addProcessGroup(name)
    if verb == "start":
        server.supervisor.startProcess(name)


def wait(url: str, headers: dict[str, str], timeout: float) -> None:
    """Return when the URL answers 200; raise with the last reason when it does not in time."""
    deadline = time.monotonic() + timeout
    opener = build_opener(ProxyHandler({}))
    while True:
        try:
            with opener.open(Request(url, headers=headers), timeout=5) as answer:  # noqa: S310 - the role's own URL
                if answer.status == http.HTTPStatus.OK:
                    return
                reason = f"HTTP {answer.status}"
        except (URLError, OSError, http.client.HTTPException) as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise ProgramError(f"{url} does not answer after {timeout} s: {reason}")
        time.sleep(POLL_SECONDS)


def run(module: AnsibleModule) -> list[str]:
    """Plan and, outside check mode, act. Return the actions as text."""
    parameters = module.params
    urls = {program["name"]: program["url"] for program in parameters["programs"]}
    server: Any = xmlrpc.client.ServerProxy("http://localhost", transport=SocketTransport(parameters["socket"]))
    processes = server.supervisor.getAllProcessInfo()
    states = {item["name"]: item["statename"] for item in processes}
    outdated = {item["name"] for item in processes if item["pid"] and is_outdated(item["pid"])}
    (difference,) = server.supervisor.reloadConfig()
    actions = plan(urls, parameters["prefix"], difference, states, outdated)
    if actions and not module.check_mode:
        # A program that needed nothing is awaited too: it may be one that fails since an earlier run.
        for name in [*(actions.keys() - urls.keys()), *urls]:
            act(server, actions.get(name, "leave"), name)
            if name in urls:
                wait(urls[name], parameters["headers"], parameters["timeout"])
    return [f"{verb} {name}" for name, verb in actions.items()]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "programs": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"name": {"type": "str", "required": True}, "url": {"type": "str", "required": True}},
            },
            "prefix": {"type": "str", "required": True},
            "headers": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 60},
            "socket": {"type": "path", "default": "/run/supervisor.sock"},
        },
        supports_check_mode=True,
    )
    try:
        actions = run(module)
    except (ProgramError, OSError, xmlrpc.client.Error) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
