"""What the members' own Patronis say."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from .decision import Answer

PORT = 8008


def read_answer(body: bytes) -> Answer:
    """Read what ``GET /patroni`` returned. Raises ValueError where that is something else."""
    status = json.loads(body)
    if not isinstance(status, dict):
        raise ValueError("not an object")  # noqa: TRY004 - like a text that is no JSON
    log = status.get("xlog")
    positions = log if isinstance(log, dict) else {}
    return Answer(
        primary=status.get("role") in {"primary", "master"},
        running=status.get("state") == "running",
        streaming=status.get("replication_state") == "streaming",
        received=int(positions.get("received_location") or 0),
        written=int(positions.get("location") or 0),
    )


class Members:
    """The database hosts, all asked at the same time."""

    def __init__(self, addresses: Mapping[str, str], tls: ssl.SSLContext, patience: float, port: int = PORT) -> None:
        """Ask the members at ``addresses`` and wait ``patience`` seconds for all of them."""
        self.addresses = addresses
        self.tls = tls
        self.patience = patience
        self.port = port
        self.pools = {name: ThreadPoolExecutor(1) for name in addresses}
        self.asked: dict[str, Future[Answer]] = {}

    def ask(self, name: str) -> Answer:
        """Ask one member, whatever the HTTP status it answers with."""
        connection = http.client.HTTPSConnection(
            self.addresses[name], self.port, timeout=self.patience, context=self.tls
        )
        try:
            connection.request("GET", "/patroni")
            return read_answer(connection.getresponse().read())
        finally:
            connection.close()

    def begin(self) -> None:
        """Ask everybody who is not still busy with the last question."""
        for name, pool in self.pools.items():
            if name not in self.asked or self.asked[name].done():
                self.asked[name] = pool.submit(self.ask, name)

    def answers(self, begun: float) -> dict[str, Answer | None]:
        """Return the answers to the questions of ``begun`` (monotonic seconds), None for one that is missing."""
        wait(self.asked.values(), max(begun + self.patience - time.monotonic(), 0))
        answers: dict[str, Answer | None] = {}
        for name, future in self.asked.items():
            well = future.done() and future.exception() is None
            answers[name] = future.result() if well else None
        return answers
