#!/usr/bin/python3
"""Restart a Filebeat that runs but ships nothing.

systemd restarts a Filebeat that ends. This program, on a timer, finds the one that does not end:

hung     its statistics are not answered (frozen, deadlocked),
stuck    events wait, nothing is sent and nothing acknowledged, although Elasticsearch answers,
stalled  a file grows and Filebeat's notes about it stay where they are, although Elasticsearch answers.

It never restarts because of Elasticsearch: one that is down or refuses events is named once in the journal, and once
more when it is well again. Nothing is lost by a restart: Filebeat notes only what Elasticsearch has acknowledged.
"""

from __future__ import annotations

import argparse
import base64
import glob
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
UNIT = "filebeat.service"
# Looks without progress before a restart.
LOOKS = 3
# Seconds after a restart of either kind in which Filebeat is left alone.
HOLD_OFF = 300
# Seconds after its start before Filebeat has to answer.
GRACE = 30
# Times that a silent statistics endpoint is asked in one look, so that one slow answer is no verdict.
TRIES = 3
# What the output does, whether or not it succeeds: any of these moving means that it is not stuck.
OUTPUT_COUNTERS = (
    ("libbeat", "output", "events", "total"),
    ("libbeat", "output", "events", "acked"),
    ("libbeat", "output", "events", "failed"),
    ("libbeat", "output", "write", "bytes"),
    ("libbeat", "output", "read", "bytes"),
    ("libbeat", "output", "write", "errors"),
    ("libbeat", "output", "read", "errors"),
)
NATIVE_KEY = re.compile(r"native::(\d+)-(\d+)")


@dataclass(frozen=True)
class Service:
    """What systemd says about the unit."""

    active: bool
    pid: int
    # Seconds since its last start.
    age: float


@dataclass
class File:
    """One watched file at one look; offset is None where Filebeat has no note of it."""

    size: int
    offset: int | None


@dataclass
class Look:
    """What one look saw."""

    pid: int
    waiting: int
    acked: int
    output: list[int]
    # What was wrong with Elasticsearch, "" for nothing.
    wrong: str = ""
    # By "device-inode", which stays when a rotation renames the file.
    files: dict[str, File] = field(default_factory=dict)


@dataclass
class State:
    """What is kept between runs."""

    looks: list[Look] = field(default_factory=list)
    # Seconds of the clock that counts from boot.
    restarted: float | None = None
    # What was last said about Elasticsearch, "" for nothing bad.
    said: str = ""


class UnreachableError(Exception):
    """A question that was not answered; the text says why."""


def stuck(looks: list[Look]) -> bool:
    """Return whether events waited through all of these looks while the output did nothing."""
    return all(look.waiting > 0 for look in looks) and all(look.output == looks[0].output for look in looks)


def refused(looks: list[Look]) -> bool:
    """Return whether the output tried through all of these looks and nothing was acknowledged."""
    waiting = all(look.waiting > 0 for look in looks)
    return waiting and looks[0].output != looks[-1].output and looks[0].acked == looks[-1].acked


def stalled(looks: list[Look]) -> list[str]:
    """Return the files that grew while Filebeat's notes about them, being behind, stood still."""
    names = []
    for name, last in looks[-1].files.items():
        seen = [look.files[name] for look in looks if name in look.files]
        behind = all((one.offset or 0) < one.size for one in seen)
        still = all(one.offset == last.offset for one in seen)
        if len(seen) == len(looks) and seen[0].size < last.size and behind and still:
            names.append(name)
    return sorted(names)


def read_registry(folder: Path) -> dict[str, int]:
    """Return how far Filebeat has been acknowledged, in bytes, by "device-inode".

    The folder holds a checkpoint (an array of notes, each with its ``_key``) and a log of the changes since. A last
    line that is half written is passed over, as Filebeat itself does.
    """
    notes: dict[str, int] = {}

    def note(key: str, value: Json) -> None:
        cursor = value.get("cursor")
        # Each of the two inputs has its own place for it.
        offset = cursor.get("offset") if isinstance(cursor, dict) else value.get("offset")
        if (found := NATIVE_KEY.search(key)) and isinstance(offset, int):
            notes[f"{found[2]}-{found[1]}"] = offset

    checkpoints = [path for path in folder.glob("*.json") if path.stem.isdigit()]
    if checkpoints:
        for entry in json.loads(max(checkpoints, key=lambda path: int(path.stem)).read_text("utf-8")):
            note(str(entry.get("_key", "")), entry)
    log = folder / "log.json"
    for line in log.read_text("utf-8").splitlines() if log.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if isinstance(entry, dict) and isinstance(entry.get("v"), dict):
            note(str(entry.get("k", "")), entry["v"])
    return notes


class Host:
    """The host that the watchdog runs on, as the command line describes it."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Use ``options`` as parse() returns them."""
        self.options = options

    def service(self) -> Service:
        """Return what systemd says about Filebeat."""
        properties = "ActiveState,MainPID,ExecMainStartTimestampMonotonic"
        command = ["systemctl", "show", f"--property={properties}", UNIT]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
        values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        started = int(values.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
        pid = int(values.get("MainPID") or 0)
        active = values.get("ActiveState") == "active" and pid > 0
        return Service(active=active, pid=pid, age=time.clock_gettime(time.CLOCK_MONOTONIC) - started)

    def stats(self, timeout: float = 3, pause: float = 1) -> Json:
        """Return Filebeat's statistics, with seconds of patience for each step and between the tries.

        Raises:
            UnreachableError: it did not answer, not even when asked again.
            PermissionError: the socket may not be used.
        """
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(pause)
            connection = http.client.HTTPConnection("localhost")
            try:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(timeout)
                connection.sock.connect(str(self.options.socket))
                connection.request("GET", "/stats")
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except PermissionError:
                # Says something about this program's rights and nothing about Filebeat.
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = str(error) or type(error).__name__
                continue
            finally:
                connection.close()
            if answer.status == http.client.OK and isinstance(body, dict):
                return body
            reason = f"HTTP {answer.status}"
        raise UnreachableError(reason)

    def files(self) -> dict[str, File]:
        """Return size and acknowledged offset of the watched files by "device-inode"; none without the registry."""
        try:
            notes = read_registry(self.options.registry)
        except (OSError, ValueError, AttributeError):
            # Replaced while it was read, or of a form that is not known: no verdict is founded on it.
            return {}
        files = {}
        for name in {name for pattern in self.options.file for name in glob.glob(pattern)}:  # noqa: PTH207 - absolute
            if name.endswith(".gz"):
                continue
            try:
                status = os.stat(name)  # noqa: PTH116 - a plain name
            except OSError:
                continue
            key = f"{status.st_dev}-{status.st_ino}"
            files[key] = File(status.st_size, notes.get(key))
        return files

    def elasticsearch(self) -> str:
        """Return what keeps every Elasticsearch from taking events, or "" when one answers well.

        Asks with Filebeat's own certificate and password, and for what Filebeat asks before it sends: an Elasticsearch
        that refuses those, or lacks what Filebeat needs, is not mended by a restart either.
        """
        context = ssl.create_default_context(cafile=self.options.certs / "ca.crt")
        context.load_cert_chain(self.options.certs / "host.crt", self.options.certs / "host.key")
        login = f"filebeat_writer:{os.environ.get('FILEBEAT_WRITER_PASSWORD', '')}"
        headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        wrong = "no address is configured"
        for url in self.options.elasticsearch:
            address = urlsplit(url)
            connection = http.client.HTTPSConnection(address.hostname or "", address.port, timeout=5, context=context)
            try:
                wrong = ""
                for path in ["/", *self.options.needs]:
                    connection.request("GET", path, headers=headers)
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status != http.client.OK:
                        wrong = f"{url}{path} answers with HTTP {answer.status}"
                        break
            except (OSError, http.client.HTTPException) as error:
                wrong = f"{url} does not answer ({str(error) or type(error).__name__})"
            finally:
                connection.close()
            if not wrong:
                break
        return wrong

    def restart(self) -> None:
        """Restart the unit; systemd kills what does not stop within the unit's own limit."""
        subprocess.run(["systemctl", "restart", UNIT], check=True, timeout=120)

    def say(self, text: str) -> None:
        """Write a line to the journal, which is where the unit's output goes, as a notice."""
        print(f"<5>{text}" if "JOURNAL_STREAM" in os.environ else text, flush=True)


class Watchdog:
    """Looks once, decides, and acts."""

    def __init__(self, host: Host) -> None:
        """Watch ``host``."""
        self.host = host

    def run(self, state: State, now: float) -> State:
        """Look at ``now`` (seconds from boot) and return what to remember until the next look."""
        service = self.host.service()
        if not service.active:
            # Stopped by somebody, or just being restarted by systemd.
            return replace(state, looks=[])
        try:
            stats = self.host.stats()
        except UnreachableError as error:
            if service.age < GRACE:
                return replace(state, looks=[])
            return self.act(state, now, f"hung: its statistics are not answered ({error})")

        looks = [look for look in state.looks if look.pid == service.pid]
        looks = [*looks, self.look(service.pid, stats)][-LOOKS:]
        state = replace(state, looks=looks)
        return state if len(looks) < LOOKS else self.judge(state, now)

    @staticmethod
    def counter(stats: Json, *path: str) -> int:
        """Return one number of Filebeat's statistics; one that is missing has never counted."""
        value: Any = stats
        for name in path:
            value = value.get(name, {}) if isinstance(value, dict) else {}
        return value if isinstance(value, int) else 0

    def look(self, pid: int, stats: Json) -> Look:
        """Put together what is seen now."""
        return Look(
            pid=pid,
            waiting=self.counter(stats, "libbeat", "pipeline", "events", "active"),
            acked=self.counter(stats, "libbeat", "output", "events", "acked"),
            output=[self.counter(stats, *path) for path in OUTPUT_COUNTERS],
            wrong=self.host.elasticsearch(),
            files=self.host.files(),
        )

    def judge(self, state: State, now: float) -> State:
        """Decide what the last looks mean together."""
        looks = state.looks
        wrong = looks[-1].wrong
        files = stalled(looks)
        if refused(looks):
            return self.blame(state, wrong or "it answers but acknowledges no events (a full disk, a blocked index?)")
        if stuck(looks) or files:
            if wrong:
                return self.blame(state, wrong)
            if any(look.wrong for look in looks):
                # It has only just come back: Filebeat is about to notice.
                return state
            count = f"through {len(looks)} looks"
            if stuck(looks):
                return self.act(state, now, f"stuck: {looks[-1].waiting} events wait and nothing is sent {count}")
            return self.act(state, now, f"stalled: {len(files)} file(s) grow and are not read {count}")
        if state.said and not wrong:
            self.host.say("Elasticsearch takes events again.")
            state.said = ""
        return state

    def blame(self, state: State, wrong: str) -> State:
        """Say once that it is Elasticsearch, and leave Filebeat alone: it waits and sends again by itself."""
        if state.said != wrong:
            self.host.say(f"Filebeat waits for Elasticsearch: {wrong}. A restart would not help; nothing was done.")
            state.said = wrong
        return state

    def act(self, state: State, now: float, reason: str) -> State:
        """Restart Filebeat, unless that was done just now."""
        if state.restarted is not None and now - state.restarted < HOLD_OFF:
            ago = now - state.restarted
            self.host.say(f"Filebeat is {reason}. Left alone: it was restarted {ago:.0f} s ago.")
            return state
        self.host.say(f"Filebeat is {reason}. Restarting it.")
        started = time.monotonic()
        self.host.restart()
        self.host.say(f"Filebeat runs again after {time.monotonic() - started:.1f} s.")
        return State(restarted=now, said=state.said)


def load_state(path: Path) -> State:
    """Return what the last run remembered; nothing where that is missing or unreadable."""
    try:
        raw = json.loads(path.read_text("utf-8"))
        looks = []
        for look in raw["looks"]:
            files = {name: File(**one) for name, one in look.pop("files").items()}
            looks.append(Look(**look, files=files))
        return State(looks=looks, restarted=raw["restarted"], said=raw["said"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()


def save_state(path: Path, state: State) -> None:
    """Keep ``state`` in one step, so that a cut-off run leaves the old one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(state)), encoding="utf-8")
    new.replace(path)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", type=Path, required=True, help="unix socket of Filebeat's statistics")
    parser.add_argument("--registry", type=Path, required=True, help="folder of Filebeat's registry")
    parser.add_argument("--state", type=Path, required=True, help="file that keeps what was seen")
    parser.add_argument("--certs", type=Path, required=True, help="folder with ca.crt, host.crt and host.key")
    for name, text in (
        ("--file", "pattern of files it ships"),
        ("--elasticsearch", "URL"),
        ("--needs", "path that Elasticsearch must know before it takes events"),
    ):
        parser.add_argument(name, action="append", default=[], help=f"{text}; repeatable")
    parser.epilog = "The password of filebeat_writer is read from the environment variable FILEBEAT_WRITER_PASSWORD."
    return parser.parse_args(arguments)


def main() -> int:
    """Look once."""
    options = parse()
    state = Watchdog(Host(options)).run(load_state(options.state), time.clock_gettime(time.CLOCK_BOOTTIME))
    save_state(options.state, state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
