"""From what was measured to the table: statistics, ratios, and how they are written."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

HEADER = ("Figure", "The site", "Beside it", "Ratio")


class Row(NamedTuple):
    """One figure, what it is compared with, and their ratio."""

    figure: str
    site: str
    other: str = ""
    ratio: str = ""


def ratio(site: float, other: float) -> str:
    """Return how many times the other figure the site's is."""
    return f"{site / other:.2f}" if other else ""


def rows(measured: Mapping[str, Any]) -> list[Row]:
    """Return the table's rows for the parts that were measured."""
    table: list[Row] = []
    first = measured.get("first")
    if site := measured.get("site"):
        table += _site_rows(site, first)
    if first:
        table.append(_first_row(first))
    table += [_vote_row(case) for case in measured.get("votes", [])]
    if event := measured.get("event"):
        seconds = event["seconds"]
        text = f"median {statistics.median(seconds):.1f} s, most {max(seconds):.1f} s of {len(seconds)}"
        table.append(Row("From a request to its searchable event", text))
    return table


def _site_rows(site: Mapping[str, Any], first: Mapping[str, Any] | None) -> Iterator[Row]:
    """Yield the rows of an unchanged run; where the first one was measured, too, it stands beside it."""

    def row(figure: str, key: str, unit: str = "") -> Row:
        compared = (f"first run {first[key]:.0f}{unit}", ratio(site[key], first[key])) if first else ()
        return Row(figure, f"{site[key]:.0f}{unit}", *compared)

    yield row("Unchanged run" if not site["changed"] else f"Run that changed {site['changed']} things", "seconds", " s")
    yield row("its task results", "results")
    yield row("its module runs on hosts", "module_runs")
    yield row("its commands on hosts, those that start modules included", "commands")
    yield row("its CPU time, control node", "control_cpu_seconds", " s")
    yield row("its CPU time, hosts and all their services", "hosts_cpu_seconds", " s")


def _first_row(first: Mapping[str, Any]) -> Row:
    return Row(
        f"First run on bare hosts ({first['packages']} packages, {first['files']} files)",
        f"{first['seconds']:.0f} s",
        f"plain shell script {first['plain_seconds']:.0f} s",
        ratio(first["seconds"], first["plain_seconds"]),
    )


def _vote_row(case: Mapping[str, Any]) -> Row:
    """Return the row of one case; the ratio of latencies is that of the medians."""
    choices = "1 choice" if case["choices"] == 1 else f"{case['choices']} choices"
    site, other = case["stack"], case["baseline"]
    if "rate" in case:
        name = f"Vote, median / 95 % / 99 %, {choices}, {case['rate']} a second"
        return Row(name, _milliseconds(site), _milliseconds(other), ratio(site["p50"], other["p50"]))
    name, key = f"Votes a second, {choices}, {case['at_a_time']} at a time", "votes_per_second"
    return Row(name, f"{site[key]:.0f}", f"{other[key]:.0f}", ratio(site[key], other[key]))


def _milliseconds(found: Mapping[str, float]) -> str:
    return " / ".join(f"{1000 * found[key]:.0f}" for key in ("p50", "p95", "p99")) + " ms"


def markdown(table: Sequence[Row]) -> str:
    """Return the table, its columns aligned."""
    lines = [Row(*HEADER), *table]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)


def machine() -> dict[str, Any]:
    """Return the size of this machine, and how busy it has been for a minute."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load": os.getloadavg()[0],
    }


def caption(record: Mapping[str, Any]) -> str:
    """Return the line above the table: the machine and the moment."""
    return (
        f"{record['cores']} cores and {record['memory_bytes'] / 2**30:.0f} GiB of memory for all hosts and the voter, "
        f"load {record['load']:.1f} before; {record['begun']}, commit {record['commit']}"
    )
