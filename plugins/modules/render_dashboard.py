#!/usr/bin/python
"""Ansible module: render a dashboard's panels into pictures and one page that needs no network."""

from __future__ import annotations

import base64
import csv
import html
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# Where it is missing, main() says so in a line.
vl_convert: Any = importlib.import_module("vl_convert") if importlib.util.find_spec("vl_convert") else None

DOCUMENTATION = r"""
module: render_dashboard
short_description: Render a dashboard's panels into pictures and one page that needs no network
description:
  - Writes index.html, a PNG a panel and a CSV for each panel that has a table. The page carries everything that it
    shows, and shows it without JavaScript as well; with it, hovering tells the figures.
  - Only files that change are written, and files of panels that are no more are removed.
  - Runs on the control node with the Python environment of this repository (vl-convert-python).
options:
  dest: {type: path, required: true, description: "Folder to write to; it is made where it is missing."}
  title: {type: str, required: true, description: The page's title.}
  description: {type: str, default: "", description: A sentence below the title.}
  range: {type: str, required: true, description: "The time range, as the page is to say it."}
  panels:
    type: list
    elements: dict
    required: true
    description:
      - Panels, each with C(name), C(title), C(description), C(grid), C(spec) (Vega-Lite with its data and size in it)
        and C(csv) (or none).
"""

EXAMPLES = r"""
- name: Render the page
  sre.stack.render_dashboard:
    dest: /tmp/page
    title: Polls site
    range: the last hour
    panels: "{{ dashboard | sre.stack.dashboard_answers(responses) }}"
  delegate_to: localhost
"""

RETURN = r"""
page:
  description: Path of the page.
  type: str
bytes:
  description: Size of the page.
  type: int
"""

# The oldest that the renderer has: what it draws, Kibana's newer patch versions of Vega-Lite 5 draw as well.
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
summary { cursor: pointer; font-weight: 600; }
table { border-collapse: collapse; margin: 10px 0; font-size: 13px; }
th, td { padding: 3px 16px 3px 0; text-align: left; border-bottom: 1px solid #e4e7eb; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
a { color: #00527f; }
footer { padding-top: 12px; padding-bottom: 28px; font-size: 13px; }
@media (max-width: 900px) { figure { grid-column: 1 / -1 !important; grid-row: auto !important; } }
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
<header><h1>{title}</h1><p>{description}</p><p>{range}</p></header>
<main>
{figures}
{tables}
</main>
<footer><p>Hover over a panel for its figures. All times are UTC.
The land outline is Natural Earth's (public domain).</p></footer>
{data}
<script>{library}</script>
<script>{script}</script>
</body>
</html>
"""
# Nothing is fetched from anywhere. Vega compiles its expressions, which counts as evaluating.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'"


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


def page(params: dict[str, Any], pictures: dict[str, str]) -> str:
    """Return the page."""
    panels = params["panels"]
    return PAGE.format(
        policy=POLICY,
        title=html.escape(params["title"]),
        description=html.escape(params["description"]),
        range=html.escape(params["range"]),
        style=STYLE,
        figures="\n".join(figure(panel, own_ids(pictures[panel["name"]], panel["name"])) for panel in panels),
        tables="\n".join(table(panel) for panel in panels if panel.get("csv")),
        data="\n".join(
            f'<script type="application/json" data-panel="{panel["name"]}">{script_safe(panel["spec"])}</script>'
            for panel in panels
        ),
        library=vl_convert.javascript_bundle(vl_version=VEGA_LITE),
        script=SCRIPT,
    )


def write(folder: Path, files: dict[str, bytes], *, check_mode: bool) -> list[str]:
    """Make ``folder`` hold ``files`` and no other page, picture or table; return the names of what changed."""
    present = {path.name: path for path in folder.glob("*") if path.suffix in {".html", ".png", ".csv"}}
    changed = [name for name, content in files.items() if name not in present or present[name].read_bytes() != content]
    gone = sorted(present.keys() - files.keys())
    if not check_mode:
        folder.mkdir(parents=True, exist_ok=True)
        for name in changed:
            (folder / name).write_bytes(files[name])
        for name in gone:
            present[name].unlink()
    return changed + gone


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "title": {"type": "str", "required": True},
            "description": {"type": "str", "default": ""},
            "range": {"type": "str", "required": True},
            "panels": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    if vl_convert is None:
        module.fail_json(msg="render_dashboard: vl-convert-python is missing here; make venv installs it.")
    files: dict[str, bytes] = {}
    pictures: dict[str, str] = {}
    for panel in params["panels"]:
        name = panel["name"]
        try:
            pictures[name] = vl_convert.vegalite_to_svg(panel["spec"], vl_version=VEGA_LITE)
            files[f"{name}.png"] = vl_convert.vegalite_to_png(panel["spec"], vl_version=VEGA_LITE, scale=PNG_SCALE)
        except ValueError as error:
            module.fail_json(msg=f"render_dashboard: panel {name}: {error}")
        if panel.get("csv"):
            files[f"{name}.csv"] = panel["csv"].encode()
    files["index.html"] = page(params, pictures).encode()
    folder = Path(params["dest"])
    changed = write(folder, files, check_mode=module.check_mode)
    module.exit_json(changed=bool(changed), page=str(folder / "index.html"), bytes=len(files["index.html"]))


if __name__ == "__main__":
    main()
