"""The dashboards: Kibana's placeholders, the searches, the pictures and the page."""

from __future__ import annotations

import io
import json
import math
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import vl_convert
import yaml

from dashboards import page, searches
from dashboards.__main__ import main
from plugins.filter.read_dashboard import DashboardError, put_in, read_dashboard
from tests.unit import fake_elasticsearch

REPOSITORY = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
END = NOW.timestamp() * 1000
HOUR = 3_600_000

Json = dict[str, Any]

DASHBOARD: Json = read_dashboard("dashboards/site.yml")
SPECS = sorted(REPOSITORY.glob("dashboards/panels/*.yml"))
PLACES = [
    ("China", "Beijing", 39.9, 116.4),
    ("Germany", "Frankfurt am Main", 50.1, 8.7),
    ("Brazil", "São Paulo", -23.5, -46.6),
    ("South Africa", None, -26.2, 28.0),
]


def events(hours: int = 1) -> list[Json]:
    """Return some hours of a site: 400 requests, two gunicorns, a failover. The same at each call."""
    chance = random.Random(1)
    made: list[Json] = []

    def add(minute: float, dataset: str, host: str, **fields: Any) -> None:
        time = fake_elasticsearch.iso(END - hours * (HOUR - minute * 60_000))
        made.append({"@timestamp": time, "event.dataset": dataset, "host.name": host, **fields})

    for number in range(400):
        minute = number * 0.15
        place = PLACES[0] if number % 2 else PLACES[number // 2 % 4]
        located = {
            # As 8 has it; 6.8 leaves the name out, as the last place here.
            "source.geo.country_name": None if place[0] == "South Africa" else place[0],
            "source.geo.country_iso_code": place[0][:2].upper(),
            "source.geo.city_name": place[1],
            "source.geo.location": {"lat": place[2], "lon": place[3]},
        }
        code = 503 if 195 <= number < 205 else 404 if number % 20 == 3 else 302 if number % 5 == 0 else 200
        address = f"203.0.113.{number % 50}"
        request = {"http.response.status_code": code, "source.ip": address, **(located if number % 10 else {})}
        add(minute, "nginx.access", "main", **request)
        add(
            minute,
            "nginx.upstream",
            "main",
            **{
                "nginx.upstream.backend": f"127.0.0.1:800{number % 2}",
                "nginx.upstream.request_time": math.exp(chance.gauss(-4, 0.5)),
            },
        )
    for when, host, message, state in (
        (30.0, "postgres-1", "received fast shutdown request", None),
        (30.1, "postgres-1", "terminating connection due to administrator command", "57P01"),
        (30.2, "postgres-1", "database system is shut down", None),
        (30.2, "postgres-2", "replication terminated by primary server", None),
        (30.3, "postgres-2", "received promote request", None),
        (30.4, "postgres-2", "database system is ready to accept connections", None),
        (31.0, "postgres-1", "database system is ready to accept read-only connections", None),
        (31.1, "postgres-1", "started streaming WAL from primary </script><b>x", None),
        (40.0, "postgres-2", 'duplicate key value violates "</script><b>x"', "23505"),
    ):
        add(when, "postgresql.log", host, **{"message": message, "postgresql.log.sql_state_code": state})
    return made


def panels(found: list[Json], hours: int = 1) -> dict[str, Json]:
    """Return the panels by name, with the answers to their searches over ``found`` in them."""
    asked = searches.dashboard_searches(DASHBOARD, searches.Range(f"now-{hours}h", "now", NOW))
    answers = [fake_elasticsearch.search(search["body"], found) for search in asked]
    return {panel["name"]: panel for panel in page.answered(DASHBOARD, answers)}


def picture(panel: Json) -> str:
    """Return a panel's picture as SVG."""
    return str(vl_convert.vegalite_to_svg(panel["spec"], vl_version=page.VEGA_LITE))


def texts(svg: str) -> list[str]:
    """Return the texts that can be read in a picture."""
    return [re.sub(r"\s+", " ", text) for text in re.findall(r"<text[^>]*>([^<]+)</text>", svg)]


@pytest.fixture(scope="module")
def full() -> dict[str, Json]:
    """Return the panels of the hour."""
    return panels(events())


@pytest.fixture(scope="module")
def empty() -> dict[str, Json]:
    """Return the panels of an hour in which nothing happened."""
    return panels([])


@pytest.fixture(scope="module")
def days() -> dict[str, Json]:
    """Return the panels of the same over four days."""
    return panels(events(96), 96)


# Times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-23T12:34:56+00:00"),
        ("now-15m", "2026-11-23T12:19:56+00:00"),
        ("now-2d", "2026-11-21T12:34:56+00:00"),
        ("now+1w", "2026-11-30T12:34:56+00:00"),
        ("now/d", "2026-11-23T00:00:00+00:00"),
        ("now-1h/h", "2026-11-23T11:00:00+00:00"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T12:00:00+02:00"),
    ],
)
def test_times_are_read_as_the_time_picker_writes_them(text: str, expected: str) -> None:
    """Relative and absolute times, in UTC where they do not say."""
    assert searches.moment(text, datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)).isoformat() == expected


@pytest.mark.parametrize("text", ["yesterday", "now-", "now-1y", "now - 1h", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    """The error says how a time is written."""
    with pytest.raises(DashboardError, match="is no time; write for instance now"):
        searches.moment(text, datetime(2026, 11, 23, tzinfo=UTC))


def test_an_empty_range_is_refused() -> None:
    """A range that ends before it begins has nothing to show."""
    with pytest.raises(DashboardError, match="is empty"):
        searches.Range("now", "now-1h", NOW)


def test_a_range_is_written_for_people() -> None:
    """The day is named once where it is one day."""
    assert str(searches.Range("now-1h", "now", NOW)) == "2026-11-23 11:00 to 12:00 UTC"
    assert str(searches.Range("now-1d", "now", NOW)) == "2026-11-22 12:00 to 2026-11-23 12:00 UTC"


# Kibana's placeholders

SEARCH: Json = {"%context%": True, "%timefield%": "t", "index": "x-*", "body": {}}


def resolve(**changed: Any) -> Json:
    """Return the search that Kibana would send for the last hour."""
    return searches.resolve_search({**SEARCH, **changed}, searches.Range("now-1h", "now", NOW))


def test_a_search_is_by_context_and_time() -> None:
    """The range is one of the dashboard's conditions, and its bounds in aggregations are milliseconds."""
    aggs = {"a": {"x": [{"from": {"%timefilter%": "min"}, "to": {"%timefilter%": "max"}}]}}
    limits = {
        "gte": "2026-11-23T11:00:00.000Z",
        "lte": "2026-11-23T12:00:00.000Z",
        "format": "strict_date_optional_time",
    }
    query = {"bool": {"must": [{"range": {"t": limits}}], "filter": [], "should": [], "must_not": []}}
    assert resolve(body={"size": 0, "aggs": aggs}) == {
        "index": "x-*",
        "body": {"size": 0, "aggs": {"a": {"x": [{"from": END - HOUR, "to": END}]}}, "query": query},
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"body": {"query": {}}}, "body be without a query"),
        ({"%context%": False}, "%context% be true"),
        ({"%type%": "emsfile"}, "a search has %context%, %timefield%, %type%, body, index; it must have %context%, "),
        ({"body": {"aggs": {"%timefilter%": "middle"}}}, '%timefilter% is in .*; known are {"%timefilter%": "min"}'),
        ({"body": {"aggs": {"%timefilter%": "min", "shift": 1}}}, "%timefilter% is in"),
        ({"body": {"aggs": [{"interval": {"%autointerval%": True}}]}}, "%autointerval% is in"),
    ],
)
def test_what_is_not_resolved_is_refused(changed: Json, message: str) -> None:
    """A mistake is found here, before anybody opens Kibana."""
    with pytest.raises(DashboardError, match=message):
        resolve(**changed)


# Panels


def test_every_specification_is_on_the_dashboard() -> None:
    """No file that nobody sees, and no panel over another."""
    assert sorted(panel["name"] for panel in DASHBOARD["panels"]) == [path.stem for path in SPECS]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["grid"]
        assert grid["x"] + grid["w"] <= 48
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["name"]
        taken |= cells


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["name"])
def test_specifications_are_of_the_form_that_kibana_takes(panel: Json) -> None:
    """Vega-Lite 5, a title and what it means, one search by context and time, one view that fills its place."""
    spec = panel["spec"]
    assert spec["$schema"] == "https://vega.github.io/schema/vega-lite/v5.json"
    assert spec["title"].keys() == {"text", "subtitle"}
    url = spec["data"]["url"]
    assert url.keys() == {"%context%", "%timefield%", "index", "body"}
    assert (url["%context%"], url["%timefield%"], url["index"]) == (True, "@timestamp", "filebeat-*")
    assert url["body"]["size"] == 0
    # Only single and layered views are resized.
    assert "layer" in spec
    assert not spec.keys() & {"width", "height", "autosize", "concat", "hconcat", "vconcat", "facet", "repeat", "parts"}


def test_parts_are_put_in() -> None:
    """An object is laid over its part, which may name another; a list of a part joins the one around it."""
    parts = {"a": {"x": {"y": 1, "z": 2}}, "b": {"part": "a", "x": {"y": 3}}, "c": [4, {"part": "a"}]}
    assert put_in({"part": "b", "x": {"z": 5}, "w": [6, {"part": "c"}]}, parts) == {
        "x": {"y": 3, "z": 5},
        "w": [6, 4, {"x": {"y": 1, "z": 2}}],
    }
    with pytest.raises(KeyError, match="missing"):
        put_in([{"part": "missing"}], parts)


def test_the_files_of_a_specification_are_put_in() -> None:
    """Kibana loads nothing: the land is in the panel."""
    spec = next(panel["spec"] for panel in DASHBOARD["panels"] if panel["name"] == "access-map")
    land = spec["layer"][0]["data"]
    assert "url" not in land
    assert len(land["values"]["features"]) > 100
    assert spec["config"]["font"]


@pytest.mark.parametrize("name", [panel["name"] for panel in DASHBOARD["panels"]])
def test_a_panel_without_events_says_so(empty: dict[str, Json], name: str) -> None:
    """Its title is there, and a sentence in place of data."""
    found = texts(picture(empty[name]))
    assert empty[name]["title"] in found
    if name == "headline":
        assert found.count("0") == 4
        assert found.count("\N{EN DASH}") == 3
    else:
        assert any(re.fullmatch(r"No .* in this time range", text) for text in found)
        # A legend without an entry has no size, and without one Kibana draws no title.
        assert name != "access-map" or "1 request" in found
    assert "NaN" not in " ".join(found)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("headline", {"400", "50", "4", "2.5%", "1"}),
        ("access-map", {"360 of 400 requests have a place", "Beijing 240"}),
        ("access-by-host", {"main (400)", "requests per minute", "time (UTC)", "11:30"}),
        ("response-codes", {"2xx success", "3xx redirect", "4xx client error", "5xx server error"}),
        ("gunicorn-requests", {"127.0.0.1:8000 (200, 50%)", "127.0.0.1:8001 (200, 50%)"}),
        ("gunicorn-latency", {"127.0.0.1:8000", "127.0.0.1:8001", "milliseconds (logarithmic)"}),
        ("database-events", {"promoted to primary", "replication started", "postgres-1", "postgres-2"}),
        ("database-errors", {"23505 duplicate key", "57P01 server shut down", "postgres-1", "postgres-2"}),
        ("log-lines", {"main nginx.access", "main nginx.upstream", "postgres-1 postgresql.log"}),
    ],
)
def test_a_panel_shows_its_figures(full: dict[str, Json], name: str, wanted: set[str]) -> None:
    """What can be read in the picture is what happened, and none of it is empty."""
    found = set(texts(picture(full[name])))
    assert wanted <= found
    assert not any(text.startswith("No ") for text in found)
    assert not {"NaN", "undefined", "null"} & set(" ".join(found).split())


@pytest.mark.parametrize("version", [page.VEGA_LITE, "6.4"])
@pytest.mark.parametrize("state", ["full", "empty"])
def test_no_warnings(
    request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str], state: str, version: str
) -> None:
    """Kibana, of which late versions have Vega-Lite 6, would show them on the panel."""
    for name, panel in request.getfixturevalue(state).items():
        vl_convert.vegalite_to_vega(panel["spec"], vl_version=version, show_warnings=True)
        assert capfd.readouterr() == ("", ""), name


def test_days_have_dates(days: dict[str, Json]) -> None:
    """Beyond a day and a half, an hour of the day alone says little."""
    found = texts(picture(days["gunicorn-requests"]))
    assert {"Nov 21", "Nov 21 12:00", "Nov 22"} <= set(found)
    assert "12:00" not in found


def test_counts_are_whole(full: dict[str, Json]) -> None:
    """An axis of lines has no half lines."""
    assert [text for text in texts(picture(full["database-errors"])) if re.fullmatch(r"[\d.]+", text)] == ["0", "1"]


def line_ends(node: Json, x: float = 0) -> Iterator[tuple[str, float]]:
    """Yield the texts in a scene that begin at their place, and where they end in Inter, which Kibana has."""
    x += node.get("x", 0)
    if node.get("text") and node.get("align") == "left":
        yield node["text"], x + len(node["text"]) * node["fontSize"] * 0.49
    for inner in node.get("items", []):
        yield from line_ends(inner, x)


@pytest.mark.parametrize("state", ["full", "days"])
def test_titles_and_legends_are_whole_in_a_narrow_window(request: pytest.FixtureRequest, state: str) -> None:
    """On a page of 1280 pixels, where Kibana makes a panel as wide as its columns."""
    for name, panel in request.getfixturevalue(state).items():
        width = panel["grid"]["w"] * 1264 // 48 - 10
        scene = vl_convert.vegalite_to_scenegraph({**panel["spec"], "width": width}, vl_version=page.VEGA_LITE)
        cut = [text for text, end in line_ends(scene["scenegraph"], scene["origin"][0]) if end > width]
        assert not cut, name


def test_errors_are_drawn(full: dict[str, Json]) -> None:
    """Bars have heights: the ten errors of minute 30 are there, in their colour."""
    svg = picture(full["response-codes"])
    assert len(re.findall(r'fill="#C8361D"', svg, re.IGNORECASE)) >= 2


def test_database_events_are_told_apart(full: dict[str, Json]) -> None:
    """One mark an event; a fast shutdown alone is not one."""
    svg = picture(full["database-events"])
    marks = re.findall(r'aria-label="[^"]*\bEvent: ([a-z ]+); Host: ([a-z0-9-]+)', svg)
    assert sorted(marks) == [
        ("accepts connections", "postgres-1"),
        ("accepts connections", "postgres-2"),
        ("promoted to primary", "postgres-2"),
        ("replication started", "postgres-1"),
        ("replication stopped", "postgres-2"),
        ("shut down", "postgres-1"),
    ]


def test_the_table_of_places(full: dict[str, Json]) -> None:
    """The map's CSV has a line a cell, the largest first, and empty cells where there is no city."""
    lines = full["access-map"]["csv"].splitlines()
    assert lines[0] == "geohash,count,latitude,longitude,country,city"
    assert lines[1] == "wx4,240,39.9,116.4,China,Beijing"
    assert any(line.endswith(",SO,") for line in lines)
    assert len(lines) == 5


def test_searches_are_those_of_both_versions() -> None:
    """What Elasticsearch 6.8 or 8.19 does not know is refused by the stand-in that the other tests use."""
    with pytest.raises(fake_elasticsearch.BadRequestError, match="unknown aggregation date_histogram"):
        fake_elasticsearch.aggregate({"a": {"date_histogram": {"field": "t", "fixed_interval": "1m"}}}, [])


# The answer


def answer(**changed: Any) -> str:
    """Return an answer of _msearch to two searches, the second changed."""
    whole = {"timed_out": False, "_shards": {"total": 2, "failed": 0}, "hits": {"total": 0, "hits": []}, "status": 200}
    return json.dumps({"took": 1, "responses": [whole, {**whole, **changed}]})


@pytest.mark.parametrize("total", [7, {"value": 7, "relation": "eq"}])
def test_events_are_found_in_the_answer_of_both_versions(total: object) -> None:
    """A number in 6.8, an object since 7; one search that found something is enough."""
    assert len(page.responses(answer(hits={"total": total, "hits": []}), "now-1h and now")) == 2


FAILURE = {"reason": {"type": "x", "reason": "disk gone"}}
DENIED = {"type": "security_exception", "reason": "unauthorized for user [reader]"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (answer(), "no events between now-1h and now; choose an earlier beginning"),
        (answer(hits={"total": {"value": 0}}), "no events between now-1h and now"),
        (
            answer(_shards={"total": 2, "failed": 1, "failures": [FAILURE]}, hits={"total": 7}),
            "^Elasticsearch: 1 of 2 shards failed: disk gone$",
        ),
        (answer(timed_out=True, hits={"total": 7}), "0 of 2 shards failed: timed out"),
        (
            answer(error={"root_cause": [DENIED], **DENIED}, status=403),
            r"^Elasticsearch: security_exception: unauthorized for user \[reader\]$",
        ),
        ('{"error": {}, "status": 401}', "no answer of Elasticsearch's _msearch"),
        ("<html>", "no answer of Elasticsearch's _msearch"),
        ("[]", "no answer of Elasticsearch's _msearch"),
    ],
)
def test_an_answer_that_is_not_whole_is_refused(text: str, message: str) -> None:
    """Refused, partial, late or empty: its figures would be wrong, or there are none."""
    with pytest.raises(DashboardError, match=message):
        page.responses(text, "now-1h and now")


# The page


def test_page(tmp_path: Path, full: dict[str, Json]) -> None:
    """One page that fetches nothing, a picture a panel and the table, the same from the same; what is no more goes."""
    chosen = [full[name] for name in ("access-map", "database-events", "log-lines")]
    dashboard = {"title": "A & B", "description": "C"}
    (tmp_path / "old.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    page.draw(tmp_path, dashboard, "today", chosen)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "access-map.csv", "access-map.png", "database-events.png", "index.html", "log-lines.png", "notes.txt",
    ]  # fmt: skip
    first = {path: path.read_bytes() for path in tmp_path.iterdir()}
    page.draw(tmp_path, dashboard, "today", chosen)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert (tmp_path / "log-lines.png").read_bytes().startswith(b"\x89PNG")

    assert (tmp_path / "index.html").stat().st_size < 2_500_000
    library = vl_convert.javascript_bundle(vl_version=page.VEGA_LITE)  # type: ignore[call-arg]
    shown = (tmp_path / "index.html").read_text("utf-8").replace(library, "")
    assert "<title>A &amp; B</title>" in shown
    assert "default-src 'none'" in shown
    assert not re.search(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=""", shown)
    # A log line cannot end the script that it stands in.
    assert shown.count("</script>") == len(chosen) + 2
    assert shown.count("</script><b>x") == 0
    ids = re.findall(r'\bid="([^"]+)"', shown.split("<script")[0])
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)", shown.split("<script")[0]))
    assert used <= set(ids)
    assert shown.count("<figure ") == len(chosen)
    assert 'download="access-map.csv"' in shown


# The program


def test_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From its searches to its page."""
    times = ["--from", "2026-11-23T11:00:00Z", "--to", "2026-11-23T12:00:00Z"]
    assert main(["searches", *times]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2 * len(SPECS)
    assert all(line == {"index": "filebeat-*", "ignore_unavailable": True} for line in lines[::2])

    answers = [fake_elasticsearch.search(body, events()) for body in lines[1::2]]
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"responses": answers})))
    assert main(["page", *times, str(tmp_path / "new")]) == 0
    assert re.fullmatch(
        rf"Page      {tmp_path}/new/index\.html   \(\d+ kB, needs no network\)\n"
        rf"Pictures  {tmp_path}/new/\*\.png\nTables    {tmp_path}/new/\*\.csv\n",
        capsys.readouterr().out,
    )
    assert len(list((tmp_path / "new").glob("*.png"))) == len(SPECS)
    shown = (tmp_path / "new" / "index.html").read_text("utf-8")
    assert "2026-11-23 11:00 to 12:00 UTC (2026-11-23T11:00:00Z to 2026-11-23T12:00:00Z)" in shown


def test_program_says_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, and nothing is drawn."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}"))
    for arguments, words in (
        (["searches", "--from", "yesterday"], "dashboards: 'yesterday' is no time; write for instance now"),
        (["searches", "--dashboard", "none.yml"], "dashboards: dashboard none.yml: "),
        (["page", "/nowhere"], "dashboards: standard input is no answer"),
    ):
        assert main(arguments) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith(words)
        assert len(output.err.splitlines()) == 1


def test_program_is_started_as_its_readme_says() -> None:
    """From the repository, as a module."""
    command = [sys.executable, "-m", "dashboards", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "_msearch" in done.stdout


def test_playbook_asks_as_the_reader() -> None:
    """The host's certificate, loopback, no proxy; of Elasticsearch as the report's user, whose password nobody sees."""
    plays = yaml.safe_load((REPOSITORY / "playbooks/observe.yml").read_text("utf-8"))
    measured, logged = (task for play in plays for task in play["tasks"] if "ansible.builtin.uri" in task)
    for task, port in ((measured, 9090), (logged, 9200)):
        options = task["ansible.builtin.uri"]
        assert options["url"].startswith(f"https://127.0.0.1:{port}/")
        assert options["ca_path"] == "/etc/ssl/site/ca.crt"
        assert options["use_proxy"] is False
        assert options.get("validate_certs", True)
    assert logged["ansible.builtin.uri"]["url_username"] == "reader"
    assert logged["no_log"] is True
