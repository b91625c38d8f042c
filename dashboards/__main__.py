"""Draw the dashboard without Kibana, as one page that needs no network, with a picture of each panel.

`searches` prints what to send to Elasticsearch's _msearch; `page` reads the answer from standard input and draws it.
Between the two, whoever may ask Elasticsearch does: playbooks/observe.yml, on its host.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dashboards import page, searches
from plugins.filter.read_dashboard import DashboardError, read_dashboard


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dashboards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common = argparse.ArgumentParser(add_help=False)
    time = "as Kibana writes it: now-15m, now-1d/d, 2026-01-31T12:00:00Z (default: the dashboard's)"
    common.add_argument("--dashboard", default="dashboards/site.yml", metavar="FILE", help="default: %(default)s")
    common.add_argument("--from", dest="first", default="", metavar="TIME", help=f"beginning, {time}")
    common.add_argument("--to", dest="last", default="", metavar="TIME", help="end, likewise")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("searches", parents=[common], help="print the searches of all panels for _msearch")
    drawing = commands.add_parser("page", parents=[common], help="draw the answer to them, from standard input")
    drawing.add_argument("folder", type=Path, help="where to; other pages, pictures and tables there are removed")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = arguments().parse_args(argv)
    try:
        dashboard = read_dashboard(options.dashboard)
        first, last = options.first or dashboard["time_from"], options.last or dashboard["time_to"]
        times = searches.Range(first, last, datetime.now(UTC))
        if options.command == "searches":
            sys.stdout.write(searches.msearch(searches.dashboard_searches(dashboard, times)))
            return 0
        panels = page.answered(dashboard, page.responses(sys.stdin.read(), f"{first} and {last}"))
        folder: Path = options.folder
        page.draw(folder, dashboard, f"{times} ({first} to {last})", panels)
    except DashboardError as error:
        print(f"dashboards: {error}", file=sys.stderr)
        return 1
    size = (folder / "index.html").stat().st_size / 1000
    print(f"Page      {folder}/index.html   ({size:.0f} kB, needs no network)")
    print(f"Pictures  {folder}/*.png")
    print(f"Tables    {folder}/*.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
