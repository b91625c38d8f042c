"""The shipped experiments are valid and keep their promises; a wrong one is refused by file and key."""

from __future__ import annotations

import copy
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
DOWN["steady-state-hypothesis"] = yaml.safe_load((EXPERIMENTS / "defaults" / "steady-state.yml").read_text())
# The longest time without an acknowledged vote that the design allows; where it is another without a witness, both.
DESIGN: dict[str, int | tuple[int, int]] = {
    "switchover": 3,
    "primary-down": 5,
    "postgresql-killed": 6,
    "primary-killed": 25,
    "primary-off": (9, 25),
    "primary-and-witness-off": 6,
    "primary-frozen": 30,
    "primary-paused": (9, 30),
    "primary-isolated": (9, 30),
    "gunicorn-killed": 0,
    "gunicorns-restarted": 0,
    "etcd-voter-down": 0,
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_experiment(path: Path) -> None:
    """Valid, short, and naming no host."""
    found = experiment.load(path)
    text = path.read_text()
    assert found.budget.failed_reads == 0
    assert found.budget.rejoin_seconds == 60
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
    del playbooks["chaos-all"]
    assert {name: play[0]["vars"]["chaos_experiment"] for name, play in playbooks.items()} == {
        f"chaos-{path.stem}": path.stem for path in FILES
    }


def put(*keys: str | int, value: object) -> Callable[[Any], None]:
    """Return what sets a key deep in a file."""

    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def drop(*keys: str | int) -> Callable[[Any], None]:
    """Return what removes a key deep in a file."""

    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


PROBES = ("steady-state-hypothesis", "probes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("title"), "title: is missing"),
        (put("title", value=""), "title: is str '', not a text"),
        (put("extra", value=1), "extra: is unknown; there are budget,"),
        (put("tags", value="x"), "tags: is str 'x', not a list of at least 1"),
        (put("tags", value=[3]), "tags[0]: is int '3', not a text"),
        (put("method", value=[]), "method: is list '[]', not a list of at least 1"),
        (put("method", value=None), "method: is nothing, not a list"),
        (drop(*PROBES, 0, "tolerance"), "steady-state-hypothesis.probes[0].tolerance: is missing"),
        (
            put(*PROBES, 0, "provider", "tasks", value="x"),
            "probes[0].provider.tasks: is 'x', not one of cluster-whole,",
        ),
        (
            put("method", 0, "provider", "target", value="postgres-1"),
            "provider.target: is 'postgres-1', not one of primary,",
        ),
        (put("method", 0, "provider", "type", value="python"), "provider.type: is 'python', not one of ansible"),
        (drop("method", 0, "provider", "arguments"), "method[0].provider.arguments.unit: is missing"),
        (put("method", 0, "provider", "arguments", "x", value=1), "arguments.x: is unknown; there are unit"),
        (put("method", 0, "provider", "count", value=0), "method[0].provider.count: is 0, not a number of hosts"),
        (put("method", 0, "pauses", value={"before": -1}), "method[0].pauses.before: is -1, not a number of seconds"),
        (lambda content: content["method"].append(content["method"][0]), "'Stop the database service' is there twice"),
        (put("rollbacks", value=[]), "rollbacks: nothing heals 'Stop the database service'"),
        (put("rollbacks", 0, "provider", "of", value="x"), "rollbacks[0].provider.of: 'x' is no name in method"),
        (drop("heal_after_seconds"), "heal_after_seconds: is missing: every fault heals by a timer"),
        (
            put("heal_after_seconds", value="soon"),
            "heal_after_seconds: is 'soon', not a number of seconds of at least 1",
        ),
        (put("budget", "outage_seconds", value=True), "budget.outage_seconds: is True, not a number of seconds"),
        (put("budget", "failed_votes", value="some"), "budget.failed_votes: is 'some', not one of none, only-503"),
        (put("budget", "failed_reads", value=0.5), "budget.failed_reads: is 0.5, not a number of requests"),
        (put("budget", "promotion", value="maybe"), "budget.promotion: is 'maybe', not one of"),
        (drop("budget", "failed_reads"), "budget.failed_reads: is missing"),
        (drop(*PROBES, 0), "probes: cluster-whole is not among them: nothing is broken that is not whole"),
        (
            put("budget", "without_witness", value={"outage_seconds": "long"}),
            "budget.without_witness.outage_seconds: is 'long', not a number of seconds",
        ),
        (
            put("budget", "without_witness", value={"x": 1}),
            "budget.without_witness.x: is unknown; there are failed_reads",
        ),
    ],
)
def test_wrong_key_is_named(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    """One line with the file, the key, and what would be right."""
    content = copy.deepcopy(DOWN)
    change(content)
    path = tmp_path / "wrong.yml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as refused:
        experiment.load(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"), [("a: b: c", "is not YAML"), ("- 1", "is list"), ("", "is nothing, not a mapping")]
)
def test_what_is_no_experiment_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """And does not end in a traceback."""
    path = tmp_path / "wrong.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        experiment.load(path)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """Whoever mistypes one sees what there is."""
    with pytest.raises(InputError, match=r"there is no experiment primary-of; there are clock-step, .*primary-off"):
        experiment.load(EXPERIMENTS / "primary-of.yml")
