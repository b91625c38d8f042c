"""A made-up run through judge, journal, report and index, and what each must say when something is wrong with it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chaoslab import tokens
from chaoslab.cli import main

ROOT = Path(__file__).resolve().parents[2]
WALL = 1_800_000_000.0
MARK = "123456789abcdef"
OPENING = {1: 16, 2: 8}
RATE = 20.0
NODES = ("postgres-1", "postgres-2")
OTHERS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(5)]


@dataclass
class Story:
    """A run of `length` seconds: the primary goes at `fault`, votes are confirmed again `outage` later."""

    length: float = 45.0
    fault: float = 15.0
    outage: float = 1.6
    heal: float = 25.0
    whole: float = 33.0
    slow: Callable[[float], tuple[float, int, str] | None] = lambda _due: None
    events: list[dict[str, Any]] = field(default_factory=list)
    before: list[str] = field(default_factory=lambda: [f"{token}|1|1.0" for token in OTHERS])
    alone: bool = True

    def answer(self, due: float, chance: random.Random) -> tuple[float, int, str]:
        """Return when a vote that was due then is answered, with what, and what that means."""
        if found := self.slow(due):
            return found
        begin, end = self.fault, self.fault + self.outage
        soon = max(due, end) if begin - 0.02 <= due < end else due
        return soon + chance.uniform(0.015, 0.06) + (chance.uniform(0, 0.3) if soon != due else 0), 302, "ok"

    def write(self, directory: Path) -> list[str]:
        """Write all files of the run; return the arguments for judge."""
        chance = random.Random(1)
        votes, ledger = self._votes(chance)
        reads = self._reads(chance)
        for name, lines in (
            ("votes", votes),
            ("reads", reads),
            ("samples", self._samples()),
            ("events", self._events()),
        ):
            (directory / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (directory / "before").write_text("\n".join(self.before + _tallies(self.before)))
        for node in NODES:
            rows = self.before + ledger
            (directory / node).write_text("\n".join(rows + _tallies(rows)))
        return self.arguments(directory)

    def arguments(self, directory: Path) -> list[str]:
        """Return judge's arguments."""
        found = ["judge", "--experiment", str(ROOT / "experiments" / "primary-down.yml")]
        for name in ("votes", "reads", "samples", "events"):
            found += [f"--{name}", str(directory / f"{name}.jsonl")]
        found += ["--before", str(directory / "before"), "--journal", str(directory / "journal.json")]
        return found + [text for node in NODES for text in ("--node", f"{node}={directory / node}")]

    def _votes(self, chance: random.Random) -> tuple[list[dict[str, Any]], list[str]]:
        lines, ledger = [_anchor("votes")], []
        for number in range(int(self.length * RATE)):
            due = number / RATE
            done, status, outcome = self.answer(due, chance)
            token, choice = tokens.token(MARK, number), number % 2 + 1
            line = {"n": number, "token": token, "choice": choice, "intended": due, "sent": due, "done": done}
            lines.append(line | {"status": status, "outcome": outcome})
            if outcome == "ok":
                ledger.append(f"{token}|{choice}|{WALL + done}")
        return [*lines, {"end": {"time": self.length, "sent": len(lines), "reason": "stop-file"}}], ledger

    def _reads(self, chance: random.Random) -> list[dict[str, Any]]:
        lines = [_anchor("reads")]
        for number in range(int(self.length * RATE)):
            due = number / RATE
            done = due + chance.uniform(0.005, 0.03)
            lines.append({"n": number, "intended": due, "sent": due, "done": done, "status": 200, "outcome": "ok"})
        return [*lines, {"end": {"time": self.length}}]

    def _samples(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = [{"anchor": {"wall": WALL, "kind": "samples", "nodes": list(NODES)}}]
        for tick in range(int((self.length + 2) * 5)):
            time = tick / 5
            for node in NODES:
                lines.append({"node": node, "asked": time, "answered": time + 0.01} | self._state(node, time))
        return lines

    def _state(self, node: str, time: float) -> dict[str, Any]:
        standby = {"role": "replica", "state": "running", "replication_state": "streaming"}
        primary = {"role": "primary", "state": "running", "lease": True}
        if time < self.fault:
            if node == NODES[0]:
                return primary | {"timeline": 1, "standbys": {NODES[1]: "sync"}}
            return standby | {"timeline": 1, "sync_standby": True}
        if node == NODES[0]:
            if time < self.heal:
                return {"error": "ConnectionRefusedError"}
            if time < self.whole:
                return {"role": "replica", "state": "starting"}
            return standby | {"timeline": 2, "sync_standby": True}
        if time < self.fault + self.outage * 0.6:
            return standby | {"timeline": 1, "sync_standby": True}
        if time < self.fault + self.outage * 0.85:
            return standby | {"timeline": 1, "lease": True}
        return primary | {"timeline": 2} | ({"standbys": {NODES[0]: "sync"}} if time >= self.whole else {})

    def _events(self) -> list[dict[str, Any]]:
        probes = ["One primary and its synchronous standby", "The ledger explains every tally", "Pages are served"]
        before = [
            {"time": WALL - 3 + n, "kind": "steady-before", "text": "met", "name": probe}
            for n, probe in enumerate(probes)
        ]
        after = [line | {"time": WALL + self.length, "kind": "steady-after"} for line in before]
        stop = {"kind": "inject", "text": "Stop Patroni, and PostgreSQL with it", "host": NODES[0]}
        start = {"kind": "heal", "text": "The timer started Patroni again", "host": NODES[0]}
        middle = [stop | {"time": WALL + self.fault}, start | {"time": WALL + self.heal}]
        return [*before, *middle, *self.events, *after]


def _anchor(kind: str) -> dict[str, Any]:
    return {"anchor": {"wall": WALL, "kind": kind, "rate": RATE, "mark": MARK}}


def _tallies(rows: list[str]) -> list[str]:
    counts = {choice: sum(row.split("|")[1] == str(choice) for row in rows) for choice in OPENING}
    return [f"{choice}|{OPENING[choice] + counts[choice]}|{OPENING[choice]}" for choice in OPENING]
