"""A made-up run through judge, journal, report and index, and what each must say when something is wrong with it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chaoslab import charts, tokens
from chaoslab.cli import main

ROOT = Path(__file__).resolve().parents[2]
WALL = 1_800_000_000.0
MARK = "123456789abcdef"
OPENING = {1: 16, 2: 8}
RATE = 20.0
NODES = ("postgres-1", "postgres-2")
PRIMARY = {"role": "primary", "state": "running", "lease": True}
STANDBY = {"role": "replica", "state": "running", "replication_state": "streaming", "sync_standby": True}
OTHERS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(5)]


@dataclass
class Story:
    """A run of `length` seconds: the primary goes at `fault`, votes are confirmed again `outage` later."""

    length: float = 45.0
    fault: float = 15.0
    outage: float = 1.6
    heal: float = 25.0
    whole: float = 33.0
    slow: Callable[[float], tuple[float, int, str] | None] = lambda _due: None
    events: list[dict[str, Any]] = field(default_factory=list)
    before: list[str] = field(default_factory=lambda: [f"{token}|1|1.0" for token in OTHERS])
    witness: bool = True
    experiment: str = "primary-down"
    # Votes that were confirmed then are in no ledger.
    forgotten: tuple[float, float] = (0, 0)

    def answer(self, due: float, chance: random.Random) -> tuple[float, int, str]:
        """Return when a vote that was due then is answered, with what, and what that means."""
        if found := self.slow(due):
            return found
        begin, end = self.fault, self.fault + self.outage
        soon = max(due, end) if begin - 0.02 <= due < end else due
        return soon + chance.uniform(0.015, 0.06) + (chance.uniform(0, 0.3) if soon != due else 0), 302, "ok"

    def write(self, directory: Path) -> list[str]:
        """Write all files of the run; return the arguments for judge."""
        chance = random.Random(1)
        votes, ledger = self._votes(chance)
        reads = self._reads(chance)
        for name, lines in (
            ("votes", votes),
            ("reads", reads),
            ("samples", self._samples()),
            ("events", self._events()),
        ):
            (directory / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (directory / "before-postgres-1.txt").write_text("\n".join(self.before + _tallies(self.before)))
        for node in NODES:
            rows = self.before + ledger
            (directory / f"after-{node}.txt").write_text("\n".join(rows + _tallies(rows)))
        experiment = str(ROOT / "experiments" / f"{self.experiment}.yml")
        return ["judge", experiment, str(directory), "--witnesses", str(int(self.witness))]

    def _votes(self, chance: random.Random) -> tuple[list[dict[str, Any]], list[str]]:
        lines, ledger = [_anchor("votes")], []
        for number in range(int(self.length * RATE)):
            due = number / RATE
            done, status, outcome = self.answer(due, chance)
            token, choice = tokens.token(MARK, number), number % 2 + 1
            line = {"n": number, "token": token, "choice": choice, "intended": due, "sent": due, "done": done}
            lines.append(line | {"status": status, "outcome": outcome})
            if outcome == "ok" and not self.forgotten[0] <= done < self.forgotten[1]:
                ledger.append(f"{token}|{choice}|{WALL + done}")
        return [*lines, {"end": {"time": self.length, "sent": len(lines), "reason": "stop-file"}}], ledger

    def _reads(self, chance: random.Random) -> list[dict[str, Any]]:
        lines = [_anchor("reads")]
        for number in range(int(self.length * RATE)):
            due = number / RATE
            done = due + chance.uniform(0.005, 0.03)
            lines.append({"n": number, "intended": due, "sent": due, "done": done, "status": 200, "outcome": "ok"})
        return [*lines, {"end": {"time": self.length}}]

    def _samples(self) -> list[dict[str, Any]]:
        times = [tick / 5 for tick in range(int((self.length + 2) * 5))]
        return [
            {"anchor": {"wall": WALL, "kind": "samples", "nodes": list(NODES)}},
            *({"node": NODES[0], "asked": time, "answered": time + 0.01} | self._first(time) for time in times),
            *({"node": NODES[1], "asked": time, "answered": time + 0.01} | self._second(time) for time in times),
        ]

    def _first(self, time: float) -> dict[str, Any]:
        if time < self.fault:
            return PRIMARY | {"timeline": 1, "standbys": {NODES[1]: "sync"}}
        if time < self.heal:
            return {"error": "ConnectionRefusedError"}
        return {"role": "replica", "state": "starting"} if time < self.whole else STANDBY | {"timeline": 2}

    def _second(self, time: float) -> dict[str, Any]:
        if time < self.fault + self.outage * 0.6:
            return STANDBY | {"timeline": 1}
        if time < self.fault + self.outage * 0.85:
            return STANDBY | {"timeline": 1, "lease": True}
        return PRIMARY | {"timeline": 2} | ({"standbys": {NODES[0]: "sync"}} if time >= self.whole else {})

    def _events(self) -> list[dict[str, Any]]:
        probes = ["One primary and its synchronous standby", "The ledger explains every tally", "Pages are served"]
        before = [
            {"time": WALL - 3 + n, "kind": "steady-before", "text": "met", "name": probe}
            for n, probe in enumerate(probes)
        ]
        after = [line | {"time": WALL + self.length, "kind": "steady-after"} for line in before]
        stop = {"kind": "inject", "text": "Stop Patroni, and PostgreSQL with it", "host": NODES[0]}
        start = {"kind": "heal", "text": "The timer started Patroni again", "host": NODES[0]}
        middle = [stop | {"time": WALL + self.fault}, start | {"time": WALL + self.heal}]
        return [*before, *middle, *self.events, *after]


def _anchor(kind: str) -> dict[str, Any]:
    return {"anchor": {"wall": WALL, "kind": kind, "rate": RATE, "mark": MARK}}


def _tallies(rows: list[str]) -> list[str]:
    counts = {choice: sum(row.split("|")[1] == str(choice) for row in rows) for choice in OPENING}
    return [f"{choice}|{OPENING[choice] + counts[choice]}|{OPENING[choice]}" for choice in OPENING]


@pytest.fixture
def story() -> Story:
    """Return a run in which all goes well."""
    return Story()


def judged(story: Story, directory: Path, spoil: Callable[[], None] = lambda: None) -> tuple[int, dict[str, Any]]:
    """Write a run, spoil it, judge it; return the exit code and our part of the journal."""
    arguments = story.write(directory)
    spoil()
    code = main(arguments)
    found: dict[str, Any] = json.loads((directory / "journal.json").read_text())
    return code, found["chaoslab"]


def broken(ours: dict[str, Any]) -> set[str]:
    """Return the keys of the rules that do not hold."""
    return {rule["key"] for rule in ours["rules"] if not rule["holds"]}


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> Callable[[], None]:
    """Return what changes the lines of a file."""

    def spoil() -> None:
        path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))

    return spoil


def test_a_good_run_passes(story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, one line, and the figures that were put in."""
    code, ours = judged(story, tmp_path)
    assert (code, broken(ours), ours["verdict"]) == (0, set(), "pass")
    line = capsys.readouterr().out
    assert line.startswith("PASS primary-down: longest time without a confirmed vote 1.6 s (budget 5 s); 0 lost")
    assert line.count("\n") == 1
    figures = ours["figures"]
    assert figures["outage"]["seconds"] == pytest.approx(1.65, abs=0.06)
    assert sum(figures["outage"]["split"].values()) == pytest.approx(figures["outage"]["seconds"])
    assert figures["cluster"]["whole_after_heal"] == pytest.approx(8.0, abs=0.21)
    counts = {"sent": 900, "ok": 900, "info": 0, "fail": 0, "refused_503": 0, "failed_otherwise": 0}
    assert {name: figures["votes"][name] for name in counts} == counts


def test_the_journal_has_the_shape_of_chaos_toolkit(story: Story, tmp_path: Path) -> None:
    """Its keys, its times, its states."""
    judged(story, tmp_path)
    journal = json.loads((tmp_path / "journal.json").read_text())
    assert list(journal) == [
        *("chaoslib-version", "platform", "node", "experiment", "start", "status", "deviated"),
        *("steady_states", "run", "rollbacks", "end", "duration", "chaoslab"),
    ]
    assert (journal["status"], journal["deviated"]) == ("completed", False)
    assert journal["steady_states"]["before"]["steady_state_met"] is True
    assert journal["steady_states"]["before"]["probes"][0]["activity"]["provider"]["tasks"] == "cluster-whole"
    assert journal["steady_states"]["before"]["probes"][0]["tolerance_met"] is True
    assert [run["status"] for run in journal["run"]] == ["succeeded", "succeeded"]
    assert journal["start"] == "2027-01-15T07:59:57"
    assert journal["duration"] == pytest.approx(48.0, abs=0.1)


@pytest.mark.parametrize(("name", "red"), [("DatabaseDown", set()), ("SiteUnreachable", {"alerts"})])
def test_an_alert_that_nobody_expects_is_red(story: Story, tmp_path: Path, name: str, red: set[str]) -> None:
    """What the experiment allows is not; either is in the verdict and in the report."""
    ring = {"metric": {"alertname": name, "severity": "page"}, "values": [[WALL + story.fault + 20, "1"]]}

    def rang() -> None:
        (tmp_path / "alerts.json").write_text(json.dumps({"asked": WALL + 60, "data": {"result": [ring]}}))

    _, ours = judged(story, tmp_path, rang)
    assert broken(ours) == red
    assert f"rang: {name} after 20 s" in ours["summary"]
    assert f'<th scope="row">{name}</th>' in (tmp_path / "report.html").read_text()


def test_a_planted_loss_is_red(story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The negative control: one row less in one database, its tally with it."""

    def drop(lines: list[str]) -> list[str]:
        gone = lines.pop(100)
        choice = gone.split("|")[1]
        return [_less(line) if line.startswith(f"{choice}|") else line for line in lines]

    code, ours = judged(story, tmp_path, edit(tmp_path / f"after-{NODES[1]}.txt", drop))
    assert (code, broken(ours)) == (1, {"lost", "differing"})
    assert ours["figures"]["ledger"]["nodes"][NODES[1]]["lost"] == {"count": 1, "tokens": [tokens.token(MARK, 95)]}
    assert capsys.readouterr().out.startswith("FAIL primary-down: confirmed votes lost: 1 (budget 0)")


def test_what_a_restore_may_give_up_is_named_vote_by_vote(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Confirmed between the mistake, five seconds before the outage, and the outage."""
    story.experiment, story.forgotten = "votes-deleted", (10.0, 15.0)
    story.events = [{"time": WALL + 10, "kind": "inject", "text": "Delete the last minute of the ledger"}]
    code, ours = judged(story, tmp_path)
    assert (code, broken(ours)) == (0, set())
    lost = ours["figures"]["ledger"]["given_up_votes"]
    assert [vote["token"] for vote in lost] == [tokens.token(MARK, number) for number in range(200, 300)]
    assert all(0 <= vote["confirmed"] < 5 for vote in lost)
    assert "; 100 given up by the restore, 0.0 s of them from before the fault; " in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "No vote was counted twice. The restore gave up 100 confirmed votes" in page
    assert f"<code>{tokens.token(MARK, 200)}</code>" in page
    assert any(note.startswith("100 confirmed votes were given up by the restore") for note in ours["notes"])


@pytest.mark.parametrize(
    ("name", "forgotten", "lost"),
    [
        ("votes-deleted", (9.0, 15.0), 20),
        ("votes-deleted", (29.0, 30.0), 20),
        ("databases-lost", (9.0, 10.0), 0),
        ("primary-down", (10.0, 15.0), 100),
    ],
    ids=["before the mistake", "after the restore", "within the recovery point", "without a restore"],
)
def test_what_a_restore_may_not_give_up_is_lost(
    story: Story, tmp_path: Path, name: str, forgotten: tuple[float, float], lost: int
) -> None:
    """What was confirmed before its recovery point, or after votes were confirmed again."""
    story.experiment, story.forgotten = name, forgotten
    story.events = [{"time": WALL + 10, "kind": "inject", "text": "Something else first"}]
    _, ours = judged(story, tmp_path)
    assert ours["figures"]["ledger"]["lost"] == pytest.approx(lost, abs=1)
    assert ("lost" in broken(ours)) == (lost > 0)


def test_pages_that_failed_otherwise_than_by_503_are_red(story: Story, tmp_path: Path) -> None:
    """Where an experiment allows 503 at all."""

    def answer(status: int) -> Callable[[], None]:
        return edit(
            tmp_path / "reads.jsonl",
            lambda lines: [
                line.replace('"status": 200, "outcome": "ok"', f'"status": {status}, "outcome": "fail"')
                if number == 300
                else line
                for number, line in enumerate(lines)
            ],
        )

    for name, status, red in (("primary-down", 503, True), ("votes-deleted", 503, False), ("votes-deleted", 502, True)):
        story.experiment = name
        _, ours = judged(story, tmp_path, answer(status))
        assert ("failed_reads" in broken(ours)) == red


def _less(line: str) -> str:
    choice, votes, opening = line.split("|")
    return f"{choice}|{int(votes) - 1}|{opening}"


def test_long_outage_and_refused_votes_are_red(story: Story, tmp_path: Path) -> None:
    """Each budget is told apart."""
    story.outage = 12.0
    story.heal, story.whole = 30.0, 44.0
    story.slow = lambda due: (due + 10.1, 503, "info") if 15 <= due < 17 else None
    code, ours = judged(story, tmp_path)
    assert (code, broken(ours)) == (1, {"outage", "failed_votes"})
    assert ours["figures"]["votes"]["refused_503"] == 40
    assert any("40 votes whose voter was not told" in note for note in ours["notes"])


RED = {"failed_votes"}


@pytest.mark.parametrize(
    ("name", "vote", "expected"),
    [
        ("app-host-off", (15.5, 0), set()),
        ("app-host-off", (14.5, 0), set()),
        ("app-host-off", (16.5, 0), RED),
        ("app-host-off", (13.5, 0), RED),
        ("app-host-off", (15.5, 502), RED),
        ("app-host-off", (15.5, 503), RED),
        ("primary-down", (15.5, 0), RED),
    ],
)
def test_only_what_was_under_way_on_a_lost_machine_may_have_no_answer(
    story: Story, tmp_path: Path, name: str, vote: tuple[float, int], expected: set[str]
) -> None:
    """Sent before it was gone, at 15 s, and without an answer a second later; only where an experiment allows it."""
    (due, status), story.experiment, story.outage = vote, name, 0.1
    story.slow = lambda moment: (moment + 1, status, "info") if abs(moment - due) < 0.05 else None
    _, ours = judged(story, tmp_path)
    assert broken(ours) & RED == expected


@pytest.mark.parametrize("name", ["primary-off", "primary-paused", "primary-isolated"])
def test_a_slow_witness_is_red(story: Story, tmp_path: Path, name: str) -> None:
    """What a lease costs is within the budget only where nobody could have ended it."""
    story.experiment, story.outage, story.heal, story.whole = name, 9.5, 30.0, 44.0
    code, ours = judged(story, tmp_path)
    assert (code, broken(ours)) == (1, {"outage"})
    story.witness = False
    assert judged(story, tmp_path)[0] == 0
    story.witness, story.outage = True, 8.5
    assert judged(story, tmp_path)[0] == 0


def test_votes_that_never_resume_are_red(story: Story, tmp_path: Path) -> None:
    """Also when the budget is longer than what was observed."""
    story.slow = lambda due: (due + 1, 503, "info") if due >= 42 else None
    code, ours = judged(story, tmp_path)
    assert (code, broken(ours)) == (1, {"resumed", "failed_votes"})


def test_a_primary_relieved_in_vain_is_red(story: Story, tmp_path: Path) -> None:
    """Where nothing may be taken over a witness may not even try, whatever comes of it."""
    story.experiment = "hosts-starved"
    assert broken(judged(story, tmp_path)[1]) == {"promotion"}
    story.events = [{"time": WALL + 16, "kind": "relief", "text": "relieving one in favour of two: done."}]
    assert broken(judged(story, tmp_path)[1]) == {"promotion", "relief"}


def test_a_killed_voter_is_red_and_its_unwritten_votes_are_not_unexpected(story: Story, tmp_path: Path) -> None:
    """The last lines are missing: the votes they would have named count, and nobody says they were not cast."""
    code, ours = judged(story, tmp_path, edit(tmp_path / "votes.jsonl", lambda lines: lines[:-3]))
    assert (code, broken(ours)) == (1, {"observed"})


@pytest.mark.parametrize("name", ["votes", "reads", "samples"])
def test_a_record_that_ends_before_the_run_is_red(story: Story, tmp_path: Path, name: str) -> None:
    """As when a time limit comes first: what happened since then, nobody saw."""
    early = story.length - 4

    def cut(lines: list[str]) -> list[str]:
        found = [json.loads(line) for line in lines]
        kept = [line for line in found if line.get("asked", 0) < early and "end" not in line]
        return [json.dumps(line) for line in [*kept, {"end": {"time": early, "reason": "max-seconds"}}]]

    code, ours = judged(story, tmp_path, edit(tmp_path / f"{name}.jsonl", cut))
    assert (code, broken(ours)) == (1, {"observed"})
    assert f"seen to its end: no, {name} end 4" in ours["summary"]


def test_two_writable_databases_are_red(story: Story, tmp_path: Path) -> None:
    """The old primary comes back as primary."""

    def split_brain(lines: list[str]) -> list[str]:
        return [
            line.replace('"role": "replica", "state": "starting"', '"role": "primary", "lease": true') for line in lines
        ]

    _, ours = judged(story, tmp_path, edit(tmp_path / "samples.jsonl", split_brain))
    assert "two_writable" in broken(ours)


def test_an_aborted_run_and_a_broken_steady_state_are_red(story: Story, tmp_path: Path) -> None:
    """The guardrail's word is in the verdict, and the journal says aborted."""
    story.events = [
        {"time": WALL + 20, "kind": "guardrail", "text": "no vote for 11 s"},
        {"time": WALL + 46, "kind": "steady-after", "name": "Pages are served", "text": "503", "status": "failed"},
    ]
    code, ours = judged(story, tmp_path)
    assert (code, broken(ours)) == (1, {"guardrail", "steady-after"})
    journal = json.loads((tmp_path / "journal.json").read_text())
    assert (journal["status"], journal["deviated"]) == ("aborted", True)
    assert journal["steady_states"]["after"]["steady_state_met"] is False


def test_votes_of_others_are_a_remark(story: Story, tmp_path: Path) -> None:
    """And no fault."""
    stranger = "00000000-0000-4000-8000-00000000ffff|2|2.0"

    def add(lines: list[str]) -> list[str]:
        choice, votes, opening = next(line for line in lines if line.startswith("2|")).split("|")
        kept = [line for line in lines if not line.startswith("2|")]
        return [stranger, *kept, f"{choice}|{int(votes) + 1}|{opening}"]

    def spoil() -> None:
        for node in NODES:
            edit(tmp_path / f"after-{node}.txt", add)()

    code, ours = judged(story, tmp_path, spoil)
    assert (code, broken(ours)) == (0, set())
    assert any("1 votes were cast by somebody else" in note for note in ours["notes"])


@pytest.mark.parametrize(
    "case",
    [
        ("votes.jsonl", lambda _lines: [], "holds no anchor, not votes"),
        ("votes.jsonl", lambda lines: lines[:1], "holds no request"),
        ("votes.jsonl", lambda lines: lines[1:], "votes.jsonl:1: is no line of votes: KeyError('wall')"),
        ("votes.jsonl", lambda lines: [*lines, "nonsense"], "votes.jsonl:903: is not JSON"),
        (
            "votes.jsonl",
            lambda lines: [*lines[:5], lines[5].replace("302", '"x"')],
            "votes.jsonl:6: is no line of votes",
        ),
        ("votes.jsonl", lambda lines: lines[:200], "no vote was sent around the time of the fault"),
        ("reads.jsonl", lambda lines: [lines[0].replace("reads", "votes"), *lines[1:]], "holds votes, not reads"),
        ("samples.jsonl", lambda lines: lines[:1], "holds no sample"),
        ("samples.jsonl", lambda lines: lines[1:], "samples.jsonl:1: is no sample"),
        ("events.jsonl", lambda lines: [line for line in lines if "inject" not in line], "nothing was injected"),
        ("events.jsonl", lambda lines: [line.replace('"heal"', '"cure"') for line in lines], "kind is 'cure'"),
        ("after-postgres-1.txt", lambda lines: lines[:-2], "postgres-1.txt: holds no tally"),
        ("after-postgres-1.txt", lambda lines: [*lines, "x|y|z"], "is no vote, no tally and no table"),
        ("after-postgres-2.txt", lambda lines: [*lines, "x|y"], "has 2 columns, not 3"),
    ],
)
def test_unusable_input_is_named(
    story: Story,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    case: tuple[str, Callable[[list[str]], list[str]], str],
) -> None:
    """Exit code 2, the file and the reason, and no journal."""
    name, change, message = case
    arguments = story.write(tmp_path)
    edit(tmp_path / name, change)()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("judge: ")
    assert message in error
    assert not (tmp_path / "journal.json").exists()


def test_missing_file_is_named(story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its path."""
    arguments = story.write(tmp_path)
    (tmp_path / "reads.jsonl").unlink()
    assert main(arguments) == 2
    assert "reads.jsonl: No such file" in capsys.readouterr().err


def test_the_page_says_it_in_words_and_needs_nothing_else(story: Story, tmp_path: Path) -> None:
    """Verdict on top, no script, nothing fetched, identifiers of the two drawings apart."""
    judged(story, tmp_path)
    page = (tmp_path / "report.html").read_text()
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "Passed. No vote was lost or counted twice." in words
    assert "The longest time without a confirmed vote was 1.6 s (budget 5 s)." in words
    assert "Nobody who voted saw an error. Every page was served." in words
    for drawn in ("fault", "healed", "timeline 2", "being promoted", "nothing confirmed for 1.6 s", "budget 5 s"):
        assert f">{drawn}</text>" in page
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert page.count("<svg") == 2


def test_the_time_line_is_of_its_window(story: Story, tmp_path: Path) -> None:
    """Two seconds around an outage and its budget, with all that was in it; none where voting never paused."""
    story.events = [{"time": WALL + story.fault + n, "kind": "inject", "text": "Again"} for n in (0.1, 4)]
    _, ours = judged(story, tmp_path)
    window = charts.close_window(ours)
    assert window is not None
    assert window == pytest.approx((-2.0, 7.0), abs=0.1)
    data = charts.spec(ours, window)["datasets"]
    assert [(mark["label"], mark["y"]) for mark in data["marks"]] == [("fault 1", 9), ("fault 2", 27), ("fault 3", 9)]
    assert [(bar["begin"], bar["end"]) for bar in data["bars"]] == [
        pytest.approx((0, 1.6), abs=0.1), pytest.approx((0, 5), abs=0.1),
    ]  # fmt: skip
    assert {row["answer"] for row in data["votes"]} == {"confirmed"}
    assert max(row["wait"] for row in data["votes"]) == pytest.approx(1.65, abs=0.3)
    assert {segment["role"] for segment in data["segments"]} <= charts.ROLES.keys()
    story.outage = 0.1
    _, ours = judged(story, tmp_path)
    assert charts.close_window(ours) is None
    assert charts.spec(ours, charts.whole_window(ours))["datasets"]["bars"] == []


def test_any_run_has_a_page(story: Story, tmp_path: Path) -> None:
    """Also one without samples, without a confirmed vote, and with more faults than one."""
    story.slow = lambda due: (due + 10, 503, "info")
    story.events = [{"time": WALL + 20 + n, "kind": "inject", "text": f"Again {n}"} for n in range(9)]
    arguments = story.write(tmp_path)
    (tmp_path / "samples.jsonl").unlink()
    assert main(arguments) == 1
    page = (tmp_path / "report.html").read_text()
    assert "Voting had not resumed when the run ended." in page
    assert "fault 10" in page


def test_what_was_not_ours_is_escaped(story: Story, tmp_path: Path) -> None:
    """A host's message is text."""
    story.events = [{"time": WALL + 16, "kind": "relief", "text": "<script>alert(1)</script>"}]
    judged(story, tmp_path)
    assert "<script" not in (tmp_path / "report.html").read_text()


def test_the_index_lists_every_run(story: Story, tmp_path: Path) -> None:
    """With links, counts, and the failed one marked."""
    for name, outage in (("one", 1.6), ("two", 9.0)):
        (tmp_path / name).mkdir()
        story.outage = outage
        judged(story, tmp_path / name)
    assert main(["index", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    assert "1 of 2 runs passed." in page
    assert 'href="one/report.html"' in page
    assert 'href="two/report.html"' in page
    assert "✗ failed" in page


def test_a_page_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal of Chaos Toolkit itself has no figures of ours."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "journal.json").write_text('{"experiment": {}}')
    assert main(["index", str(tmp_path)]) == 2
    assert "is no journal of judge" in capsys.readouterr().err
