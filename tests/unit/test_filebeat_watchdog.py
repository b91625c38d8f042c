"""The watchdog of Filebeat: what it takes for a reason to restart, and what not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.load import load

PROGRAM = Path(__file__).resolve().parents[2] / "roles/filebeat/files/filebeat_watchdog.py"


watchdog = load("roles/filebeat/files/filebeat_watchdog.py")


def stats(waiting: int = 0, acked: int = 0, total: int = 0) -> dict[str, Any]:
    """Return the part of Filebeat's statistics that counts here."""
    return {
        "libbeat": {
            "pipeline": {"events": {"active": waiting}},
            "output": {"events": {"acked": acked, "total": total}, "write": {"bytes": total * 100}},
        }
    }


class FakeHost:
    """A host whose Filebeat does what the test says."""

    def __init__(self) -> None:
        """Begin with a healthy Filebeat that has nothing to do."""
        self.active = True
        self.pid = 100
        self.age = 1000.0
        self.answer: dict[str, Any] | None = stats()
        self.watched: dict[str, Any] = {}
        self.wrong = ""
        self.restarts = 0
        self.journal: list[str] = []

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
        return dict(self.watched)

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


class Timer:
    """Runs the watchdog once a minute and keeps its state as the file does, through JSON."""

    def __init__(self, host: FakeHost, path: Path) -> None:
        """Watch ``host``."""
        self.dog = watchdog.Watchdog(watchdog.Limits(looks=3, hold_off=300, grace=30), host)
        self.path = path
        self.now = 5000.0

    def tick(self, seconds: float = 60) -> None:
        """Let time pass and look once."""
        self.now += seconds
        watchdog.save_state(self.path, self.dog.run(watchdog.load_state(self.path), self.now))


@pytest.fixture
def host() -> FakeHost:
    """Return a healthy host."""
    return FakeHost()


@pytest.fixture
def timer(host: FakeHost, tmp_path: Path) -> Timer:
    """Return a timer over it."""
    return Timer(host, tmp_path / "state.json")


def test_healthy_is_left_alone(host: FakeHost, timer: Timer) -> None:
    """Idle, then busy: nothing is done and nothing is said."""
    for minute in range(10):
        host.answer = stats(waiting=minute % 2 * 50, acked=minute * 10, total=minute * 10)
        timer.tick()
    assert host.restarts == 0
    assert host.journal == []


def test_idle_is_not_stuck(host: FakeHost, timer: Timer) -> None:
    """A site without visitors has nothing to acknowledge."""
    host.answer = stats(acked=7, total=7)
    for _ in range(5):
        timer.tick()
    assert host.restarts == 0


def test_hung_is_restarted_at_the_first_look(host: FakeHost, timer: Timer) -> None:
    """Statistics that are not answered mean a frozen process."""
    timer.tick()
    host.answer = None
    timer.tick()
    assert host.restarts == 1
    assert "hung" in host.journal[0]
    assert "timed out" in host.journal[0]
    assert "runs again" in host.journal[1]


def test_hung_is_left_alone_while_it_starts(host: FakeHost, timer: Timer) -> None:
    """A process of a few seconds may not answer yet."""
    host.answer, host.age = None, 3
    timer.tick()
    assert host.restarts == 0
    host.age = 63
    timer.tick()
    assert host.restarts == 1


def test_stopped_by_somebody_stays_stopped(host: FakeHost, timer: Timer) -> None:
    """A unit that is not active is the business of systemd and of people."""
    host.active, host.answer = False, None
    for _ in range(5):
        timer.tick()
    assert host.restarts == 0
    assert host.journal == []


def test_stuck_output_is_restarted(host: FakeHost, timer: Timer) -> None:
    """Events wait, nothing is even tried, Elasticsearch answers: after three looks."""
    host.answer = stats(waiting=10, acked=5, total=15)
    timer.tick()
    timer.tick()
    assert host.restarts == 0
    timer.tick()
    assert host.restarts == 1
    assert "stuck: 10 events wait" in host.journal[0]


def test_hold_off_between_restarts(host: FakeHost, timer: Timer) -> None:
    """What a restart did not mend is not restarted each minute."""
    host.answer = None
    timer.tick()
    timer.tick()
    timer.tick()
    assert host.restarts == 1
    assert "Left alone" in host.journal[-1]
    timer.tick(400)
    assert host.restarts == 2


def test_elasticsearch_down_is_said_once(host: FakeHost, timer: Timer) -> None:
    """Filebeat waits by itself; one line tells of it, and one of the end."""
    host.answer, host.wrong = stats(waiting=10), "https://192.0.2.14:9200 does not answer (timed out)"
    for _ in range(20):
        timer.tick()
    assert host.restarts == 0
    assert len(host.journal) == 1
    assert "does not answer" in host.journal[0]
    host.answer, host.wrong = stats(waiting=0, acked=10, total=10), ""
    timer.tick()
    assert host.journal[1:] == ["Elasticsearch takes events again."]


def test_elasticsearch_just_back_is_no_reason(host: FakeHost, timer: Timer) -> None:
    """It answers again a moment before Filebeat's next try."""
    host.answer, host.wrong = stats(waiting=10), "down"
    timer.tick()
    timer.tick()
    host.wrong = ""
    timer.tick()
    timer.tick()
    assert host.restarts == 0
    timer.tick()
    assert host.restarts == 1


def test_elasticsearch_that_refuses_events_is_named(host: FakeHost, timer: Timer) -> None:
    """A full disk: it answers, Filebeat tries and tries, nothing is acknowledged."""
    for tries in range(6):
        host.answer = stats(waiting=10, acked=5, total=20 + tries)
        timer.tick()
    assert host.restarts == 0
    assert len(host.journal) == 1
    assert "acknowledges no events" in host.journal[0]


def test_stalled_reading_is_restarted(host: FakeHost, timer: Timer) -> None:
    """A file grows, the note about it stands still, while another file is shipped well."""
    for minute in range(3):
        host.answer = stats(acked=minute, total=minute)
        host.watched = {
            "1-10": watchdog.File(size=1000 + minute * 50, offset=900),
            "1-11": watchdog.File(size=500 + minute, offset=500 + minute),
        }
        timer.tick()
    assert host.restarts == 1
    assert "stalled: 1 file(s) grow" in host.journal[0]


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([(1000, 900), (1000, 900), (1000, 900)], id="unfinished last line"),
        pytest.param([(1000, 900), (1100, 1000), (1200, 1100)], id="behind but moving"),
        pytest.param([(1000, 1000), (1200, 1000), (1400, 1000)], id="began to grow a look ago"),
        pytest.param([(1000, 1000), (0, 1000), (50, 1000)], id="truncated"),
    ],
)
def test_files_that_are_no_reason(host: FakeHost, timer: Timer, sizes: list[tuple[int, int]]) -> None:
    """Only growth, lag and standstill together, through all looks, are."""
    for size, offset in sizes:
        host.watched = {"1-10": watchdog.File(size, offset)}
        timer.tick()
    assert host.restarts == 0


def test_growing_files_wait_with_elasticsearch(host: FakeHost, timer: Timer) -> None:
    """With a full queue the notes stand still because Elasticsearch is away."""
    host.wrong = "down"
    for minute in range(5):
        host.answer = stats(waiting=4096)
        host.watched = {"1-10": watchdog.File(1000 + minute, 900)}
        timer.tick()
    assert host.restarts == 0
    assert len(host.journal) == 1


def test_looks_of_another_process_do_not_count(host: FakeHost, timer: Timer) -> None:
    """After systemd restarted it, patience begins anew."""
    host.answer = stats(waiting=10)
    timer.tick()
    timer.tick()
    host.pid += 1
    timer.tick()
    timer.tick()
    assert host.restarts == 0
    timer.tick()
    assert host.restarts == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"looks": [{}]}', '{"looks": [], "restarted": null}'])
def test_unreadable_state_is_a_new_beginning(tmp_path: Path, content: str) -> None:
    """A cut-off or older file costs patience, not the run."""
    path = tmp_path / "state.json"
    path.write_text(content, encoding="utf-8")
    assert watchdog.load_state(path) == watchdog.State()


def write_registry(folder: Path) -> None:
    """Write what Filebeat 7.10 and 8.19 keep: old and new checkpoint, log, a half-written line."""
    old = [{"_key": "filebeat::logs::native::11-2049", "offset": 1}]
    new = [
        {"_key": "filebeat::logs::native::11-2049", "offset": 100, "source": "/a"},
        {"_key": "filestream::upstream::native::12-2049", "cursor": {"offset": 7}, "meta": {"source": "/b"}},
        {"_key": "filebeat::something::else", "offset": 3},
    ]
    (folder / "9.json").write_text(json.dumps(old), encoding="utf-8")
    (folder / "10.json").write_text(json.dumps(new), encoding="utf-8")
    (folder / "meta.json").write_text('{"version":"1"}', encoding="utf-8")
    lines = [
        '{"op":"set","id":11}',
        '{"k":"filebeat::logs::native::11-2049","v":{"offset":250,"source":"/a"}}',
        '{"op":"remove","id":12}',
        '{"k":"filebeat::logs::native::99-2049"}',
        '{"k":"filebeat::logs::native::11-2049","v":{"off',
    ]
    (folder / "log.json").write_text("\n".join(lines), encoding="utf-8")


def test_registry_of_both_inputs(tmp_path: Path) -> None:
    """The newest checkpoint and the log after it, by device and inode."""
    write_registry(tmp_path)
    assert watchdog.read_registry(tmp_path) == {"2049-11": 250, "2049-12": 7}


def test_files_carry_their_notes(tmp_path: Path) -> None:
    """Archives are not shipped; a file without a note has none."""
    for name in ("a.log", "a.log.1", "a.log.2.gz"):
        (tmp_path / name).write_text("12345", encoding="utf-8")
    registry = tmp_path / "registry"
    registry.mkdir()
    status = (tmp_path / "a.log").stat()
    entry = {"k": f"filebeat::logs::native::{status.st_ino}-{status.st_dev}", "v": {"offset": 3}}
    (registry / "log.json").write_text(json.dumps(entry), encoding="utf-8")
    files = watchdog.read_files([f"{tmp_path}/a.log*"], registry)
    assert files.pop(f"{status.st_dev}-{status.st_ino}") == watchdog.File(5, 3)
    assert list(files.values()) == [watchdog.File(5, None)]


def test_unreadable_registry_is_no_verdict(tmp_path: Path) -> None:
    """A checkpoint that is being replaced says nothing about any file."""
    (tmp_path / "a.log").write_text("12345", encoding="utf-8")
    (tmp_path / "1.json").write_text("[{", encoding="utf-8")
    assert watchdog.read_files([f"{tmp_path}/a.log"], tmp_path) == {}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
    """Serve canned answers on a unix socket, one a connection; silence once they are used up."""
    path, answers, open_ones = tmp_path / "stats.sock", list[bytes](), list[socket.socket]()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            open_ones.append(connection)
            if answers:
                body = answers.pop(0)
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    thread = threading.Thread(target=serve)
    thread.start()
    yield path, answers
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in open_ones:
        connection.close()


def test_statistics_are_read_from_the_socket(endpoint: tuple[Path, list[bytes]]) -> None:
    """An answer that is none is asked for again."""
    path, answers = endpoint
    answers += [b"oops", b'{"libbeat": {}}']
    assert watchdog.read_stats(path, timeout=1, pause=0) == {"libbeat": {}}


def test_silence_is_unreachable(endpoint: tuple[Path, list[bytes]]) -> None:
    """A frozen process still has its connections accepted by the kernel, and never answers."""
    path, _ = endpoint
    with pytest.raises(watchdog.UnreachableError, match="timed out"):
        watchdog.read_stats(path, timeout=0.05, pause=0)


def test_missing_socket_is_unreachable(tmp_path: Path) -> None:
    """Nothing listens."""
    with pytest.raises(watchdog.UnreachableError):
        watchdog.read_stats(tmp_path / "none.sock", pause=0)


def test_missing_counters_never_counted(host: FakeHost, timer: Timer) -> None:
    """Another version may lack a number; that is no reason to restart."""
    host.answer = {"libbeat": {"output": "none"}}
    for _ in range(4):
        timer.tick()
    assert host.restarts == 0


class Connection:
    """A connection to a server that knows some paths; `None` in their place is a server that is not there."""

    servers: dict[str, set[str] | None]
    asked: list[str]

    def __init__(self, host: str, *_: Any, **__: Any) -> None:
        """Be a connection to ``host``."""
        self.host = host
        self.status = 0

    def request(self, _method: str, path: str, headers: dict[str, str]) -> None:
        """Ask for ``path`` with a password."""
        assert headers["Authorization"].startswith("Basic ")
        self.asked.append(f"{self.host}{path}")
        known = self.servers[self.host]
        if known is None:
            raise TimeoutError
        self.status = 200 if path in known else 404

    def getresponse(self) -> Connection:
        """Answer."""
        return self

    def read(self) -> bytes:
        """Return the body."""
        return b"{}"

    def close(self) -> None:
        """End."""


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ({"a": {"/", "/pipeline"}, "b": None}, ""),
        ({"a": None, "b": {"/", "/pipeline"}}, ""),
        ({"a": None, "b": None}, "https://b:9200 does not answer (TimeoutError)"),
        ({"a": {"/"}, "b": {"/"}}, "https://b:9200/pipeline answers with HTTP 404"),
    ],
)
def test_elasticsearch_must_know_what_filebeat_needs(
    monkeypatch: pytest.MonkeyPatch, servers: dict[str, set[str] | None], expected: str
) -> None:
    """One node that would take events is enough; a wiped Elasticsearch answers and would not."""
    Connection.servers, Connection.asked = servers, []
    monkeypatch.setattr(watchdog.http.client, "HTTPSConnection", Connection)

    class Context:
        def load_cert_chain(self, *_: Any) -> None:
            """Take any certificate."""

    monkeypatch.setattr(watchdog.ssl, "create_default_context", lambda **_: Context())
    tls = {name: Path(name) for name in ("ca", "cert", "key")}
    urls = ["https://a:9200", "https://b:9200"]
    assert watchdog.ask_elasticsearch(urls, ["/pipeline"], tls, "user", "password") == expected


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The program explains itself."""
    with pytest.raises(SystemExit):
        watchdog.parse(["--help"])
    assert "FILEBEAT_WRITER_PASSWORD" in capsys.readouterr().out
