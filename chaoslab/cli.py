"""The command line: one subcommand per part."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from chaoslab import experiment as experiments
from chaoslab import judge, records, report, sampler, visits, voter
from chaoslab.files import InputError, compact, read_object, write_text
from chaoslab.guard import Limits, guard
from chaoslab.observe import Options, observe

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
    names = vars(options).keys() - {"run", "command"}
    say(observe(Options(**{name: getattr(options, name) for name in names})))
    return PASS


def run_sample(options: argparse.Namespace) -> int:
    """Sample the cluster."""
    return sampler.sample(options)


def run_guard(options: argparse.Namespace) -> int:
    """Watch a run."""
    longest = options.max_outage or experiments.load(options.experiment).budget.guardrail
    limits = Limits(options.status, longest, options.seconds, options.violations, options.stop_file)
    if found := guard(limits):
        say(f"guardrail: {found}")
        return RED
    return PASS


def run_sql(_options: argparse.Namespace) -> int:
    """Print the statement."""
    sys.stdout.write(resources.files("chaoslab").joinpath("node_state.sql").read_text(encoding="utf-8"))
    return PASS


def run_validate(options: argparse.Namespace) -> int:
    """Check experiments."""
    code = PASS
    for found in experiments.load_all(options.paths):
        if isinstance(found, InputError):
            sys.stderr.write(f"{found}\n")
            code = UNUSABLE
        else:
            say(f"{found.name}: valid: {found.title}")
    return code


def run_judge(options: argparse.Namespace) -> int:
    """Judge a run and write its journal."""
    experiment = experiments.load(options.experiment)
    nodes: dict[str, list[Path]] = {}
    for name, path in options.node:
        nodes.setdefault(name, []).append(Path(path))
    evidence = judge.Evidence(
        votes=records.load_requests(options.votes, "votes"),
        reads=records.load_requests(options.reads, "reads"),
        samples=records.load_samples(options.samples, options.samples_offset) if options.samples else [],
        events=records.load_events(options.events),
        after={name: records.load_contents(paths) for name, paths in nodes.items()},
        before=records.load_contents(options.before) if options.before else None,
        alone=options.alone,
    )
    verdict = judge.judge(experiment, evidence)
    found = judge.journal(experiment, evidence, verdict)
    write_text(options.journal, judge.dump(found))
    say(judge.summary(experiment, verdict))
    return PASS if verdict.holds else RED


def run_report(options: argparse.Namespace) -> int:
    """Write the page of one run."""
    write_text(options.out, report.page(report.checked(read_object(options.journal), options.journal)))
    return PASS


def run_index(options: argparse.Namespace) -> int:
    """Write the page of many runs."""
    found = [(path, report.checked(read_object(path), path)) for path in options.journals]
    write_text(options.out, report.index(found, options.out.parent))
    return PASS


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    top = argparse.ArgumentParser(prog="chaoslab", description="Parts of a chaos experiment on the voting site.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.set_defaults(run=run)
        return found

    found = command(
        "vote", run_vote, "Vote as a browser does; print the tokens as JSON, exit with 1 when one was refused."
    )
    _site_arguments(found)
    found.add_argument("--count", type=int, default=1, metavar="N", help="how many votes, one by one (%(default)s)")

    _visit_arguments(command("visit", run_visit, "Send visitors from around the world; print their answers as JSON."))

    _observe_arguments(
        command("observe", run_observe, "Vote and read on a fixed schedule, and write down every answer.")
    )
    sampler.add_arguments(command("sample", run_sample, "Sample the databases' roles five times a second."))

    found = command("guard", run_guard, "Watch a run; exit with 1 as soon as it must be cut short.")
    either = found.add_mutually_exclusive_group(required=True)
    text = "cut short after twice its budget without a confirmed vote, but at least 10 s"
    either.add_argument("--experiment", type=Path, metavar="FILE", help=text)
    either.add_argument("--max-outage", type=float, metavar="SECONDS", help="cut short after this instead")
    add = found.add_argument
    add("--status", type=Path, required=True, metavar="FILE", help="status file of observe")
    add("--seconds", type=float, required=True, metavar="SECONDS", help="how long to watch")
    add("--violations", type=Path, metavar="FILE", help="guardrail file of sample; that it exists is enough")
    add("--stop-file", type=Path, metavar="FILE", help="end, with 0, when this file appears")

    command("sql", run_sql, "Print the statement that reads a database's ledger and tallies for judge.")

    add = command("validate", run_validate, "Check experiments; exit with 2 when one is wrong.").add_argument
    add("paths", type=Path, nargs="+", metavar="PATH", help="a file, or a directory of *.yml")

    _judge_arguments(
        command("judge", run_judge, "Judge a run: 0 every budget holds, 1 one does not, 2 unusable input.")
    )

    add = command("report", run_report, "Make a self-contained HTML page of a journal.").add_argument
    add("journal", type=Path, metavar="JOURNAL", help="journal.json of judge")
    add("--out", type=Path, required=True, metavar="FILE", help="the page")

    add = command("index", run_index, "Make a page with every figure of many journals against its budget.").add_argument
    add("journals", type=Path, nargs="+", metavar="JOURNAL", help="journals; the page links to report.html beside each")
    add("--out", type=Path, required=True, metavar="FILE", help="the page")
    return top


def _site_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--url", required=True, type=lambda text: text.rstrip("/"), help="address of the site, without /polls/")
    add("--ca-file", type=Path, metavar="FILE", help="authority that signed the site's certificate (the system's)")


def _pace(text: str) -> float:
    """Parse a number above 0; raise ArgumentTypeError for anything else."""
    if (rate := float(text)) > 0:
        return rate
    raise argparse.ArgumentTypeError(f"{text} is not above 0")


def _visit_arguments(parser: argparse.ArgumentParser) -> None:
    _site_arguments(parser)
    add = parser.add_argument
    add("--count", type=int, required=True, metavar="N", help="how many visits")
    add("--rate", type=_pace, default=20.0, metavar="N", help="visits per second (%(default)g)")
    add(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="what the choice of visitors and pages starts from (%(default)s)",
    )
    text = "networks of the visitors, whose addresses go into X-Forwarded-For; WEIGHT is the share among all weights"
    add("--visitors", type=visits.crowd, nargs="+", required=True, metavar="NETWORK=WEIGHT", help=text)
    add("--error-path", default="", metavar="PATH", help="a path that the site answers with an error (none)")


def _observe_arguments(parser: argparse.ArgumentParser) -> None:
    _site_arguments(parser)
    add = parser.add_argument
    add("--rate", type=float, default=20.0, metavar="N", help="votes per second (%(default)g)")
    add("--read-rate", type=float, default=20.0, metavar="N", help="pages per second (%(default)g)")
    add("--votes", type=Path, required=True, metavar="FILE", help="one line of JSON per vote")
    add("--reads", type=Path, required=True, metavar="FILE", help="one line of JSON per page")
    add("--status", type=Path, metavar="FILE", help="counts and longest gap, rewritten every 0.2 s")
    add("--stop-file", type=Path, metavar="FILE", help="send nothing more when this file appears")
    add(
        "--max-seconds", type=float, default=900.0, metavar="SECONDS", help="send nothing more after this (%(default)g)"
    )
    add("--question", type=int, default=1, metavar="ID", help="the question to vote on (%(default)s)")
    add("--timeout", type=float, default=60.0, metavar="SECONDS", help="how long to wait for an answer (%(default)g)")


def _judge_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--experiment", type=Path, required=True, metavar="FILE", help="the experiment's file")
    add("--votes", type=Path, required=True, metavar="FILE", help="votes of observe")
    add("--reads", type=Path, required=True, metavar="FILE", help="reads of observe")
    add("--samples", type=Path, metavar="FILE", help="samples of sample")
    add(
        "--samples-offset", type=float, default=0.0, metavar="SECONDS", help="to add to the clock of the sampler's host"
    )
    add("--events", type=Path, required=True, metavar="FILE", help="events as JSON lines")
    add("--before", type=Path, action="append", metavar="FILE", help="what the primary held before the first vote")
    text = "what a database holds after the last vote (see sql); repeat"
    add("--node", type=sampler.node, action="append", required=True, metavar="NAME=FILE", help=text)
    add("--alone", action="store_true", help="nobody else voted: take votes of others as unexpected")
    add("--journal", type=Path, required=True, metavar="FILE", help="the journal to write")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return its exit code, 2 for unusable input."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except InputError as error:
        sys.stderr.write(f"{options.command}: {error}\n")
        return UNUSABLE
    return code
