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


def stats(waiting: int = 0, acked: int = 0, total: int = 0) -> dict[str, Any]:
    """Return the part of Filebeat's statistics that counts here."""
    return {
        "libbeat": {
            "pipeline": {"events": {"active": waiting}},
            "output": {"events": {"acked": acked, "total": total}, "write": {"bytes": total * 100}},
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

    def files(self) -> dict[str, Any]:
        """Return the files."""
        return {name: watchdog.File(*both) for name, both in self.watched.items()}

    def elasticsearch(self) -> str:
        """Return what is wrong with Elasticsearch."""
        return self.wrong

    def restart(self) -> None:
        """Count, and become a new process."""
        self.restarts += 1
        self.pid += 1

    def say(self, text: str) -> None:
        """Keep the line."""
        self.journal.append(text)


# What the next look finds changed; a number is how often in a row it finds nothing changed.
Look = dict[str, Any] | int
STUCK = {"answer": stats(waiting=10, acked=5, total=15)}
SILENT = {"answer": None}
DOWN = {"answer": stats(waiting=10), "wrong": "https://192.0.2.14:9200 does not answer"}
WELL: dict[str, Any] = {"wrong": ""}
RESTART = [r"Filebeat is {}\. Restarting it\.", r"Filebeat runs again after 0\.0 s\."]
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


HUNG = restart(r"hung: its statistics are not answered \(timed out\)")
AFTER_LOOKS = restart("stuck: 10 events wait and nothing is sent through 3 looks")
STALLED = restart(r"stalled: 1 file\(s\) grow and are not read through 3 looks")


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


@pytest.mark.parametrize("content", ["", "{", "[]", '{"looks": [{}]}', '{"looks": [], "restarted": null}'])
def test_unreadable_state_is_a_new_beginning(tmp_path: Path, content: str) -> None:
    """A cut-off or older file costs patience, not the run."""
    path = tmp_path / "state.json"
    path.write_text(content, encoding="utf-8")
    assert watchdog.load_state(path) == watchdog.State()


def real(folder: Path, *arguments: str) -> Any:
    """Return a real host, with all that belongs to it in a folder, and more of the command line."""
    places = [f"--{option}={folder}" for option in ("registry", "state", "certs")]
    return watchdog.Host(watchdog.parse([*places, f"--socket={folder}/stats.sock", *arguments]))


def test_registry_of_both_inputs(tmp_path: Path) -> None:
    """What Filebeat 7.10 and 8.19 keep: the newest checkpoint and the log after it, by device and inode."""
    old = [{"_key": "filebeat::logs::native::11-2049", "offset": 1}]
    new = [
        {"_key": "filebeat::logs::native::11-2049", "offset": 100, "source": "/a"},
        {"_key": "filestream::upstream::native::12-2049", "cursor": {"offset": 7}, "meta": {"source": "/b"}},
        {"_key": "filebeat::something::else", "offset": 3},
    ]
    lines = [
        '{"op":"set","id":11}',
        '{"k":"filebeat::logs::native::11-2049","v":{"offset":250,"source":"/a"}}',
        '{"op":"remove","id":12}',
        '{"k":"filebeat::logs::native::99-2049"}',
        '{"k":"filebeat::logs::native::11-2049","v":{"off',
    ]
    for name, content in (("9", json.dumps(old)), ("10", json.dumps(new)), ("meta", "{}"), ("log", "\n".join(lines))):
        (tmp_path / f"{name}.json").write_text(content, encoding="utf-8")
    assert watchdog.read_registry(tmp_path) == {"2049-11": 250, "2049-12": 7}


def test_files_carry_their_notes(tmp_path: Path) -> None:
    """Archives are not shipped; a file without a note has none."""
    for name in ("a.log", "b.log.1", "a.log.2.gz"):
        (tmp_path / name).write_text("12345", encoding="utf-8")
    status = (tmp_path / "a.log").stat()
    entry = {"k": f"filebeat::logs::native::{status.st_ino}-{status.st_dev}", "v": {"offset": 3}}
    (tmp_path / "log.json").write_text(json.dumps(entry), encoding="utf-8")
    found = real(tmp_path, f"--file={tmp_path}/a.log*", f"--file={tmp_path}/b.log*").files()
    assert found.pop(f"{status.st_dev}-{status.st_ino}") == watchdog.File(5, 3)
    assert list(found.values()) == [watchdog.File(5, None)]


def test_unreadable_registry_is_no_verdict(tmp_path: Path) -> None:
    """A checkpoint that is being replaced says nothing about any file."""
    (tmp_path / "1.json").write_text("[{", encoding="utf-8")
    assert real(tmp_path, f"--file={tmp_path}/*").files() == {}


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
        return 200 if request.path in {"/", "/pipeline"} else 404, b"{}"

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
    assert host.elasticsearch() == expected.format(elasticsearch.url)
