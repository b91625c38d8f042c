"""The app as it is run: gunicorn's threads with connections that last."""

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connections
from testkit import Server, wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "failover1"])


class Gunicorn:
    """Two workers on a socket that this process opened, so that no port has to be guessed."""

    def __init__(self, scratch: Path) -> None:
        """Start it, with the test's own database and the log in a file."""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.log = scratch / "log"
        name = connections["default"].settings_dict["NAME"]
        config = Path(os.environ["POLLS_CONFIG"]).read_text(encoding="utf-8")
        config = config.replace('name = "polls"', f'name = "{name}"\nidle_seconds = 60')
        (scratch / "polls.toml").write_text(config, encoding="utf-8")
        fd = self.socket.fileno()
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--bind", f"fd://{fd}", "--workers", "2",
                 "--worker-class", "gthread", "--threads", "16", "--no-control-socket", "sreproject.wsgi:application"],
                pass_fds=[fd],
                cwd=Path(__file__).parents[1],
                env=os.environ | {"POLLS_CONFIG": str(scratch / "polls.toml")},
                stdout=log,
                stderr=log,
            )  # fmt: skip

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
        """Send a request as nginx would pass it on."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        forwarded = {
            "X-Forwarded-Proto": "https",
            "Origin": f"https://127.0.0.1:{self.port}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        try:
            connection.request(method, path, body, forwarded | headers)
            response = connection.getresponse()
            return response.status, response.read().decode(), response.headers
        finally:
            connection.close()

    def stop(self) -> None:
        """End it in good order."""
        self.process.terminate()
        self.process.wait(20)
        self.socket.close()


@pytest.fixture
def gunicorn(live: Server, tmp_path: Path) -> Iterator[Gunicorn]:
    """Run the app on the test's database, with its pages' static files by their plain names."""
    assert live.data.exists()
    process = Gunicorn(tmp_path)
    try:
        wait_until(lambda: process.ask("GET", "/healthz")[0] == 200, seconds=60)
        yield process
    finally:
        process.stop()


def test_a_restart_of_the_database_fails_no_request(
    live: Server, gunicorn: Gunicorn, tally: Callable[[], dict[int, int]]
) -> None:
    """Lasting connections break in every thread; votes and reads only take longer."""
    _status, form, headers = gunicorn.ask("GET", "/polls/1/")
    match = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert match is not None
    cookie = headers["Set-Cookie"].split(";")[0]
    over = threading.Event()
    votes: list[int] = []
    reads: list[int] = []

    def vote() -> None:
        while not over.is_set():
            body = f"choice=1&token={uuid.uuid4()}&csrfmiddlewaretoken={match[1]}"
            votes.append(gunicorn.ask("POST", "/polls/1/vote/", body, Cookie=cookie)[0])

    def read() -> None:
        while not over.is_set():
            reads.append(gunicorn.ask("GET", "/polls/1/results/")[0])

    threads = [threading.Thread(target=target) for target in (vote, vote, vote, vote, read, read)]
    for thread in threads:
        thread.start()
    wait_until(lambda: min(len(votes), len(reads)) > 10, seconds=30)
    live.kill_backends()
    with live.stopped():
        time.sleep(0.5)
    before = len(votes), len(reads)
    wait_until(lambda: min(len(votes) - before[0], len(reads) - before[1]) > 10, seconds=30)
    over.set()
    for thread in threads:
        thread.join(30)
    assert set(votes) == {302}
    assert set(reads) == {200}
    assert tally() == {1: len(votes)}
    log = gunicorn.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert "attempt 1 failed" in log
