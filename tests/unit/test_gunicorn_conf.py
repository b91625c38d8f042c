"""Answers leave a gunicorn whole: the proxy can ask the other one instead as long as it has got nothing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[2] / "roles" / "gunicorn"
ENOUGH_SECONDS = 20

# Says when its first half is out, and has the second one wait for a file.
APPLICATION = """
import os, time

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "6")])
    yield b"one"
    open("half", "w").close()
    while not os.path.exists("go-on"):
        time.sleep(0.01)
    yield b"two"
"""


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run it with the role's configuration; yield it and its port."""
    options = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    template = (ROLE / "templates/gunicorn.conf.py.j2").read_text(encoding="utf-8").partition("\n")[2]
    config = re.sub(r"{{ (\w+) }}", lambda found: str(options[found[1]]), template)
    (tmp_path / "gunicorn.conf.py").write_text(config, encoding="utf-8")
    (tmp_path / "halves.py").write_text(APPLICATION, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server:
        descriptor = server.fileno()
        command = [sys.executable, "-m", "gunicorn", "--config=gunicorn.conf.py", f"--bind=fd://{descriptor}"]
        with subprocess.Popen([*command, "halves:application"], cwd=tmp_path, pass_fds=[descriptor]) as program:
            yield program, server.getsockname()[1]
            program.kill()


def ask(port: int, folder: Path) -> socket.socket:
    """Send a request, and wait until half of its answer is there."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=ENOUGH_SECONDS)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: polls\r\n\r\n")
    begun = time.monotonic()
    while not (folder / "half").exists():
        assert time.monotonic() - begun < ENOUGH_SECONDS
        time.sleep(0.01)
    return connection


def test_an_answer_is_sent_in_one_piece(gunicorn: tuple[subprocess.Popen[bytes], int], tmp_path: Path) -> None:
    """On a connection that lasts."""
    with ask(gunicorn[1], tmp_path) as connection:
        (tmp_path / "go-on").touch()
        for _ in range(2):
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\nonetwo")
            connection.sendall(b"GET / HTTP/1.1\r\nHost: polls\r\n\r\n")


def test_nothing_is_sent_of_one_that_a_kill_cuts_off(
    gunicorn: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    """Headers alone could not be taken back."""
    program, port = gunicorn
    with ask(port, tmp_path) as connection:
        program.send_signal(signal.SIGKILL)
        assert connection.recv(65536) == b""
