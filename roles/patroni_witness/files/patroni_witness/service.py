"""The witness as a service: looks, decides, acts, and says so."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .agent import Agent
from .decision import Limits, Look, Memory, Relief, Verdict, decide, ready, relieved
from .etcd import Etcd, EtcdError
from .members import Members

# Both files are written at every change and at least this often.
STATUS_SECONDS = 5


def say(text: str) -> None:
    """Write a line to the journal, which is where the unit's output goes, as a notice."""
    print(f"<5>{text}" if "JOURNAL_STREAM" in os.environ else text, flush=True)


def notify(state: str) -> None:
    """Tell systemd that the service is ready, or alive."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
            channel.sendto(state.encode(), address.replace("@", "\0", 1))


@dataclass
class Report:
    """What the journal, the status file and the file of metrics say."""

    name: str
    path: Path
    metrics: Path
    reason: str = ""
    since: str = ""
    written: float = 0.0
    last: dict[str, Any] | None = None
    shown: dict[str, Any] = field(default_factory=dict)

    def tell(self, verdict: Verdict, memory: Memory, *, prepared: bool) -> None:
        """Say what has changed: in the journal once, in the file at least every few seconds."""
        if verdict.reason != self.reason:
            self.reason, self.since = verdict.reason, moment()
            say(f"{verdict.reason}.")
        sight = memory.sight
        status = {
            "witness": self.name,
            "ready": prepared,
            "reason": self.reason,
            "since": self.since,
            "held": verdict.held,
            "leader": sight.leader if sight else None,
            "standbys": sorted(sight.standbys) if sight else [],
            "last": self.last,
        }
        if status != self.shown or time.monotonic() - self.written >= STATUS_SECONDS:
            self.shown, self.written = status, time.monotonic()
            put(self.path, json.dumps(status | {"at": moment()}) + "\n")
            put(self.metrics, f"# TYPE patroni_witness_ready gauge\npatroni_witness_ready {prepared:d}\n")

    def note(self, relief: Relief, outcome: str) -> None:
        """Say how an attempt to relieve a leader ended."""
        standbys = ", ".join(sorted(relief.standbys))
        say(f"relieving {relief.leader} in favour of {standbys}: {outcome}.")
        self.last = {"at": moment(), "leader": relief.leader, "standbys": sorted(relief.standbys), "outcome": outcome}


def put(path: Path, text: str) -> None:
    """Write a file in one step."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def moment() -> str:
    """Return the time as text."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Witness:
    """Everything together."""

    name: str
    etcd: Etcd
    members: Members
    agent: Agent
    report: Report
    limits: Limits
    interval: float
    hold_off: int
    memory: Memory = field(default_factory=Memory)

    def look(self) -> Look:
        """Ask etcd and all members at the same time."""
        begun = time.monotonic()
        self.members.begin()
        try:
            view = self.etcd.view()
        except EtcdError:
            view = None
        answers = self.members.answers(begun)
        return Look(view, answers, begun)

    def turn(self) -> None:
        """Look once, and do what follows from it."""
        look = self.look()
        if look.view is not None:
            self.agent.avoid(relieved(look.view))
        note = {"witness": self.name, "at": moment()}
        self.memory, verdict = decide(self.memory, look, self.limits, note)
        self.report.tell(verdict, self.memory, prepared=ready(self.memory, look, self.limits))
        if verdict.relief is not None:
            self.report.note(verdict.relief, self.act(verdict.relief))

    def act(self, relief: Relief) -> str:
        """Ask etcd for the transaction; return how it ended."""
        try:
            lease = self.etcd.lease(self.hold_off)
            if self.etcd.change(relief.compares, relief.changes, lease):
                return "done"
        except EtcdError as error:
            failure = f"etcd did not answer ({error})"
        else:
            failure = "refused, because something changed in between"
        # A transaction that was asked twice is refused the second time; its note tells that the first was carried out.
        with contextlib.suppress(EtcdError):
            found = self.etcd.view().relief
            if found is not None and found.value == relief.note:
                return "done"
        return failure

    def run(self, stopped: Callable[[], bool]) -> None:
        """Look until told to stop."""
        started = False
        while not stopped():
            begun = time.monotonic()
            self.turn()
            notify("WATCHDOG=1" if started else "READY=1")
            started = True
            time.sleep(max(begun + self.interval - time.monotonic(), 0))
        self.agent.leave()
