"""The time line of a run as Vega-Lite, drawn to SVG. Times in seconds from the first fault."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import vl_convert

# The version that the specifications are written for.
VEGA_LITE = "5.21"
WIDTH = 980
BIN_SECONDS = 0.1
MOST_POINTS = 1500
# Labels of one row of events do not stand nearer than this share of the width.
LABEL_SHARE = 0.14

# Okabe and Ito's colours, which people with any kind of colour blindness can tell apart.
BLUE, SKY, GREEN, YELLOW, ORANGE, RED, PINK = (
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#E69F00",
    "#D55E00",
    "#CC79A7",
)
GREY, LIGHT, DARK = "#999999", "#D9D9D9", "#333333"

ROLES = {
    "primary": BLUE,
    "primary without a synchronous standby": GREEN,
    "synchronous standby": SKY,
    "standby": "#B7DDF3",
    "being promoted": YELLOW,
    "starting or catching up": LIGHT,
    "primary without lease": PINK,
    "not running": GREY,
    "no answer": DARK,
}
ANSWERS = {"confirmed": BLUE, "asked to send again (503)": ORANGE, "failed": RED}
PAGES = {"served": GREEN, "failed": RED}

Spec = dict[str, Any]


def answer(outcome: str, status: int) -> str:
    """Return what a voter saw, in words."""
    return "confirmed" if outcome == "ok" else "asked to send again (503)" if status == 503 else "failed"  # noqa: PLR2004


def timeline_svg(ours: Mapping[str, Any], window: tuple[float, float], name: str) -> str:
    """Draw the part of a run within a window; `name` keeps its identifiers apart from another drawing's."""
    svg: str = vl_convert.vegalite_to_svg(spec(ours, window), vl_version=VEGA_LITE)
    svg = re.sub(r"\b(clip|gradient)(\d+)\b", rf"{name}-\1\2", svg)
    return re.sub(r"^<svg ", '<svg role="img" aria-label="Time line of the run" ', svg)


def whole_window(ours: Mapping[str, Any]) -> tuple[float, float]:
    """Return the window that shows all of a run."""
    line = ours["timeline"]
    ends = [*line["votes"]["intended"], *line["votes"]["done"], *(one["end"] for one in line["segments"])]
    return min(line["votes"]["intended"]), max(ends)


def close_window(ours: Mapping[str, Any]) -> tuple[float, float] | None:
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


def spec(ours: Mapping[str, Any], window: tuple[float, float]) -> Spec:
    """Return the Vega-Lite specification of a time line."""
    line = ours["timeline"]
    panels = [_events(line, window)]
    if line["segments"]:
        panels.append(_roles(line, window))
    panels += [_confirmed(ours, window), _waits(ours, window), _reads(line, window)]
    for panel in panels[:-1]:
        for layer in panel["layer"]:
            axis = layer["encoding"]["x"].get("axis")
            if axis:
                axis |= {"title": None}
    return {
        "background": "white",
        "padding": 4,
        "spacing": 14,
        "vconcat": panels,
        "resolve": {"scale": {"color": "independent"}},
        "config": {
            "aria": False,
            "font": "sans-serif",
            "view": {"stroke": "#cccccc"},
            "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": "#eeeeee"},
            "axisY": {"minExtent": 78, "maxExtent": 78, "titleAnchor": "middle"},
            "legend": {
                "labelFontSize": 12,
                "orient": "top",
                "title": None,
                "offset": 4,
                "symbolOpacity": 1,
                "labelLimit": 0,
            },
            "title": {"anchor": "start", "frame": "group", "fontSize": 13, "fontWeight": "bold", "offset": 6},
        },
    }


def _x(window: tuple[float, float], field: str = "t") -> Spec:
    axis = {"title": "seconds since the fault", "tickCount": 12, "grid": True}
    return {"field": field, "type": "quantitative", "scale": {"domain": list(window), "nice": False}, "axis": axis}


def _values(values: Sequence[Mapping[str, Any]]) -> Spec:
    return {"values": list(values)}


def marks(line: Mapping[str, Any]) -> list[Spec]:
    """Return the faults, heals and reliefs of a time line, numbered in order."""
    names = {"inject": "fault", "heal": "healed", "relief": "relieved", "guardrail": "guardrail"}
    counts = Counter(event["kind"] for event in line["events"])
    seen: Counter[str] = Counter()
    found = []
    for event in line["events"]:
        if event["kind"] in names:
            seen[event["kind"]] += 1
            number = f" {seen[event['kind']]}" if counts[event["kind"]] > 1 else ""
            label = names[event["kind"]] + number
            found.append({"t": event["time"], "label": label, "kind": event["kind"], "text": event["text"]})
    return found


def _within(values: Sequence[Spec], window: tuple[float, float]) -> list[Spec]:
    return [value for value in values if window[0] <= value["t"] <= window[1]]


def _rules(line: Mapping[str, Any], window: tuple[float, float]) -> Spec:
    """Return vertical lines for faults and heals."""
    return {
        "data": _values(_within(marks(line), window)),
        "mark": {"type": "rule", "strokeWidth": 1.5, "strokeDash": [4, 3]},
        "encoding": {"x": _x(window), "color": _kind_colour()},
    }


def _kind_colour() -> Spec:
    scale = {"domain": ["inject", "heal", "relief", "guardrail"], "range": [RED, GREEN, DARK, DARK]}
    return {"field": "kind", "type": "nominal", "scale": scale, "legend": None}


def _events(line: Mapping[str, Any], window: tuple[float, float]) -> Spec:
    found = _within(marks(line), window)
    last: list[float] = []
    for mark in found:
        rows = [row for row, time in enumerate(last) if mark["t"] - time > LABEL_SHARE * (window[1] - window[0])]
        row = rows[0] if rows else len(last)
        last[row : row + 1] = [mark["t"]]
        mark["row"] = -row
    right = window[0] + (1 - LABEL_SHARE / 2) * (window[1] - window[0])
    height = 18 * max(1, len(last))
    y = {"field": "row", "type": "quantitative", "axis": None, "scale": {"domain": [0.5 - max(1, len(last)), 0.5]}}
    layers = [_rules(line, window)]
    for align, chosen in (
        ("left", [m for m in found if m["t"] <= right]),
        ("right", [m for m in found if m["t"] > right]),
    ):
        mark = {
            "type": "text",
            "align": align,
            "dx": 5 if align == "left" else -5,
            "fontSize": 12,
            "fontWeight": "bold",
        }
        encoding = {"x": _x(window), "y": y, "text": {"field": "label"}, "color": _kind_colour()}
        layers.append({"data": _values(chosen), "mark": mark, "encoding": encoding})
    for layer in layers:
        layer["encoding"]["x"] = _x(window) | {"axis": None}
    return {"width": WIDTH, "height": height, "layer": layers, "view": {"stroke": None}}


def _roles(line: Mapping[str, Any], window: tuple[float, float]) -> Spec:
    values = []
    for segment in line["segments"]:
        begin, end = max(segment["begin"], window[0]), min(segment["end"], window[1])
        if begin < end:
            wide = (end - begin) > 0.05 * (window[1] - window[0])
            label = f"timeline {segment['timeline']}" if segment["role"].startswith("primary") and wide else ""
            values.append({"t": begin, "t2": end, "node": segment["node"], "role": segment["role"], "label": label})
    present = [role for role in ROLES if any(value["role"] == role for value in values)]
    colour = {"domain": present, "range": [ROLES[role] for role in present]}
    y = {"field": "node", "type": "nominal", "axis": {"title": None, "labelLimit": 76}}
    nodes = len({value["node"] for value in values})
    bars = {"x": _x(window), "x2": {"field": "t2"}, "y": y}
    bars["color"] = {"field": "role", "type": "nominal", "scale": colour}
    labels = [value for value in values if value["label"]]
    text = {"type": "text", "align": "left", "dx": 4, "color": "white", "fontSize": 12}
    return {
        "title": "What each database was",
        "width": WIDTH,
        "height": 26 * nodes,
        "layer": [
            {"data": _values(values), "mark": {"type": "bar", "height": 18}, "encoding": bars},
            {"data": _values(labels), "mark": text, "encoding": {"x": _x(window), "y": y, "text": {"field": "label"}}},
            _rules(line, window),
        ],
        "resolve": {"scale": {"color": "independent"}},
    }


def per_bin(times: Sequence[float], window: tuple[float, float]) -> list[Spec]:
    """Count times in bins of 100 ms, empty ones as well."""
    first, last = int(window[0] // BIN_SECONDS), int(window[1] // BIN_SECONDS)
    counts = Counter(int(time // BIN_SECONDS) for time in times)
    found: list[Spec] = [{"t": round(index * BIN_SECONDS, 1), "n": counts[index]} for index in range(first + 1, last)]
    # The end of the last bin, so that it is drawn as wide as the others.
    return [*found, {"t": round(last * BIN_SECONDS, 1), "n": found[-1]["n"]}] if found else found


def _confirmed(ours: Mapping[str, Any], window: tuple[float, float]) -> Spec:
    line, outage, budget = ours["timeline"], ours["figures"]["outage"], ours["budget"]
    votes = line["votes"]
    times = [time for time, outcome in zip(votes["done"], votes["outcome"], strict=True) if outcome == "ok"]
    bins = per_bin(times, window)
    top = max([1.0, *(one["n"] for one in bins)])
    y = {"field": "n", "type": "quantitative", "title": "votes / 100 ms", "axis": {"tickMinStep": 1, "tickCount": 4}}
    y["scale"] = {"domain": [0, top * 1.5], "nice": False}
    layers = [_shade(ours["figures"]["pauses"], window)]
    if outage["seconds"] > budget["resolution_seconds"]:
        layers += list(_outage(outage, budget, window, top))
    mark = {"type": "area", "interpolate": "step-after", "color": BLUE, "opacity": 0.85}
    layers.append({"data": _values(bins), "mark": mark, "encoding": {"x": _x(window), "y": y}})
    layers.append(_rules(line, window))
    return {"title": "Confirmed votes", "width": WIDTH, "height": 120, "layer": layers}


def _shade(pauses: Sequence[Mapping[str, float]], window: tuple[float, float]) -> Spec:
    """Shade every time without a confirmed vote."""
    clipped = [{"t": max(one["begin"], window[0]), "t2": min(one["end"], window[1])} for one in pauses]
    return {
        "data": _values([one for one in clipped if one["t"] < one["t2"]]),
        "mark": {"type": "rect", "color": ORANGE, "opacity": 0.25},
        "encoding": {"x": _x(window), "x2": {"field": "t2"}},
    }


def _outage(
    outage: Mapping[str, Any], budget: Mapping[str, Any], window: tuple[float, float], top: float
) -> Iterator[Spec]:
    """Draw the length of the outage and its budget above the votes."""
    low = max(outage["begin"], window[0])
    span = {"x": _x(window), "x2": {"field": "t2"}}
    end = outage["begin"] + budget["outage_seconds"]
    for value, row, colour, text in (
        (outage["end"], 1.36, ORANGE, f"nothing confirmed for {outage['seconds']:.1f} s"),
        (end, 1.16, GREEN, f"budget {budget['outage_seconds']:g} s"),
    ):
        bar = [{"t": low, "t2": min(max(value, low), window[1]), "n": top * row, "label": text}]
        y = {"field": "n", "type": "quantitative"}
        yield {
            "data": _values(bar),
            "mark": {"type": "rule", "strokeWidth": 4, "color": colour},
            "encoding": span | {"y": y},
        }
        style: Spec = {"type": "text", "align": "left", "dx": 5, "fontSize": 12, "color": DARK, "baseline": "middle"}
        # Beside the bar, or where that is not wide enough, below it.
        beside = window[1] - bar[0]["t2"] > 0.2 * (window[1] - window[0])
        style |= {} if beside else {"dx": 2, "dy": 10}
        x = {"x": _x(window, "t2" if beside else "t")}
        yield {"data": _values(bar), "mark": style, "encoding": x | {"y": y, "text": {"field": "label"}}}


def points(log: Mapping[str, Any], window: tuple[float, float]) -> list[Spec]:
    """Return each request with its wait; of very many, all failed or slow ones and an even choice of the others."""
    rows = [
        {"t": due, "w": round(done - due, 3), "a": answer(outcome, status)}
        for due, done, outcome, status in zip(log["intended"], log["done"], log["outcome"], log["status"], strict=True)
        if window[0] <= due <= window[1]
    ]
    if len(rows) <= MOST_POINTS:
        return rows
    dull = [row for row in rows if row["a"] == "confirmed" and row["w"] < 0.3]  # noqa: PLR2004 - seconds
    step = len(dull) // MOST_POINTS + 1
    kept = {id(row) for row in dull[::step]}
    return [row for row in rows if id(row) in kept or row["a"] != "confirmed" or row["w"] >= 0.3]  # noqa: PLR2004


def _dots(values: list[Spec], window: tuple[float, float], colours: Mapping[str, str], least: float) -> Spec:
    longest = max([least, *(value["w"] for value in values)])
    y = {"field": "w", "type": "quantitative", "title": "seconds", "axis": {"tickCount": 4}}
    y["scale"] = {"domain": [0, longest * 1.08], "nice": False}
    present = [name for name in colours if any(value["a"] == name for value in values)] or list(colours)[:1]
    scale = {"domain": present, "range": [colours[name] for name in present]}
    colour = {"field": "a", "type": "nominal", "scale": scale}
    mark = {"type": "circle", "size": 22, "opacity": 0.75}
    return {"data": _values(values), "mark": mark, "encoding": {"x": _x(window), "y": y, "color": colour}}


def _waits(ours: Mapping[str, Any], window: tuple[float, float]) -> Spec:
    line = ours["timeline"]
    dots = _dots(points(line["votes"], window), window, ANSWERS, 1.0)
    return {
        "title": "How long each voter waited, by when they voted",
        "width": WIDTH,
        "height": 150,
        "layer": [dots, _rules(line, window)],
        "resolve": {"scale": {"color": "independent"}},
    }


def _reads(line: Mapping[str, Any], window: tuple[float, float]) -> Spec:
    rows = points(line["reads"], window)
    for row in rows:
        row["a"] = "served" if row["a"] == "confirmed" else "failed"
    return {
        "title": "How long each page view took",
        "width": WIDTH,
        "height": 80,
        "layer": [_dots(rows, window, PAGES, 0.2), _rules(line, window)],
        "resolve": {"scale": {"color": "independent"}},
    }
