"""The shipped experiments are valid and keep their promises; a wrong one is refused by file and key."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaoslab import experiment
from chaoslab.cli import main

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
FILES = sorted(EXPERIMENTS.glob("*.yml"))
DOWN: dict[str, Any] = yaml.safe_load((EXPERIMENTS / "primary-down.yml").read_text())
# The longest time without an acknowledged vote that the design allows.
DESIGN = {
    "switchover": 3,
    "primary-down": 5,
    "postgresql-killed": 6,
    "primary-killed": 25,
    "primary-off": 25,
    "primary-frozen": 30,
    "primary-paused": 30,
    "primary-isolated": 30,
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
    assert found.budget.outage_seconds == DESIGN.get(found.name, found.budget.outage_seconds)
    assert len(text.splitlines()) <= 40
    for host in ("postgres-1", "postgres-2", "main", "monitoring"):
        assert f"target: {host}" not in text


def test_all_experiments_of_the_design_are_there() -> None:
    """None is forgotten."""
    assert DESIGN.keys() <= {path.stem for path in FILES}


def test_validate_prints_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    """With its title."""
    assert main(["validate", str(EXPERIMENTS)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(FILES)


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
    ],
)
def test_wrong_key_is_named(
    change: Callable[[Any], None],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 and one line with the file, the key, and what would be right."""
    content = copy.deepcopy(DOWN)
    change(content)
    path = tmp_path / "wrong.yml"
    path.write_text(yaml.safe_dump(content))
    assert main(["validate", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{path}: ")
    assert message in error


@pytest.mark.parametrize(
    ("text", "message"), [("a: b: c", "is not YAML"), ("- 1", "is list"), ("", "is nothing, not a mapping")]
)
def test_what_is_no_experiment_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And does not end in a traceback."""
    path = tmp_path / "wrong.yml"
    path.write_text(text)
    assert main(["validate", str(path)]) == 2
    assert message in capsys.readouterr().err
