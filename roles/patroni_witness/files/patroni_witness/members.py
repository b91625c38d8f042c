"""What the members' own Patronis say."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

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
        # Those whose question is one of an earlier look.
        self.late: set[str] = set()

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
        self.late = {name for name, future in self.asked.items() if not future.done()}
        for name in self.pools.keys() - self.late:
            self.asked[name] = self.pools[name].submit(self.ask, name)

    def ask_again(self, deadline: float) -> None:
        """Ask those anew whose earlier question fails: it was missed at its own look, and says nothing of this one."""
        while self.late:
            waited_for = [self.asked[name] for name in self.late]
            if not wait(waited_for, max(deadline - time.monotonic(), 0), FIRST_COMPLETED).done:
                return
            for name in [name for name in self.late if self.asked[name].done()]:
                self.late.remove(name)
                if self.asked[name].exception() is not None:
                    self.asked[name] = self.pools[name].submit(self.ask, name)

    def answers(self, begun: float) -> dict[str, Answer | None]:
        """Return the answers to the questions of ``begun`` (monotonic seconds), None for one that is missing."""
        deadline = begun + self.patience
        self.ask_again(deadline)
        wait(self.asked.values(), max(deadline - time.monotonic(), 0))
        answers: dict[str, Answer | None] = {}
        for name, future in self.asked.items():
            well = future.done() and future.exception() is None
            answers[name] = future.result() if well else None
        return answers
