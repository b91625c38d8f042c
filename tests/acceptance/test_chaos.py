"""The chaos experiments as somebody runs them: what is refused, what comes out green, and what must come out red."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.acceptance import lab, pages

RESULTS = lab.DIRECTORY / "chaos"
# Half the usual votes: here voters, site and control node share the processors.
RATE = ("-e", "chaos_rate=10")
# A quarter, where the control node is busy for minutes, too.
LOW_RATE = ("-e", "chaos_rate=5")
FILES = {"journal.json", "report.html", "votes.jsonl", "reads.jsonl", "samples.jsonl", "events.jsonl"}


def runs() -> set[Path]:
    """Return the folders of all runs so far."""
    return set(RESULTS.glob("*-*/"))


def experiment(playbook: str, *arguments: str) -> tuple[int, str, list[Path]]:
    """Run an experiment; return the playbook's exit code, what it printed, and the folders that are new."""
    before = runs()
    done = lab.playbook(playbook, *arguments)
    return done.returncode, done.stdout + done.stderr, sorted(runs() - before)


def judged(folder: Path) -> dict[str, Any]:
    """Return what the judge says about a run."""
    found: dict[str, Any] = json.loads((folder / "journal.json").read_text(encoding="utf-8"))["chaoslab"]
    return found


def assert_green(result: tuple[int, str, list[Path]], name: str, tell: Callable[[str], None]) -> Path:
    """Check that a run met its budget, left its record, and said so; return its folder."""
    code, output, folders = result
    # A run that was cut short before it broke anything has no journal.
    assert code == 0, f"{[judged(one)['summary'] for one in folders if (one / 'journal.json').exists()]}\n{output}"
    assert f"PASS {name}: " in output
    (folder,) = folders
    assert {path.name for path in folder.iterdir()} >= FILES
    assert str(folder / "report.html") in output
    assert folder.name in (RESULTS / "index.html").read_text(encoding="utf-8")
    assert judged(folder)["verdict"] == "pass"
    tell(f"{judged(folder)['summary']}")
    return folder


def assert_refused(why: str, *arguments: str) -> None:
    """Check that an experiment is refused in these words, before anything is broken."""
    code, output, folders = experiment("chaos-primary-down.yml", *arguments)
    assert code != 0
    assert why in output
    assert folders == []


def broken_by(control: str) -> set[str]:
    """Run a negative control, which has to come out red, and return the rules that do not hold."""
    code, output, (folder,) = experiment(f"playbooks/chaos-negative-control-{control}.yml")
    assert code != 0
    assert f"FAIL negative-control-{control}: " in output
    return {rule["key"] for rule in judged(folder)["rules"] if not rule["holds"]}


def assert_relieved(name: str, tell: Callable[[str], None]) -> None:
    """Run an experiment that takes the primary away; check that it is green, and that a witness relieved it, once."""
    lab.wait_until("witnesses that are ready", lab.witness_is_ready, lab.READY_SECONDS)
    old, new, begun = lab.primary(), lab.standby(), time.time()
    assert_green(experiment(f"playbooks/chaos-{name}.yml", *RATE), name, tell)
    assert lab.primary() == new
    # etcd, whose leader may have been lost as well, may have left an earlier attempt without an answer.
    done = [line for line in lab.relieved(begun) if line.endswith(": done.")]
    assert done == [f"relieving {old} in favour of {new}: done."]


@pytest.fixture
def lonely_primary() -> Iterator[str]:
    """Return the primary, whose standby's database service is stopped until the test is over."""
    primary, standby = lab.primary(), lab.standby()
    lab.on(standby).check_output("systemctl stop patroni")
    yield primary
    lab.on(standby).check_output("systemctl start patroni")


@pytest.fixture
def locked_site() -> Iterator[None]:
    """Hold the lock of the site until the test is over, as another control node would."""
    app = lab.on(lab.group("app")[0])
    app.check_output("systemd-run --quiet --collect --unit=chaos-lock sleep 120")
    yield
    app.check_output("systemctl stop chaos-lock")


@pytest.mark.usefixtures("whole_cluster")
def test_site_that_may_not_be_broken_is_left_alone() -> None:
    """An inventory has to allow it."""
    assert_refused("chaos_allowed is not true", "-e", "chaos_allowed=false")


@pytest.mark.usefixtures("whole_cluster", "locked_site")
def test_second_experiment_at_the_same_time_is_refused() -> None:
    """Two experiments would judge each other's faults."""
    assert_refused("another experiment is running")


@pytest.mark.usefixtures("whole_cluster")
def test_nothing_is_broken_that_is_not_whole(lonely_primary: str) -> None:
    """Without its standby the primary would be lost for good: it is not touched, and the lock is open again."""
    assert_refused("the steady state is not met, so nothing was touched")
    assert lab.sql(lonely_primary, "select pg_is_in_recovery()") == "f"
    assert lab.run(lab.group("app")[0], "systemctl", "is-active", "chaos-lock").stdout.strip() == "inactive"


@pytest.mark.usefixtures("whole_cluster")
def test_primary_down_is_green(tell: Callable[[str], None], chromium: Browser) -> None:
    """The reference's own chaos test, from the root of the repository; another host is primary afterwards."""
    old = lab.primary()
    folder = assert_green(experiment("chaos-primary-down.yml", *RATE), "primary-down", tell)
    assert lab.primary() != old
    for file in (folder / "report.html", RESULTS / "index.html"):
        pages.assert_file_is_whole(chromium, file)


@pytest.mark.usefixtures("whole_cluster")
def test_lost_primary_is_relieved_and_the_run_is_green(tell: Callable[[str], None]) -> None:
    """Gone with its etcd voter. Other ways: tests/long."""
    assert_relieved("primary-off", tell)


@pytest.mark.usefixtures("whole_cluster")
def test_vote_that_vanishes_makes_a_run_red() -> None:
    """The negative control: a confirmed vote is removed from the ledger, the judge sees it, and it is put back."""
    assert {"lost", "tally"} <= broken_by("row-removed")
    lab.wait_until("the same choices in every database", lab.same_everywhere, 10)
    for host in lab.group("postgres"):
        lab.assert_explained(host)
