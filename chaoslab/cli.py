"""The command line: one subcommand per part."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from chaoslab import experiment as experiments
from chaoslab import judge, profiles, report, visits, voter
from chaoslab.files import InputError, compact, read_object, write_text
from chaoslab.guard import guard
from chaoslab.observe import Options, observe
from chaoslab.plan import Site, plan

PASS, RED, UNUSABLE = 0, 1, 2


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


def run_vote(options: argparse.Namespace) -> int:
    """Vote one after the other, and print the tokens of the votes that were confirmed."""
    answers = asyncio.run(voter.cast(options.url, options.ca_file, options.count))
    say(compact([token for token, answer in answers.items() if answer.outcome == voter.OK]))
    failed = {token: answer.error for token, answer in answers.items() if answer.outcome != voter.OK}
    for token, error in failed.items():
        sys.stderr.write(f"vote: {token} was not confirmed: {error}\n")
    return RED if failed else PASS


def run_visit(options: argparse.Namespace) -> int:
    """Send visitors, and print what they were answered."""
    visitors = visits.Visitors(visits.plan(options.count, options.seed, options.visitors, options.error_path))
    asyncio.run(visitors.send(options.url, options.ca_file, options.rate))
    say(compact(visitors.report()))
    return PASS


def run_observe(options: argparse.Namespace) -> int:
    """Vote and read until told to stop."""
    say(observe(Options(**{field.name: getattr(options, field.name) for field in fields(Options)})))
    return PASS


def run_plan(options: argparse.Namespace) -> int:
    """Print what a run of an experiment is on a site."""
    site = Site(options.hosts, options.platform)
    say(compact(plan(chosen(options, len(site.hosts["witnesses"])), site)))
    return PASS


def chosen(options: argparse.Namespace, witnesses: int) -> experiments.Experiment:
    """Return the experiment for a site with so many witnesses, under the profile if one is named."""
    found = experiments.load(options.experiment, witness=witnesses > 0)
    return profiles.under(found, options.profile, witnesses) if options.profile else found


def run_guard(options: argparse.Namespace) -> int:
    """Watch a run."""
    if found := guard(options.folder / "status.json", options.max_outage, options.until):
        say(f"guardrail: {found}")
        return RED
    return PASS


def run_judge(options: argparse.Namespace) -> int:
    """Judge a run; write its journal and its page."""
    folder: Path = options.folder
    experiment = chosen(options, options.witnesses)
    evidence = judge.load_evidence(folder)
    verdict = judge.judge(experiment, evidence)
    found = judge.journal(experiment, evidence, verdict)
    write_text(folder / "journal.json", judge.dump(found))
    write_text(folder / "report.html", report.page(found))
    say(judge.summary(experiment, verdict))
    return PASS if verdict.holds else RED


def journals(results: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Read the journals of all runs in a folder, those of one experiment from the oldest to the newest."""
    paths = sorted(results.glob("*/journal.json"))
    return [(path, report.checked(read_object(path), path)) for path in paths]


def run_index(options: argparse.Namespace) -> int:
    """Write the page of many runs."""
    write_text(options.results / "index.html", report.index(journals(options.results), options.results))
    return PASS


def run_profiles(options: argparse.Namespace) -> int:
    """Print the table of all profiles."""
    say(profiles.table(journal for _, journal in journals(options.results)).rstrip())
    return PASS


def _pace(text: str) -> float:
    """Parse a number above 0; raise ArgumentTypeError for anything else."""
    if (rate := float(text)) > 0:
        return rate
    raise argparse.ArgumentTypeError(f"{text} is not above 0")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    top = argparse.ArgumentParser(prog="chaoslab", description="Parts of a chaos experiment on the voting site.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    site = argparse.ArgumentParser(add_help=False)
    add = site.add_argument
    add("--url", required=True, type=lambda text: text.rstrip("/"), help="address of the site, without /polls/")
    add("--ca-file", type=Path, metavar="FILE", help="authority that signed the site's certificate (the system's)")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("folder", type=Path, metavar="FOLDER", help="the run's files")
    experiment = argparse.ArgumentParser(add_help=False)
    experiment.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="the experiment's file")
    text = "settings of Patroni that it is run under, of experiments/defaults/profiles.yml (the site's own)"
    experiment.add_argument("--profile", default="", metavar="NAME", help=text)
    results = argparse.ArgumentParser(add_help=False)
    results.add_argument("results", type=Path, metavar="FOLDER", help="a folder of runs")

    def command(
        run: Callable[[argparse.Namespace], int], text: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        name = run.__name__.removeprefix("run_")
        found = commands.add_parser(name, help=text, description=text, parents=parents)
        found.set_defaults(run=run)
        return found

    add = command(
        run_vote, "Vote as a browser does; print the tokens as JSON, exit with 1 when one was refused.", site
    ).add_argument
    add("--count", type=int, default=1, metavar="N", help="how many votes, one by one (%(default)s)")

    add = command(run_visit, "Send visitors from around the world; print their answers as JSON.", site).add_argument
    add("--count", type=int, required=True, metavar="N", help="how many visits")
    add("--rate", type=_pace, default=20.0, metavar="N", help="visits per second (%(default)g)")
    add("--seed", type=int, default=1, metavar="N", help="what the choice of visitors and pages starts from")
    text = "networks of the visitors, whose addresses go into X-Forwarded-For; WEIGHT is the share among all weights"
    add("--visitors", type=visits.crowd, nargs="+", required=True, metavar="NETWORK=WEIGHT", help=text)
    add("--error-path", default="", metavar="PATH", help="a path that the site answers with an error (none)")

    add = command(
        run_observe, "Vote and read on a fixed schedule until there is a file FOLDER/stop.", site, folder
    ).add_argument
    add("--rate", type=_pace, default=20.0, metavar="N", help="votes per second, and as many pages (%(default)g)")
    add("--max-seconds", type=float, default=900.0, metavar="N", help="send nothing more after this (%(default)g)")
    add("--timeout", type=float, default=60.0, metavar="N", help="seconds to wait for an answer (%(default)g)")

    add = command(run_plan, "Print what a run of an experiment is on a site, as JSON.", experiment).add_argument
    add("--hosts", type=json.loads, required=True, metavar="JSON", help="hosts of the site, as role chaos takes them")
    add("--platform", default="", metavar="NAME", help="what the hosts are machines of")

    add = command(run_guard, "Watch a run; exit with 1 as soon as it must be cut short.", folder).add_argument
    add("--max-outage", type=float, required=True, metavar="SECONDS", help="how long no vote may be confirmed")
    add("--until", type=float, required=True, metavar="EPOCH", help="how long to watch; for a second at least")

    text = "Judge a run, write its journal and page: 0 every budget holds, 1 one does not, 2 unusable input."
    add = command(run_judge, text, experiment, folder).add_argument
    add(
        "--witnesses",
        type=int,
        required=True,
        metavar="N",
        help="how many the site has; without any, budgets differ",
    )

    command(run_index, "Make FOLDER/index.html, a page with every figure of many runs against its budget.", results)
    command(run_profiles, "Print a table of what each profile cost, of the newest runs.", results)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return its exit code, 2 for unusable input."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except InputError as error:
        sys.stderr.write(f"{options.command}: {error}\n")
        return UNUSABLE
    return code
