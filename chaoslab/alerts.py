"""What rang during a run, as Prometheus has it, and whether that is what the experiment says. Times in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaoslab.files import InputError, read_object

# Prometheus evaluates the rules every 5 s; an alert that is missing for longer than two of them has ended.
ENDED_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Ring:
    """An alert that rang, and the host and service that it is about. open: it still rang when it was last looked at."""

    alert: str
    host: str
    service: str
    severity: str
    begin: float
    end: float
    open: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """What an experiment says about alerts: what rings, each within so long after the first fault, and what may."""

    ring: Mapping[str, float]
    may: frozenset[str]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Expected | None:
        """Return what an experiment's content says, None when it says nothing."""
        if (alerts := content.get("alerts")) is None:
            return None
        ring = {one["name"]: float(one["within_seconds"]) for one in alerts["ring"]}
        return cls(ring, frozenset(alerts.get("may", ())))

    def text(self) -> str:
        """Say it for people."""
        ring = ", ".join(f"{name} within {limit:g} s" for name, limit in self.ring.items()) or "none"
        return f"{ring}; no other" + (f" but {', '.join(sorted(self.may))}" if self.may else "")


def load_rings(path: Path) -> list[Ring]:
    """Read what rang from a file with Prometheus's answer; raise InputError for anything else."""
    answer = read_object(path)
    try:
        return rings(answer)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no answer of Prometheus about alerts: {error!r}") from error


def rings(answer: Mapping[str, Any]) -> list[Ring]:
    """Return what rang by Prometheus's answer to `ALERTS{alertstate="firing"}[...]`, and `asked`, when it was given."""
    series = [(one["metric"], [float(time) for time, _ in one["values"]]) for one in answer["data"]["result"]]
    # The last evaluation that anything is known of.
    last = float(answer["asked"])
    found = [ring for labels, times in series for ring in _rings(labels, times, last)]
    return sorted(found, key=lambda ring: (ring.begin, ring.alert, ring.host))


def _rings(labels: Mapping[str, str], times: Sequence[float], last: float) -> Iterator[Ring]:
    name = labels["alertname"]
    host, service, severity = (labels.get(label, "") for label in ("host", "name", "severity"))
    begin = before = times[0]
    for time in times[1:]:
        if time - before > ENDED_SECONDS:
            yield Ring(name, host, service, severity, begin, before)
            begin = time
        before = time
    yield Ring(name, host, service, severity, begin, before, open=last - before <= ENDED_SECONDS)


def _first(rings: Iterable[Ring], begin: float) -> dict[str, Ring]:
    """Return of each alert the one that first began to ring in the run, the earliest first.

    What rang before the run and went on is not among them: it is not the fault's doing.
    """
    found: dict[str, Ring] = {}
    for ring in sorted(rings, key=lambda ring: ring.begin):
        if ring.begin > begin:
            found.setdefault(ring.alert, ring)
    return found


def wrong(expected: Expected, rings: Iterable[Ring], begin: float, inject: float) -> list[str]:
    """Return what is not as expected, in words: late or silent alerts, and those that nobody expects."""
    found = []
    first = _first(rings, begin)
    for name, limit in expected.ring.items():
        if name not in first:
            found.append(f"{name} was silent")
        elif not 0 <= (after := first[name].begin - inject) <= limit:
            found.append(f"{name} after {after:.0f} s")
    unexpected = sorted(first.keys() - expected.ring.keys() - expected.may)
    return found + [f"{name} rang{_about(first[name])}" for name in unexpected]


def _about(ring: Ring) -> str:
    """Say of what an alert is, in parentheses."""
    about = ", ".join(filter(None, (ring.host, ring.service)))
    return f" ({about})" if about else ""


def text(rings: Iterable[Ring], begin: float, inject: float) -> str:
    """Say what began to ring during a run and how long after the first fault, each alert once."""
    return (
        ", ".join(f"{name} after {ring.begin - inject:.0f} s" for name, ring in _first(rings, begin).items()) or "none"
    )
