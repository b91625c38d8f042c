"""The same experiment under other settings of Patroni, and a table of what each costs. Times in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import yaml

from chaoslab.experiment import STEADY_STATE, Budget, Experiment
from chaoslab.files import InputError, read_text
from chaoslab.judge import KEY

# Every member has to have seen the settings: a loop of the longest, before and after.
SETTLE = 25
# Longer than a lease and two loops of the longest.
WATCHED = 75
HEALED = SETTLE + WATCHED + 30
# Nothing is judged but that the run could be held: what a profile costs is what is asked.
BUDGET = Budget(outage_seconds=WATCHED, failed_votes="only-503", failed_reads="only-503", rejoin_seconds=120)
NAME = "{experiment}@{profile}"
READY = "witness-ready"


@dataclass(frozen=True)
class Profile:
    """What Patroni is given, and whether the site's witnesses act."""

    name: str
    title: str
    witness: bool
    patroni: Mapping[str, Any]


@cache
def profiles() -> dict[str, Profile]:
    """Read all profiles, in their order."""
    content = yaml.safe_load(read_text(STEADY_STATE.with_name("profiles.yml")))
    return {name: Profile(name, **profile) for name, profile in content.items()}


def under(experiment: Experiment, name: str, witnesses: int) -> Experiment:
    """Return an experiment under a profile, which is set before its faults and healed after them.

    witnesses: how many hosts have one. Raises InputError for a profile that there is not.
    """
    if name not in profiles():
        raise InputError(f"there is no profile {name}; there are {', '.join(profiles())}")
    profile = profiles()[name]
    before: list[dict[str, Any]] = []
    if profile.patroni:
        settings = {"tasks": "patroni-config", "target": "cluster", "arguments": {"set": dict(profile.patroni)}}
        before.append({"type": "action", "name": "Give Patroni the settings", "provider": settings})
    if not profile.witness and witnesses:
        stop = {"tasks": "systemd-stop", "target": "witnesses", "count": witnesses}
        stop["arguments"] = {"unit": "patroni-witness"}
        before.append({"type": "action", "name": "Stop the witnesses", "provider": stop})
    if before:
        before[-1]["pauses"] = {"after": SETTLE}
    method = [one for one in experiment.content["method"] if profile.witness or one["provider"]["tasks"] != READY]
    heals = [
        {"type": "action", "name": f"{one['name']}: as before", "provider": {"tasks": "heal", "of": one["name"]}}
        for one in reversed(before)
    ]
    content = {name: part for name, part in experiment.content.items() if name != "alerts"}
    content |= {
        "title": f"{content['title']}: {profile.title}",
        "method": before + method,
        "rollbacks": [*content["rollbacks"], *heals],
        "heal_after_seconds": HEALED,
        "observe_seconds": WATCHED,
    }
    return replace(
        experiment, name=NAME.format(experiment=experiment.name, profile=name), content=content, budget=BUDGET
    )


def table(journals: Iterable[Mapping[str, Any]]) -> str:
    """Return a table in Markdown of the newest run of each experiment under each profile."""
    found = {journal[KEY]["name"]: journal[KEY]["figures"] for journal in journals}
    experiments = sorted({name.split("@")[0] for name in found if "@" in name})
    head = ["Settings of Patroni"]
    for name in experiments:
        head += [f"`{name}`: seconds without a vote", "Asked to send again", "Lost"]
    rows = [head, ["---"] * len(head)]
    for name, profile in profiles().items():
        row = [profile.title]
        for experiment in experiments:
            figures = found.get(NAME.format(experiment=experiment, profile=name))
            row += cells(figures) if figures else ["not run", "", ""]
        rows.append(row)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cells(figures: Mapping[str, Any]) -> list[str]:
    """Return what a run cost: seconds without a confirmed vote, votes to be sent again, confirmed votes lost."""
    ledger = figures["ledger"]
    return [
        f"{figures['outage']['seconds']:.1f}",
        f"{figures['votes']['refused_503'] + figures['votes']['failed_otherwise']}",
        f"{ledger['lost'] + ledger['lost_earlier']}",
    ]
