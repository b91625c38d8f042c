"""What voter, sampler, databases and engine wrote down, as data. All times are wall-clock seconds since 1970.

Durations within one file come from its monotonic clock: its anchor says where that clock's zero lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from chaoslab.files import InputError, read_lines, read_text
from chaoslab.sampler import Sample
from chaoslab.voter import FAIL, INFO, OK

EVENT_KINDS = (
    "steady-before",  # a probe of the steady state, before anything is touched; its status says how it went
    "inject",  # an action of the method
    "probe",  # a probe of the method, between its actions
    "heal",  # a fault is gone
    "rollback",  # an action of the rollbacks
    "steady-after",  # a probe of the steady state, at the end
    "guardrail",  # the run was cut short; the text says why
    "relief",  # a witness took the lease away from a primary
)
COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Request:
    """One vote or page. status is 0 without an answer; token and choice are those of a vote; see voter.Answer."""

    number: int
    intended: float
    sent: float
    done: float
    status: int
    outcome: str
    token: str = ""
    choice: int = 0
    resent: int = 0

    @property
    def wait(self) -> float:
        """Seconds between when it was due and its answer, so that a late start counts as waiting."""
        return self.done - self.intended


@dataclass(frozen=True)
class RequestLog:
    """A file of requests. ended: when its writer stopped; None when it was killed."""

    mark: str
    rate: float
    begin: float
    requests: Sequence[Request]
    ended: float | None

    @property
    def end(self) -> float:
        """When the last request was due."""
        return max((request.intended for request in self.requests), default=self.begin)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the engine did or found."""

    time: float
    kind: str
    text: str
    name: str = ""
    status: str = "succeeded"
    duration: float = 0.0
    host: str = ""


class Row(NamedTuple):
    """A row of the ledger."""

    token: str
    choice: int


class Tally(NamedTuple):
    """A choice's count as pages show it, and the part of it from before the ledger began."""

    votes: int
    opening: int


@dataclass(frozen=True)
class Contents:
    """What one database holds, read in one statement. tables: rows and checksum of every table, as text."""

    rows: tuple[Row, ...] = ()
    tallies: Mapping[int, Tally] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)


def load_requests(path: Path, kind: str) -> RequestLog:
    """Read votes or reads; raise InputError when the file is not of that kind, or holds no request."""
    anchor: dict[str, Any] = {}
    requests: list[Request] = []
    ended: float | None = None
    for where, line in read_lines(path):
        try:
            if "anchor" in line:
                anchor = line["anchor"]
            elif "end" in line:
                ended = float(anchor["wall"]) + float(line["end"]["time"])
            else:
                requests.append(_request(line, float(anchor["wall"])))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: is no line of {kind}: {error!r}") from error
    if anchor.get("kind") != kind:
        raise InputError(f"{path}: holds {anchor.get('kind', 'no anchor')}, not {kind}")
    if not requests:
        raise InputError(f"{path}: holds no request")
    requests.sort(key=lambda request: request.number)
    return RequestLog(str(anchor["mark"]), float(anchor["rate"]), float(anchor["wall"]), requests, ended)


def _request(line: dict[str, Any], zero: float) -> Request:
    if line["outcome"] not in {OK, FAIL, INFO}:
        raise ValueError(f"outcome {line['outcome']!r}")
    known: dict[str, Any] = {name: line[name] for name in ("outcome", "token", "choice", "resent") if name in line}
    known |= {name: zero + float(line[name]) for name in ("intended", "sent", "done")}
    return Request(number=int(line["n"]), status=int(line["status"]), **known)


def load_samples(path: Path) -> list[Sample]:
    """Read samples in the order of their answers."""
    zero: float | None = None
    samples = []
    names = {one.name for one in fields(Sample)}
    for where, line in read_lines(path):
        if "anchor" in line:
            zero = float(line["anchor"]["wall"])
        elif "node" in line:
            if zero is None or not line.keys() <= names:
                raise InputError(f"{where}: is no sample")
            line["asked"] += zero
            line["answered"] += zero
            samples.append(Sample(**line))
    if not samples:
        raise InputError(f"{path}: holds no sample")
    return sorted(samples, key=lambda sample: sample.answered)


def load_contents(path: Path) -> Contents:
    """Read what one database holds: the rows that node_state.sql returns."""
    rows: list[Row] = []
    tallies: dict[int, Tally] = {}
    tables: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        columns = line.split("|")
        if len(columns) != COLUMNS:
            raise InputError(f"{path}:{number}: has {len(columns)} columns, not {COLUMNS}")
        try:
            if columns[0].isdecimal():
                tallies[int(columns[0])] = Tally(int(columns[1]), int(columns[2]))
            elif "." in columns[0]:
                tables[columns[0]] = f"{int(columns[1])} rows, checksum {int(columns[2])}"
            else:
                rows.append(Row(str(UUID(columns[0])), int(columns[1])))
        except ValueError as error:
            raise InputError(f"{path}:{number}: is no vote, no tally and no table: {error}") from error
    if not tallies:
        raise InputError(f"{path}: holds no tally")
    return Contents(tuple(rows), tallies, tables)


def load_events(path: Path) -> list[Event]:
    """Read the engine's events in the order of time; raise InputError for one without time, kind or text."""
    events = []
    for where, line in read_lines(path):
        try:
            event = Event(**line | {"time": float(line["time"])})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: is no event: {error!r}") from error
        if event.kind not in EVENT_KINDS:
            raise InputError(f"{where}: kind is {event.kind!r}, not one of {', '.join(EVENT_KINDS)}")
        events.append(event)
    return sorted(events, key=lambda event: event.time)
