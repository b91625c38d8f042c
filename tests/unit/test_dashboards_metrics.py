"""The pages of metrics: the questions to Prometheus, the pictures of its answers, and Grafana's dashboard."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from dashboards import metrics, page
from dashboards.__main__ import main
from dashboards.searches import Range
from plugins.filter.read_dashboard import DashboardError

Json = dict[str, Any]

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
END = int(NOW.timestamp())
TIMES = Range("now-1h", "now", NOW)
PANELS = metrics.panels_of(metrics.read())
HOSTS = ("main", "postgres-1")
# Each label that a line is named after.
LABELS = {
    "code": "503",
    "proxy": "primary",
    "server": "127.0.0.1:8000",
    "mode": "iowait",
    "for": "disk",
    "what": "all",
    "device": "/dev/x",
}


def answer(series: list[Json]) -> Json:
    """Return Prometheus's answer with these lines."""
    return {"status": "success", "data": {"result": series}}


def answers(rang: list[Json] | None = None) -> list[Json]:
    """Return answers to all questions, of two hosts, one of which says nothing for ten minutes; and what rang."""
    found = []
    for query in metrics.queries(TIMES)[:-1]:
        every = query["form"]["step"]
        series = []
        for host in HOSTS:
            labels = {**LABELS, "host": host, "name": f"{host}.service"}
            times = range(END - 3600, END, every)
            values = [[time, "0.25"] for time in times if host == "main" or not END - 1800 < time < END - 1200]
            series.append({"metric": labels, "values": values})
        found.append(answer(series))
    return [*found, answer(rang or [])]


RANG = [
    {
        "metric": {"alertname": "HostDown", "host": "postgres-1", "severity": "ticket"},
        "values": [[time, "1"] for time in range(END - 1800, END - 1200, 5)],
    },
    {
        "metric": {"alertname": "RequestsFailing", "severity": "page"},
        "values": [[time, "1"] for time in range(END - 1700, END - 1600, 5)],
    },
]


@pytest.fixture
def no_png(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures beside the pages, which cost most of the time and are those of test_dashboards.py."""
    monkeypatch.setattr(vl_convert, "vegalite_to_png", lambda *_, **__: b"")


def texts(panel: Json) -> set[str]:
    """Return the texts that can be read in a panel's picture."""
    svg = vl_convert.vegalite_to_svg(panel["spec"], vl_version=page.VEGA_LITE)
    return set(re.findall(r"<text[^>]*>([^<]+)</text>", svg))


def test_each_panel_is_one_question_over_the_whole_range() -> None:
    """And as many points as a picture can show, no more than there are; the last question is what rang."""
    asked = metrics.queries(TIMES)
    assert [one["form"]["query"] for one in asked[:-1]] == [panel["query"] for panel in PANELS]
    assert {one["path"] for one in asked[:-1]} == {"query_range"}
    assert asked[0]["form"] | {"query": ""} == {"query": "", "start": str(END - 3600), "end": str(END), "step": 15}
    assert asked[-1] == {"path": "query", "form": {"query": 'ALERTS{alertstate="firing"}[3600s]', "time": str(END)}}
    short, long = (metrics.queries(Range(first, "now", NOW))[0]["form"]["step"] for first in ("now-1m", "now-7d"))
    assert (short, long) == (5, 2520)


def test_panels_have_a_name_and_a_place_of_their_own() -> None:
    """Two panels of one page would share a picture, or lie over each other."""
    for kind in ("site", "host"):
        panels = metrics.read()[kind]["panels"]
        assert len({panel["name"] for panel in panels}) == len(panels)
        cells = Counter(
            (x, y)
            for grid in (panel["grid"] for panel in panels)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        )
        assert max(cells.values()) == 1
        assert {x for x, _ in cells} == set(range(48))
        assert min(y for _, y in cells) == 0


def test_lines_break_where_prometheus_has_nothing() -> None:
    """Also where a value is none."""
    series = [{"metric": {"host": "main"}, "values": [[0, "1"], [15, "NaN"], [30, "2"], [90, "3"]]}]
    found = list(metrics.points("{host}", series, 22.5))
    assert [(one["time"], one["value"]) for one in found] == [
        (0, 1.0), (15_000, None), (30_000, 2.0), (60_000, None), (90_000, 3.0),
    ]  # fmt: skip
    assert {one["line"] for one in found} == {"main"}


@pytest.mark.parametrize("panel", PANELS, ids=[panel["name"] for panel in PANELS])
def test_a_panel_shows_its_lines(panel: Json) -> None:
    """By name, with its unit; without any it says so."""
    asked = dict(zip((one["query"] for one in PANELS), answers(), strict=False))
    series = asked[panel["query"]]["data"]["result"]
    seen = texts(metrics.drawing(panel, series, [], TIMES))
    names = {panel["line"].format_map(one["metric"]) for one in series}
    assert {panel["title"], panel["subtitle"], *names} <= seen
    assert texts(metrics.drawing(panel, [], [], TIMES)) >= {panel["title"], "Nothing to show in this time range"}


@pytest.mark.usefixtures("no_png")
def test_pages_of_the_site_and_of_each_host(tmp_path: Path) -> None:
    """A host's page has its own lines and its own alerts, and those of the site; links lead to pages that are there."""
    drawn = metrics.draw(tmp_path, TIMES, "today", answers(RANG))
    assert drawn == [tmp_path / name / "index.html" for name in ("", *HOSTS)]
    for file in drawn:
        shown = file.read_text("utf-8")
        for where in re.findall(r"<nav>.*</nav>", shown)[0].split('href="')[1:]:
            target = (file.parent / where.split('"')[0]).resolve()
            assert target in {*drawn, tmp_path.parent / "index.html"} - {file}
    specs = {file: panels_on(file) for file in drawn}
    rang = {file: {bar["alert"] for bar in spec["alerts"]["data"]["values"]} for file, spec in specs.items()}
    assert rang[drawn[0]] == {"HostDown postgres-1", "RequestsFailing"}
    assert rang[drawn[1]] == {"RequestsFailing"}
    # The panel of alerts is as high as they need, and the others are below it.
    for file, height in ((drawn[0], 7), (drawn[1], 6)):
        (first, second) = re.findall(r"grid-row: (\d+) / span (\d+)", file.read_text("utf-8"))[:2]
        assert (first, second[0]) == (("1", str(height)), str(height + 1))
    (line,) = {row["line"] for row in specs[drawn[1]]["units"]["layer"][1]["data"]["values"]}
    assert line == "main.service"
    # Shaded in each panel, at its time.
    (shade,) = (bar for bar in specs[drawn[1]]["disks"]["layer"][0]["data"]["values"])
    assert (shade["from"], shade["to"]) == ((END - 1700) * 1000, (END - 1605) * 1000)


def panels_on(file: Path) -> dict[str, Json]:
    """Return the specifications on a page by the panel's name."""
    found = re.findall(r'data-panel="([^"]+)">(.*?)</script>', file.read_text("utf-8"))
    return {name: json.loads(text) for name, text in found}


def test_no_alert_is_said() -> None:
    """An empty strip would look like a fault."""
    assert "No alert rang in this time range" in texts(metrics.rung([], TIMES))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "standard input has not Prometheus's answers"),
        ([{"status": "error", "error": "1:5: parse error"}, *answers()[1:]], "Prometheus: 1:5: parse error"),
        ([answer([]) for _ in answers()], "Prometheus has nothing between"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, found: list[Json], words: str) -> None:
    """With Prometheus's own words, and before anything is written."""
    with pytest.raises(DashboardError, match=re.escape(words)):
        metrics.draw(tmp_path / "new", TIMES, "now-1h and now", found)
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("no_png")
def test_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From its questions to its pages, and what is wrong in one line."""
    times = [f"--from={TIMES.bounds['min'].isoformat()}", f"--to={NOW.isoformat()}"]
    assert main(["queries", *times]) == 0
    assert json.loads(capsys.readouterr().out) == metrics.queries(TIMES)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(answers())))
    assert main(["metrics", *times, str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"Metrics   {tmp_path}/index.html"
    monkeypatch.setattr(sys, "stdin", io.StringIO("no"))
    assert main(["metrics", *times, str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("dashboards: standard input is no list of Prometheus's answers")


def test_grafana_asks_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Every panel, in Grafana's 24 columns without one over another; a host's by the host that is chosen."""
    assert main(["grafana"]) == 0
    found = json.loads(capsys.readouterr().out)
    panels = [panel for panel in found["panels"] if panel["type"] == "timeseries"]
    assert [panel["title"] for panel in panels] == [panel["title"] for panel in PANELS]
    for panel, own in zip(panels, PANELS, strict=True):
        (target,) = panel["targets"]
        assert own["query"] in target["expr"]
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) == set(re.findall(r"{(\w+)}", own["line"]))
    chosen = [panel for panel in panels if 'host="$host"' in panel["targets"][0]["expr"]]
    assert chosen == panels[-len(metrics.read()["host"]["panels"]) :]
    places = [panel["gridPos"] for panel in found["panels"]]
    cells = Counter((x, y) for one in places for x in span(one, "x", "w") for y in span(one, "y", "h"))
    assert max(cells.values()) == 1
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])


def span(place: Json, first: str, length: str) -> range:
    """Return the cells that a place takes in one direction."""
    return range(place[first], place[first] + place[length])


def test_figures_are_finite() -> None:
    """A picture has no place for what is infinite, as 99 of 100 of nothing is."""
    (point,) = metrics.points("x", [{"metric": {}, "values": [[0, "+Inf"]]}], 1)
    assert point["value"] is None
    assert math.isfinite(point["time"])
