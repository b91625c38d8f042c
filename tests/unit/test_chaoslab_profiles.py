"""Experiments under others' settings, and the table of what each costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaoslab import experiment, profiles
from chaoslab.files import InputError
from chaoslab.judge import KEY
from chaoslab.plan import Site, plan
from tests.unit.test_chaoslab_plan import HOSTS, ROOT


def steps(name: str, profile: str) -> tuple[str, list[dict[str, Any]], list[int]]:
    """Return the name of a run under a profile, its injections and probes, and in which order they are healed."""
    loaded = experiment.load(ROOT / "experiments" / f"{name}.yml")
    found = plan(profiles.under(loaded, profile, len(HOSTS["witnesses"])), Site(HOSTS, "docker"), 0)
    done = [step for step in found["steps"] if step["do"] != "watch"]
    return found["name"], done, [step["heal"]["order"] for step in done if step["do"] == "inject"]


def test_the_sites_own_settings_change_nothing() -> None:
    """But for how long it is watched, which is the same for all."""
    name, done, heals = steps("primary-off", "ours")
    assert name == "primary-off@ours"
    assert [step["tasks"] for step in done] == ["witness-ready", "vm-off"]
    assert heals == [0]


def test_others_settings_come_first_and_go_last() -> None:
    """Also the witnesses, all of them; none is asked whether it would act."""
    _, done, heals = steps("primary-off", "patroni")
    assert [step["tasks"] for step in done] == ["patroni-config", "systemd-stop", "vm-off"]
    settings, witnesses, _ = done
    assert settings["arguments"]["set"] == {
        "ttl": 30, "loop_wait": 10, "retry_timeout": 10, "primary_start_timeout": 300, "synchronous_mode": False,
    }  # fmt: skip
    assert (witnesses["target"], witnesses["count"]) == ("witnesses", 2)
    assert heals == [2, 1, 0]


@pytest.mark.parametrize("name", profiles.profiles())
def test_every_profile_is_one_that_patroni_takes(name: str) -> None:
    """Its rule: a loop and twice the time of retries are no longer than the lease; no lease is below 20 s."""
    settings = profiles.profiles()[name].patroni
    if settings:
        assert settings["loop_wait"] + 2 * settings["retry_timeout"] <= settings["ttl"]
        assert settings["ttl"] >= 20
        # The fault is healed after the lease has ended and another was chosen, at the latest.
        assert settings["ttl"] + 2 * settings["loop_wait"] < profiles.WATCHED


def test_an_unknown_profile_is_refused() -> None:
    """With those that there are."""
    loaded = experiment.load(ROOT / "experiments" / "primary-off.yml")
    with pytest.raises(InputError, match="no profile fast; there are ours, ours_without_witness, patroni, pigsty_fast"):
        profiles.under(loaded, "fast", 1)


def journal(name: str, outage: float, again: int, lost: int) -> dict[str, Any]:
    """Return as much of a journal as the table takes."""
    votes = {"refused_503": again, "failed_otherwise": 0}
    figures = {"outage": {"seconds": outage}, "votes": votes, "ledger": {"lost": lost, "lost_earlier": 0}}
    return {KEY: {"name": name, "figures": figures}}


def test_the_table_has_a_row_for_each_profile() -> None:
    """The newest run counts; what was not run is said."""
    runs = [
        journal("primary-off@patroni", 50, 1, 0),
        journal("primary-off@patroni", 41.23, 7, 12),
        journal("primary-off@ours", 4.9, 0, 0),
        journal("primary-off", 1, 1, 1),
    ]
    lines = profiles.table(runs).splitlines()
    assert len(lines) == 2 + len(profiles.profiles())
    assert lines[0] == "| Settings of Patroni | `primary-off`: seconds without a vote | Asked to send again | Lost |"
    assert lines[2] == "| This site's | 4.9 | 0 | 0 |"
    assert "| Its defaults, autobase's too | 41.2 | 7 | 12 |" in lines
    assert lines[3].startswith("| This site's, without its witnesses | not run |")


def test_the_file_of_profiles_is_no_experiment() -> None:
    """It stands beside the steady state, where nobody looks for one."""
    assert "profiles" not in experiment.names()
    assert Path(ROOT / "experiments/defaults/profiles.yml").is_file()
