"""Pages for people: one run, or many. Self-contained: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from chaoslab import charts
from chaoslab.files import InputError
from chaoslab.judge import KEY, after_what, seconds

STAGES = {
    "to_gone": ("until the primary was gone", charts.COLOURS["grey"]),
    "to_elected": ("until it was noticed and another was chosen", charts.COLOURS["orange"]),
    "to_promoted": ("until that one was primary", charts.COLOURS["yellow"]),
    "to_vote": ("until votes reached it and the first was confirmed", charts.COLOURS["sky"]),
}

# To have been whole within this is not worth a sentence.
SOON_SECONDS = 0.5
TEMPLATES = Path(__file__).with_name("templates")
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def checked(journal: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a journal that judge wrote; raise InputError for any other file."""
    wanted = {"name", "verdict", "rules", "figures", "notes", "budget", "timeline"}
    ours = journal.get(KEY)
    if not isinstance(ours, dict) or not wanted <= ours.keys():
        raise InputError(f"{path}: is no journal of judge: {KEY} with {', '.join(sorted(wanted))} is missing")
    return journal


def sentences(ours: Mapping[str, Any]) -> list[str]:
    """Say in plain words what happened to the voters."""
    found = ours["figures"]
    outage, votes, reads, ledger = (found[name] for name in ("outage", "votes", "reads", "ledger"))
    budget = ours["budget"]
    lost, doubled = ledger["lost"] + ledger["lost_earlier"], ledger["doubled"]
    said = ["No vote was lost or counted twice."]
    if lost or doubled:
        said = [f"Confirmed votes lost: {lost}, counted twice: {doubled}."]
    if given_up := len(ledger["given_up_votes"]):
        said = [
            *(said if lost or doubled else ["No vote was counted twice."]),
            f"The restore gave up {given_up} confirmed votes; each is named below.",
        ]
    longest = found["vote_seconds"].get("max")
    if outage["seconds"] <= budget["resolution_seconds"]:
        said.append("Voting never paused.")
    else:
        allowed = f"budget {budget['outage_seconds']:g} s"
        said.append(f"The longest time without a confirmed vote was {seconds(outage['seconds'])} ({allowed}).")
    if longest is not None:
        said.append(f"A confirmed voter waited at most {seconds(longest)}.")
    if not outage["resumed"]:
        said.append("Voting had not resumed when the run ended.")
    again, failed = votes["refused_503"], votes["failed_otherwise"]
    if again or failed:
        said.append(f"Votes whose voters were asked to send again: {again}, that failed: {failed}.")
    else:
        said.append("Nobody who voted saw an error.")
    said.append(
        f"{reads['failed']} of {reads['sent']} page views failed." if reads["failed"] else "Every page was served."
    )
    whole = found["cluster"]["whole_after_heal"]
    if whole is not None and whole >= SOON_SECONDS:
        said.append(f"Both databases were whole again {seconds(whole)} after {after_what(found)}.")
    return said


def page(journal: Mapping[str, Any]) -> str:
    """Return the page of one run."""
    ours = journal[KEY]
    window = charts.close_window(ours)
    parts = ours["figures"]["outage"]["split"] if window else None
    split = [(text, colour, parts[key]) for key, (text, colour) in STAGES.items()] if parts else []
    labels = {(mark["t"], mark["text"]): mark["label"] for mark in charts.marks(ours["timeline"])}
    events = [event | {"label": labels.get((event["time"], event["text"]), "")} for event in ours["timeline"]["events"]]
    return ENVIRONMENT.get_template("report.html.j2").render(
        style=_style(),
        journal=journal,
        experiment=journal["experiment"],
        ours=ours,
        sentences=sentences(ours),
        broken=[rule for rule in ours["rules"] if not rule["holds"]],
        close=_svg(ours, window, "close") if window else None,
        whole=_svg(ours, charts.whole_window(ours), "whole"),
        split=split,
        events=events,
    )


def _style() -> Markup:
    return Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file


def _svg(ours: Mapping[str, Any], window: tuple[float, float], name: str) -> Markup:
    return Markup(charts.timeline_svg(ours, window, name))  # noqa: S704 - drawn by us, with its text escaped


def index(journals: Sequence[tuple[Path, Mapping[str, Any]]], directory: Path) -> str:
    """Return the page of many runs, which links to report.html beside each journal, relative to `directory`."""
    titles: dict[str, str] = {}
    for _, journal in journals:
        for rule in journal[KEY]["rules"]:
            titles.setdefault(rule["key"], rule["title"])
    rows = []
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for path, journal in journals:
        ours = journal[KEY]
        by_name.setdefault(ours["name"], []).append(ours)
        rules = {rule["key"]: rule for rule in ours["rules"]}
        rows.append(
            {
                "link": quote(os.path.relpath(path.with_name("report.html"), directory)),
                "title": journal["experiment"]["title"],
                "name": ours["name"],
                "start": journal["start"][:19].replace("T", " "),
                "passed": ours["verdict"] == "pass",
                "cells": [rules.get(key) for key in titles],
            }
        )
    everything = [journal[KEY]["figures"] for _, journal in journals]
    return ENVIRONMENT.get_template("index.html.j2").render(
        style=_style(),
        # Keys fit above a column; titles are long.
        titles=[{"short": re.sub("[_-]", " ", key).capitalize(), "long": title} for key, title in titles.items()],
        rows=rows,
        passed=sum(bool(row["passed"]) for row in rows),
        groups=[_group(name, runs) for name, runs in by_name.items()],
        lost=sum(one["ledger"]["lost"] + one["ledger"]["lost_earlier"] for one in everything),
        doubled=sum(one["ledger"]["doubled"] for one in everything),
        confirmed=sum(one["votes"]["ok"] for one in everything),
    )


def _group(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    outages = [run["figures"]["outage"]["seconds"] for run in runs]
    return {
        "name": name,
        "runs": len(runs),
        "passed": sum(run["verdict"] == "pass" for run in runs),
        "min": min(outages),
        "median": statistics.median(outages),
        "max": max(outages),
        "budget": runs[0]["budget"]["outage_seconds"],
    }
