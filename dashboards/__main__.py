"""Draw the dashboard without Kibana, and the pages of metrics, as pages that need no network.

`searches` prints what to send to Elasticsearch's _msearch; `page` reads the answer from standard input and draws it.
`queries` prints what to ask Prometheus; `metrics` reads a list of the answers and draws them. Between the two, whoever
may ask does: playbooks/observe.yml, on their hosts. `grafana` prints the panels of metrics for a Grafana that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dashboards import metrics, page, searches
from plugins.filter.read_dashboard import DashboardError, read_dashboard


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dashboards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common = argparse.ArgumentParser(add_help=False)
    time = "as Kibana writes it: now-15m, now-1d/d, 2026-01-31T12:00:00Z (default: the dashboard's)"
    common.add_argument("--from", dest="first", default="", metavar="TIME", help=f"beginning, {time}")
    common.add_argument("--to", dest="last", default="", metavar="TIME", help="end, likewise")
    logs = argparse.ArgumentParser(add_help=False, parents=[common])
    logs.add_argument("--dashboard", default="dashboards/site.yml", metavar="FILE", help="default: %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("searches", parents=[logs], help="print the searches of all panels for _msearch")
    drawing = commands.add_parser("page", parents=[logs], help="draw the answer to them, from standard input")
    commands.add_parser("queries", parents=[common], help="print the questions of all panels to Prometheus")
    measured = commands.add_parser("metrics", parents=[common], help="draw the answers to them, from standard input")
    commands.add_parser("grafana", help="print the panels of metrics as a dashboard of Grafana")
    for command in (drawing, measured):
        command.add_argument("folder", type=Path, help="where to; other pages, pictures and tables there are removed")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = arguments().parse_args(argv)
    try:
        if options.command == "grafana":
            print(json.dumps(metrics.grafana(), indent=2))
        elif options.command in {"queries", "metrics"}:
            measured(options)
        else:
            logged(options)
    except DashboardError as error:
        print(f"dashboards: {error}", file=sys.stderr)
        return 1
    return 0


def measured(options: argparse.Namespace) -> None:
    """Carry out `queries` or `metrics`."""
    pages = metrics.read()
    first, last = options.first or pages["time_from"], options.last or pages["time_to"]
    times = searches.Range(first, last, datetime.now(UTC))
    if options.command == "queries":
        print(json.dumps(metrics.queries(times)))
        return
    try:
        answers = json.load(sys.stdin)
    except ValueError as error:
        raise DashboardError(f"standard input is no list of Prometheus's answers: {error}") from error
    for file in metrics.draw(options.folder, times, f"{times} ({first} to {last})", answers):
        print(f"Metrics   {file}")


def logged(options: argparse.Namespace) -> None:
    """Carry out `searches` or `page`."""
    dashboard = read_dashboard(options.dashboard)
    first, last = options.first or dashboard["time_from"], options.last or dashboard["time_to"]
    times = searches.Range(first, last, datetime.now(UTC))
    if options.command == "searches":
        sys.stdout.write(searches.msearch(searches.dashboard_searches(dashboard, times)))
        return
    panels = page.answered(dashboard, page.responses(sys.stdin.read(), f"{first} and {last}"))
    folder: Path = options.folder
    if (folder / "metrics" / "index.html").exists():
        dashboard["links"] = [("metrics", "metrics/index.html")]
    page.draw(folder, dashboard, f"{times} ({first} to {last})", panels)
    size = (folder / "index.html").stat().st_size / 1000
    print(f"Page      {folder}/index.html   ({size:.0f} kB, needs no network)")
    print(f"Pictures  {folder}/*.png")
    print(f"Tables    {folder}/*.csv")


if __name__ == "__main__":
    sys.exit(main())
