"""Experiments: files in Chaos Toolkit's terms, and our budgets. Reading them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaoslab.files import InputError, read_text

TARGETS = ("primary", "standby", "databases", "app", "etcd-follower", "elasticsearch", "cluster")
FAILED_VOTES = ("none", "only-503")
PROMOTIONS = ("required", "forbidden", "allowed")

LEAST_GUARDRAIL = 10.0

# The tasks that the engine has, each with its arguments: True for those that must be given.
PROBES: Mapping[str, Mapping[str, bool]] = {
    "cluster-whole": {"within_seconds": False},
    "etcd-whole": {},
    "ledger-explains": {},
    "logs-complete": {},
    "site-answers": {},
}
ACTIONS: Mapping[str, Mapping[str, bool]] = {
    "clock-own": {},
    "clock-step": {"seconds": True},
    "cpu-busy": {},
    "isolate": {"from": True},
    "ledger-remove": {},
    "packet-loss": {"percent": True},
    "patroni-config": {"set": True},
    "process-kill": {"process": True, "signal": False},
    "replay-pause": {},
    "rolling-restart": {"programs": True},
    "switchover": {},
    "systemd-freeze": {"unit": True},
    "systemd-kill": {"unit": True},
    "systemd-restart": {"unit": True, "times": False, "pause_seconds": False},
    "systemd-stop": {"unit": True},
    "systemd-stutter": {"unit": True, "still_seconds": True, "pause_seconds": True},
    "vm-off": {},
    "vm-pause": {},
    "wal-disk-fill": {},
    "wal-disk-own": {"room_megabytes": True},
}
# A fault leaves something to heal; what these do is over when they return.
FLEETING = ("process-kill", "rolling-restart", "switchover", "systemd-restart")


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
    """A valid experiment: its name (the file's), its content as it stands in the file, and its budget."""

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
    required = {"title", "description", "tags", "steady-state-hypothesis", "method", "rollbacks", "budget"}
    top = found.keys("", content, required, {"heal_after_seconds", "observe_seconds"})
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
        _budget(found, top["budget"])
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
    for number, probe in enumerate(found.items(where, hypothesis.get("probes"), least=1)):
        place = f"{where}[{number}]"
        entry = found.keys(place, probe, {"type", "name", "tolerance", "provider"}, set())
        _activity(found, place, entry, "probe")


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
        names[name] = kind == "action" and tasks not in FLEETING
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
    known = PROBES if kind == "probe" else ACTIONS
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
    found.one_of(f"{place}.provider.tasks", provider["tasks"], tuple(known))
    wanted = known.get(str(provider["tasks"]))
    if wanted is not None:
        must = {name for name, needed in wanted.items() if needed}
        found.keys(f"{place}.provider.arguments", provider.get("arguments", {}), must, set(wanted))


def _budget(found: _Problems, value: object) -> None:
    optional = {"rejoin_seconds", "promotion", "resolution_seconds"}
    budget = found.keys("budget", value, {"outage_seconds", "failed_votes", "failed_reads"}, optional)
    for name in ("outage_seconds", "rejoin_seconds", "resolution_seconds"):
        if name in budget:
            found.seconds(f"budget.{name}", budget[name])
    if "failed_votes" in budget:
        found.one_of("budget.failed_votes", budget["failed_votes"], FAILED_VOTES)
    if "promotion" in budget:
        found.one_of("budget.promotion", budget["promotion"], PROMOTIONS)
    reads = budget.get("failed_reads", 0)
    if isinstance(reads, bool) or not isinstance(reads, int) or reads < 0:
        found.add("budget.failed_reads", f"is {reads!r}, not a number of requests")


def load(path: Path) -> Experiment:
    """Read an experiment; raise InputError that names the file and every wrong key."""
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML: {error}") from error
    if wrong := problems(content):
        raise InputError("\n".join(f"{path}: {problem.removeprefix(': ')}" for problem in wrong))
    return Experiment(path.stem, content, Budget(**content["budget"]))


def load_all(paths: list[Path]) -> Iterator[Experiment | InputError]:
    """Read files, and those in directories; yield each experiment, or what is wrong with its file."""
    for path in paths:
        for file in sorted(path.glob("*.yml")) if path.is_dir() else [path]:
            try:
                yield load(file)
            except InputError as error:
                yield error
