"""The guardrail: cuts a run short when it gets worse than any budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from chaoslab.files import InputError, read_object

POLL_SECONDS = 0.2
# How long is watched at least, however late it is.
LEAST_SECONDS = 1.0
# A status file that is older than this (seconds) has lost its writer.
SILENT_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """What to watch, the longest time in seconds without a confirmed vote, and until when, in seconds of the epoch."""

    status: Path
    max_outage: float
    until: float


def problem(limits: Limits, now: float) -> str | None:
    """Return why the run must end now, or None; `now` is the wall-clock time."""
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
    """Watch until the time is over; return why the run must be cut short, or None."""
    end = time.monotonic() + max(limits.until - time.time(), LEAST_SECONDS)
    while time.monotonic() < end:
        if found := problem(limits, time.time()):
            return found
        time.sleep(POLL_SECONDS)
    return None
