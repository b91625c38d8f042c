"""Voting as a browser does: take a question's form, send it back; one by one, or as a stream at a fixed pace.

A stream is an open loop: its requests are sent when they are due, whether or not earlier ones were answered. A voter
that waited for each answer before sending the next would be silent exactly while the site is, and would see one slow
answer where a hundred people had waited.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import httpx

from chaoslab.files import InputError

TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 10.0
KEPT_CONNECTIONS = 20
# How soon a stream notices that it is to stop.
STOP_SECONDS = 0.2

OK, FAIL, INFO = "ok", "fail", "info"

# How a request ends whose connection breaks, and what httpcore's trace says where that was a new one, or had an answer.
BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
CONNECTED = "connection.connect_tcp.complete"
ANSWERED = "http11.receive_response_headers.complete"


class Transport(httpx.AsyncBaseTransport):
    """Connections that trust what the file of authorities holds at the moment: it changes when the site's rotates.

    Each is a pool of its own. A pool looks through all that it has for each request and each answer, and while hundreds
    wait for a site that is busy, the voter would take the processor away from it.
    """

    def __init__(self, ca_file: Path | None) -> None:
        """Read `ca_file`; raise InputError when it holds no certificate authority."""
        self.ca_file = ca_file
        self.written = -1
        self.kept: list[httpx.AsyncHTTPTransport] = []
        self.trust = self.latest()

    def latest(self) -> ssl.SSLContext:
        """Return what trusts the file as it is."""
        try:
            written = self.ca_file.stat().st_mtime_ns if self.ca_file else 0
            if written != self.written:
                self.trust = ssl.create_default_context(cafile=self.ca_file)
                self.written = written
        except OSError as error:
            raise InputError(f"{self.ca_file}: cannot be used as certificate authority: {error}") from error
        return self.trust

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on the connection that was used last and is free, or on a new one."""
        before = self.trust
        if self.latest() is not before:
            await self.aclose()
        if self.kept:
            connection = self.kept.pop()
        else:
            limits = httpx.Limits(max_connections=1)
            connection = httpx.AsyncHTTPTransport(verify=self.trust, limits=limits, trust_env=False)
        trust = self.trust
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await connection.aclose()
            raise

        async def give_back() -> None:
            if trust is self.trust and len(self.kept) < KEPT_CONNECTIONS:
                self.kept.append(connection)
            else:
                await connection.aclose()

        response.stream = _Answered(response.stream, give_back)  # type: ignore[arg-type]
        return response

    async def aclose(self) -> None:
        """Close all connections that wait for no answer."""
        kept, self.kept = self.kept, []
        for connection in kept:
            await connection.aclose()


@dataclass(frozen=True)
class _Answered(httpx.AsyncByteStream):
    """An answer's body, and what follows once it was read."""

    body: httpx.AsyncByteStream
    then: Callable[[], Awaitable[None]]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self.body:
            yield part

    async def aclose(self) -> None:
        await self.body.aclose()
        await self.then()


def client(url: str, ca_file: Path | None, timeout: float = TIMEOUT_SECONDS) -> httpx.AsyncClient:
    """Return a client of the site at `url` that trusts `ca_file` alone (or what the system trusts) and no proxy.

    Raises InputError when the file holds no certificate authority.
    """
    return httpx.AsyncClient(
        base_url=url,
        transport=Transport(ca_file),
        timeout=httpx.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout)),
        trust_env=False,
    )


@dataclass(frozen=True)
class Answer:
    """What came back: the HTTP status (0 when none), what it means, and why if it is no success.

    `resent` counts how often the request was sent once more on another connection.
    """

    status: int
    outcome: str
    error: str = ""
    resent: int = 0


@dataclass(frozen=True)
class Form:
    """What a browser knows after it has got a question's page."""

    page: httpx.URL
    csrf: str
    cookies: str
    token: str
    choices: tuple[int, ...]

    @classmethod
    def read(cls, page: httpx.Response) -> Self:
        """Read the form of a page; raise InputError when it has none."""
        csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        token = re.search(r'name="token" value="([^"]+)"', page.text)
        choices = tuple(int(found) for found in re.findall(r'name="choice"[^>]* value="(\d+)"', page.text))
        if page.status_code != httpx.codes.OK or csrf is None or token is None or not choices:
            raise InputError(f"{page.url}: answered {page.status_code} without a form to vote with")
        cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
        return cls(page.url, csrf[1], cookies, token[1], choices)

    def choice(self, number: int) -> int:
        """Return the choice of vote `number` when all choices take turns."""
        return self.choices[number % len(self.choices)]

    def request(
        self,
        client: httpx.Client | httpx.AsyncClient,
        token: str,
        choice: int,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        """Return the request that a browser sends for a vote."""
        return client.build_request(
            "POST",
            self.page.join("vote/"),
            data={"csrfmiddlewaretoken": self.csrf, "token": token, "choice": choice},
            headers={**(headers or {}), "Referer": str(self.page), "Cookie": self.cookies},
        )


def vote_outcome(response: httpx.Response) -> Answer:
    """Say what an answer to a vote tells about the ledger.

    - ok: the redirect to the results, which is sent only after the commit was confirmed.
    - fail: refused before anything was written (4xx).
    - info: everything else. A 503 says "not confirmed": the commit may have been made and its
      confirmation lost. So do 500, 502 and 504, and an answer that this site never gives.
    """
    status = response.status_code
    results = response.request.url.join("../results/").path
    if status == httpx.codes.FOUND and response.headers.get("location", "").endswith(results):
        return Answer(status, OK)
    if response.is_client_error:
        return Answer(status, FAIL, f"refused with {status}")
    return Answer(status, INFO, f"answered {status}")


def read_outcome(response: httpx.Response) -> Answer:
    """Say whether a page was served."""
    if response.status_code == httpx.codes.OK:
        return Answer(response.status_code, OK)
    return Answer(response.status_code, FAIL, f"answered {response.status_code}")


def error_outcome(error: Exception) -> Answer:
    """Say what a broken request tells: without a connection nothing was sent, else nobody knows."""
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return Answer(0, FAIL if unsent else INFO, f"{type(error).__name__}: {error}".rstrip(": "))


async def take_form(client: httpx.AsyncClient, question: int = 1) -> Form:
    """Get a question's page and read its form; raise InputError when the site does not give one."""
    path = f"/polls/{question}/"
    try:
        page = await client.get(path)
    except httpx.HTTPError as error:
        raise InputError(f"{client.base_url.join(path)}: {error}") from error
    return Form.read(page)


async def vote(client: httpx.AsyncClient, form: Form, token: str, choice: int) -> Answer:
    """Send a vote; a request that breaks is an answer, too."""
    return await _send(client, form.request(client, token, choice), vote_outcome)


async def read(client: httpx.AsyncClient) -> Answer:
    """Get the list of questions; a request that breaks is an answer, too."""
    return await _send(client, client.build_request("GET", "/polls/"), read_outcome)


async def _send(
    client: httpx.AsyncClient, request: httpx.Request, meaning: Callable[[httpx.Response], Answer]
) -> Answer:
    """Send a request; once more where a connection that was kept from an earlier one breaks before any answer.

    The server, or another host with its address, may have closed it while the request was on its way. Browsers send
    again then, whatever the method (Chromium: HttpNetworkTransaction::ShouldResendRequest), until a connection is new.
    """
    resent = 0
    while True:
        seen: set[str] = set()

        async def trace(event: str, _: object, seen: set[str] = seen) -> None:
            seen.add(event)

        request.extensions = {**request.extensions, "trace": trace}
        try:
            return replace(meaning(await client.send(request)), resent=resent)
        except (httpx.HTTPError, OSError) as error:
            if not isinstance(error, BROKEN) or seen & {CONNECTED, ANSWERED}:
                return replace(error_outcome(error), resent=resent)
            resent += 1


async def cast(url: str, ca_file: Path | None, count: int) -> dict[str, Answer]:
    """Vote one after the other, each time with a form of its own; return the answer to each token.

    Raises InputError when the site does not give a form.
    """
    answers = {}
    async with client(url, ca_file) as browser:
        for number in range(count):
            form = await take_form(browser)
            answers[form.token] = await vote(browser, form, form.token, form.choice(number))
    return answers


@dataclass(frozen=True)
class Sent:
    """A request of a stream and its answer; times in seconds since the stream's begin."""

    number: int
    intended: float
    sent: float
    done: float
    answer: Answer


@dataclass
class Stream:
    """Requests at a fixed pace: number n is due n / rate seconds after `begin`, on the monotonic clock.

    `send` gets the number, `note` hears of each answer. `sent` counts the requests; `late` is the longest time that one
    was sent after it was due.
    """

    send: Callable[[int], Awaitable[Answer]]
    rate: float
    note: Callable[[Sent], object] = lambda _sent: None
    begin: float = field(default_factory=time.monotonic)
    sent: int = 0
    late: float = 0.0
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _stopped: bool = False

    def now(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self.begin

    async def run(self, count: int = sys.maxsize) -> None:
        """Send `count` requests, or until told to stop, and wait for their answers."""
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                due = number / self.rate
                while due > self.now() and not self._stopped:  # noqa: ASYNC110 - a clock
                    await asyncio.sleep(max(0.0, min(due - self.now(), STOP_SECONDS)))
                if self._stopped:
                    break
                task = group.create_task(self._one(number, due))
                self._open.add(task)
                task.add_done_callback(self._open.discard)

    def stop(self) -> None:
        """Send nothing more. May be called from another thread."""
        self._stopped = True

    def abandon(self) -> None:
        """Do not wait for the answers that are still to come."""
        self.stop()
        for task in self._open:
            task.cancel()

    async def _one(self, number: int, due: float) -> None:
        sent = self.now()
        self.sent += 1
        self.late = max(self.late, sent - due)
        try:
            answer = await self.send(number)
        except asyncio.CancelledError:
            answer = Answer(0, INFO, "no answer when the run ended")
        self.note(Sent(number, due, sent, self.now(), answer))
