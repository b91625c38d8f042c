"""What rang, and whether that is what an experiment says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaoslab import alerts
from chaoslab.alerts import Expected, Ring
from chaoslab.files import InputError

CONTENT = {"alerts": {"ring": [{"name": "HostDown", "within_seconds": 40}], "may": ["DatabaseDown"]}}
BEGIN, INJECT = 100.0, 110.0


def series(name: str, times: list[float], /, **labels: str) -> dict[str, Any]:
    """Return a series as Prometheus answers."""
    metric = {"__name__": "ALERTS", "alertname": name, "alertstate": "firing", "severity": "ticket", **labels}
    return {"metric": metric, "values": [[time, "1"] for time in times]}


def load(folder: Path, *found: dict[str, Any], asked: float = 200.0) -> list[Ring]:
    """Read what Prometheus would answer."""
    path = folder / "alerts.json"
    path.write_text(json.dumps({"status": "success", "data": {"result": found}, "asked": asked}))
    return alerts.load_rings(path)


def test_an_alert_rings_from_its_first_sample_to_its_last(tmp_path: Path) -> None:
    """A missing sample is no end, two are; one that still rings is open."""
    first = series("HostDown", [120, 125, 135, 160, 165], host="postgres-1")
    rings = load(tmp_path, series("NoPrimary", [190, 195, 200]), first)
    assert rings == [
        Ring("HostDown", "postgres-1", "", "ticket", 120, 135),
        Ring("HostDown", "postgres-1", "", "ticket", 160, 165),
        Ring("NoPrimary", "", "", "ticket", 190, 200, open=True),
    ]


NAMELESS = '{"asked": 1, "data": {"result": [{"metric": {}, "values": [[1, "1"]]}]}}'


@pytest.mark.parametrize("text", ["[]", "{}", NAMELESS])
def test_what_is_no_answer_is_refused(tmp_path: Path, text: str) -> None:
    """A judge must not take it for silence."""
    path = tmp_path / "alerts.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"alerts\.json"):
        alerts.load_rings(path)


@pytest.mark.parametrize(
    ("rings", "wrong"),
    [
        ([("HostDown", 130)], []),
        ([("HostDown", 130), ("DatabaseDown", 131)], []),
        ([], ["HostDown was silent"]),
        ([("HostDown", 151)], ["HostDown after 41 s"]),
        ([("HostDown", 105)], ["HostDown after -5 s"]),
        # It rang already, so nobody can tell whether the fault would have made it ring.
        ([("HostDown", 90)], ["HostDown was silent"]),
        ([("HostDown", 130), ("NoPrimary", 131)], ["NoPrimary rang"]),
        # Not the fault's doing.
        ([("HostDown", 130), ("NoPrimary", 99)], []),
    ],
)
def test_late_silent_and_unexpected_alerts_are_wrong(rings: list[tuple[str, float]], wrong: list[str]) -> None:
    """And nothing else is."""
    expected = Expected.of(CONTENT)
    assert expected is not None
    found = [Ring(name, "", "", "ticket", begin, begin + 10) for name, begin in rings]
    assert alerts.wrong(expected, found, BEGIN, INJECT) == wrong


def test_an_alert_that_nobody_expects_is_said_with_what_it_is_about(tmp_path: Path) -> None:
    """The host, and the service if it is about one: whoever reads a red run need not look for it."""
    expected = Expected.of(CONTENT)
    assert expected is not None
    rings = load(tmp_path, series("UnitFailed", [140], host="postgres-1", name="a.service"), series("HostDown", [130]))
    assert alerts.wrong(expected, rings, BEGIN, INJECT) == ["UnitFailed rang (postgres-1, a.service)"]


def test_an_experiment_says_it_for_people() -> None:
    """What rings, within which time, and what may."""
    expected = Expected.of(CONTENT)
    assert expected is not None
    assert expected.text() == "HostDown within 40 s; no other but DatabaseDown"
    assert Expected({}, frozenset()).text() == "none; no other"
    assert Expected.of({}) is None
