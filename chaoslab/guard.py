"""The guardrail: cuts a run short when it gets worse than any budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from chaoslab.files import InputError, read_object

POLL_SECONDS = 0.2
# A status file that is older than this (seconds) has lost its writer.
SILENT_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """What to watch, for how long, and what is too much. Times in seconds."""

    status: Path
    max_outage: float
    for_seconds: float
    violations: Path | None = None
    stop_file: Path | None = None


def problem(limits: Limits, now: float) -> str | None:
    """Return why the run must end now, or None; `now` is the wall-clock time."""
    if limits.violations and limits.violations.exists():
        found = read_object(limits.violations)
        return f"two writable databases at once: {' and '.join(found.get('nodes', ()))}"
    try:
        status = read_object(limits.status)
    except InputError as error:
        return f"the voter gives no sign of life: {error}"
    age = now - float(status.get("wall", 0))
    if status.get("state") != "ended" and age > SILENT_SECONDS:
        return f"the voter gives no sign of life: {limits.status} is {age:.0f} s old"
    silence = float(status.get("seconds_since_ack", 0))
    if status.get("state") == "running" and silence > limits.max_outage:
        return f"no vote was confirmed for {silence:.1f} s, more than {limits.max_outage:g} s"
    return None


def guard(limits: Limits) -> str | None:
    """Watch until the time is over or the stop file appears; return why the run was cut short, or None."""
    end = time.monotonic() + limits.for_seconds
    while time.monotonic() < end:
        if limits.stop_file and limits.stop_file.exists():
            return None
        if found := problem(limits, time.time()):
            return found
        time.sleep(POLL_SECONDS)
    return None
