"""The guardrail: cuts a run short when it gets worse than any budget."""

from __future__ import annotations

import time
from pathlib import Path

from chaoslab.files import InputError, read_object

POLL_SECONDS = 0.2
# How long is watched at least, however late it is.
LEAST_SECONDS = 1.0
# A status file that is older than this (seconds) has lost its writer.
SILENT_SECONDS = 5.0


def problem(path: Path, max_outage: float, now: float) -> str | None:
    """Return why the run of this status file must end now (wall-clock time), or None; max_outage is in seconds."""
    try:
        status = read_object(path)
    except InputError as error:
        return f"the voter gives no sign of life: {error}"
    age = now - float(status.get("wall", 0))
    if status.get("state") != "ended" and age > SILENT_SECONDS:
        return f"the voter gives no sign of life: {path} is {age:.0f} s old"
    silence = float(status.get("seconds_since_ack", 0))
    if status.get("state") == "running" and silence > max_outage:
        return f"no vote was confirmed for {silence:.1f} s, more than {max_outage:g} s"
    return None


def guard(path: Path, max_outage: float, until: float) -> str | None:
    """Watch until the time (in seconds of the epoch) is over; return why the run must be cut short, or None."""
    end = time.monotonic() + max(until - time.time(), LEAST_SECONDS)
    while time.monotonic() < end:
        if found := problem(path, max_outage, time.time()):
            return found
        time.sleep(POLL_SECONDS)
    return None
