"""The verdict: figures against budgets, and the journal that holds both."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaoslab import __version__, alerts, figures
from chaoslab.alerts import Expected, Ring
from chaoslab.experiment import Experiment
from chaoslab.files import InputError, compact
from chaoslab.ledger import Check, Span, check
from chaoslab.records import (
    Contents,
    Event,
    Request,
    RequestLog,
    load_contents,
    load_events,
    load_requests,
    load_samples,
)
from chaoslab.sampler import Sample
from chaoslab.voter import INFO

KEY = "chaoslab"
UNAVAILABLE = 503
# A voter that was late by more than this (seconds) was itself too slow; gaps may then look longer than they were.
LATE_SECONDS = 0.5
# From when an injection begins until a machine is gone.
INJECTION_SECONDS = 1.0
SHOWN_TOKENS = 20
# Every gap that is longer than this (seconds) is marked on the time line.
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Evidence:
    """Everything that a run left behind."""

    votes: RequestLog
    reads: RequestLog
    samples: Sequence[Sample]
    events: Sequence[Event]
    after: Mapping[str, Contents]
    before: Contents | None = None
    # None where nobody was asked for alerts.
    rings: Sequence[Ring] | None = None


def load_evidence(folder: Path) -> Evidence:
    """Read what role and voter wrote into a run's folder; raise InputError for a file that cannot be used."""
    before = next(iter(sorted(folder.glob("before-*.txt"))), None)
    samples, rings = folder / "samples.jsonl", folder / "alerts.json"
    return Evidence(
        votes=load_requests(folder / "votes.jsonl", "votes"),
        reads=load_requests(folder / "reads.jsonl", "reads"),
        samples=load_samples(samples) if samples.exists() else [],
        events=load_events(folder / "events.jsonl"),
        after={path.stem.removeprefix("after-"): load_contents(path) for path in sorted(folder.glob("after-*.txt"))},
        before=load_contents(before) if before else None,
        rings=alerts.load_rings(rings) if rings.exists() else None,
    )


@dataclass(frozen=True)
class Rule:
    """A figure against its budget, both as a reader should see them."""

    key: str
    title: str
    measured: str
    budget: str
    holds: bool


@dataclass
class Verdict:
    """The rules, the figures they come from, and remarks for whoever reads them."""

    rules: list[Rule]
    figures: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every budget holds."""
        return all(rule.holds for rule in self.rules)

    @property
    def broken(self) -> list[Rule]:
        """The rules that do not hold."""
        return [rule for rule in self.rules if not rule.holds]


def seconds(value: float | None) -> str:
    """Write a duration for people."""
    return "never" if value is None else f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def after_what(found: Mapping[str, Any]) -> str:
    """Say what the time until whole again counts from."""
    return "the fault" if found["cluster"]["heal"] is None else "the fault was healed"


def inject_time(events: Iterable[Event]) -> float:
    """Return when the first fault was injected; raise InputError when none was."""
    times = [event.time for event in events if event.kind == "inject"]
    if not times:
        raise InputError("events: nothing was injected, so there is nothing to judge")
    return min(times)


def judge(experiment: Experiment, evidence: Evidence) -> Verdict:
    """Judge a run; raise InputError when the evidence does not cover it."""
    votes, inject = evidence.votes, inject_time(evidence.events)
    if not evidence.after:
        raise InputError("no database's contents were given")
    if not votes.begin <= inject <= votes.end:
        raise InputError("votes: no vote was sent around the time of the fault")
    gaps = figures.gaps(votes.requests, votes.begin, votes.end)
    # A restore may lose what was confirmed from its recovery point to the outage, which it ends.
    point = experiment.budget.recovery_point_seconds
    given_up = None if point is None else Span(inject - point, figures.longest(gaps).begin)
    ledger = check(votes, evidence.before, evidence.after, given_up)
    found = measure(evidence, ledger, inject, gaps, restored=given_up is not None)
    rules = [
        *_vote_rules(experiment, found),
        *_observation_rules(evidence),
        *_ledger_rules(ledger),
        *_cluster_rules(experiment, evidence, found),
        *_alert_rules(experiment, evidence, inject),
    ]
    return Verdict(rules, found, list(_notes(evidence, found, ledger)))


def measure(
    evidence: Evidence, ledger: Check, inject: float, gaps: Sequence[figures.Gap], *, restored: bool
) -> dict[str, Any]:
    """Return every figure by name; times relative to the first fault, in seconds."""
    votes, reads, samples = evidence.votes.requests, evidence.reads.requests, evidence.samples
    gap = figures.longest(gaps)
    heal = max((event.time for event in evidence.events if event.kind == "heal"), default=None)
    last_fault = max((event.time for event in evidence.events if event.kind == "inject"), default=inject)
    proofs = Counter(finding.kind for finding in figures.findings(samples))
    parts = figures.split(gap, samples)
    pauses = [one for one in gaps if one.seconds > PAUSE_SECONDS]
    whole_since = inject if heal is None else heal
    # A restore takes whole databases away, and is at its end with votes.
    look_from = gap.end if restored else whole_since
    whole = figures.whole_after(samples, look_from)
    return {
        "outage": {
            "seconds": gap.seconds,
            "begin": gap.begin - inject,
            "end": gap.end - inject,
            "open": gap.is_open,
            "split": asdict(parts) if parts else None,
            "resumed": figures.resumed(votes, evidence.votes.rate),
        },
        "pauses": [{"begin": one.begin - inject, "end": one.end - inject} for one in pauses],
        "votes": _counts(votes, last_fault) | {"late": max(vote.sent - vote.intended for vote in votes)},
        "vote_seconds": figures.quantiles(vote.wait for vote in votes if vote.outcome == "ok"),
        "reads": _counts(reads, last_fault) | {"failed": sum(read.outcome != "ok" for read in reads)},
        "read_seconds": figures.quantiles(read.wait for read in reads if read.outcome == "ok"),
        "ledger": _ledger_figures(ledger) | {"given_up_votes": _lost_votes(votes, ledger, inject)},
        "cluster": {
            "sampled": len(samples),
            "two_writable": proofs["violation"],
            "stale_primary": proofs["stale"],
            "promotions": figures.promotions(samples, inject),
            "reliefs": sum(event.kind == "relief" for event in evidence.events),
            "whole_after_heal": None if whole is None else whole + look_from - whole_since,
            "heal": None if heal is None else heal - inject,
        },
        "alerts": [
            asdict(ring) | {"begin": round(ring.begin - inject, 1), "end": round(ring.end - inject, 1)}
            for ring in evidence.rings or ()
        ],
    }


def _counts(requests: Sequence[Request], last_fault: float) -> dict[str, int]:
    outcomes = Counter(request.outcome for request in requests)
    under_way = sum(
        request.status == 0
        and request.outcome == INFO
        and request.sent <= last_fault + INJECTION_SECONDS
        and request.done >= last_fault
        for request in requests
    )
    unavailable = sum(request.status == UNAVAILABLE for request in requests)
    other = sum(request.outcome != "ok" and request.status != UNAVAILABLE for request in requests)
    named = {name: outcomes[name] for name in ("ok", "info", "fail")}
    counts = {"refused_503": unavailable, "failed_otherwise": other, "under_way": under_way}
    return {"sent": len(requests), **named, **counts}


def _lost_votes(votes: Sequence[Request], ledger: Check, inject: float) -> list[dict[str, Any]]:
    """Return each vote that a restore gave up, in order; confirmed: when, in seconds from the first fault."""
    tokens = set(ledger.union("given_up"))
    lost = sorted((vote for vote in votes if vote.token in tokens), key=lambda vote: vote.done)
    return [{"token": vote.token, "choice": vote.choice, "confirmed": round(vote.done - inject, 3)} for vote in lost]


def _ledger_figures(ledger: Check) -> dict[str, Any]:
    names = ("lost", "lost_earlier", "unexpected", "altered", "foreign")
    totals: dict[str, Any] = {name: len(ledger.union(name)) for name in names}
    totals |= {"doubled": ledger.doubled, "landed": ledger.landed, "differing": len(ledger.differing)}
    totals |= {"tally_difference": ledger.tally_difference, "tables": list(ledger.tables)}
    nodes = {}
    for name, node in sorted(ledger.nodes.items()):
        nodes[name] = {
            key: value if isinstance(value, int) else {"count": len(value), "tokens": list(value[:SHOWN_TOKENS])}
            for key, value in asdict(node).items()
            if key != "foreign"
        }
    return totals | {"nodes": nodes}


def _vote_rules(experiment: Experiment, found: Mapping[str, Any]) -> Iterator[Rule]:
    budget, outage, votes, reads = experiment.budget, found["outage"], found["votes"], found["reads"]
    allowed = f"{budget.outage_seconds:g} s"
    if budget.outage_seconds < budget.resolution_seconds:
        allowed += f" (gaps up to {budget.resolution_seconds:g} s are the pulse of the votes)"
    # Clocks give times to within a microsecond; a budget is not broken by less.
    within = outage["seconds"] <= budget.longest_gap + 1e-6
    yield Rule("outage", "Longest time without a confirmed vote", seconds(outage["seconds"]), allowed, within)
    state = "yes" if outage["resumed"] else "no"
    yield Rule("resumed", "Votes are confirmed again at the end", state, "yes", bool(outage["resumed"]))
    refused, failed = votes["refused_503"], votes["failed_otherwise"]
    if budget.failed_votes == "only-under-way":
        lost = votes["under_way"]
        text = f"{refused + failed} ({refused} asked to send again, {lost} without an answer from the lost machine)"
        yield Rule("failed_votes", "Failed votes", text, "0 but those under way there", refused + failed == lost)
    elif budget.failed_votes == "none":
        text = f"{refused + failed} ({refused} asked to send again, {failed} otherwise)" if refused + failed else "0"
        yield Rule("failed_votes", "Failed votes", text, "0", refused + failed == 0)
    else:
        text = f"{failed} failed, {refused} asked to send again"
        yield Rule("failed_votes", "Failed votes", text, "0 failed; asking to send again (503) is allowed", failed == 0)
    text = f"{reads['failed']} of {reads['sent']}"
    if budget.failed_reads == "only-under-way":
        text += f", of those {reads['under_way']} without an answer from the lost machine"
        within = reads["failed"] == reads["under_way"]
        yield Rule("failed_reads", "Failed page views", text, "0 but those under way there", within)
    elif budget.failed_reads == "none":
        yield Rule("failed_reads", "Failed page views", text, "0", reads["failed"] == 0)
    else:
        failed, text = reads["failed_otherwise"], f"{text}, of those {reads['refused_503']} with 503"
        yield Rule("failed_reads", "Failed page views", text, "none but with 503", failed == 0)


def _observation_rules(evidence: Evidence) -> Iterator[Rule]:
    # What nobody saw cannot be judged: each record has to go on until the steady state was looked at again.
    events, votes, reads = evidence.events, evidence.votes, evidence.reads
    after = [event.time for event in events if event.kind == "steady-after"]
    until = min(after) if after else max(event.time + event.duration for event in events if event.kind == "inject")
    ends = {"votes": votes.ended, "reads": reads.ended}
    if evidence.samples:
        ends["samples"] = evidence.samples[-1].answered
    wrong = [
        f"{name} end {seconds(until - end)} early" if end is not None else f"who wrote the {name} was killed"
        for name, end in ends.items()
        if end is None or end < until
    ]
    if wrong:
        yield Rule("observed", "Seen to its end", f"no, {', '.join(wrong)}", "yes", holds=False)


def _ledger_rules(ledger: Check) -> Iterator[Rule]:
    lost, earlier = len(ledger.union("lost")), len(ledger.union("lost_earlier"))
    titles = {
        "lost": ("Confirmed votes lost", lost + earlier),
        "doubled": ("Votes counted twice", ledger.doubled),
        "unexpected": ("Votes that nobody cast", len(ledger.union("unexpected"))),
        "altered": ("Votes counted for another choice", len(ledger.union("altered"))),
        "tally": ("Votes by which tally and ledger differ", ledger.tally_difference),
        "differing": ("Votes by which the databases differ", len(ledger.differing)),
    }
    for key, (title, count) in titles.items():
        yield Rule(key, title, str(count), "0", count == 0)
    tables = ledger.tables
    yield Rule("tables", "Tables whose checksums differ", ", ".join(tables) or "0", "0", not tables)


def _cluster_rules(experiment: Experiment, evidence: Evidence, found: Mapping[str, Any]) -> Iterator[Rule]:
    budget, cluster = experiment.budget, found["cluster"]
    if evidence.samples:
        count = cluster["two_writable"]
        yield Rule("two_writable", "Moments with two writable databases", str(count), "0", count == 0)
        took = cluster["whole_after_heal"]
        within = took is not None and took <= budget.rejoin_seconds
        title = f"Both databases whole again after {after_what(found)}"
        yield Rule("rejoin", title, seconds(took), f"{budget.rejoin_seconds:g} s", within)
        if budget.promotion != "allowed":
            count = cluster["promotions"]
            holds = (count > 0) == (budget.promotion == "required")
            allowed = "at least 1" if budget.promotion == "required" else "none"
            yield Rule("promotion", "Takeovers by another database", str(count), allowed, holds)
        if budget.promotion == "forbidden":
            # One in vain, after which the primary takes its lease back, is no takeover.
            count = cluster["reliefs"]
            yield Rule("relief", "Primaries relieved by a witness", str(count), "none", count == 0)
    else:
        yield Rule("sampled", "The databases were sampled", "no", "yes", holds=False)
    for kind, title in (("steady-before", "Steady state before"), ("steady-after", "Steady state after")):
        state = steady_state(experiment, evidence.events, kind)
        if state is None:
            continue
        wrong = [probe["activity"]["name"] for probe in state["probes"] if not probe["tolerance_met"]]
        yield Rule(kind, title, f"not met: {'; '.join(wrong)}" if wrong else "met", "met", not wrong)
    for event in evidence.events:
        if event.kind == "guardrail":
            yield Rule("guardrail", "Run cut short by a guardrail", event.text, "no", holds=False)


def _alert_rules(experiment: Experiment, evidence: Evidence, inject: float) -> Iterator[Rule]:
    expected = Expected.of(experiment.content)
    if expected is not None and evidence.rings is not None:
        begin = evidence.votes.begin
        wrong = alerts.wrong(expected, evidence.rings, begin, inject)
        rang = alerts.text(evidence.rings, begin, inject)
        yield Rule("alerts", "Alerts", "; ".join([*wrong, f"rang: {rang}"]), expected.text(), not wrong)


def _notes(evidence: Evidence, found: Mapping[str, Any], ledger: Check) -> Iterator[str]:
    if found["votes"]["late"] > LATE_SECONDS:
        yield (
            f"The voter itself was up to {seconds(found['votes']['late'])} late: this machine was busy, and waits and "
            "gaps may look longer than they were."
        )
    if resent := sum(one.resent for one in (*evidence.votes.requests, *evidence.reads.requests)):
        yield (
            f"A kept connection broke under {resent} requests before any answer; they were sent again on another one, "
            "as browsers do by themselves."
        )
    if stale := found["cluster"]["stale_primary"]:
        yield (
            f"A database that had been frozen or cut off went on believing in its old lease for a while ({stale} "
            "samples). It could not confirm votes then: that needs the standby that had taken over."
        )
    if foreign := len(ledger.union("foreign")):
        yield f"{foreign} votes were cast by somebody else meanwhile; the tally has them."
    if lost := found["ledger"]["given_up_votes"]:
        yield (
            f"{len(lost)} confirmed votes were given up by the restore, the first confirmed "
            f"{lost[0]['confirmed']:+.1f} s from the fault, the last {lost[-1]['confirmed']:+.1f} s."
        )
    if evidence.before is None:
        yield "The ledger was not read before the run, so votes from before could not be missed."
    begin = evidence.votes.begin
    if earlier := sorted({ring.alert for ring in evidence.rings or () if ring.begin <= begin}):
        yield f"{', '.join(earlier)} rang already when the run began."
    if unknown := found["votes"]["info"]:
        yield f"Of {unknown} votes whose voter was not told the outcome, {ledger.landed} count. Sent again, all do."


def steady_state(experiment: Experiment, events: Iterable[Event], kind: str) -> dict[str, Any] | None:
    """Return a steady state as Chaos Toolkit's journal has it, or None when it was not looked at."""
    probes = [run | {"tolerance_met": run["status"] == "succeeded"} for run in _runs(experiment, events, kind)]
    return {"steady_state_met": all(probe["tolerance_met"] for probe in probes), "probes": probes} if probes else None


def iso(time: float) -> str:
    """Write a time as Chaos Toolkit does: UTC without a zone."""
    return datetime.fromtimestamp(time, UTC).replace(tzinfo=None).isoformat()


def _runs(experiment: Experiment, events: Iterable[Event], *kinds: str) -> list[dict[str, Any]]:
    """Return the events of some kinds as Chaos Toolkit's journal has them, each with its activity."""
    content = experiment.content
    activities = [*content["steady-state-hypothesis"]["probes"], *content["method"], *content["rollbacks"]]
    known = {activity["name"]: activity for activity in activities}
    return [
        {
            "activity": known.get(event.name, {"name": event.name or event.text}),
            "output": event.text,
            "status": event.status,
            "start": iso(event.time),
            "end": iso(event.time + event.duration),
            "duration": event.duration,
        }
        | ({"host": event.host} if event.host else {})
        for event in events
        if event.kind in kinds
    ]


def journal(experiment: Experiment, evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    """Return the journal: Chaos Toolkit's keys, and ours under one key of their own."""
    events = evidence.events
    after = steady_state(experiment, events, "steady-after")
    cut = any(event.kind == "guardrail" for event in events)
    begin = min([evidence.votes.begin, *(event.time for event in events)])
    last = max([*(event.time + event.duration for event in events), *(vote.done for vote in evidence.votes.requests)])
    return {
        "chaoslib-version": f"chaoslab {__version__}",
        "platform": platform.platform(),
        "node": platform.node(),
        "experiment": dict(experiment.content),
        "start": iso(begin),
        "status": "aborted" if cut else "completed",
        "deviated": not verdict.holds,
        "steady_states": {"before": steady_state(experiment, events, "steady-before"), "after": after, "during": []},
        "run": _runs(experiment, events, "inject", "heal"),
        "rollbacks": _runs(experiment, events, "rollback"),
        "end": iso(last),
        "duration": last - begin,
        KEY: {
            "name": experiment.name,
            "verdict": "pass" if verdict.holds else "fail",
            "summary": summary(experiment, verdict),
            "rules": [asdict(rule) for rule in verdict.rules],
            "figures": verdict.figures,
            "notes": verdict.notes,
            "budget": asdict(experiment.budget),
            "timeline": timeline(evidence),
        },
    }


def dump(found: Mapping[str, Any]) -> str:
    """Return a journal as JSON: indented for people, but the columns of the time line in one line."""
    ours = found[KEY]
    marker = "<timeline>"
    text = json.dumps({**found, KEY: {**ours, "timeline": marker}}, indent=2, ensure_ascii=False)
    return text.replace(f'"{marker}"', compact(ours["timeline"])) + "\n"


def timeline(evidence: Evidence) -> dict[str, Any]:
    """Return what the report draws: columns of numbers, times in seconds from the first fault."""
    zero = inject_time(evidence.events)

    def columns(log: RequestLog) -> dict[str, Any]:
        return {
            "intended": [round(one.intended - zero, 3) for one in log.requests],
            "done": [round(one.done - zero, 3) for one in log.requests],
            "status": [one.status for one in log.requests],
            "outcome": [one.outcome for one in log.requests],
        }

    return {
        "votes": columns(evidence.votes),
        "reads": columns(evidence.reads),
        "segments": [
            asdict(one) | {"begin": round(one.begin - zero, 3), "end": round(one.end - zero, 3)}
            for one in figures.segments(evidence.samples)
        ],
        "events": [
            {"time": round(one.time - zero, 3)}
            | {name: getattr(one, name) for name in ("kind", "name", "text", "host", "status")}
            for one in evidence.events
        ],
    }


def summary(experiment: Experiment, verdict: Verdict) -> str:
    """Return the one line that a play prints."""
    found = verdict.figures
    outage, ledger, votes, reads, cluster = (found[name] for name in ("outage", "ledger", "votes", "reads", "cluster"))
    budget = experiment.budget.outage_seconds
    parts = [
        f"longest time without a confirmed vote {seconds(outage['seconds'])} (budget {budget:g} s)",
        f"{ledger['lost'] + ledger['lost_earlier']} lost, {ledger['doubled']} doubled of {votes['ok']} confirmed",
        f"{votes['refused_503']} asked to send again, {votes['failed_otherwise']} failed",
        f"{reads['failed']} of {reads['sent']} reads failed",
    ]
    if experiment.budget.recovery_point_seconds is not None:
        given_up = ledger["given_up_votes"]
        point = max(0.0, -given_up[0]["confirmed"]) if given_up else 0.0
        parts.insert(2, f"{len(given_up)} given up by the restore, {point:.1f} s of them from before the fault")
    if cluster["sampled"]:
        parts.append(f"whole again {seconds(cluster['whole_after_heal'])} after {after_what(found)}")
    parts += [rule.measured for rule in verdict.rules if rule.key == "alerts"]
    if verdict.holds:
        return f"PASS {experiment.name}: {'; '.join(parts)}"
    wrong = "; ".join(f"{rule.title.lower()}: {rule.measured} (budget {rule.budget})" for rule in verdict.broken)
    return f"FAIL {experiment.name}: {wrong} | {'; '.join(parts)}"
