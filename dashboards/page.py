"""The page of a dashboard, which needs no network, and its pictures, drawn from Elasticsearch's answers."""

from __future__ import annotations

import base64
import copy
import csv
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import vl_convert

from plugins.filter.read_dashboard import DashboardError, data_sources

Json = dict[str, Any]

# Pixels of the grid: a column as wide as on a page of 1440, a row as high as Kibana's.
COLUMN, ROW, GAP = 30, 20, 8
# The oldest that the renderer has: what it draws, newer ones, such as Kibana's, draw as well (tried: 5.21, 6.1, 6.4).
VEGA_LITE = "5.8"
PNG_SCALE = 2
TABLE_ROWS = 20

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #eef1f4; color: #1f2933; font: 15px/1.5 Inter, 'Helvetica Neue', Arial, sans-serif; }
header, main, footer { max-width: 1456px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 20px; padding-bottom: 12px; }
h1 { margin: 0; font-size: 24px; line-height: 1.3; }
header p, footer p { margin: 2px 0; color: #52606d; }
main { display: grid; grid-template-columns: repeat(48, minmax(0, 1fr)); gap: 8px; }
figure { margin: 0; background: #fff; border: 1px solid #d9dee4; border-radius: 6px; overflow: hidden; }
figure svg { display: block; width: 100%; height: auto; }
.vega-embed { display: block !important; padding: 0 !important; width: 100%; }
details { grid-column: 1 / -1; background: #fff; border: 1px solid #d9dee4; border-radius: 6px; padding: 10px 16px; }
details { overflow-x: auto; }
summary { cursor: pointer; font-weight: 600; }
table { border-collapse: collapse; margin: 10px 0; font-size: 13px; }
th, td { padding: 3px 16px 3px 0; text-align: left; border-bottom: 1px solid #e4e7eb; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
a { color: #00527f; }
footer { padding-top: 12px; padding-bottom: 28px; font-size: 13px; }
@media (max-width: 900px) { main { display: block; } figure { margin-bottom: 8px; } }
"""

# Draws each panel anew with tooltips, and narrower on a narrow screen. The picture that was there before stays
# when that fails. Only errors are logged (level 1).
SCRIPT = """
for (const panel of document.querySelectorAll('script[type="application/json"]')) {
  const figure = document.getElementById(panel.dataset.panel);
  const place = document.createElement('div');
  const spec = JSON.parse(panel.textContent);
  spec.width = Math.min(spec.width, Math.max(figure.clientWidth, 820));
  vegaEmbed(place, spec, {actions: false, renderer: 'svg', mode: 'vega-lite', logLevel: 1}).then((result) => {
    figure.style.aspectRatio = `${spec.width} / ${spec.height}`;
    figure.replaceChildren(place);
    const svg = place.querySelector('svg');
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', figure.getAttribute('aria-label'));
    return result;
  });
}
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{description}</p><p>{range}</p>{links}</header>
<main>
{figures}
{tables}
</main>
<footer><p>Hover over a panel for its figures. All times are UTC. {note}</p></footer>
{data}
<script>{library}</script>
<script>{script}</script>
</body>
</html>
"""
# Nothing is fetched from anywhere. Vega compiles its expressions, which counts as evaluating.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'"


# Answers


def responses(answer: str, time_range: str) -> list[Json]:
    """Return the responses in an answer of _msearch.

    Raises:
        DashboardError: it is no such answer, a search was refused or answered in part only, or none found an event.
    """
    try:
        found: list[Json] = json.loads(answer)["responses"]
    except (ValueError, KeyError, TypeError) as error:
        raise DashboardError("standard input is no answer of Elasticsearch's _msearch") from error
    for response in found:
        if refusal := response.get("error"):
            cause = (refusal.get("root_cause") or [refusal])[0]
            raise DashboardError(f"Elasticsearch: {cause['type']}: {cause['reason']}")
        shards = response["_shards"]
        # Its figures would be wrong.
        if shards["failed"] or response["timed_out"]:
            why = (shards.get("failures") or [{}])[0].get("reason", {}).get("reason", "timed out")
            raise DashboardError(f"Elasticsearch: {shards['failed']} of {shards['total']} shards failed: {why}")
    # The total is a number in 6.8 and an object since 7.
    totals = [response["hits"]["total"] for response in found]
    if not any(total["value"] if isinstance(total, dict) else total for total in totals):
        raise DashboardError(
            f"Elasticsearch has no events between {time_range}; choose an earlier beginning (-e observe_from=now-7d, "
            "--from now-7d), or send visitors with playbooks/demo-traffic.yml."
        )
    return found


def answered(dashboard: Json, answers: list[Json]) -> list[Json]:
    """Return the panels with the answers in place of their searches, their sizes, and their tables as CSV."""
    rest = iter(copy.deepcopy(answers))
    panels = []
    for panel in copy.deepcopy(dashboard["panels"]):
        own = []
        for data in data_sources(panel["spec"]):
            if isinstance(data.get("url"), dict):
                own.append(next(rest))
                del data["url"]
                data["values"] = own[-1]
        # As Kibana does it: a panel fills its place.
        panel["spec"].setdefault("autosize", {"type": "fit", "contains": "padding"})
        panel["spec"].update(size(panel["grid"]))
        table = table_csv(panel["table"], own[0]) if panel.get("table") else None
        panels.append({**panel, "csv": table})
    return panels


def size(grid: Json) -> dict[str, int]:
    """Return the width and height in pixels of a place in the grid."""
    return {"width": grid["w"] * COLUMN - GAP, "height": grid["h"] * (ROW + GAP) - GAP}


def at(node: Any, path: str) -> Any:  # noqa: ANN401 - JSON
    """Return what ``path`` (keys and indices with dots between) leads to in ``node``, or None."""
    for key in path.split("."):
        try:
            node = node[int(key)] if isinstance(node, list) else node[key]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def first_at(node: Json, paths: list[str]) -> object:
    """Return what the first of ``paths`` that leads anywhere leads to, or None."""
    return next((found for found in (at(node, path) for path in paths) if found is not None), None)


def table_csv(table: Json, response: Json) -> str:
    """Return the rows of a response as CSV (RFC 4180) with a line of column names.

    A column is a path into the row, or several, of which the first that leads anywhere is taken.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table["columns"])
    for row in at(response, table["rows"]) or []:
        cells = (first_at(row, [paths] if isinstance(paths, str) else paths) for paths in table["columns"].values())
        writer.writerow([round(cell, 4) if isinstance(cell, float) else "" if cell is None else cell for cell in cells])
    return text.getvalue()


# The page


def own_ids(svg: str, name: str) -> str:
    """Return a picture with ids of its own, the same at each drawing, so that pictures on one page share none."""
    found = dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg))
    for number, old in enumerate(found):
        for before, after in (('id="', '"'), ("url(#", ")"), ('href="#', '"')):
            svg = svg.replace(f"{before}{old}{after}", f"{before}{name}-{number}{after}")
    return svg


def figure(panel: dict[str, Any], svg: str) -> str:
    """Return a panel's place on the page with its picture in it."""
    grid = panel["grid"]
    # A row of the page's grid is made of the pictures' own heights; the panels' order of rows is the dashboard's.
    style = (
        f"grid-column: {grid['x'] + 1} / span {grid['w']}; grid-row: {grid['y'] + 1} / span {grid['h']}; "
        f"aspect-ratio: {panel['spec']['width']} / {panel['spec']['height']}"
    )
    label = html.escape(f"{panel['title']}. {panel['description']}")
    return f'<figure id="{panel["name"]}" style="{style}" role="group" aria-label="{label}">{svg}</figure>'


def table(panel: dict[str, Any]) -> str:
    """Return the largest rows of a panel's table, and all of them to download."""
    rows = list(csv.reader(panel["csv"].splitlines()))
    address = base64.b64encode(panel["csv"].encode()).decode()
    name = f"{panel['name']}.csv"

    def cell(text: str) -> str:
        number = re.fullmatch(r"-?[\d.]+", text) is not None
        return f'<td class="number">{text}</td>' if number else f"<td>{html.escape(text)}</td>"

    head = "".join(f"<th>{html.escape(text)}</th>" for text in rows[0]) if rows else ""
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows[1 : TABLE_ROWS + 1])
    shown = f"the first {TABLE_ROWS} of {len(rows) - 1} rows" if len(rows) - 1 > TABLE_ROWS else f"{len(rows) - 1} rows"
    return (
        f"<details><summary>{html.escape(panel['title'])}: the figures</summary>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f'<p>{shown}; <a download="{name}" href="data:text/csv;base64,{address}">all as CSV</a></p></details>'
    )


def script_safe(spec: dict[str, Any]) -> str:
    """Return a specification as JSON that cannot end the script element it stands in, whatever is in a log line."""
    return json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")


def links(others: list[tuple[str, str]]) -> str:
    """Return links to other pages: what each is about, and where it is from here."""
    found = ", ".join(f'<a href="{html.escape(where)}">{html.escape(what)}</a>' for what, where in others)
    return f"<nav><p>See also: {found}</p></nav>" if found else ""


def page(dashboard: Json, time_range: str, panels: list[Json], pictures: dict[str, str]) -> str:
    """Return the page."""
    return PAGE.format(
        policy=POLICY,
        title=html.escape(dashboard["title"]),
        description=html.escape(dashboard["description"]),
        range=html.escape(time_range),
        links=links(dashboard.get("links", [])),
        note=html.escape(dashboard.get("note", "")),
        style=STYLE,
        figures="\n".join(figure(panel, own_ids(pictures[panel["name"]], panel["name"])) for panel in panels),
        tables="\n".join(table(panel) for panel in panels if panel["csv"]),
        data="\n".join(
            f'<script type="application/json" data-panel="{panel["name"]}">{script_safe(panel["spec"])}</script>'
            for panel in panels
        ),
        # Its type stub lacks the default of the first argument.
        library=vl_convert.javascript_bundle(vl_version=VEGA_LITE),  # type: ignore[call-arg]
        script=SCRIPT,
    )


def draw(folder: Path, dashboard: Json, time_range: str, panels: list[Json]) -> None:
    """Make ``folder`` hold this page, its pictures and tables, and no others.

    Raises:
        DashboardError: a panel cannot be drawn, or the folder not be written.
    """
    files: dict[str, bytes] = {}
    pictures: dict[str, str] = {}
    for panel in panels:
        name = panel["name"]
        try:
            pictures[name] = vl_convert.vegalite_to_svg(panel["spec"], vl_version=VEGA_LITE)
            files[f"{name}.png"] = vl_convert.vegalite_to_png(panel["spec"], vl_version=VEGA_LITE, scale=PNG_SCALE)
        except ValueError as error:
            raise DashboardError(f"panel {name}: {error}") from error
        if panel["csv"]:
            files[f"{name}.csv"] = panel["csv"].encode()
    files["index.html"] = page(dashboard, time_range, panels, pictures).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.suffix in {".html", ".png", ".csv"} and path.name not in files:
                path.unlink()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise DashboardError(f"{folder} cannot be written: {error}") from error
