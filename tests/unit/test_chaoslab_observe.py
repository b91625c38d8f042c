"""The observer against a site of our own that answers as it is told: on schedule, every answer written down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chaoslab import tokens
from chaoslab.cli import main
from chaoslab.guard import problem
from tests.unit.fake_site import Site

ROOT = Path(__file__).resolve().parents[2]


def arguments(site: Site, directory: Path, *more: str) -> list[str]:
    """Return the arguments for a run against a site."""
    return ["observe", str(directory), "--url", site.url, *more]


def lines(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any] | None]:
    """Return anchor, requests and end of a file."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    end = found.pop()["end"] if "end" in found[-1] else None
    return found[0]["anchor"], sorted(found[1:], key=lambda line: int(line["n"])), end


def test_every_vote_is_sent_once_and_written_down(site: Site, tmp_path: Path) -> None:
    """Each with a token of its own, taking turns with the choices; and as many pages."""
    assert main(arguments(site, tmp_path, "--rate", "50", "--max-seconds", "1")) == 0
    anchor, votes, end = lines(tmp_path / "votes.jsonl")
    arrived = sorted(site.votes, key=lambda vote: vote["token"])
    assert [vote["token"] for vote in votes] == [vote["token"] for vote in arrived]
    assert [str(vote["choice"]) for vote in votes] == [vote["choice"] for vote in arrived] == ["1", "2"] * 25
    assert all(vote["csrfmiddlewaretoken"] == "secret" for vote in site.votes)
    assert all(tokens.is_of(anchor["mark"], vote["token"]) and UUID(vote["token"]) for vote in votes)
    assert {(vote["status"], vote["outcome"]) for vote in votes} == {(302, "ok")}
    assert [vote["intended"] for vote in votes] == pytest.approx([n / 50 for n in range(50)])
    assert all(vote["intended"] <= vote["sent"] <= vote["done"] for vote in votes)
    assert end is not None
    assert (end["sent"], end["reason"]) == (50, "max-seconds")
    assert abs(anchor["wall"] + end["time"] - time.time()) < 5
    _, reads, _ = lines(tmp_path / "reads.jsonl")
    assert len(reads) == 50
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["votes"]["ok"], status["votes"]["outstanding"]) == ("ended", 50, 0)


def test_votes_are_sent_on_schedule_while_none_is_answered(tmp_path: Path) -> None:
    """Open loop: a second of silence has a second's votes outstanding, and the gap is as long as the silence."""
    with Site(lambda number: (1.0 - number / 50 if number < 50 else 0.0, 302)) as site:
        assert main(arguments(site, tmp_path, "--rate", "50", "--max-seconds", "1.5")) == 0
    _, votes, _ = lines(tmp_path / "votes.jsonl")
    assert len(votes) == 75
    assert votes[0]["done"] >= 1.0
    assert votes[25]["sent"] < min(vote["done"] for vote in votes)
    assert json.loads((tmp_path / "status.json").read_text())["longest_gap"] >= 0.9


def test_answers_are_told_apart(tmp_path: Path) -> None:
    """What may have landed is info; what was refused is not; a late answer is none. What broke was sent twice."""
    answers: list[tuple[float, int | None]] = [(0, 302), (0, 503), (0, 403), (0, None), (0, None), (0, 500), (0, 200)]
    with Site(lambda number: answers[number] if number < len(answers) else (3, 302)) as site:
        options = ("--rate", "10", "--max-seconds", "0.7", "--timeout", "1")
        assert main(arguments(site, tmp_path, *options)) == 0
    _, votes, _ = lines(tmp_path / "votes.jsonl")
    told = {vote["token"]: (vote["status"], vote["outcome"]) for vote in votes}
    assert [told[vote["token"]] for vote in site.votes] == [
        *(
            (302, "ok"),
            (503, "info"),
            (403, "fail"),
            (0, "info"),
            (0, "info"),
            (500, "info"),
            (200, "info"),
            (0, "info"),
        ),
    ]


def test_a_site_that_is_gone_was_told_nothing(tmp_path: Path) -> None:
    """No connection, no vote: that is fail, and the run goes on."""
    with Site(lambda _number: (0.0, 302)) as site:
        options = arguments(site, tmp_path, "--rate", "20")
        process = subprocess.Popen([sys.executable, "-m", "chaoslab", *options], cwd=ROOT)
        while len(site.votes) < 5:
            time.sleep(0.02)
    time.sleep(0.5)
    (tmp_path / "stop").touch()
    assert process.wait(10) == 0
    _, votes, end = lines(tmp_path / "votes.jsonl")
    assert end is not None
    assert end["reason"] == "stop-file"
    assert votes[0]["outcome"] == "ok"
    assert votes[-1]["outcome"] == "fail"
    assert "ConnectError" in votes[-1]["error"]


@pytest.mark.parametrize(("number", "whole"), [(signal.SIGTERM, True), (signal.SIGKILL, False)])
def test_a_signal_loses_little(site: Site, tmp_path: Path, number: signal.Signals, whole: bool) -> None:  # noqa: FBT001
    """SIGTERM ends the run well; SIGKILL costs the last second at most."""
    process = subprocess.Popen([sys.executable, "-m", "chaoslab", *arguments(site, tmp_path)], cwd=ROOT)
    while len(site.votes) < 40:
        time.sleep(0.02)
    os.kill(process.pid, number)
    assert process.wait(10) == (0 if whole else -signal.SIGKILL)
    text = (tmp_path / "votes.jsonl").read_text()
    written = text[: text.rfind("\n") + 1].splitlines()
    assert len(written) > 20
    assert ("end" in json.loads(written[-1])) is whole
    if whole:
        assert len(written) - 2 == len(site.votes)


def test_a_site_without_a_form_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], site: Site) -> None:
    """Exit code 2, and a line that says where."""
    assert main(arguments(site, tmp_path, "--url", f"{site.url}/elsewhere")) == 2
    assert f"observe: {site.url}/elsewhere/polls/1/: answered 200 without a form" in capsys.readouterr().err
    site.url = "http://127.0.0.1:9"
    assert main(arguments(site, tmp_path)) == 2
    missing = str(tmp_path / "missing.crt")
    assert main(arguments(site, tmp_path, "--ca-file", missing)) == 2
    assert f"{missing}: cannot be used as certificate authority" in capsys.readouterr().err


def test_guardrail(tmp_path: Path) -> None:
    """Silence and a dead voter each end the run; nothing else does."""
    path = tmp_path / "status.json"
    good = {"state": "running", "wall": 1000.0, "seconds_since_ack": 1.0}

    def said(**changes: object) -> str | None:
        path.write_text(json.dumps(good | changes))
        return problem(path, 10.0, 1001.0)

    assert "no sign of life" in str(problem(path, 10.0, 1001.0))
    assert said() is None
    assert said(seconds_since_ack=11.0) == "no vote was confirmed for 11.0 s, more than 10 s"
    assert said(state="ended", seconds_since_ack=11.0, wall=0) is None
    assert "is 9 s old" in str(said(wall=992.0))


def test_guard_ends_with_the_time_or_the_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 when all was well, 1 with the reason; it looks for a second even when it comes too late."""
    status = tmp_path / "status.json"
    status.write_text(json.dumps({"state": "running", "wall": time.time(), "seconds_since_ack": 3.0}))
    options = ["guard", str(tmp_path), "--until", str(time.time() - 1)]
    begin = time.monotonic()
    assert main([*options, "--max-outage", "10"]) == 0
    assert time.monotonic() - begin >= 1
    assert main([*options, "--max-outage", "2"]) == 1
    assert "guardrail: no vote was confirmed for 3.0 s" in capsys.readouterr().out
