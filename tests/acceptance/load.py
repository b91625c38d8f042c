"""Requests on a fixed schedule, sent whether or not the earlier ones have been answered."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from tests.acceptance import lab

TIMEOUT = 60.0


@dataclass(frozen=True)
class Form:
    """What a browser knows after it has got a question's page."""

    csrf: str
    cookies: dict[str, str]
    token: str
    choices: list[str]


def get_form(client: httpx.Client, question: int = 1) -> Form:
    """Get a question's page and read its form."""
    page = client.get(lab.url(f"/polls/{question}/"))
    assert page.status_code == httpx.codes.OK, page.text
    return Form(
        csrf=re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[0],
        cookies=dict(page.cookies),
        token=re.findall(r'name="token" value="([^"]+)"', page.text)[0],
        choices=re.findall(r'name="choice"[^>]* value="(\d+)"', page.text),
    )


def vote_request(form: Form, token: str, choice: str, question: int = 1) -> httpx.Request:
    """Return the request that a browser sends for a vote."""
    return httpx.Request(
        "POST",
        lab.url(f"/polls/{question}/vote/"),
        data={"csrfmiddlewaretoken": form.csrf, "token": token, "choice": choice},
        headers={
            "Referer": lab.url(f"/polls/{question}/"),
            "Cookie": "; ".join(f"{name}={value}" for name, value in form.cookies.items()),
        },
    )


@dataclass
class Outcome:
    """One request of the stream."""

    token: str
    sent: float
    done: float = 0.0
    status: int = 0
    error: str = ""


@dataclass
class Stream:
    """A stream of requests in the background, from entering the context to leaving it."""

    send: Callable[[httpx.AsyncClient, Outcome], Awaitable[httpx.Response]]
    rate: float = 20.0
    outcomes: list[Outcome] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start sending."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop sending and wait for the answers that are still to come."""
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        client = httpx.AsyncClient(verify=lab.trust(), timeout=TIMEOUT, limits=limits)
        begin = time.monotonic()
        async with client, asyncio.TaskGroup() as tasks:
            while not self._stopping.is_set():
                due = begin + len(self.outcomes) / self.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                outcome = Outcome(token=str(uuid.uuid4()), sent=time.monotonic())
                self.outcomes.append(outcome)
                tasks.create_task(self._one(client, outcome))

    async def _one(self, client: httpx.AsyncClient, outcome: Outcome) -> None:
        try:
            outcome.status = (await self.send(client, outcome)).status_code
        except httpx.HTTPError as error:
            outcome.error = repr(error)
        outcome.done = time.monotonic()

    def wrong(self, expected: int) -> list[str]:
        """Return what went wrong, one line a request."""
        return [
            f"sent at {one.sent:.2f}, answered after {one.done - one.sent:.2f} s: {one.error or one.status}"
            for one in self.outcomes
            if one.status != expected
        ]

    def longest_silence(self, expected: int) -> float:
        """Return the longest time between two good answers, in seconds."""
        times = sorted(one.done for one in self.outcomes if one.status == expected)
        return max(after - before for before, after in itertools.pairwise(times))


def votes(rate: float = 20.0) -> Stream:
    """Return a stream of votes, each with a token of its own, taking turns with the choices."""
    with httpx.Client(verify=lab.trust()) as browser:
        form = get_form(browser)

    async def send(client: httpx.AsyncClient, outcome: Outcome) -> httpx.Response:
        choice = form.choices[uuid.UUID(outcome.token).int % len(form.choices)]
        return await client.send(vote_request(form, outcome.token, choice))

    return Stream(send, rate)


def reads(rate: float = 20.0) -> Stream:
    """Return a stream of requests for the list of questions."""

    async def send(client: httpx.AsyncClient, outcome: Outcome) -> httpx.Response:
        return await client.get(lab.url("/polls/"))

    return Stream(send, rate)
