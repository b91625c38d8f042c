#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Ansible module: put a role's files in place, all or none, and have units run on them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy
short_description: Put a role's files in place, all or none, and have units run on them
description:
  - One run for all files of a role; templates are rendered on the control node. Missing folders above a file are made,
    for root and with mode 0755.
  - A file whose check fails stops the task, and every file that it has changed is put back.
  - Units are enabled and started. One that was started, or last reloaded, before one of its files was written is
    restarted, or reloaded. Times are compared on every run, so that a change is also loaded when the run that made it
    was cut off.
  - In check mode nothing is checked by C(validate), because the files it would read are not in place.
options:
  files:
    type: list
    elements: dict
    default: []
    description: Files in the order in which they are put in place.
    suboptions:
      path:
        type: path
        required: true
        description:
          - Where it is on the host. With none of the options from C(template) to C(state) somebody else puts the file
            there; it is only compared with the units that load it.
      template: {type: str, description: Template of the role that it is made from.}
      content: {type: str, description: What it holds.}
      source: {type: str, description: File of the role that it is a copy of.}
      copy_of: {type: path, description: File on the host that it is a copy of.}
      link_to: {type: str, description: What the symbolic link leads to.}
      state:
        type: str
        choices: [directory, touch, absent]
        description: A folder, a file that is there with whatever it holds, or none.
      vars: {type: dict, default: {}, description: Variables for the template besides the task's.}
      owner: {type: str, default: root, description: Its owner.}
      group: {type: str, default: root, description: Its group.}
      mode: {type: str, description: "Its mode; by default 0644, for a folder 0755."}
      secret: {type: bool, default: false, description: Whether its content is kept out of differences.}
      validate:
        type: str
        description:
          - Command that must accept the new file, C(%s), before it takes its place. It is run when any file of the task
            changes.
      reload: {type: str, description: Unit that takes the file up by a reload.}
      restart: {type: str, description: Unit that takes the file up by a restart.}
  units:
    type: list
    elements: str
    default: []
    description: systemd units that are enabled and run, in this order.
  ports:
    type: list
    elements: int
    default: []
    description:
      - TCP ports that the units listen on. Before one is started, restarted or reloaded, the task stops where another
        process than theirs has such a port, and says which.
  payload: {type: str, description: What the action plugin hands to the host; not for tasks.}
author: ansible-sre-stack authors
"""

EXAMPLES = r"""
- name: Run HAProxy on its configuration and on the host's certificate
  sre.stack.deploy:
    files:
      - {path: /etc/ssl/site/host.crt, reload: haproxy.service}
      - {path: /etc/haproxy/haproxy.cfg, template: haproxy.cfg.j2, validate: haproxy -c -f %s, reload: haproxy.service}
    units: [haproxy.service]
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

import base64
import contextlib
import grp
import json
import os
import pwd
import shlex
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS: dict[str, Any] = {
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "template": {"type": "str"},
            "content": {"type": "str", "no_log": False},
            "source": {"type": "str"},
            "copy_of": {"type": "path"},
            "link_to": {"type": "str"},
            "state": {"type": "str", "choices": ["directory", "touch", "absent"]},
            "vars": {"type": "dict", "default": {}},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str"},
            "secret": {"type": "bool", "default": False, "no_log": False},
            "validate": {"type": "str"},
            "reload": {"type": "str"},
            "restart": {"type": "str"},
        },
        "mutually_exclusive": [["template", "content", "source", "copy_of", "link_to", "state"]],
    },
    "units": {"type": "list", "elements": "str", "default": []},
    "ports": {"type": "list", "elements": "int", "default": []},
    # Files travel packed and unlogged: the host's journal would keep every content, secret or not.
    "payload": {"type": "str", "no_log": True},
}

# Where roles put files of units.
UNITS = "/etc/systemd/system"

# The kernel's list of processes and sockets, and its word for a socket that listens.
PROC = Path("/proc")
LISTENING = "0A"

PROPERTIES = (
    "ActiveState",
    "UnitFileState",
    "ReloadResult",
    "ExecMainStartTimestamp",
    "ActiveEnterTimestamp",
    "StateChangeTimestamp",
)

Entry = dict[str, Any]


class DeployError(Exception):
    """A file or a unit that is not as it should be; the text says which and why."""


def pack(entries: list[Entry]) -> str:
    """Return files, with their ``data`` as base64, as the text that ``unpack`` takes."""
    return base64.b64encode(zlib.compress(json.dumps(entries).encode())).decode()


def unpack(payload: str) -> list[Entry]:
    """Return the files of a payload, with their ``data`` as bytes where they have content."""
    entries: list[Entry] = json.loads(zlib.decompress(base64.b64decode(payload)))
    for entry in entries:
        if entry.get("data") is not None:
            entry["data"] = base64.b64decode(entry["data"])
    return entries


def readable(data: bytes | None) -> str:
    """Return content as a difference shows it."""
    return "" if data is None else data.decode(errors="replace")


class Files:
    """Puts files in place, and puts them back."""

    def __init__(self, module: AnsibleModule, entries: list[Entry]) -> None:
        """Take the files in their order."""
        self.module = module
        self.entries = entries
        self.actions: list[str] = []
        self.changed: set[str] = set()
        self.diff: list[dict[str, str]] = []
        self.undo: list[Callable[[], None]] = []

    def run(self) -> None:
        """Put every file in place, or leave all as they were.

        Raises:
            DeployError: one could not be put in place, or its check refused it.
        """
        try:
            for entry in self.entries:
                if (source := entry.get("copy_of")) and not (self.module.check_mode and not Path(source).exists()):
                    entry["data"] = Path(source).read_bytes()
            pending = any(self.differs(entry) for entry in self.entries)
            for entry in self.entries:
                if pending and entry.get("validate") and not self.module.check_mode:
                    self.validate(entry)
                self.place(entry)
        except (DeployError, OSError) as error:
            for step in reversed(self.undo):
                step()
            raise DeployError(str(error)) from error

    def differs(self, entry: Entry) -> bool:
        """Return whether what is on the host is of another kind or content; owner and mode apart."""
        path = Path(entry["path"])
        if entry.get("state") == "absent":
            return path.is_symlink() or path.exists()
        if entry.get("state") == "directory":
            return not path.is_dir()
        if entry.get("link_to"):
            return not (path.is_symlink() and str(path.readlink()) == entry["link_to"])
        if entry.get("data") is not None:
            return path.is_symlink() or not path.is_file() or path.read_bytes() != entry["data"]
        return entry.get("state") == "touch" and not path.exists()

    def validate(self, entry: Entry) -> None:
        """Have the file's check look at its new content."""
        candidate = Path(self.module.tmpdir) / Path(entry["path"]).name
        candidate.write_bytes(entry["data"])
        command = [part.replace("%s", str(candidate)) for part in shlex.split(entry["validate"])]
        code, output, errors = self.module.run_command(command)
        if code != 0:
            said = (errors.strip() or output.strip()).replace(str(candidate), entry["path"])
            raise DeployError(
                f"{entry['path']} is refused by `{entry['validate']}` (exit {code}); nothing was changed: {said}"
            )

    def place(self, entry: Entry) -> None:
        """Bring one file to its wanted state."""
        path = Path(entry["path"])
        if all(entry.get(kind) is None for kind in ("data", "state", "link_to", "copy_of")):
            if not path.exists() and not self.module.check_mode:
                raise DeployError(f"{path} is missing on the host; it has to be put there first")
            return
        if self.differs(entry):
            self.note("remove" if entry.get("state") == "absent" else "write", entry)
            self.show(entry)
            if not self.module.check_mode:
                self.write(entry)
        if entry.get("state") == "absent" or entry.get("link_to"):
            return
        self.attributes(entry)

    def note(self, verb: str, entry: Entry) -> None:
        """Note that a file changes."""
        self.actions.append(f"{verb} {entry['path']}")
        self.changed.add(entry["path"])

    def show(self, entry: Entry) -> None:
        """Keep the difference between old and new content."""
        path = Path(entry["path"])
        if entry.get("secret"):
            before, after = "", "(secret)\n"
        elif entry.get("link_to"):
            before, after = f"{path.readlink()!s}\n" if path.is_symlink() else "", f"{entry['link_to']}\n"
        elif entry.get("data") is not None:
            before, after = readable(path.read_bytes() if path.is_file() else None), readable(entry["data"])
        else:
            before, after = str(path.exists()) + "\n", str(entry.get("state") != "absent") + "\n"
        self.differ(path, before, after)

    def differ(self, path: Path, before: str, after: str) -> None:
        """Keep a difference for whoever asked for them."""
        self.diff.append({"before_header": str(path), "after_header": str(path), "before": before, "after": after})

    def write(self, entry: Entry) -> None:
        """Write, make or remove one file, and remember how to undo that."""
        path = Path(entry["path"])
        self.parents(path)
        if entry.get("state") == "directory":
            path.mkdir()
            self.undo.append(path.rmdir)
            return
        if path.is_dir() and not path.is_symlink():
            raise DeployError(f"{path} is a folder; move it away")
        self.undo.append(self.restorer(path))
        if entry.get("state") == "absent":
            path.unlink()
        elif entry.get("link_to"):
            path.unlink(missing_ok=True)
            path.symlink_to(entry["link_to"])
        elif entry.get("data") is None:
            path.touch(mode=0o600)
        else:
            candidate = Path(self.module.tmpdir) / f"{path.name}.new"
            candidate.touch(mode=0o600)
            candidate.write_bytes(entry["data"])
            self.module.atomic_move(str(candidate), str(path))

    @staticmethod
    def parents(path: Path) -> None:
        """Make the folders above a file that are missing, whatever the umask."""
        for folder in reversed(path.parents):
            if not folder.exists():
                folder.mkdir()
                folder.chmod(0o755)

    def restorer(self, path: Path) -> Callable[[], None]:
        """Return what puts a file back as it is now, with its times: it is no newer than what was loaded of it."""
        target = str(path.readlink()) if path.is_symlink() else None
        known = path.lstat() if path.exists() and target is None else None
        data = path.read_bytes() if known else b""

        def restore() -> None:
            path.unlink(missing_ok=True)
            if target is not None:
                path.symlink_to(target)
            elif known:
                path.touch(mode=0o600)
                path.write_bytes(data)
                os.chown(path, known.st_uid, known.st_gid)
                path.chmod(stat.S_IMODE(known.st_mode))
                os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))

        return restore

    def attributes(self, entry: Entry) -> None:
        """Give a file its owner, group and mode."""
        path = Path(entry["path"])
        mode = int(entry.get("mode") or ("755" if entry.get("state") == "directory" else "644"), 8)
        try:
            owner = pwd.getpwnam(entry["owner"]).pw_uid
            group = grp.getgrnam(entry["group"]).gr_gid
        except KeyError as error:
            # In check mode it may be that the package which brings them is not installed.
            if self.module.check_mode:
                return
            raise DeployError(f"{path}: {error.args[0]}") from error
        if not path.exists():
            return
        now = path.stat()
        if (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (owner, group, mode):
            return
        if entry["path"] not in self.changed:
            self.note("change owner or mode of", entry)
            before = f"{now.st_uid}:{now.st_gid} {stat.S_IMODE(now.st_mode):04o}\n"
            self.differ(path, before, f"{owner}:{group} {mode:04o}\n")
        if not self.module.check_mode:
            os.chown(path, owner, group)
            path.chmod(mode)
            if path.is_file():
                # Whoever could not read it has to try again, also when this run is cut off here.
                os.utime(path)


class Unit:
    """A systemd unit, and what it has loaded."""

    def __init__(self, module: AnsibleModule, name: str) -> None:
        """Ask systemd about the unit."""
        self.module = module
        self.name = name
        shown = self.systemctl("show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", name)
        self.state = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl; a failure is explained by the unit's last lines in the journal."""
        code, output, errors = self.module.run_command(["systemctl", *arguments])
        if code != 0:
            _, journal, _ = self.module.run_command(
                ["journalctl", f"--unit={self.name}", "--lines=5", "--output=cat", "--no-pager"]
            )
            raise DeployError(f"systemctl {' '.join(arguments)}: {errors.strip()} {self.name} said: {journal.strip()}")
        return str(output)

    def time(self, name: str) -> float:
        """Return one of the unit's times as seconds since the epoch, 0 where it has none."""
        with contextlib.suppress(ValueError):
            return (
                datetime.strptime(self.state.get(name, ""), "%a %Y-%m-%d %H:%M:%S.%f UTC")
                .replace(tzinfo=UTC)
                .timestamp()
            )
        return 0.0

    @property
    def started(self) -> float:
        """Return when it read what it reads at its start; units without a process have only their own time."""
        return self.time("ExecMainStartTimestamp") or self.time("ActiveEnterTimestamp")

    @property
    def loaded(self) -> float:
        """Return when it last read what a reload reads: an active unit's state changes with a reload only."""
        changed = self.time("StateChangeTimestamp")
        reloaded = (
            changed > self.time("ActiveEnterTimestamp") and self.state.get("ReloadResult", "success") == "success"
        )
        return changed if reloaded else self.started

    def run(
        self, entries: list[Entry], changed: set[str], ports: Sequence[int] = (), others: Sequence[str] = ()
    ) -> list[str]:
        """Enable the unit and have it run on its files; return what was done, or would be in check mode.

        Others are units that may have the ports as well.
        """
        actions = []
        if self.state["UnitFileState"] in {"disabled", ""}:
            actions.append("enable")
        if self.state["ActiveState"] not in {"active", "reloading"}:
            actions.append("start")
        elif self.outdated(entries, changed, "restart", self.started):
            actions.append("restart")
        elif self.outdated(entries, changed, "reload", self.loaded):
            actions.append("reload")
        for port, pid, name, cgroups in listeners(ports) if actions else ():
            if not {self.name, *others}.intersection(cgroups):
                raise DeployError(
                    f"{self.name} listens on port {port}, which {name} of {cgroups[-1]} (process {pid}) has;"
                    " stop that, or give one of the two another port"
                )
        if self.module.check_mode:
            return [f"{action} {self.name}" for action in actions]
        # systemd does not see by itself that a folder of drop-in files is new.
        if "start" in actions or "restart" in actions or self.rewritten(entries, changed):
            self.systemctl("daemon-reload")
        for action in actions:
            self.systemctl(action, self.name)
        return [f"{action} {self.name}" for action in actions]

    def rewritten(self, entries: list[Entry], changed: set[str]) -> bool:
        """Return whether a unit's file among these was changed, now or since systemd has read it."""
        paths = [entry["path"] for entry in entries if entry["path"].startswith(f"{UNITS}/")]
        if changed.intersection(paths):
            return True
        names = {Path(path).relative_to(UNITS).parts[0].removesuffix(".d") for path in paths}
        # Systemd answers for no template, and reads it for each unit made of it.
        asked = sorted(name for name in names if "@." not in name)
        return bool(asked) and "yes" in self.systemctl("show", "--property=NeedDaemonReload", *asked)

    def outdated(self, entries: list[Entry], changed: set[str], how: str, since: float) -> bool:
        """Return whether a file that the unit takes up in this way was changed, now or after ``since``."""
        mine = [entry for entry in entries if entry.get(how) == self.name]
        return any(entry["path"] in changed or written(entry) > since for entry in mine)


def process(pid: str, name: str) -> str:
    """Return what the kernel says about a process."""
    return (PROC / pid / name).read_text().strip()


def listeners(ports: Sequence[int]) -> Iterator[tuple[int, str, str, list[str]]]:
    """Return who listens on these TCP ports: port, process, its name, and the parts of its control groups' paths."""
    sockets = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in (PROC / "net" / name).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == LISTENING and (port := int(local.rpartition(":")[2], 16)) in ports:
                    sockets[f"socket:[{inode}]"] = port
    for link in PROC.glob("[0-9]*/fd/*") if sockets else ():
        # A process may end meanwhile.
        with contextlib.suppress(OSError):
            if (target := str(link.readlink())) in sockets:
                pid = link.parts[-3]
                yield sockets[target], pid, process(pid, "comm"), process(pid, "cgroup").replace("\n", "/").split("/")


def written(entry: Entry) -> float:
    """Return when a file was written, as seconds since the epoch; of one that is gone, when its folder last changed."""
    path = Path(entry["path"])
    for place in (path, path.parent):
        with contextlib.suppress(FileNotFoundError):
            return place.lstat().st_mtime
    return 0.0


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    files = Files(module, unpack(module.params["payload"]))
    actions: list[str] = []
    try:
        files.run()
        actions += files.actions
        for name in module.params["units"]:
            actions += Unit(module, name).run(
                files.entries, files.changed, module.params["ports"], module.params["units"]
            )
    except DeployError as error:
        module.fail_json(msg=str(error), actions=actions, changed=bool(actions))
    module.exit_json(changed=bool(actions), actions=actions, diff=files.diff)


if __name__ == "__main__":
    main()
