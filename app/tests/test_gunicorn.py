"""The app as it is run: gunicorn's threads with connections that last."""

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

import httpx
import pytest
from django.db import connections
from testkit import Server, wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "failover1"])


class Gunicorn:
    """Two workers on a socket that this process opened, so that no port has to be guessed."""

    def __init__(self, scratch: Path) -> None:
        """Start it, with the test's own database and the log in a file."""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
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

    def ask(self, method: str, path: str, cookie: str = "", **fields: str) -> httpx.Response:
        """Send a request as nginx would pass it on."""
        headers = {"X-Forwarded-Proto": "https", "Origin": f"https://{self.address}", "Cookie": cookie}
        url = f"http://{self.address}{path}"
        return httpx.request(method, url, data=fields or None, headers=headers, timeout=30, trust_env=False)

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
        wait_until(lambda: process.ask("GET", "/healthz").is_success, seconds=60)
        yield process
    finally:
        process.stop()


def test_a_restart_of_the_database_fails_no_request(
    live: Server, gunicorn: Gunicorn, tally: Callable[[], dict[int, int]]
) -> None:
    """Lasting connections break in every thread; votes and reads only take longer."""
    form = gunicorn.ask("GET", "/polls/1/")
    (secret,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
    cookie = form.headers["Set-Cookie"].split(";")[0]
    over = threading.Event()
    votes: list[int] = []
    reads: list[int] = []

    def vote() -> None:
        while not over.is_set():
            fields = {"choice": "1", "token": str(uuid.uuid4()), "csrfmiddlewaretoken": secret}
            votes.append(gunicorn.ask("POST", "/polls/1/vote/", cookie, **fields).status_code)

    def read() -> None:
        while not over.is_set():
            reads.append(gunicorn.ask("GET", "/polls/1/results/").status_code)

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
