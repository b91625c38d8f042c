"""The pages of metrics: what Prometheus is asked, the pictures of its answers, and the same for Grafana.

metrics.yml has the panels. Prometheus is asked once for all hosts; the page of a host has the lines with its label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from chaoslab.alerts import Ring, rings
from dashboards import page
from dashboards.searches import Range, milliseconds
from plugins.filter.read_dashboard import DashboardError, merge

Json = dict[str, Any]

FOLDER = Path(__file__).parent
# How often Prometheus asks: a finer picture has nothing more.
FINEST_SECONDS = 5
# Of an hour, a point for each 15 seconds.
POINTS = 240
ALERTS = 'ALERTS{alertstate="firing"}'
# By the unit of metrics.yml: its axis, its figures in d3's notation, and its name in Grafana.
UNITS = {
    "per second": ("per second", ",.3~g", "ops"),
    "seconds": ("seconds", ",.3~g", "s"),
    "bytes": ("bytes", ".3~s", "bytes"),
    "bytes per second": ("bytes per second", ".3~s", "Bps"),
    "share": ("", ".0%", "percentunit"),
    "count": ("", ",d", "short"),
}
COLOURS = {"domain": ["page", "ticket"], "range": ["#B34700", "#E69F00"]}
SITE = "the whole site"
# Of the panel of alerts, in rows of the grid: its title, legend and axis; and each alert.
STRIP_ROWS, ALERT_ROWS = 5, 0.65
GRAFANA_COLUMNS = 24


def read() -> Json:
    """Return what metrics.yml has."""
    pages: Json = yaml.safe_load((FOLDER / "metrics.yml").read_text("utf-8"))
    return pages


def panels_of(pages: Json) -> list[Json]:
    """Return the panels of both pages, in the order in which they are asked for."""
    return [panel for kind in ("site", "host") for panel in pages[kind]["panels"]]


def step(times: Range) -> int:
    """Return how many seconds are between two points of a line."""
    seconds = (times.bounds["max"] - times.bounds["min"]).total_seconds()
    return max(FINEST_SECONDS, math.ceil(seconds / POINTS))


def queries(times: Range) -> list[Json]:
    """Return what to ask Prometheus, each with its `path` below /api/v1 and its `form`: all lines, and what rang."""
    first, last = (times.bounds[bound].timestamp() for bound in ("min", "max"))
    form = {"start": f"{first:.0f}", "end": f"{last:.0f}", "step": step(times)}
    asked: list[Json] = [
        {"path": "query_range", "form": {"query": panel["query"], **form}} for panel in panels_of(read())
    ]
    rang = {"query": f"{ALERTS}[{last - first:.0f}s]", "time": form["end"]}
    return [*asked, {"path": "query", "form": rang}]


def draw(folder: Path, times: Range, time_range: str, answers: list[Json]) -> list[Path]:
    """Draw the page of the site and one of each host from Prometheus's answers; return the pages' files.

    Raises:
        DashboardError: Prometheus refused a question, or the pages cannot be drawn.
    """
    pages = read()
    if len(answers) != len(panels_of(pages)) + 1:
        raise DashboardError("standard input has not Prometheus's answers to `queries`, one for each")
    for answer in answers:
        if answer.get("status") != "success":
            raise DashboardError(f"Prometheus: {answer.get('error', answer)}")
    lines = [answer["data"]["result"] for answer in answers[:-1]]
    rang = rings(answers[-1] | {"asked": times.bounds["max"].timestamp()})
    hosts = sorted({one["metric"]["host"] for found in lines for one in found if "host" in one["metric"]})
    if not hosts:
        raise DashboardError(f"Prometheus has nothing between {time_range}; choose another beginning (--from now-7d)")
    count = len(pages["site"]["panels"])
    places = {"logs": "../index.html", SITE: "index.html", **{host: f"{host}/index.html" for host in hosts}}
    drawn = []
    for name in ("", *hosts):
        kind, own = (pages["host"], lines[count:]) if name else (pages["site"], lines[:count])
        rows = [[one for one in found if name in ("", one["metric"].get("host"))] for found in own]
        told = [ring for ring in rang if not name or ring.host in ("", name)]
        here, up = name or SITE, "../" if name else ""
        head = {
            "title": kind["title"].format(host=name),
            "description": kind["description"],
            "links": [(what, up + where) for what, where in places.items() if what != here],
        }
        first = rung(told, times)
        panels = [first]
        for panel, found in zip(kind["panels"], rows, strict=True):
            place = {**panel["grid"], "y": panel["grid"]["y"] + first["grid"]["h"]}
            panels.append(drawing({**panel, "grid": place}, found, told, times))
        page.draw(folder / name, head, time_range, panels)
        drawn.append(folder / name / "index.html")
    return drawn


def points(line: str, series: Iterable[Json], gap: float) -> Iterator[Json]:
    """Yield the points of lines, each line broken where Prometheus has nothing for longer than ``gap`` seconds."""
    for one in series:
        name = line.format_map(one["metric"])
        before = None
        for time, text in one["values"]:
            if before is not None and time - before > gap:
                yield {"time": (before + time) * 500, "value": None, "line": name}
            value = float(text)
            yield {"time": time * 1000, "value": value if math.isfinite(value) else None, "line": name}
            before = time


def time_axis(times: Range, field: str) -> Json:
    """Return the encoding of a field by time, over the whole range."""
    domain = [milliseconds(times.bounds[bound]) for bound in ("min", "max")]
    axis = {"title": "time (UTC)", "format": "%H:%M" if domain[1] - domain[0] < 36 * 3_600_000 else "%b %d %H:%M"}
    return {"field": field, "type": "temporal", "scale": {"type": "utc", "domain": domain}, "axis": axis}


@cache
def theme() -> Json:
    """Return what all panels have, but for the theme's data, which are a search in Elasticsearch."""
    found: Json = yaml.safe_load((FOLDER / "theme.yml").read_text("utf-8"))
    return {name: part for name, part in found.items() if name != "data"}


def shown(panel: Mapping[str, Any], spec: Json) -> Json:
    """Return a panel as the page takes it, with its place and its title, over the theme of all panels."""
    grid = panel["grid"]
    size = page.size(grid)
    title = {"text": panel["title"], "subtitle": panel["subtitle"]}
    own = {"title": title, "autosize": {"type": "fit", "contains": "padding"}, **size, **spec}
    names = {"name": panel["name"], "title": panel["title"], "description": panel["subtitle"]}
    return {**names, "grid": grid, "csv": None, "spec": merge(theme(), own)}


def bars(told: Iterable[Ring]) -> list[Json]:
    """Return when each alert rang, for a picture."""
    return [
        {
            "from": ring.begin * 1000,
            "to": ring.end * 1000,
            "alert": f"{ring.alert} {ring.host}".strip(),
            "severity": ring.severity,
        }
        for ring in told
    ]


NOTE = {"type": "text", "color": "#52606d", "fontSize": 14, "x": {"expr": "width / 2"}, "y": {"expr": "height / 2"}}


def note(text: str) -> Json:
    """Return the layer of a picture that has nothing else to show."""
    return {"data": {"values": [{}]}, "mark": {**NOTE, "text": text}}


def rung(told: list[Ring], times: Range) -> Json:
    """Return the panel that says what rang, a bar each, as high as they need."""
    count = len({bar["alert"] for bar in bars(told)})
    panel = {
        "name": "alerts",
        "title": "Alerts",
        "subtitle": "What rang, and for how long; shaded in all panels below",
        "grid": {"x": 0, "y": 0, "w": 48, "h": STRIP_ROWS + math.ceil(count * ALERT_ROWS)},
    }
    layer: Json = {
        "data": {"values": bars(told)},
        "mark": {"type": "bar", "height": {"band": 0.7}},
        "encoding": {
            "x": time_axis(times, "from"),
            "x2": {"field": "to"},
            "y": {"field": "alert", "type": "nominal", "title": None, "axis": {"labelLimit": 300}},
            "color": {"field": "severity", "type": "nominal", "scale": COLOURS, "title": "Severity"},
            "tooltip": [{"field": "alert"}, {"field": "severity"}],
        },
    }
    return shown(panel, layer if told else {"layer": [note("No alert rang in this time range")]})


def drawing(panel: Json, series: list[Json], told: list[Ring], times: Range) -> Json:
    """Return a panel with its lines, and the times at which an alert rang shaded."""
    title, form, _ = UNITS[panel["unit"]]
    rows = list(points(panel["line"], series, 1.5 * step(times)))
    if not any(row["value"] is not None for row in rows):
        return shown(panel, {"layer": [note("Nothing to show in this time range")]})
    value: Json = {"field": "value", "type": "quantitative", "title": title, "axis": {"format": form}}
    if panel["unit"] == "count":
        # None between whole numbers.
        value["axis"]["tickCount"] = max(1, min(5, math.ceil(max(row["value"] or 0 for row in rows))))
    shade = {
        "data": {"values": bars(told)},
        "mark": {"type": "rect", "opacity": 0.12, "tooltip": None},
        "encoding": {
            "x": time_axis(times, "from"),
            "x2": {"field": "to"},
            "color": {"field": "severity", "type": "nominal", "scale": COLOURS, "legend": None},
        },
    }
    line = {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 1.5, "point": False},
        "encoding": {
            "x": time_axis(times, "time"),
            "y": value,
            "color": {
                "field": "line",
                "type": "nominal",
                "title": None,
                "legend": {"symbolType": "stroke", "symbolStrokeWidth": 3, "columns": 3, "labelLimit": 180},
            },
            "tooltip": [
                {"field": "line", "title": "Line"},
                {"field": "time", "type": "temporal", "format": "%Y-%m-%d %H:%M:%S", "title": "Time (UTC)"},
                {"field": "value", "type": "quantitative", "format": form, "title": title or "Value"},
            ],
        },
    }
    return shown(panel, {"layer": [shade, line], "resolve": {"scale": {"color": "independent"}}})


# Grafana


def grafana() -> Json:
    """Return both pages as one dashboard of Grafana's: the site's panels, and below them those of a chosen host."""
    pages = read()
    source = {"type": "prometheus", "uid": "${source}"}
    panels: list[Json] = []
    top = 0
    for kind in ("site", "host"):
        rows = pages[kind]["panels"]
        title = pages[kind]["title"].format(host="$host")
        panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": GRAFANA_COLUMNS, "h": 1}})
        for panel in rows:
            grid = panel["grid"]
            own = "{query}" if kind == "site" else '({query}) and on (host) up{{job="node",host="$host"}}'
            target = {
                "refId": "A",
                "datasource": source,
                "expr": own.format(query=panel["query"]),
                "legendFormat": panel["line"].replace("{", "{{").replace("}", "}}"),
            }
            place = {"x": grid["x"] // 2, "y": top + 1 + grid["y"], "w": grid["w"] // 2, "h": grid["h"]}
            panels.append(
                {
                    "type": "timeseries",
                    "title": panel["title"],
                    "description": panel["subtitle"],
                    "datasource": source,
                    "gridPos": place,
                    "targets": [target],
                    "fieldConfig": {"defaults": {"unit": UNITS[panel["unit"]][2]}, "overrides": []},
                }
            )
        top = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    annotation = {
        "name": "Alerts",
        "datasource": source,
        "enable": True,
        "iconColor": COLOURS["range"][0],
        "expr": ALERTS,
        "titleFormat": "{{alertname}} {{host}}",
    }
    variables = [
        {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {
            "name": "host",
            "type": "query",
            "label": "Host",
            "datasource": source,
            "query": 'label_values(up{job="node"}, host)',
            "refresh": 1,
        },
    ]
    return {
        "uid": "polls-metrics",
        "title": pages["site"]["title"],
        "description": pages["site"]["description"],
        "schemaVersion": 39,
        "timezone": "utc",
        "editable": False,
        "time": {"from": pages["time_from"], "to": pages["time_to"]},
        "annotations": {"list": [annotation]},
        "templating": {"list": variables},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }
