"""Measure the site of a running lab, beside something plainer on the same machine, and print a table of ratios.

The lab is the one that `make lab` made. What the figures are compared with is made on bare hosts of a lab of its own,
called <lab>-bench, and removed at the end, also after a failure or Ctrl-C. The votes are real ones and stay.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from chaoslab.files import InputError
from tools.bench import event, figures, site, votes
from tools.bench.lab import ROOT, BenchError, Lab, require_running, say

PARTS = {
    "site": "the unchanged run of site.yml",
    "first": "the first run on bare hosts beside a plain shell script",
    "votes": "votes a second and their latencies beside one gunicorn and one PostgreSQL",
    "event": "from a request to its searchable event",
}


def parts(text: str) -> list[str]:
    """Return the parts that a list with commas names."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description=__doc__,
        epilog="Parts: " + "; ".join(f"{name}: {what}" for name, what in PARTS.items()) + ".",
    )
    parser.add_argument("--lab", default=os.environ.get("LAB", "lab"), help="name of the lab (LAB, else 'lab')")
    parser.add_argument("--only", type=parts, default=list(PARTS), metavar="PART,...", help="measure these parts only")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each case of votes takes (8)")
    parser.add_argument("--events", type=int, default=20, help="how many requests are searched for (20)")
    return parser.parse_args(arguments)


def commit() -> str:
    """Return which commit is measured."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def measure(options: argparse.Namespace) -> None:
    """Measure what was asked for, write it down and print the table."""
    lab = Lab(options.lab)
    if options.only != ["first"]:
        require_running(lab)
    out = lab.directory / "bench"
    out.mkdir(parents=True, exist_ok=True)
    begun, begin = datetime.now(UTC), time.monotonic()
    record: dict[str, Any] = {"begun": begun.isoformat(timespec="seconds"), "commit": commit(), **figures.machine()}
    measures: dict[str, Callable[[], Any]] = {
        "site": lambda: site.unchanged_run(lab, out),
        "first": lambda: site.first_run(lab, out),
        "votes": lambda: votes.compare_votes(lab, out, options.seconds),
        "event": lambda: event.requests_to_events(lab, options.events),
    }
    path = out / f"{begun:%Y%m%d-%H%M%S}.json"
    for name in options.only:
        record[name] = measures[name]()
        record["seconds"] = time.monotonic() - begin
        record["table"] = [row._asdict() for row in figures.rows(record)]
        path.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    say(f"took {record['seconds']:.0f} s; written to {path}")
    print(figures.caption(record))
    print(figures.markdown(figures.rows(record)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    # As Ctrl-C does: bare hosts are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        measure(parse(arguments))
    except (BenchError, InputError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
