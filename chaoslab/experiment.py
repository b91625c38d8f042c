"""Experiments: files in Chaos Toolkit's terms, and our budgets. Reading them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from chaoslab.files import InputError, read_text

TARGETS = ("primary", "standby", "databases", "app", "etcd-follower", "elasticsearch", "cluster", "primary-and-witness")
FAILED_VOTES = ("none", "only-503")
PROMOTIONS = ("required", "forbidden", "allowed")

LEAST_GUARDRAIL = 10.0

# What the role has for each action and probe, and the steady state of experiments that say no other.
ROOT = Path(__file__).resolve().parents[1]
ROLE_VARS = ROOT / "roles" / "chaos" / "vars" / "main"
STEADY_STATE = ROOT / "experiments" / "defaults" / "steady-state.yml"


@dataclass(frozen=True)
class Catalogue:
    """What an experiment may name, as the role has it; platforms: the actions that each has from outside."""

    actions: Mapping[str, Mapping[str, Any]]
    platforms: Mapping[str, Mapping[str, Mapping[str, Any]]]
    probes: Mapping[str, Mapping[str, Any]]

    @property
    def all_actions(self) -> dict[str, Mapping[str, Any]]:
        """Every action by its name, those from outside as some platform has them."""
        outside = {name: action for actions in self.platforms.values() for name, action in actions.items()}
        return {**self.actions, **outside}


@cache
def catalogue() -> Catalogue:
    """Read the role's actions and probes."""
    actions = yaml.safe_load(read_text(ROLE_VARS / "actions.yml"))
    probes = yaml.safe_load(read_text(ROLE_VARS / "probes.yml"))
    return Catalogue(actions["__chaos_actions"], actions["__chaos_platforms"], probes["__chaos_probes"])


@dataclass(frozen=True)
class Budget:
    """What an experiment may cost. Times in seconds.

    resolution_seconds is the gap between acknowledgements that counts as none: the pulse of the schedule and a
    moment's jitter. An outage budget of 0 means "no gap longer than this".
    """

    outage_seconds: float
    failed_votes: str = "none"
    failed_reads: int = 0
    rejoin_seconds: float | None = None
    promotion: str = "allowed"
    resolution_seconds: float = 0.5

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

    @property
    def title(self) -> str:
        """What it does, in a few words."""
        return str(self.content["title"])


class _Problems:
    """Collects what is wrong, each with the key it is about."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, key: str, text: str) -> None:
        self.found.append(f"{key}: {text}")

    def keys(self, where: str, value: object, required: set[str], optional: set[str]) -> dict[str, Any]:
        """Return a mapping with the known keys, or an empty one after a complaint."""
        if not isinstance(value, dict):
            self.add(where, f"is {_kind(value)}, not a mapping")
            return {}
        for name in sorted(required - value.keys()):
            self.add(_join(where, name), "is missing")
        for name in value.keys() - required - optional:
            self.add(_join(where, str(name)), f"is unknown; there are {', '.join(sorted(required | optional))}")
        return value

    def text(self, where: str, value: object) -> None:
        if not isinstance(value, str) or not value.strip():
            self.add(where, f"is {_kind(value)}, not a text")

    def seconds(self, where: str, value: object, least: float = 0.0) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            self.add(where, f"is {value!r}, not a number of seconds of at least {least:g}")

    def one_of(self, where: str, value: object, choices: tuple[str, ...]) -> None:
        if value not in choices:
            self.add(where, f"is {value!r}, not one of {', '.join(choices)}")

    def items(self, where: str, value: object, *, least: int) -> list[Any]:
        if not isinstance(value, list) or len(value) < least:
            self.add(where, f"is {_kind(value)}, not a list" + (f" of at least {least}" if least else ""))
            return []
        return value


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def problems(content: object) -> list[str]:
    """Return what is wrong with an experiment, a line each that begins with the key; nothing when it is valid."""
    found = _Problems()
    required = {"title", "description", "tags", "method", "rollbacks", "budget"}
    top = found.keys("", content, required, {"steady-state-hypothesis", "heal_after_seconds", "observe_seconds"})
    if not top:
        return found.found
    _words(found, top)
    if "steady-state-hypothesis" in top:
        _hypothesis(found, top["steady-state-hypothesis"])
    names = _method(found, top["method"]) if "method" in top else {}
    if "rollbacks" in top:
        _rollbacks(found, top["rollbacks"], names)
    if any(names.values()) and "heal_after_seconds" not in top:
        found.add("heal_after_seconds", "is missing: every fault heals by a timer")
    if "budget" in top:
        _budget(found, "budget", top["budget"], {"outage_seconds", "failed_votes", "failed_reads"})
    return found.found


def _words(found: _Problems, top: Mapping[str, Any]) -> None:
    """Check what stands at the top."""
    for name in {"title", "description"} & top.keys():
        found.text(name, top[name])
    for number, tag in enumerate(found.items("tags", top["tags"], least=1) if "tags" in top else []):
        found.text(f"tags[{number}]", tag)
    for name in {"heal_after_seconds", "observe_seconds"} & top.keys():
        found.seconds(name, top[name], least=1)


def _hypothesis(found: _Problems, value: object) -> None:
    hypothesis = found.keys("steady-state-hypothesis", value, {"title", "probes"}, set())
    if "title" in hypothesis:
        found.text("steady-state-hypothesis.title", hypothesis["title"])
    where = "steady-state-hypothesis.probes"
    asked = set()
    for number, probe in enumerate(found.items(where, hypothesis.get("probes"), least=1)):
        place = f"{where}[{number}]"
        entry = found.keys(place, probe, {"type", "name", "tolerance", "provider"}, set())
        _activity(found, place, entry, "probe")
        provider = entry.get("provider")
        asked.add(provider.get("tasks") if isinstance(provider, dict) else None)
    if "cluster-whole" not in asked:
        found.add(where, "cluster-whole is not among them: nothing is broken that is not whole")


def _method(found: _Problems, value: object) -> dict[str, bool]:
    """Check the method; return its activities' names and whether each must be healed."""
    names: dict[str, bool] = {}
    for number, activity in enumerate(found.items("method", value, least=1)):
        place = f"method[{number}]"
        entry = found.keys(place, activity, {"type", "name", "provider"}, {"pauses"})
        kind = entry.get("type", "action")
        found.one_of(f"{place}.type", kind, ("action", "probe"))
        _activity(found, place, entry, str(kind))
        name = str(entry.get("name"))
        if name in names:
            found.add(f"{place}.name", f"{name!r} is there twice")
        provider = entry.get("provider")
        tasks = provider.get("tasks") if isinstance(provider, dict) else None
        names[name] = kind == "action" and "heal" in catalogue().all_actions.get(str(tasks), {})
        if "pauses" in entry:
            pauses = found.keys(f"{place}.pauses", entry["pauses"], set(), {"before", "after"})
            for moment in pauses.keys() & {"before", "after"}:
                found.seconds(f"{place}.pauses.{moment}", pauses[moment])
    return names


def _rollbacks(found: _Problems, value: object, names: Mapping[str, bool]) -> None:
    undone = set()
    for number, activity in enumerate(found.items("rollbacks", value, least=0)):
        place = f"rollbacks[{number}]"
        entry = found.keys(place, activity, {"type", "name", "provider"}, set())
        provider = entry.get("provider")
        if isinstance(provider, dict) and provider.get("tasks") == "heal":
            found.keys(f"{place}.provider", provider, {"type", "tasks", "of"}, set())
            undone.add(provider.get("of"))
            if provider.get("of") not in names:
                found.add(f"{place}.provider.of", f"{provider.get('of')!r} is no name in method")
        else:
            _activity(found, place, entry, "action")
    for name, heals in names.items():
        if heals and name not in undone:
            found.add("rollbacks", f"nothing heals {name!r}")


def _activity(found: _Problems, place: str, entry: Mapping[str, Any], kind: str) -> None:
    """Check what probes and actions have in common."""
    if not entry:
        return
    if "name" in entry:
        found.text(f"{place}.name", entry["name"])
    found.one_of(f"{place}.type", entry.get("type", kind), (kind,))
    if "provider" not in entry:
        return
    known = catalogue().probes if kind == "probe" else catalogue().all_actions
    required = {"type", "tasks"} if kind == "probe" else {"type", "tasks", "target"}
    provider = found.keys(f"{place}.provider", entry["provider"], required, {"arguments", "target", "count"})
    if not provider:
        return
    found.one_of(f"{place}.provider.type", provider.get("type", "ansible"), ("ansible",))
    if "target" in provider:
        found.one_of(f"{place}.provider.target", provider["target"], TARGETS)
    if "count" in provider and (not isinstance(provider["count"], int) or provider["count"] < 1):
        found.add(f"{place}.provider.count", f"is {provider['count']!r}, not a number of hosts")
    if "tasks" not in provider:
        return
    found.one_of(f"{place}.provider.tasks", provider["tasks"], tuple(sorted(known)))
    wanted = set(known.get(str(provider["tasks"]), {}).get("arguments", ()))
    optional = {"within_seconds"} if kind == "probe" else set()
    found.keys(f"{place}.provider.arguments", provider.get("arguments", {}), wanted, wanted | optional)


def _budget(found: _Problems, where: str, value: object, required: set[str]) -> None:
    """Check a budget, and what it is without a witness: any part of it, which then says what is different."""
    known = {"outage_seconds", "failed_votes", "failed_reads", "rejoin_seconds", "promotion", "resolution_seconds"}
    budget = found.keys(where, value, required, known | ({"without_witness"} if required else set()))
    for name in ("outage_seconds", "rejoin_seconds", "resolution_seconds"):
        if name in budget:
            found.seconds(f"{where}.{name}", budget[name])
    if "failed_votes" in budget:
        found.one_of(f"{where}.failed_votes", budget["failed_votes"], FAILED_VOTES)
    if "promotion" in budget:
        found.one_of(f"{where}.promotion", budget["promotion"], PROMOTIONS)
    reads = budget.get("failed_reads", 0)
    if isinstance(reads, bool) or not isinstance(reads, int) or reads < 0:
        found.add(f"{where}.failed_reads", f"is {reads!r}, not a number of requests")
    if required and "without_witness" in budget:
        _budget(found, f"{where}.without_witness", budget["without_witness"], set())


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
    steady = {"steady-state-hypothesis": yaml.safe_load(read_text(STEADY_STATE))}
    budget = dict(content["budget"])
    different = budget.pop("without_witness", {})
    return Experiment(path.stem, steady | content, Budget(**budget | ({} if witness else different)))
