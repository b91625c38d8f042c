"""The measurements' pure parts: what is read from hosts, the statistics and the table."""

from __future__ import annotations

import asyncio
import json
import tomllib
from typing import Any

import pytest

from tests.unit.fake_site import Site
from tools.bench import __main__ as bench
from tools.bench import figures, site, votes
from tools.bench.lab import BenchError

PROGRAM = """\
#
# Ansible managed
#
[program:gunicorn-8000]
command=/opt/polls/releases/1/venv/bin/gunicorn --config /etc/gunicorn.py --bind 127.0.0.1:8000 app.wsgi:application
directory=/opt/polls/releases/1/app
user=polls
; A comment.
environment=GUNICORN_OPTIONS_SHA256="78%%cc",POLLS_CONFIG="/opt/polls/releases/1/polls.toml"
autostart=true
"""
COST = {
    "results": 690,
    "module_runs": 480,
    "commands": 900,
    "changed": 0,
    "control_cpu_seconds": 60.4,
    "hosts_cpu_seconds": 40.0,
}
LATENCIES = {"p50": 0.006, "p95": 0.0121, "p99": 0.03}


def test_the_table_has_a_row_for_each_figure_and_ratios_where_there_are_two() -> None:
    """All four parts."""
    measured: dict[str, Any] = {
        "site": COST | {"seconds": 60.0},
        "first": COST | {"seconds": 300.0, "plain_seconds": 100.0, "packages": 200, "files": 1000},
        "votes": [
            {
                "choices": 1,
                "at_a_time": 8,
                "stack": {"votes_per_second": 210.4},
                "baseline": {"votes_per_second": 300.6},
            },
            {"choices": 8, "rate": 20, "stack": LATENCIES, "baseline": LATENCIES | {"p50": 0.003}},
        ],
        "event": {"seconds": [2.0, 3.0, 9.0]},
    }
    table = figures.rows(measured)
    assert table[0] == ("Unchanged run", "60 s", "first run 300 s", "0.20")
    assert table[2] == ("its module runs on hosts", "480", "first run 480", "1.00")
    assert table[6:] == [
        ("First run on bare hosts (200 packages, 1000 files)", "300 s", "plain shell script 100 s", "3.00"),
        ("Votes a second, 1 choice, 8 at a time", "210", "301", "0.70"),
        ("Vote, median / 95 % / 99 %, 8 choices, 20 a second", "6 / 12 / 30 ms", "3 / 12 / 30 ms", "2.00"),
        ("From a request to its searchable event", "median 3.0 s, most 9.0 s of 3", "", ""),
    ]


def test_a_part_alone_has_its_rows_alone() -> None:
    """What is not measured does not stand there; a run with changes does not pass for an unchanged one."""
    table = figures.rows({"site": COST | {"seconds": 60.0, "changed": 2}})
    assert table[0] == ("Run that changed 2 things", "60 s", "", "")
    assert len(table) == 6
    assert figures.rows({}) == []


def test_the_table_is_aligned_markdown() -> None:
    """For people and for a README."""
    assert figures.markdown([figures.Row("Long figure", "1", "2", "0.50")]).splitlines() == [
        "| Figure      | The site | Beside it | Ratio |",
        "|-------------|----------|-----------|-------|",
        "| Long figure | 1        | 2         | 0.50  |",
    ]


def test_installed_packages_are_told_from_removed_ones() -> None:
    """As dpkg lists them."""
    assert site.installed("nginx\t\tinstall\nold\t\tdeinstall\netcd-server\tinstall\n") == {"nginx", "etcd-server"}


def test_files_of_packages_count_only_when_they_were_rewritten() -> None:
    """A configuration file that the run has replaced is one that the run has placed."""
    new = "etc/nginx/nginx.conf\netc/nginx/mime.types\nopt/app/manage.py\n"
    owned = "/etc/nginx\n/etc/nginx/nginx.conf\n/etc/nginx/mime.types\n"
    assert site.placed_files(new, "etc/nginx/nginx.conf\n", owned) == ["etc/nginx/nginx.conf", "opt/app/manage.py"]


def test_local_repositories_are_found_in_both_formats_of_sources() -> None:
    """What the network does not have comes from there."""
    sources = "deb http://example.org/debian bookworm main\nURIs: file:/var/lib/packages\ndeb file:///srv/more ./\n"
    assert site.local_repositories(sources) == ["srv/more", "var/lib/packages"]


def test_the_program_is_read_from_its_definition() -> None:
    """The baseline runs what supervisord runs."""
    program = votes.read_program(PROGRAM)
    assert program["config"] == "/opt/polls/releases/1/polls.toml"
    assert program["directory"] == "/opt/polls/releases/1/app"
    assert program["user"] == "polls"
    assert program["command"].endswith("app.wsgi:application")
    with pytest.raises(BenchError, match="POLLS_CONFIG"):
        votes.read_program(PROGRAM.replace("POLLS_CONFIG", "OTHER"))


def test_the_baseline_differs_in_its_database_alone() -> None:
    """And no secret of the site is copied into it."""
    database = {"name": "polls", "password": "of-the-site", "host": "postgres", "port": 5000, "idle_seconds": 60}
    config = {"secret_key": "of-the-site", "allowed_hosts": ["main"], "vote_deadline_seconds": 10}
    found = votes.baseline_config(config | {"databases": {"default": database, "failover1": database}}, "10.0.0.1")
    assert tomllib.loads(votes.to_toml(found)) == found
    assert "of-the-site" not in json.dumps(found)
    assert found["vote_deadline_seconds"] == 10
    assert found["allowed_hosts"] == ["10.0.0.1"]
    assert found["databases"]["failover1"] == found["databases"]["default"]
    assert found["databases"]["default"]["idle_seconds"] == 60


def test_voters_vote_as_fast_as_they_have_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time vote twice as often as one, and take turns with the choices."""
    monkeypatch.setattr(votes, "WARM_UP_SECONDS", 0.1)
    with Site(lambda _number: (0.1, 302)) as site:
        found = asyncio.run(votes.as_fast_as_it_goes((site.url, None), choices=4, at_a_time=2, seconds=0.5))
    assert 10 < found["votes_per_second"] <= 20
    assert found["voter_cpu"] < 1
    assert {vote["choice"] for vote in site.votes} == {"1", "2"}


def test_at_a_fixed_rate_the_time_counts_from_when_a_vote_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes go on while others wait for their answers, and those that warm up are left out."""
    monkeypatch.setattr(votes, "WARM_UP_SECONDS", 0.1)
    with Site(lambda number: (0.0 if number < 2 else 0.2, 302)) as site:
        found = asyncio.run(votes.at_a_fixed_rate((site.url, None), choices=1, rate=20, seconds=0.5))
    assert len(site.votes) == 12
    assert 0.2 <= found["p50"] <= found["p95"] <= found["p99"]


def test_a_site_that_does_not_confirm_is_not_measured() -> None:
    """Neither way."""
    with Site(lambda _number: (0.0, 503)) as site:
        with pytest.raises(BenchError, match="not confirmed: answered 503"):
            asyncio.run(votes.as_fast_as_it_goes((site.url, None), choices=1, at_a_time=1, seconds=0.1))
        with pytest.raises(BenchError, match="not confirmed: answered 503"):
            asyncio.run(votes.at_a_fixed_rate((site.url, None), choices=1, rate=20, seconds=0.1))


def test_parts_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order in which they are measured; a wrong name is answered with the right ones."""
    assert bench.parse(["--only", "event, site"]).only == ["site", "event"]
    assert bench.parse([]).only == ["site", "first", "votes", "event"]
    with pytest.raises(SystemExit):
        bench.parse(["--only", "vote"])
    assert "no such part: vote; there are site, first, votes, event" in capsys.readouterr().err
