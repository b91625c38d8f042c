"""What a run of an experiment is on one site: its steps in order, every time, and each host that is known before it.

The role chaos does one step after the other, each by the file of tasks that it names in `do`: watch, probe or inject.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaoslab.cluster import lone_witnesses
from chaoslab.experiment import Experiment, catalogue
from chaoslab.files import InputError

# All times are seconds. Votes are watched on the control node, and two writable databases where the sampler runs: in
# turn, so a wait is cut into slices.
SLICE = 10
# Before the first fault: how long votes have to go on, and how long a pause among them is no steady state any more.
CALM = 5
CALM_OUTAGE = 2.0
# It is watched until so long before its faults heal by themselves, so that the healing that was told is the one seen.
BEFORE_HEALING = 10
LEAST_OBSERVED = 20
# What a run may take beyond the waits that it plans, and what each step may take; later, whoever began it is taken for
# dead. An operator's playbook goes over all hosts, several times: 23 minutes were seen, of two busy processors.
MARGIN = 180
STEP = 100
PLAYBOOK = 3600
# After the databases had to be whole again they are waited for so much longer, for the figure.
WHOLE_MARGIN = 30

Json = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """Hosts by what they do, as role chaos takes them, and the platform that runs their machines, if one is known."""

    hosts: Mapping[str, Any]
    platform: str = ""

    def group(self, name: str | None) -> list[str]:
        """Return the hosts that a probe is asked on, or that a target stands for or may stand for."""
        groups = {
            "control": ["localhost"],
            "app-first": list(self.hosts["app"][:1]),
            "app-others": list(self.hosts["app"][1:]),
            "cluster": list(self.hosts["databases"]),
            "primary": list(self.hosts["databases"]),
            "standby": list(self.hosts["databases"]),
            "primary-and-witness": lone_witnesses(self.hosts),
            "etcd-follower": list(self.hosts["etcd"]),
        }
        return groups[name] if name in groups else list(self.hosts[name]) if name else []


def slices(seconds: float) -> list[float]:
    """Return when each slice of a wait ends."""
    return [*range(SLICE, int(-(-seconds // SLICE)) * SLICE, SLICE), seconds] if seconds else []


def watches(seconds: float, most_outage: float, why: str) -> list[Json]:
    """Return the steps that watch for some seconds; each ends so long after the first of them begins."""
    return [
        {"do": "watch", "name": f"{why}: {end:g} of {seconds:g} s", "until": end, "most_outage": most_outage}
        for end in slices(seconds)
    ]


def probe(activity: Mapping[str, Any], kind: str, site: Site, within: float | None = None) -> Json:
    """Return the step that asks a probe; kind is that of its event. Without `within` it may take what the role says."""
    provider = activity["provider"]
    known = catalogue().probes[provider["tasks"]]
    return {
        "do": "probe",
        "name": activity["name"],
        "kind": kind,
        "tasks": provider["tasks"],
        "hosts": site.group(known.get("on")),
        "within": provider.get("arguments", {}).get("within_seconds", within),
    }


def injection(number: int, activity: Mapping[str, Any], rollbacks: Sequence[Mapping[str, Any]], site: Site) -> Json:
    """Return the step that injects a fault; heal is what takes it back, and when among the others."""
    provider = activity["provider"]
    action = catalogue().all_actions[provider["tasks"]]
    target = provider["target"]
    heals = [
        {"name": one["name"], "order": order}
        for order, one in enumerate(rollbacks)
        if one["provider"].get("of") == activity["name"]
    ]
    return {
        "do": "inject",
        "name": activity["name"],
        "number": number,
        "tasks": provider["tasks"],
        "target": target,
        "count": provider.get("count", len(site.group(target)) if target == "databases" else 1),
        "arguments": provider.get("arguments", {}),
        "outside": provider["tasks"] not in catalogue().actions,
        "late": action.get("late", False),
        "heal": heals[0] if heals else None,
    }


def method(experiment: Experiment, site: Site) -> Iterator[Json]:
    """Yield the steps of the method, each with the waits that it wants."""
    guardrail = experiment.budget.guardrail
    for number, activity in enumerate(experiment.content["method"]):
        pauses = activity.get("pauses", {})
        yield from watches(pauses.get("before", 0), guardrail, "Wait before the next step")
        if activity.get("type") == "probe":
            yield probe(activity, "probe", site, 0)
        else:
            yield injection(number, activity, experiment.content["rollbacks"], site)
        yield from watches(pauses.get("after", 0), guardrail, "Wait after that step")


def refuse_impossible(steps: Sequence[Json], site: Site, name: str) -> None:
    """Raise InputError for what cannot be done or asked on this site."""
    here = {**catalogue().operator, **catalogue().platforms.get(site.platform, {})}
    for step in steps:
        if step["do"] == "inject" and step["outside"] and step["tasks"] not in here:
            raise InputError(
                f"{name} needs {step['tasks']}. For chaos_platform {site.platform or '(not set)'} "
                "roles/chaos/vars/main/actions.yml has to say how; docker is an example"
            )
        group = step.get("target") or catalogue().probes.get(step.get("tasks", ""), {}).get("on")
        # Without a witness there is none that would have to act, and the budget is another.
        if group and group != "witnesses" and not site.group(group):
            raise InputError(f"{name}: {step['name']}: this site has no {group}")


def plan(experiment: Experiment, site: Site, now: float | None = None) -> Json:
    """Return the run of an experiment on a site; raise InputError when it cannot be run there."""
    content, budget = experiment.content, experiment.budget
    heal = content.get("heal_after_seconds", 0)
    observe = content.get("observe_seconds", max(LEAST_OBSERVED, heal - BEFORE_HEALING))
    whole = budget.rejoin_seconds + WHOLE_MARGIN
    probes = content["steady-state-hypothesis"]["probes"]
    pauses = sum(sum(activity.get("pauses", {}).values()) for activity in content["method"])
    operator = catalogue().operator
    doing = sum(PLAYBOOK if one["provider"]["tasks"] in operator else STEP for one in content["method"])
    steps = [
        *watches(CALM, CALM_OUTAGE, "See that nothing is wrong before anything is broken"),
        *method(experiment, site),
        *watches(observe, budget.guardrail, "Watch"),
    ]
    found: Json = {
        "name": experiment.name,
        "id": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)),
        "before": [probe(one, "steady-before", site) for one in probes],
        "steps": steps,
        "after": [probe(one, "steady-after", site, whole) for one in probes],
        "heal_seconds": heal,
        "most_seconds": MARGIN + pauses + doing + observe + heal + whole,
    }
    refuse_impossible([*found["before"], *steps], site, experiment.name)
    return found
