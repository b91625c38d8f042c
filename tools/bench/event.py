"""How long it takes from a request to its searchable event."""

from __future__ import annotations

import json
import random
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import httpx

from tools.bench.lab import BenchError, Lab, say

SEARCHER = Path(__file__).with_name("search_events.py")
# Apart by no fixed time, so that requests do not keep step with what comes round at fixed times on their way.
PAUSE_SECONDS = (1.0, 3.0)
LONGEST_SECONDS = 60.0


def requests_to_events(lab: Lab, count: int) -> dict[str, list[float]]:
    """Send requests with paths of their own and search for each as the reader does; return the seconds that it took."""
    say(f"sending {count} requests and searching for their events")
    paths = [f"/bench/{uuid.uuid4()}" for _ in range(count)]
    wish = {
        "password": (lab.directory / "secrets" / "elasticsearch_reader_password").read_text("utf-8").strip(),
        "paths": paths,
        "seconds": count * PAUSE_SECONDS[1] + LONGEST_SECONDS,
    }
    command = lab.exec(lab.groups["elasticsearch"][0], "python3", "-c", SEARCHER.read_text("utf-8"))
    sent: dict[str, float] = {}
    found: dict[str, float] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as searcher:
        assert searcher.stdin is not None  # noqa: S101 - for the type checker
        assert searcher.stdout is not None  # noqa: S101 - for the type checker
        searcher.stdin.write(json.dumps(wish))
        searcher.stdin.close()

        def listen(lines: Iterable[str]) -> None:
            for line in lines:
                found[line.strip()] = time.monotonic()

        listener = threading.Thread(target=listen, args=[searcher.stdout])
        listener.start()
        trust = ssl.create_default_context(cafile=lab.directory / "ca" / "ca.crt")
        with httpx.Client(base_url=f"https://{lab.address(lab.groups['app'][0])}", verify=trust) as client:
            for path in paths:
                time.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311 - no secret
                sent[path] = time.monotonic()
                client.get(path)
        listener.join()
    if missing := sent.keys() - found.keys():
        raise BenchError(f"{len(missing)} of {count} requests had no event within {LONGEST_SECONDS:.0f} s")
    return {"seconds": [found[path] - sent[path] for path in paths]}
