"""The watchdog of Filebeat: what it takes for a reason to restart, and what not."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fake_server
from tests.unit.load import load

watchdog = load("roles/filebeat/files/filebeat_watchdog.py")


def stats(waiting: int = 0, acked: int = 0, total: int = 0, dropped: int = 0) -> dict[str, Any]:
    """Return the part of Filebeat's statistics that counts here."""
    return {
        "libbeat": {
            "pipeline": {"events": {"active": waiting}},
            "output": {"events": {"acked": acked, "total": total, "dropped": dropped}, "write": {"bytes": total * 100}},
        }
    }


@dataclass
class FakeHost:
    """A host whose Filebeat does what the test says; at first it is healthy and has nothing to do."""

    active: bool = True
    pid: int = 100
    age: float = 1000
    answer: dict[str, Any] | None = field(default_factory=stats)
    # By file: size and offset.
    watched: dict[str, tuple[int, int]] = field(default_factory=dict)
    wrong: str = ""
    cluster: str = ""
    # Filebeat's notes, which a test can tell apart by one number; None where they cannot be read.
    noted: int | None = 0
    restarts: int = 0
    journal: list[str] = field(default_factory=list)

    def service(self) -> Any:
        """Return the unit's state."""
        return watchdog.Service(self.active, self.pid, self.age)

    def stats(self) -> dict[str, Any]:
        """Return the statistics, or do not answer."""
        if self.answer is None:
            raise watchdog.UnreachableError("timed out")
        return self.answer

    def notes(self) -> dict[str, Any] | None:
        """Return Filebeat's notes."""
        return None if self.noted is None else {"a file": self.noted}

    def files(self, notes: dict[str, Any] | None) -> dict[str, Any]:
        """Return the files."""
        assert notes == self.notes()
        return {name: watchdog.File(*both) for name, both in self.watched.items()}

    def elasticsearch(self) -> tuple[str, str]:
        """Return what is wrong with Elasticsearch, and which one it is."""
        return self.wrong, self.cluster

    def restart(self, notes: dict[str, Any] | None) -> None:
        """Count, and become a new process, which begins where the notes say."""
        self.restarts += 1
        self.pid += 1
        if notes is not None:
            self.journal.append(f"(begins at {notes.get('a file', 'the beginning')})")

    def mend(self, notes: dict[str, Any] | None) -> None:
        """Find nothing to mend."""

    def say(self, text: str) -> None:
        """Keep the line."""
        self.journal.append(text)


# What the next look finds changed; a number is how often in a row it finds nothing changed.
Look = dict[str, Any] | int
STUCK = {"answer": stats(waiting=10, acked=5, total=15)}
SILENT = {"answer": None}
DOWN = {"answer": stats(waiting=10), "wrong": "https://192.0.2.14:9200 does not answer"}
WELL: dict[str, Any] = {"wrong": ""}
GONE = {"wrong": "no index"}
RESTART = [r"Filebeat {}\. Restarting it\.", r"Filebeat runs again after 0\.0 s\."]
LEFT_ALONE = (
    r"Filebeat is hung: its statistics are not answered \(timed out\)\. Left alone: it was restarted {} s ago\."
)
WAITS = r"Filebeat waits for Elasticsearch: {}\. A restart would not help; nothing was done\."


def restart(reason: str) -> list[str]:
    """Return the journal's lines about a restart."""
    return [line.format(reason) for line in RESTART]


def files(*sizes: tuple[int, int]) -> list[Look]:
    """Return looks at a file with these sizes and offsets."""
    return [{"watched": {"1-10": size}} for size in sizes]


def at(noted: int | None, dropped: int = 0) -> dict[str, Any]:
    """Return a look at a Filebeat that has got so far, and has dropped so many of the events until there."""
    return {"answer": stats(acked=7, total=noted or 0, dropped=dropped), "noted": noted}


def again(dropped: int, noted: int) -> list[str]:
    """Return the journal's lines about events that are sent again, from there."""
    said, after = restart(f"has to send {dropped} events again, which Elasticsearch refused")
    return [said, rf"\(begins at {noted}\)", after]


DROPS = r"Filebeat drops events, {} so far, which it will send again after this: no index\."
LEFT_OUT = r"{} events are left out: {}\. `journalctl -u filebeat` has them, with the reason\."
TWICE = "Elasticsearch is well and refused them twice"
OTHER = {"cluster": "other"}
ALL_AGAIN, AFTER_ALL = restart("has to send all logs again, because Elasticsearch was set up anew")
SENT_ALL = [ALL_AGAIN, r"\(begins at the beginning\)", AFTER_ALL]
HUNG = restart(r"is hung: its statistics are not answered \(timed out\)")
AFTER_LOOKS = restart("is stuck: 10 events wait and nothing is sent through 3 looks")
STALLED = restart(r"is stalled: 1 file\(s\) grow and are not read through 3 looks")


@pytest.mark.parametrize(
    ("looks", "journal"),
    [
        pytest.param([10], [], id="nothing to do"),
        pytest.param([{"answer": stats(acked=7, total=7)}, 4], [], id="idle after work"),
        pytest.param(
            [{"answer": stats(minute % 2 * 50, minute * 10, minute * 10)} for minute in range(10)], [], id="busy"
        ),
        pytest.param([{"answer": {"libbeat": {"output": "none"}}}, 3], [], id="counters of another version"),
        pytest.param([1, SILENT], HUNG, id="hung, seen at the first look"),
        pytest.param([{**SILENT, "age": 3}], [], id="silent while it starts"),
        pytest.param([{**SILENT, "age": 3}, {"age": 63}], HUNG, id="silent after its start"),
        # A unit that is not active is the business of systemd and of people.
        pytest.param([{**SILENT, "active": False}, 4], [], id="stopped by somebody"),
        pytest.param(
            [SILENT, 5, 1],
            [*HUNG, *(LEFT_ALONE.format(60 * ago) for ago in range(1, 5)), *HUNG, LEFT_ALONE.format(60)],
            id="hung again: not each minute",
        ),
        pytest.param([STUCK, 1], [], id="stuck, not long enough"),
        pytest.param([STUCK, 2], AFTER_LOOKS, id="stuck"),
        # After systemd restarted it, patience begins anew.
        pytest.param([STUCK, 1, {"pid": 7}, 1], [], id="another process, not long enough"),
        pytest.param([STUCK, 1, {"pid": 7}, 2], AFTER_LOOKS, id="another process, stuck"),
        pytest.param([STUCK, 1, {"active": False}, {"active": True}, 1], [], id="looks before a pause do not count"),
        # Filebeat waits by itself; one line tells of it, and one of the end.
        pytest.param(
            [DOWN, 19, {**WELL, "answer": stats(acked=10, total=10)}, 3],
            [WAITS.format(r"https://192\.0\.2\.14:9200 does not answer"), "Elasticsearch takes events again."],
            id="Elasticsearch down",
        ),
        # It answers again a moment before Filebeat's next try.
        pytest.param([DOWN, 1, WELL, 1], [], id="Elasticsearch just back"),
        pytest.param([DOWN, 1, WELL, 2], AFTER_LOOKS, id="stuck since Elasticsearch is back"),
        # A full disk, for instance.
        pytest.param(
            [{"answer": stats(10, 5, 20 + tries)} for tries in range(6)],
            [WAITS.format(r"it answers but acknowledges no events \(.*\)")],
            id="Elasticsearch refuses events",
        ),
        # While another file is shipped well.
        pytest.param(
            [
                {"answer": stats(0, look, look), "watched": {"1-10": (1000 + look, 900), "1-11": (look, look)}}
                for look in range(3)
            ],
            STALLED,
            id="stalled",
        ),
        pytest.param(files((1000, 900), (1000, 900), (1000, 900)), [], id="unfinished last line"),
        pytest.param(files((1000, 900), (1100, 1000), (1200, 1100)), [], id="behind but moving"),
        pytest.param(files((1000, 1000), (1200, 1000), (1400, 1000)), [], id="began to grow a look ago"),
        pytest.param(files((1000, 1000), (0, 1000), (50, 1000)), [], id="truncated"),
        pytest.param(
            [{"answer": stats(4096), "wrong": "down"}, *files(*((1000 + minute, 900) for minute in range(5)))],
            [WAITS.format("down")],
            id="files grow while Elasticsearch is down",
        ),
        # Whatever is noted as done by then: Filebeat begins again where nothing had been dropped.
        pytest.param(
            [at(20), {**at(30, 4), **GONE}, at(40, 9), {**at(50, 9), **WELL}, at(60), 3],
            [DROPS.format(4), *again(9, 20)],
            id="no index to write to",
        ),
        # Where it stood when the index went is known from before, although it has dropped nothing since its start.
        pytest.param(
            [at(20), {**at(30), **GONE, "pid": 7}, at(40, 2), {**at(50, 2), **WELL}],
            [DROPS.format(2), *again(2, 20)],
            id="no index, and killed",
        ),
        pytest.param([at(20), at(30, 4), at(50), at(60)], again(4, 20), id="no index between two looks"),
        pytest.param(
            [at(20), at(30, 4), at(50, 1), at(60, 1)],
            [*again(4, 20), LEFT_OUT.format(1, TWICE)],
            id="an event at fault",
        ),
        # Each comes to be left out without more than a restart in five minutes.
        pytest.param(
            [at(20), at(30, 1), at(40, 1), at(50, 1), *(at(60 + look, 2) for look in range(3)), at(70, 1), 2],
            [
                *again(1, 20),
                LEFT_OUT.format(1, TWICE),
                *(
                    rf"Filebeat has .* 1 events again, .*\. Left alone: it was restarted {60 * ago} s ago\."
                    for ago in (3, 4)
                ),
                *again(1, 50),
                LEFT_OUT.format(1, TWICE),
            ],
            id="more events at fault",
        ),
        # The second refusal says nothing about the events.
        pytest.param(
            [at(20), {**at(30, 4), **GONE}, {**at(40, 4), **WELL}, {**at(50, 3), **GONE}, 6, WELL],
            [DROPS.format(4), *again(4, 20), DROPS.format(3), *again(3, 20)],
            id="no index, twice",
        ),
        pytest.param(
            [at(20, 5), 1, at(30, 6)],
            [LEFT_OUT.format(5, "it is not known where they begin"), *again(1, 20)],
            id="dropped before the first look",
        ),
        pytest.param([at(20), at(None), at(30, 1)], again(1, 20), id="notes that cannot be read keep those of before"),
        # Not before it has what Filebeat needs, and once.
        pytest.param(
            [{**at(20), "cluster": "first"}, {**OTHER, **GONE}, {**at(30), **WELL}, 10, {"cluster": "first"}],
            SENT_ALL * 2,
            id="Elasticsearch set up anew",
        ),
        pytest.param(
            [{"cluster": "first"}, {"cluster": ""}, 1, {"cluster": "first"}, 3], [], id="an id that was not known"
        ),
        pytest.param(
            [{**at(20), "cluster": "first"}, {**at(30, 4), **OTHER, **GONE}, {**at(40, 4), **WELL}, at(50), 4],
            [DROPS.format(4), *SENT_ALL],
            id="events dropped by one set up anew",
        ),
        pytest.param(
            [{"cluster": "first"}, SILENT, {"answer": stats(), **OTHER}, 5],
            [
                *HUNG,
                *(
                    rf"Filebeat has to send all logs .*\. Left alone: it was restarted {60 * n} s ago\."
                    for n in range(1, 5)
                ),
                *SENT_ALL,
            ],
            id="set up anew just after a restart",
        ),
    ],
)
def test_what_is_a_reason_to_restart_and_what_is_not(tmp_path: Path, looks: list[Look], journal: list[str]) -> None:
    """A look a minute, with the state kept in its file; every line of the journal is expected, and no other."""
    host, state, now = FakeHost(), tmp_path / "state.json", 5000.0
    dog = watchdog.Watchdog(host)
    for look in looks:
        for name, value in look.items() if isinstance(look, dict) else ():
            setattr(host, name, value)
        for _ in range(look if isinstance(look, int) else 1):
            now += 60
            watchdog.save_state(state, dog.run(watchdog.load_state(state), now))
    assert len(host.journal) == len(journal), host.journal
    for line, wanted in zip(host.journal, journal, strict=True):
        assert re.fullmatch(wanted, line)
    assert host.restarts == sum("Restarting" in line for line in host.journal)


@pytest.mark.parametrize(("said", "blocked"), [("", 0), ("no index", 1)])
def test_prometheus_is_told_whether_events_wait(tmp_path: Path, said: str, blocked: int) -> None:
    """In a file that the node exporter's account may read."""
    path = tmp_path / "filebeat.prom"
    watchdog.save_metrics(path, watchdog.State(said=said))
    assert f"filebeat_blocked {blocked}\n" in path.read_text("utf-8")
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", ["", "{", "[]", '{"looks": [{}]}', '{"looks": [], "restarted": null}'])
def test_unreadable_state_is_a_new_beginning(tmp_path: Path, content: str) -> None:
    """A cut-off or older file costs patience, not the run."""
    path = tmp_path / "state.json"
    path.write_text(content, encoding="utf-8")
    assert watchdog.load_state(path) == watchdog.State()


def real(folder: Path, *arguments: str) -> Any:
    """Return a real host, with all that belongs to it in a folder, and more of the command line."""
    places = [f"--{option}={folder}" for option in ("registry", "state", "metrics", "certs")]
    return watchdog.Host(watchdog.parse([*places, f"--socket={folder}/stats.sock", *arguments]))


def write_registry(folder: Path) -> None:
    """Write what Filebeat keeps: two checkpoints, the older one left behind, and a log whose last change is cut off."""
    old = [{"_key": "filebeat::logs::native::11-2049", "offset": 1}]
    new = [
        {"_key": "filebeat::logs::native::11-2049", "offset": 100, "source": "/a"},
        {"_key": "filestream::upstream::native::12-2049", "cursor": {"offset": 7}, "meta": {"source": "/b"}},
        {"_key": "filebeat::logs::native::99-2049", "offset": 3},
        {"_key": "filebeat::something::else", "offset": 3},
    ]
    lines = [
        '{"op":"set","id":10}',
        '{"k":"filebeat::logs::native::11-2049","v":{"offset":50,"source":"/a"}}',
        '{"op":"set","id":11}',
        '{"k":"filebeat::logs::native::11-2049","v":{"offset":250,"source":"/a"}}',
        '{"op":"remove","id":12}',
        '{"k":"filebeat::logs::native::99-2049"}',
        '{"op":"set","id":13}',
        '{"k":"filebeat::logs::native::11-2049","v":{"off',
    ]
    for name, content in (("9", json.dumps(old)), ("10", json.dumps(new)), ("meta", "{}"), ("log", "\n".join(lines))):
        (folder / f"{name}.json").write_text(content, encoding="utf-8")


NOTES = {
    "filebeat::logs::native::11-2049": {"offset": 250, "source": "/a"},
    "filestream::upstream::native::12-2049": {"cursor": {"offset": 7}, "meta": {"source": "/b"}},
    "filebeat::something::else": {"offset": 3},
}


def test_registry_of_both_inputs(tmp_path: Path) -> None:
    """What Filebeat 7.10 and 8.19 keep: the newest checkpoint and the log after it, by device and inode."""
    write_registry(tmp_path)
    assert watchdog.read_registry(tmp_path) == NOTES
    assert watchdog.offsets(NOTES) == {"2049-11": 250, "2049-12": 7}


def test_files_carry_their_notes(tmp_path: Path) -> None:
    """Archives are not shipped; a file without a note has none."""
    for name in ("a.log", "b.log.1", "a.log.2.gz"):
        (tmp_path / name).write_text("12345", encoding="utf-8")
    status = (tmp_path / "a.log").stat()
    notes = {f"filebeat::logs::native::{status.st_ino}-{status.st_dev}": {"offset": 3}}
    found = real(tmp_path, f"--file={tmp_path}/a.log*", f"--file={tmp_path}/b.log*").files(notes)
    assert found.pop(f"{status.st_dev}-{status.st_ino}") == watchdog.File(5, 3)
    assert list(found.values()) == [watchdog.File(5, None)]


def test_unreadable_registry_is_no_verdict(tmp_path: Path) -> None:
    """A checkpoint that is being replaced says nothing about any file."""
    (tmp_path / "1.json").write_text("[{", encoding="utf-8")
    host = real(tmp_path, f"--file={tmp_path}/*")
    assert host.notes() is None
    assert host.files(None) == {}


def test_registry_that_changes_meanwhile_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between an old checkpoint and the log after the next one, changes are missing."""
    write_registry(tmp_path)
    seen = iter([tmp_path / "9.json", tmp_path / "10.json"])
    monkeypatch.setattr(watchdog, "newest_checkpoint", lambda _: next(seen))
    assert real(tmp_path).notes() is None


@pytest.mark.parametrize(
    "notes", [{}, NOTES, {"filebeat::logs::native::11-2049": {"offset": 20}, "filebeat::logs::native::13-2049": {}}]
)
def test_notes_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: dict[str, Any]) -> None:
    """As changes after the checkpoint, between the end of one Filebeat and the start of the next."""
    write_registry(tmp_path)
    log = tmp_path / "log.json"
    calls = []
    monkeypatch.setattr(
        watchdog.subprocess, "run", lambda command, **_: calls.append((command, log.read_text("utf-8")))
    )
    before = log.read_text("utf-8")
    real(tmp_path).restart(notes)
    assert watchdog.read_registry(tmp_path) == notes
    after = log.read_text("utf-8")
    # Filebeat wants them counted on, without a gap.
    numbers = [json.loads(line)["id"] for line in after.splitlines()[::2]]
    assert numbers == list(range(11, 11 + len(numbers)))
    assert calls == [(["systemctl", "stop", watchdog.UNIT], before), (["systemctl", "start", watchdog.UNIT], after)]


def test_filebeat_starts_whatever_becomes_of_its_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may be full; and a restart without notes leaves those on the disk."""
    calls = []
    monkeypatch.setattr(watchdog.subprocess, "run", lambda command, **_: calls.append(command[1]))
    write_registry(tmp_path)
    real(tmp_path).restart(None)
    assert watchdog.read_registry(tmp_path) == NOTES
    (tmp_path / "10.json").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="Expecting value"):
        real(tmp_path).restart(NOTES)
    assert calls == ["restart", "stop", "start"]


@pytest.mark.parametrize("content", [None, "", '{"version":', "[]", "\0\0"])
def test_damaged_version_is_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    """What Filebeat writes once and then refuses to start without; the notes stay as they are."""
    write_registry(tmp_path)
    meta = tmp_path / "meta.json"
    meta.unlink() if content is None else meta.write_text(content, encoding="utf-8")
    real(tmp_path).mend(None)
    assert json.loads(meta.read_text("utf-8")) == {"version": "1"}
    assert meta.stat().st_mode & 0o777 == 0o600
    assert watchdog.read_registry(tmp_path) == NOTES
    assert (
        capsys.readouterr().out
        == f"{meta} was damaged, so that Filebeat could not start: written anew. Nothing is lost.\n"
    )


@pytest.mark.parametrize(("notes", "begin"), [(NOTES, "the last look before"), (None, "the beginning of all logs")])
def test_damaged_checkpoint_is_put_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], notes: dict[str, Any] | None, begin: str
) -> None:
    """Its place take the notes that the watchdog has seen."""
    write_registry(tmp_path)
    damaged = tmp_path / "10.json"
    damaged.write_text("[{", encoding="utf-8")
    real(tmp_path).mend(notes)
    assert watchdog.read_registry(tmp_path) == (notes or {})
    assert (tmp_path / "10.json.damaged").read_text("utf-8") == "[{"
    said = capsys.readouterr().out
    assert said == f"{damaged} was damaged, so that Filebeat could not start: it sends again from {begin}.\n"


def test_what_is_in_order_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also before Filebeat's first start, and when it was half-way through a change."""
    real(tmp_path / "none").mend(None)
    write_registry(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real(tmp_path).mend({})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        # An answer that is none is asked for again.
        ([b"oops", b'{"libbeat": {}}'], {"libbeat": {}}),
        ([b"[]"] * 3, "HTTP 200"),
        # A frozen process still has its connections accepted by the kernel, and never answers.
        ([None] * 3, "timed out"),
    ],
)
def test_statistics_come_from_the_socket(tmp_path: Path, answers: list[bytes | None], expected: Any) -> None:
    """One answer a connection; three of them at most are asked for."""
    waiting, over = iter(answers), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        """Gives the next answer, or none until the test is over."""

        def do_GET(self) -> None:
            """Answer."""
            if (body := next(waiting)) is None:
                over.wait(10)
            else:
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with socketserver.ThreadingUnixStreamServer(f"{tmp_path}/stats.sock", Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            found = real(tmp_path).stats(timeout=0.3, pause=0)
        except watchdog.UnreachableError as error:
            found = str(error)
        finally:
            over.set()
            server.shutdown()
    assert found == expected
    assert next(waiting, "used up") == "used up"


def test_missing_socket_is_unreachable(tmp_path: Path) -> None:
    """Nothing listens."""
    with pytest.raises(watchdog.UnreachableError, match="No such file"):
        real(tmp_path).stats(pause=0)


@pytest.fixture
def elasticsearch(tmp_path: Path) -> Iterator[fake_server.Server]:
    """Run an Elasticsearch that knows one pipeline, and Filebeat's certificate and password."""

    def answer(request: fake_server.Request) -> fake_server.Answer:
        assert request.headers["authorization"] == "Basic ZmlsZWJlYXRfd3JpdGVyOnB3"
        body = b'{"cluster_uuid" : "a-9_Z", "version": {}}' if request.path == "/" else b"{}"
        return 200 if request.path in {"/", "/pipeline"} else 404, body

    with fake_server.serve(tmp_path, answer, client_certificate=True) as server:
        (tmp_path / "ca.crt").symlink_to(server.certificate)
        yield server


@pytest.mark.parametrize(
    ("urls", "path", "expected"),
    [
        (["{0}", "https://127.0.0.1:9"], "/pipeline", ""),
        (["https://127.0.0.1:9", "{0}"], "/pipeline", ""),
        (["https://127.0.0.1:9"], "/pipeline", "https://127.0.0.1:9 does not answer ([Errno 111] Connection refused)"),
        (["{0}"], "/none", "{0}/none answers with HTTP 404"),
        (["{0}"], "/pipeline {}", ""),
        (["{0}"], '/pipeline "is_write_index":true', '{0}/pipeline answers without "is_write_index":true'),
        ([], "/pipeline", "no address is configured"),
    ],
)
def test_elasticsearch_must_know_what_filebeat_needs(
    elasticsearch: fake_server.Server, monkeypatch: pytest.MonkeyPatch, urls: list[str], path: str, expected: str
) -> None:
    """One node that would take events is enough; a wiped Elasticsearch answers and would not."""
    monkeypatch.setenv("FILEBEAT_WRITER_PASSWORD", "pw")
    given = [f"--elasticsearch={url.format(elasticsearch.url)}" for url in urls]
    host = real(elasticsearch.certificate.parent, f"--needs={path}", *given)
    wrong, cluster = host.elasticsearch()
    assert wrong == expected.format(elasticsearch.url)
    assert cluster == ("a-9_Z" if "{0}" in urls else "")


@pytest.mark.parametrize(
    ("body", "cluster"),
    [('{"cluster_uuid" : "a-9_Z",', "a-9_Z"), ('{"cluster_uuid":"_na_"}', ""), ('{"name":"monitoring"}', "")],
)
def test_a_node_without_its_cluster_has_no_id(body: str, cluster: str) -> None:
    """As while it starts; Filebeat's notes are not given up for that."""
    assert watchdog.cluster_id(body) == cluster
