"""Votes and reads in the background of a test, at a fixed pace."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx

from chaoslab import tokens, voter
from chaoslab.voter import OK, Answer, Form, Sent, Stream
from tests.acceptance import lab


@dataclass
class Load:
    """What a stream has sent and what was answered."""

    mark: str = field(default_factory=tokens.new_mark)
    sent: list[Sent] = field(default_factory=list)

    def failed(self) -> list[str]:
        """Return what went wrong, one line a request."""
        return [
            f"sent at {one.sent:.2f}, answered after {one.done - one.sent:.2f} s: {one.answer.error}"
            for one in self.sent
            if one.answer.outcome != OK
        ]

    def confirmed(self) -> set[str]:
        """Return the tokens of the votes that were confirmed."""
        return {tokens.token(self.mark, one.number) for one in self.sent if one.answer.outcome == OK}

    def longest_silence(self) -> float:
        """Return the longest time between two good answers, in seconds."""
        times = sorted(one.done for one in self.sent if one.answer.outcome == OK)
        return max(after - before for before, after in itertools.pairwise(times))


@contextmanager
def _stream(
    send: Callable[[httpx.AsyncClient, int], Awaitable[Answer]], rate: float, load: Load, app: int = 0
) -> Iterator[Load]:
    client = voter.client(lab.url(app=app), lab.CA_FILE)
    stream = Stream(partial(send, client), rate, load.sent.append)

    async def run() -> None:
        async with client:
            await stream.run()

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(lambda: asyncio.run(run()))
        try:
            yield load
        finally:
            stream.stop()
            running.result()


def votes(rate: float = 20.0, app: int = 0) -> AbstractContextManager[Load]:
    """Vote at an app host while the context lasts, each time with another token, taking turns with the choices."""
    with httpx.Client(verify=lab.trust(), trust_env=False) as browser:
        form = Form.read(browser.get(lab.url("/polls/1/", app)))
    load = Load()

    async def send(client: httpx.AsyncClient, number: int) -> Answer:
        return await voter.vote(client, form, tokens.token(load.mark, number), form.choice(number))

    return _stream(send, rate, load, app)


def reads(rate: float = 20.0) -> AbstractContextManager[Load]:
    """Ask for the list of questions while the context lasts."""
    return _stream(lambda client, _number: voter.read(client), rate, Load())
