"""The shipped experiments are valid and keep their promises; a wrong one is refused by file and key."""

from __future__ import annotations

import copy
import functools
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaoslab import experiment
from chaoslab.files import InputError

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
FILES = sorted(EXPERIMENTS.glob("*.yml"))
DOWN: dict[str, Any] = yaml.safe_load((EXPERIMENTS / "primary-down.yml").read_text())
# The longest time without an acknowledged vote that the design allows; where it is another without a witness, both.
DESIGN: dict[str, int | tuple[int, int]] = {
    "switchover": 3,
    "primary-down": 5,
    "postgresql-killed": 6,
    "primary-killed": 25,
    "primary-off": (9, 30),
    "primary-and-witness-off": 6,
    "primary-frozen": 30,
    "primary-paused": (9, 30),
    "primary-isolated": (9, 30),
    "gunicorn-killed": 0,
    "gunicorns-restarted": 0,
    "etcd-voter-down": 0,
    "votes-deleted": 180,
    "databases-lost": 900,
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_experiment(path: Path) -> None:
    """Valid, short, and naming no host."""
    found = experiment.load(path)
    text = path.read_text()
    # Only where whole databases are taken away for a restore, or a machine is set up anew.
    restored = found.budget.recovery_point_seconds is not None
    # The application's own machine takes along what it was just answering.
    failed_reads = "only-under-way" if found.name == "app-host-off" else "only-503" if restored else "none"
    assert found.budget.failed_reads == failed_reads
    renewed = "vm-remove" in [one["provider"]["tasks"] for one in found.content["method"]]
    assert (found.budget.rejoin_seconds == 60) != (restored or renewed)
    budgets = found.budget.outage_seconds, experiment.load(path, witness=False).budget.outage_seconds
    wanted = DESIGN.get(found.name, budgets)
    assert budgets == (wanted if isinstance(wanted, tuple) else (wanted, wanted))
    # Who is judged by what a witness does waits until one would act.
    steps = [one["provider"] for one in found.content["method"]]
    judged = budgets[0] != budgets[1] or "primary-and-witness" in [one.get("target") for one in steps]
    assert ("witness-ready" in [one["tasks"] for one in steps]) == judged
    assert len(text.splitlines()) <= 40
    for host in ("postgres-1", "postgres-2", "main", "monitoring"):
        assert f"target: {host}" not in text


def test_all_experiments_of_the_design_are_there() -> None:
    """None is forgotten."""
    assert DESIGN.keys() <= {path.stem for path in FILES}


def test_every_experiment_can_be_run_and_is_described() -> None:
    """By a playbook of its name, which the shell completes; in the index of the runbooks, which leads to its page."""
    runbooks = ROOT / "docs" / "runbooks"
    rows = re.findall(r"^\| `([a-z-]+)`: \[.+\]\((.+?)\) \|", (runbooks / "README.md").read_text(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(path.stem for path in FILES)
    for name, page in rows:
        text = (runbooks / page).read_text()
        assert f"\n| `{name}` |" in text if page == "chaos.md" else f"playbooks/chaos-{name}.yml" in text
    playbooks = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "playbooks").glob("chaos-*.yml")}
    del playbooks["chaos-all"], playbooks["chaos-profiles"]
    assert {name: play[0]["vars"]["chaos_experiment"] for name, play in playbooks.items()} == {
        f"chaos-{path.stem}": path.stem for path in FILES
    }


def put(*keys: str | int, value: object) -> Callable[[Any], None]:
    """Return what sets a key deep in a file."""
    return lambda content: functools.reduce(operator.getitem, keys[:-1], content).update({keys[-1]: value})


def drop(*keys: str | int) -> Callable[[Any], None]:
    """Return what removes a key deep in a file."""
    return lambda content: functools.reduce(operator.getitem, keys[:-1], content).pop(keys[-1])


PROBE = {"type": "probe", "name": "Well", "tolerance": True, "provider": {"type": "ansible", "tasks": "etcd-whole"}}
HYPOTHESIS = {"title": "All is well", "probes": [PROBE]}
TASKS = ("method", 0, "provider", "tasks")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("title"), "'title' is a required property"),
        (put("title", value=""), "title: '' should be non-empty"),
        (put("extra", value=1), "('extra' was unexpected); there are title, description,"),
        (put("tags", value="x"), "tags: 'x' is not of type 'array'"),
        (put("tags", value=[3]), "tags[0]: 3 is not of type 'string'"),
        (put("method", value=[]), "method: [] should be non-empty"),
        (put("method", value=None), "method: None is not of type 'array'"),
        (put("method", 0, "type", value="x"), "method[0].type: 'x' is not one of ['action', 'probe']"),
        (put("steady-state-hypothesis", "probes", 0, "tolerance", value=1), "probes[0].tolerance: True was expected"),
        (drop("steady-state-hypothesis", "probes", 0, "tolerance"), "probes[0]: 'tolerance' is a required property"),
        (
            put("steady-state-hypothesis", "probes", 0, "provider", "tasks", value="x"),
            "'x' is not one of address-held, archive-complete,",
        ),
        (put(*TASKS, value="x"), "method[0].provider.tasks: 'x' is not one of clock-own, clock-step,"),
        (
            put("method", 0, "provider", "target", value="postgres-1"),
            "'postgres-1' is not one of ['primary', 'standby',",
        ),
        (put("method", 0, "provider", "type", value="python"), "method[0].provider.type: 'ansible' was expected"),
        (drop("method", 0, "provider", "target"), "method[0].provider: 'target' is a required property"),
        (drop("method", 0, "provider", "arguments"), "provider.arguments: none; systemd-stop takes unit"),
        (put("method", 0, "provider", "arguments", "x", value=1), "arguments: unit, x; systemd-stop takes unit"),
        (put("method", 0, "provider", "count", value=0), "method[0].provider.count: 0 is less than the minimum of 1"),
        (put("method", 0, "pauses", value={"before": -1}), "method[0].pauses.before: -1 is less than the minimum of 0"),
        (lambda content: content["method"].append(content["method"][0]), "'Stop the database service' is there twice"),
        (put("rollbacks", value=[]), "rollbacks: nothing heals 'Stop the database service'"),
        (put("rollbacks", 0, "provider", "of", value="x"), "rollbacks: 'x' is no name in method"),
        (put("rollbacks", 0, "provider", "tasks", value="x"), "rollbacks[0].provider.tasks: 'heal' was expected"),
        (drop("heal_after_seconds"), "heal_after_seconds: is missing: every fault heals by a timer"),
        (put("heal_after_seconds", value="soon"), "heal_after_seconds: 'soon' is not of type 'number'"),
        (put("observe_seconds", value=0), "observe_seconds: 0 is less than the minimum of 1"),
        (put("budget", "outage_seconds", value=True), "budget.outage_seconds: True is not of type 'number'"),
        (put("budget", "failed_votes", value="some"), "budget.failed_votes: 'some' is not one of ['none', "),
        (put("budget", "failed_reads", value=1), "budget.failed_reads: 1 is not one of ['none', "),
        (put("budget", "promotion", value="maybe"), "budget.promotion: 'maybe' is not one of"),
        (drop("budget", "outage_seconds"), "budget: 'outage_seconds' is a required property"),
        (
            put("budget", "without_witness", value={"rejoin_seconds": "x"}),
            "without_witness.rejoin_seconds: 'x' is not of",
        ),
        (put("budget", "without_witness", value={"x": 1}), "('x' was unexpected); there are outage_seconds,"),
    ],
)
def test_wrong_key_is_named(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    """One line with the file, the key, and what would be right."""
    content = copy.deepcopy(DOWN | {"steady-state-hypothesis": HYPOTHESIS})
    change(content)
    path = tmp_path / "wrong.yml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as refused:
        experiment.load(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: b: c", "is not YAML"), ("- 1", r"\[1\] is not of type 'object'"), ("", "yml: None is not of type 'object'")],
)
def test_what_is_no_experiment_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """And does not end in a traceback."""
    path = tmp_path / "wrong.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        experiment.load(path)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """Whoever mistypes one sees what there is."""
    with pytest.raises(InputError, match=r"there is no experiment primary-of; there are app-host-off, .*primary-off"):
        experiment.load(EXPERIMENTS / "primary-of.yml")
