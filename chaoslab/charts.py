"""The time line of a run as SVG, by Vega-Lite and its template. Times in seconds from the first fault."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
import yaml

TEMPLATES = Path(__file__).with_name("templates")
# The version that the template is written for.
VEGA_LITE = "5.21"
BIN_SECONDS = 0.1
MOST_POINTS = 1500
ROW_HEIGHT = 18
# Labels of one row of events do not stand nearer than this share of the width.
LABEL_SHARE = 0.14

# Okabe and Ito's colours, which people with any kind of colour blindness can tell apart.
COLOURS = {
    "blue": "#0072B2",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "orange": "#E69F00",
    "red": "#D55E00",
    "pink": "#CC79A7",
    "grey": "#999999",
    "light": "#D9D9D9",
    "dark": "#333333",
}
ROLES = {
    "primary": COLOURS["blue"],
    "primary without a synchronous standby": COLOURS["green"],
    "synchronous standby": COLOURS["sky"],
    "standby": "#B7DDF3",
    "being promoted": COLOURS["yellow"],
    "starting or catching up": COLOURS["light"],
    "primary without lease": COLOURS["pink"],
    "not running": COLOURS["grey"],
    "no answer": COLOURS["dark"],
}
# What a voter and a reader saw.
ANSWERS = {"confirmed": COLOURS["blue"], "asked to send again (503)": COLOURS["orange"], "failed": COLOURS["red"]}
PAGES = {"served": COLOURS["green"], "failed": COLOURS["red"]}
SEVERITIES = {"page": COLOURS["red"], "ticket": COLOURS["orange"]}
MARKS = {"inject": "fault", "heal": "healed", "relief": "relieved", "guardrail": "guardrail"}

Json = dict[str, Any]
Window = tuple[float, float]


def timeline_svg(ours: Mapping[str, Any], window: Window, name: str) -> str:
    """Draw the part of a run within a window; `name` keeps its identifiers apart from another drawing's."""
    svg: str = vl_convert.vegalite_to_svg(spec(ours, window), vl_version=VEGA_LITE)
    svg = re.sub(r"\b(clip|gradient)(\d+)\b", rf"{name}-\1\2", svg)
    return re.sub(r"^<svg ", '<svg role="img" aria-label="Time line of the run" ', svg)


def whole_window(ours: Mapping[str, Any]) -> Window:
    """Return the window that shows all of a run."""
    line = ours["timeline"]
    ends = [*line["votes"]["intended"], *line["votes"]["done"], *(one["end"] for one in line["segments"])]
    return min(line["votes"]["intended"]), max(ends)


def close_window(ours: Mapping[str, Any]) -> Window | None:
    """Return a window around the outage and its budget, or None when there is nothing to look closer at."""
    outage, budget = ours["figures"]["outage"], ours["budget"]
    if outage["seconds"] <= budget["resolution_seconds"]:
        return None
    begin, end = whole_window(ours)
    first = min(outage["begin"], 0.0 if outage["begin"] < budget["outage_seconds"] else outage["begin"])
    last = max(outage["end"], outage["begin"] + budget["outage_seconds"])
    margin = max(2.0, (last - first) * 0.15)
    low, high = max(begin, first - margin), min(end, last + margin)
    return (low, high) if (high - low) < 0.7 * (end - begin) else None


def marks(line: Mapping[str, Any]) -> list[Json]:
    """Return the faults, heals and reliefs of a time line, numbered in order."""
    counts = Counter(event["kind"] for event in line["events"])
    seen: Counter[str] = Counter()
    found = []
    for event in line["events"]:
        if kind := MARKS.get(event["kind"]):
            seen[kind] += 1
            label = f"{kind} {seen[kind]}" if counts[event["kind"]] > 1 else kind
            found.append({"t": event["time"], "label": label, "kind": event["kind"], "text": event["text"]})
    return found


def spec(ours: Mapping[str, Any], window: Window) -> Json:
    """Return the Vega-Lite specification of a time line with its data."""
    low, high = window
    line, outage, budget = ours["timeline"], ours["figures"]["outage"], ours["budget"]
    requests = {"votes": _requests(line["votes"], [*ANSWERS]), "reads": _requests(line["reads"], ["served"])}
    shown = {name: [one for one in rows if low <= one["t"] <= high] for name, rows in requests.items()}
    longest = {name: max((one["wait"] for one in rows), default=0.0) for name, rows in shown.items()}
    bins = Counter(one["done"] // BIN_SECONDS for one in requests["votes"] if one["outcome"] == "ok")
    segments = [one for one in line["segments"] if one["begin"] < high and one["end"] > low]
    roles = [role for role in ROLES if role in {one["role"] for one in segments}]
    rings = [
        one | {"row": f"{one['alert']} {one['host']}".strip()}
        for one in ours["figures"]["alerts"]
        if one["begin"] < high and one["end"] > low
    ]
    found = [one for one in marks(line) if low <= one["t"] <= high]
    rows = _rows(found, LABEL_SHARE * (high - low))
    bars = [
        (outage["end"], 16, COLOURS["orange"], f"nothing confirmed for {outage['seconds']:.1f} s"),
        (outage["begin"] + budget["outage_seconds"], 36, COLOURS["green"], f"budget {budget['outage_seconds']:g} s"),
    ]
    if outage["seconds"] <= budget["resolution_seconds"]:
        bars = []
    template = jinja2.Template((TEMPLATES / "timeline.vl.yml.j2").read_text("utf-8"), undefined=jinja2.StrictUndefined)
    drawing: Json = yaml.safe_load(
        template.render(
            **{name: f"'{colour}'" for name, colour in COLOURS.items()},
            low=low,
            high=high,
            label_share=LABEL_SHARE,
            row_height=ROW_HEIGHT,
            rows=rows,
            roles=roles,
            role_colours=[ROLES[role] for role in roles],
            severities=SEVERITIES if rings else {},
            bin_seconds=BIN_SECONDS,
            most=max(bins.values(), default=1),
            step=max(len(values) for values in shown.values()) // MOST_POINTS + 1,
            waits=[
                ("votes", "How long each voter waited, by when they voted", 150, max(1.0, longest["votes"]), ANSWERS),
                ("reads", "How long each page view took", 80, max(0.2, longest["reads"]), PAGES),
            ],
        )
    )
    drawing["datasets"] = requests | {
        "marks": found,
        "segments": [one | {"label": f"timeline {one['timeline']}"} for one in segments],
        "rings": rings,
        "pauses": ours["figures"]["pauses"],
        "bars": [
            {"begin": outage["begin"], "end": end, "y": y, "colour": c, "label": text} for end, y, c, text in bars
        ],
    }
    return drawing


def _rows(found: list[Json], apart: float) -> int:
    """Give each mark the place of its label, in pixels, in the first row with room; return how many rows that takes."""
    last: list[float] = []
    for mark in found:
        row = next((row for row, time in enumerate(last) if mark["t"] - time > apart), len(last))
        last[row : row + 1] = [mark["t"]]
        mark["y"] = ROW_HEIGHT * (row + 0.5)
    return max(1, len(last))


def _requests(log: Mapping[str, Any], answers: list[str]) -> list[Json]:
    """Return a row for each request: confirmed or served, asked to send again, failed."""
    columns = ("intended", "done", "status", "outcome")
    return [
        {"n": n, "t": due, "done": done, "wait": round(done - due, 3), "outcome": outcome}
        | {"answer": answers[0] if outcome == "ok" else answers[1] if status == 503 and answers[1:] else "failed"}  # noqa: PLR2004
        for n, (due, done, status, outcome) in enumerate(zip(*(log[name] for name in columns), strict=True))
    ]
