# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Filters: what a task of the chaos role returned, as the events that chaoslab judges by (chaoslab/records.py)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

Json = dict[str, Any]


def words(result: Json) -> str:
    """Return what a host said, in one line: its answer, or why there is none."""
    text = result.get("stdout") or result.get("stderr") or result.get("msg") or ""
    return ", ".join(line.strip() for line in text.splitlines())


def begun(result: Json) -> float:
    """Return when a fault was injected or healed: the target says it in its first line."""
    try:
        return float(result["stdout_lines"][0])
    except (KeyError, IndexError, ValueError):
        return time.time()


def chaos_fault_events(results: list[Json], kind: str) -> list[Json]:
    """Return an event for each host on which a fault was injected (kind inject), healed, or rolled back."""
    events = []
    for result in results:
        fault = result["__chaos_fault"]
        name = fault["name"] if kind == "inject" else fault["heal"]["name"]
        worked = result.get("rc") == 0
        reason = result.get("stderr") or result.get("msg") or ""
        event = {
            "time": time.time() if kind == "rollback" else begun(result),
            "kind": kind,
            "name": name,
            "host": fault["host"],
            "text": f"{name}: {fault['host']}" + ("" if worked else f" (failed: {reason.strip()})"),
            "status": "succeeded" if worked else "failed",
        }
        if kind == "inject" and "start" in result:
            length = datetime.fromisoformat(result["end"]) - datetime.fromisoformat(result["start"])
            event["duration"] = length.total_seconds()
        events.append(event)
    return events


def chaos_probe_event(results: list[Json], step: Json) -> Json:
    """Return the event of a probe that was asked on some hosts: on all it has to be right."""
    met = all(result.get("rc") == 0 for result in results)
    said = "; ".join(
        words(result)
        if result.get("__chaos_host") in {None, "localhost"}
        else f"{result['__chaos_host']}: {words(result)}"
        for result in results
    )
    return {
        "time": time.time(),
        "kind": step["kind"],
        "name": step["name"],
        "text": f"{step['name']} ({said or 'nobody to ask'})",
        "status": "succeeded" if met else "failed",
    }


def chaos_relief_events(results: list[Json]) -> list[Json]:
    """Return an event for each line of the witnesses' journals that says whom they relieved."""
    return [
        {
            "time": float(line.split()[0]),
            "kind": "relief",
            "host": result["__chaos_host"],
            "text": line[line.index("relieving ") :],
        }
        for result in results
        for line in result["stdout_lines"]
    ]


class FilterModule:
    """The filters that this file brings."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "chaos_fault_events": chaos_fault_events,
            "chaos_probe_event": chaos_probe_event,
            "chaos_relief_events": chaos_relief_events,
        }
