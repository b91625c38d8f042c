"""Experiments: files in Chaos Toolkit's terms, and our budgets. Reading them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml

from chaoslab.files import InputError, read_text

LEAST_GUARDRAIL = 10.0

# What the role has for each action and probe, and the steady state that every experiment takes.
ROOT = Path(__file__).resolve().parents[1]
ROLE_VARS = ROOT / "roles" / "chaos" / "vars" / "main"
STEADY_STATE = ROOT / "experiments" / "defaults" / "steady-state.yml"
SCHEMA = Path(__file__).with_name("experiment.schema.yml")


@dataclass(frozen=True)
class Catalogue:
    """What an experiment may name, as the role has it.

    actions: on a host. operator: what an operator runs on the control node. platforms: what each has from outside.
    """

    actions: Mapping[str, Mapping[str, Any]]
    operator: Mapping[str, Mapping[str, Any]]
    platforms: Mapping[str, Mapping[str, Mapping[str, Any]]]
    probes: Mapping[str, Mapping[str, Any]]

    @property
    def all_actions(self) -> dict[str, Mapping[str, Any]]:
        """Every action by its name, those of platforms as some platform has them."""
        outside = {name: action for actions in self.platforms.values() for name, action in actions.items()}
        return {**self.actions, **self.operator, **outside}


@cache
def catalogue() -> Catalogue:
    """Read the role's actions and probes."""
    actions = yaml.safe_load(read_text(ROLE_VARS / "actions.yml"))
    probes = yaml.safe_load(read_text(ROLE_VARS / "probes.yml"))
    return Catalogue(
        actions["__chaos_actions"],
        actions["__chaos_operator"],
        actions["__chaos_platforms"],
        probes["__chaos_probes"],
    )


@dataclass(frozen=True)
class Budget:
    """What an experiment may cost. Times in seconds.

    resolution_seconds is the gap between acknowledgements that counts as none: the pulse of the schedule and a
    moment's jitter. An outage budget of 0 means "no gap longer than this".
    recovery_point_seconds is for what ends with a restore: votes that were confirmed later than so long before the
    first fault, and before the outage, may be lost. None: no confirmed vote may be.
    """

    outage_seconds: float
    failed_votes: str = "none"
    failed_reads: str = "none"
    rejoin_seconds: float = 60
    promotion: str = "allowed"
    resolution_seconds: float = 0.5
    recovery_point_seconds: float | None = None

    @property
    def longest_gap(self) -> float:
        """The longest gap between acknowledgements that meets the budget, in seconds."""
        return max(self.outage_seconds, self.resolution_seconds)

    @property
    def guardrail(self) -> float:
        """The gap that ends a run at once, in seconds: twice the budget, and long enough not to be jitter."""
        return max(2 * self.outage_seconds, LEAST_GUARDRAIL)


@dataclass(frozen=True)
class Experiment:
    """A valid experiment: its name (the file's), its content with the steady state that it takes, and its budget."""

    name: str
    content: Mapping[str, Any]
    budget: Budget


def problems(content: Any) -> list[str]:  # noqa: ANN401 - whatever a file holds
    """Return what is wrong with an experiment, a line each that begins with the key; nothing when it is valid."""
    found = []
    for error in jsonschema.Draft202012Validator(yaml.safe_load(read_text(SCHEMA))).iter_errors(content):
        known = (
            f"; there are {', '.join(error.schema['properties'])}" if error.validator == "additionalProperties" else ""
        )
        found.append(f"{error.json_path.removeprefix('$').removeprefix('.')}: {error.message}{known}")
    return found or list(_contradictions(content))


def _contradictions(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong between the parts of an experiment, and between it and the role."""
    probes = content.get("steady-state-hypothesis", {}).get("probes", [])
    for part, activities in (("steady-state-hypothesis.probes", probes), ("method", content["method"])):
        for number, activity in enumerate(activities):
            provider, is_probe = activity["provider"], activity["type"] == "probe"
            known = catalogue().probes if is_probe else catalogue().all_actions
            place, tasks = f"{part}[{number}].provider", provider["tasks"]
            if tasks not in known:
                yield f"{place}.tasks: {tasks!r} is not one of {', '.join(sorted(known))}"
                continue
            wanted = sorted(known[tasks].get("arguments", ()))
            given = sorted(provider.get("arguments", {}).keys() - ({"within_seconds"} if is_probe else set()))
            if given != wanted:
                yield f"{place}.arguments: {', '.join(given) or 'none'}; {tasks} takes {', '.join(wanted) or 'none'}"
    method = [activity["name"] for activity in content["method"]]
    for name in sorted({name for name in method if method.count(name) > 1}):
        yield f"method: {name!r} is there twice"
    healed = {rollback["provider"]["of"] for rollback in content["rollbacks"]}
    for name in sorted(healed.difference(method)):
        yield f"rollbacks: {name!r} is no name in method"
    actions = catalogue().all_actions
    faults = [one["name"] for one in content["method"] if "heal" in actions.get(one["provider"]["tasks"], {})]
    for name in faults:
        if name not in healed:
            yield f"rollbacks: nothing heals {name!r}"
    if faults and "heal_after_seconds" not in content:
        yield "heal_after_seconds: is missing: every fault heals by a timer"


def names(directory: Path = ROOT / "experiments") -> list[str]:
    """Return the names of all experiments."""
    return sorted(path.stem for path in directory.glob("*.yml"))


def load(path: Path, *, witness: bool = True) -> Experiment:
    """Read an experiment, with the budget of a site that has a witness or of one that has none.

    Raises InputError that names the file and every wrong key.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no experiment {path.stem}; there are {', '.join(names(path.parent))}")
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML: {error}") from error
    if wrong := problems(content):
        raise InputError("\n".join(f"{path}: {problem.removeprefix(': ')}" for problem in wrong))
    steady = yaml.safe_load(read_text(STEADY_STATE))
    own = content.get("steady-state-hypothesis", {"probes": []})
    steady |= own | {"probes": steady["probes"] + own["probes"]}
    budget = dict(content["budget"])
    different = budget.pop("without_witness", {})
    budget |= {} if witness else different
    return Experiment(path.stem, content | {"steady-state-hypothesis": steady}, Budget(**budget))
