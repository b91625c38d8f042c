"""What a run is on a site: its steps, times and hosts; who is who among the databases; what hosts said, as events."""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from chaoslab import cluster, experiment
from chaoslab.cli import main
from chaoslab.files import InputError
from chaoslab.plan import Site, plan, slices
from chaoslab.records import EVENT_KINDS
from tests.unit.load import load

events = load("plugins/filter/chaos_events.py")

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yml"))
HOSTS: dict[str, Any] = {
    "app": ["main", "main-2"],
    "databases": {"postgres-1": "192.0.2.12", "postgres-2": "192.0.2.13"},
    "etcd": {"main": "192.0.2.11", "postgres-1": "192.0.2.12", "postgres-2": "192.0.2.13"},
    "elasticsearch": ["monitoring"],
    "backup": ["monitoring"],
    "witnesses": ["main", "monitoring"],
}
SITE = Site(HOSTS, "docker")


def planned(name: str, site: Site = SITE) -> dict[str, Any]:
    """Return the plan of a shipped experiment."""
    return plan(experiment.load(ROOT / "experiments" / f"{name}.yml"), site, 0)


@pytest.mark.parametrize(
    ("seconds", "ends"), [(0, []), (3, [3]), (10, [10]), (11, [10, 11]), (35, [10, 20, 30, 35])], ids=str
)
def test_a_wait_is_cut_into_slices(seconds: int, ends: list[int]) -> None:
    """None is longer than ten seconds, and the last ends with the wait."""
    assert slices(seconds) == ends


def test_the_plan_of_primary_off() -> None:
    """Calm, a witness, the fault from outside, and watching until ten seconds before it heals by itself."""
    found = planned("primary-off")
    assert (found["name"], found["id"], found["heal_seconds"]) == ("primary-off", "19700101T000000Z", 45)
    assert [step["do"] for step in found["steps"]] == ["watch", "probe", "inject", *["watch"] * 4]
    calm, witness, fault, *watched = found["steps"]
    assert (calm["until"], calm["most_outage"]) == (5, 2)
    assert (witness["hosts"], witness["within"]) == (HOSTS["witnesses"], 90)
    assert (fault["target"], fault["count"], fault["outside"], fault["late"]) == ("primary", 1, True, False)
    assert fault["heal"] == {"name": "Switch the VM on", "order": 0}
    assert [(step["until"], step["most_outage"]) for step in watched] == [(10, 18), (20, 18), (30, 18), (35, 18)]
    assert [step["within"] for step in found["before"]] == [None] * 3
    assert [step["within"] for step in found["after"]] == [90] * 3
    assert found["most_seconds"] == 180 + 35 + 45 + 2 * 100 + 90


def test_pauses_and_ordered_steps_are_kept() -> None:
    """The method's order, the waits between its steps, and which fault heals first."""
    found = planned("negative-control-asynchronous")["steps"]
    kinds = [(step["do"], step.get("tasks") or step["until"]) for step in found]
    assert kinds[1:6] == [
        ("inject", "patroni-config"), ("watch", 10), ("inject", "isolate"), ("watch", 3), ("inject", "vm-off"),
    ]  # fmt: skip
    assert [step["heal"]["order"] for step in found if step["do"] == "inject"] == [2, 1, 0]
    wal = [step for step in planned("wal-disk-full")["steps"] if step["do"] != "watch"]
    assert [step["tasks"] for step in wal] == [
        *("wal-disk-own", "cluster-whole", "switchover", "cluster-whole", "wal-disk-fill"),
    ]
    assert [step.get("late") for step in wal] == [True, None, False, None, False]


def test_targets_of_more_than_one_host() -> None:
    """Every database where all are meant, and as many as the experiment says."""
    assert {step["count"] for step in planned("hosts-starved")["steps"] if step["do"] == "inject"} == {2}
    assert [step["count"] for step in planned("etcd-quorum-lost")["steps"] if step["do"] == "inject"] == [2]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_has_a_plan(path: Path) -> None:
    """All of its steps have a file of tasks, and every rollback that heals belongs to one."""
    found = planned(path.stem)
    tasks = {file.stem for file in (ROOT / "roles/chaos/tasks").glob("*.yml")}
    assert {step["do"] for step in found["steps"]} <= tasks
    heals = {step["heal"]["name"] for step in found["steps"] if step["do"] == "inject" and step["heal"]}
    assert heals == {one["name"] for one in experiment.load(path).content["rollbacks"]}


@pytest.mark.parametrize(
    ("name", "site", "message"),
    [
        ("primary-off", Site(HOSTS), r"primary-off needs vm-off\. For chaos_platform \(not set\)"),
        ("primary-paused", Site(HOSTS, "virsh"), r"needs vm-pause\. For chaos_platform virsh .* docker is an example"),
        ("elasticsearch-down", Site(HOSTS | {"elasticsearch": []}), "this site has no elasticsearch"),
        ("app-host-off", Site(HOSTS | {"app": ["main"]}), "this site has no app-others"),
        ("etcd-voter-down", Site(HOSTS | {"etcd": {}}), "this site has no etcd"),
        (
            "primary-and-witness-off",
            Site(HOSTS | {"witnesses": ["main"]}, "docker"),
            "this site has no primary-and-witness",
        ),
    ],
)
def test_what_a_site_cannot_do_is_refused(name: str, site: Site, message: str) -> None:
    """Before anything is touched."""
    with pytest.raises(InputError, match=message):
        planned(name, site)


def test_the_plan_is_printed_and_knows_whether_there_is_a_witness(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON; the guardrail is twice the budget that holds on this site."""
    for witnesses, guardrail in ((["main"], 18), ([], 60)):
        hosts = json.dumps(HOSTS | {"witnesses": witnesses})
        path = str(ROOT / "experiments" / "primary-off.yml")
        assert main(["plan", path, "--hosts", hosts, "--platform", "docker"]) == 0
        assert json.loads(capsys.readouterr().out)["steps"][-1]["most_outage"] == guardrail


def member(name: str, role: str, state: str = "streaming", timeline: int = 3) -> dict[str, Any]:
    """Return a member as Patroni lists it."""
    return {"name": name, "role": role, "state": state, "timeline": timeline}


GOOD = [member("postgres-1", "leader", "running"), member("postgres-2", "sync_standby")]


OTHER = [member("postgres-1", "replica"), member("postgres-2", "leader", "running")]


def look(monkeypatch: pytest.MonkeyPatch, first: list[Any], second: list[Any]) -> dict[str, Any]:
    """Return what comes of two databases' listings."""
    said = {"192.0.2.12": first, "192.0.2.13": second}
    monkeypatch.setattr(cluster, "members", lambda address, _trust: said[address])
    return cluster.look(HOSTS["databases"], ssl.create_default_context())


def test_a_whole_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """All agree on one primary, and the standby streams synchronously."""
    found = look(monkeypatch, GOOD, GOOD)
    assert (found["whole"], found["primary"]) == (True, "postgres-1")
    assert found["text"] == "postgres-1: leader, running; postgres-2: sync standby, streaming"


@pytest.mark.parametrize(
    "standby",
    [
        member("postgres-2", "replica"),
        member("postgres-2", "sync_standby", timeline=2),
        member("postgres-2", "sync_standby", "starting"),
        member("postgres-9", "sync_standby"),
    ],
    ids=str,
)
def test_a_standby_that_could_not_take_over(standby: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asynchronous, on another timeline, not streaming, or another one."""
    found = look(monkeypatch, [GOOD[0], standby], [GOOD[0], standby])
    assert (found["whole"], found["primary"]) == (False, "postgres-1")


@pytest.mark.parametrize(
    ("first", "second", "primary"),
    [(GOOD, [], "postgres-1"), ([], [], None), (GOOD, OTHER, None), (GOOD[:1], GOOD[:1], "postgres-1")],
    ids=["one does not answer", "none answers", "two primaries", "one is missing"],
)
def test_databases_that_do_not_agree(
    first: list[Any], second: list[Any], primary: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is whole, and who is primary only if nobody says otherwise."""
    found = look(monkeypatch, first, second)
    assert (found["whole"], found["primary"]) == (False, primary)
    assert ("postgres-2: no answer" in found["text"]) == (not second)


def test_whom_an_experiment_means() -> None:
    """By role at this moment; of etcd those that answered and do not lead."""
    voters = [
        {"Endpoint": f"https://{address}:2379", "Status": {"header": {"member_id": number}, "leader": 2}}
        for number, address in enumerate(HOSTS["etcd"].values(), 1)
    ]
    found = cluster.targets(HOSTS, "postgres-2", voters)
    targets = re.findall(r"target:\s+{?enum: \[(.+)\]", experiment.SCHEMA.read_text())
    assert sorted(found) == sorted(targets[0].split(", "))
    assert (found["primary"], found["standby"], found["cluster"]) == (["postgres-2"], ["postgres-1"], ["postgres-1"])
    assert found["etcd-follower"] == ["main", "postgres-2"]
    assert cluster.targets(HOSTS, None, [])["primary"] == []


FAULT = {"host": "postgres-1", "name": "Stop it", "heal": {"name": "Start it"}}


def test_events_of_faults() -> None:
    """The target says when; what could not be done says why."""
    done = {"__chaos_fault": FAULT, "rc": 0, "stdout_lines": ["1800000000.5"]}
    done |= {"start": "2027-01-15 08:00:00.250000", "end": "2027-01-15 08:00:01.500000"}
    (event,) = events.chaos_fault_events([done], "inject")
    assert event == {
        "time": 1800000000.5,
        "kind": "inject",
        "name": "Stop it",
        "host": "postgres-1",
        "text": "Stop it: postgres-1",
        "status": "succeeded",
        "duration": 1.25,
    }
    (event,) = events.chaos_fault_events([{"__chaos_fault": FAULT, "unreachable": True, "msg": "no route"}], "heal")
    assert (event["text"], event["status"]) == ("Start it: postgres-1 (failed: no route)", "failed")
    assert event["time"] > 1800000000 - 86400 * 365


def test_events_of_probes() -> None:
    """Right on all hosts; nobody to ask is no fault."""
    step = {"name": "All is well", "kind": "steady-before"}
    good = {"__chaos_host": "a", "rc": 0, "stdout": "well\n", "stderr": ""}
    bad = {"__chaos_host": "b", "rc": 1, "stdout": "", "stderr": " ill \nvery\n"}
    event = events.chaos_probe_event([good, bad], step)
    assert (event["text"], event["status"]) == ("All is well (a: well; b: ill, very)", "failed")
    assert events.chaos_probe_event([], step)["status"] == "succeeded"
    assert events.chaos_probe_event([good | {"unreachable": True, "rc": None}], step)["status"] == "failed"


def test_events_of_reliefs() -> None:
    """One a line of the journal."""
    line = "1800000000.25 monitoring patroni-witness[7]: relieving a in favour of b: done."
    (event,) = events.chaos_relief_events([{"__chaos_host": "monitoring", "stdout_lines": [line]}])
    assert (event["time"], event["text"]) == (1800000000.25, "relieving a in favour of b: done.")


def test_the_kinds_of_events_are_known() -> None:
    """A kind that the judge does not know leaves a run without a verdict; one that nobody notes is dead."""
    places = [
        *(ROOT / "roles/chaos/tasks").glob("*.yml"),
        ROOT / "chaoslab/plan.py",
        ROOT / "plugins/filter/chaos_events.py",
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in places)
    noted = set(re.findall(r"""(?:chaos_fault_events\(|'kind': |"kind": |, )['"]([a-z-]+)['"](?=[,)\]])""", text))
    assert set(EVENT_KINDS) <= noted
