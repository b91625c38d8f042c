"""The open-loop voter and reader: requests on a fixed schedule, sent whether or not earlier ones were answered.

Request n is due at begin + n/rate. A voter that waited for each answer before sending the next would be
silent exactly while the site is, and would see one slow answer where a hundred people had waited.

All times in the files are seconds on one monotonic clock whose zero is the begin of the run; the first line
of each file, the anchor, holds the wall-clock time of that zero.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

from chaoslab import tokens
from chaoslab.files import InputError, compact, write_text

FLUSH_SECONDS = 0.5
STATUS_SECONDS = 0.2
CONNECT_SECONDS = 10.0
KEPT_CONNECTIONS = 20

OK, FAIL, INFO = "ok", "fail", "info"


@dataclass(frozen=True)
class Options:
    """What to send, where to, and for how long. Rates in requests/s, times in seconds."""

    url: str
    ca_file: Path | None
    votes: Path
    reads: Path
    status: Path | None = None
    stop_file: Path | None = None
    rate: float = 20.0
    read_rate: float = 20.0
    question: int = 1
    timeout: float = 60.0
    max_seconds: float = 900.0


@dataclass(frozen=True)
class Form:
    """What a browser knows after it has got a question's page."""

    csrf: str
    cookies: str
    choices: tuple[int, ...]


@dataclass
class Answer:
    """What came back: the HTTP status (0 when none), what it means, and why if it is no success."""

    status: int
    outcome: str
    error: str = ""


def vote_outcome(response: httpx.Response, question: int) -> Answer:
    """Say what an answer to a vote tells about the ledger.

    - ok: the redirect to the results, which is sent only after the commit was confirmed.
    - fail: refused before anything was written (4xx).
    - info: everything else. A 503 says "not confirmed": the commit may have been made and its
      confirmation lost. So do 500, 502 and 504, and an answer that this site never gives.
    """
    status = response.status_code
    if status == httpx.codes.FOUND and response.headers.get("location", "").endswith(f"/polls/{question}/results/"):
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


class Silence:
    """The longest time without an acknowledged vote, as it grows."""

    def __init__(self) -> None:
        """Begin at time 0."""
        self.last = 0.0
        self.longest = 0.0

    def acknowledged(self, now: float) -> None:
        """Note an acknowledgement at `now` seconds."""
        self.longest = max(self.longest, now - self.last)
        self.last = max(self.last, now)

    def so_far(self, now: float) -> float:
        """Return the longest silence in seconds, the one that lasts included."""
        return max(self.longest, now - self.last)


@dataclass
class Stream:
    """One kind of request and its file."""

    name: str
    rate: float
    file: IO[str]
    send: Callable[[int], Awaitable[Answer]]
    describe: Callable[[int], dict[str, Any]]
    counts: Counter[str] = field(default_factory=Counter)
    latest: float = 0.0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def outstanding(self) -> int:
        """Number of requests without an answer."""
        return self.counts["sent"] - self.counts[OK] - self.counts[FAIL] - self.counts[INFO]


class Observer:
    """A run of voter and reader."""

    def __init__(self, options: Options, form: Form, client: Callable[[], httpx.AsyncClient]) -> None:
        """Take the options, a form of the question, and how to make a client."""
        self.options = options
        self.form = form
        self.make_client = client
        self.mark = tokens.new_mark()
        self.silence = Silence()
        self.reason = ""
        self.hurry = asyncio.Event()
        self.begin = 0.0
        self.stopping = asyncio.Event()

    def now(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self.begin

    def stop(self, reason: str) -> None:
        """Send nothing more; when told twice by a signal, do not wait for answers either."""
        if self.stopping.is_set() and reason == "signal":
            self.hurry.set()
        self.reason = self.reason or reason
        self.stopping.set()

    async def run(self) -> None:
        """Send until told to stop, then wait for what is outstanding."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, "signal")
        with (
            self.options.votes.open("w", encoding="utf-8") as votes,
            self.options.reads.open("w", encoding="utf-8") as reads,
        ):
            async with self.make_client() as voter, self.make_client() as reader:
                streams = [
                    Stream("votes", self.options.rate, votes, lambda n: self._vote(voter, n), self._ballot),
                    Stream("reads", self.options.read_rate, reads, lambda _n: self._read(reader), lambda _n: {}),
                ]
                await self._observe(streams)

    async def _observe(self, streams: list[Stream]) -> None:
        self.begin = time.monotonic()
        wall = time.time()
        for stream in streams:
            anchor = {
                "wall": wall,
                "kind": stream.name,
                "rate": stream.rate,
                "url": self.options.url,
                "mark": self.mark,
            }
            self._write(
                stream, {"anchor": anchor | {"question": self.options.question, "timeout": self.options.timeout}}
            )
        housekeeping = asyncio.create_task(self._housekeeping(streams))
        await asyncio.gather(*(self._schedule(stream) for stream in streams))
        self.stop("max-seconds")
        await self._drain(streams)
        housekeeping.cancel()
        await asyncio.gather(housekeeping, return_exceptions=True)
        for stream in streams:
            self._write(stream, {"end": {"time": self.now(), "sent": stream.counts["sent"], "reason": self.reason}})
        self._report(streams, "ended")

    async def _schedule(self, stream: Stream) -> None:
        """Start each request when it is due."""
        for number in itertools.count() if stream.rate > 0 else ():
            due = number / stream.rate
            if due >= self.options.max_seconds:
                return
            while due > self.now() and not self.stopping.is_set():  # noqa: ASYNC110 - a clock
                await asyncio.sleep(max(0.0, min(due - self.now(), STATUS_SECONDS)))
            if self.stopping.is_set():
                return
            task = asyncio.create_task(self._one(stream, number, due))
            stream.tasks.add(task)
            task.add_done_callback(stream.tasks.discard)

    async def _one(self, stream: Stream, number: int, due: float) -> None:
        sent = self.now()
        stream.counts["sent"] += 1
        stream.latest = max(stream.latest, sent - due)
        try:
            answer = await stream.send(number)
        except (httpx.HTTPError, OSError) as error:
            answer = error_outcome(error)
        except asyncio.CancelledError:
            answer = Answer(0, INFO, "no answer when the run ended")
        done = self.now()
        stream.counts[answer.outcome] += 1
        stream.counts[str(answer.status)] += 1
        if stream.name == "votes" and answer.outcome == OK:
            self.silence.acknowledged(done)
        line = {"n": number, **stream.describe(number), "intended": due, "sent": sent, "done": done}
        line |= {"status": answer.status, "outcome": answer.outcome}
        self._write(stream, line | ({"error": answer.error} if answer.error else {}))

    async def _drain(self, streams: list[Stream]) -> None:
        """Wait for outstanding answers, no longer than any of them may take."""
        tasks = [task for stream in streams for task in stream.tasks]
        if not tasks:
            return
        hurry = asyncio.create_task(self.hurry.wait())
        loop = asyncio.get_running_loop()
        end = loop.time() + self.options.timeout + CONNECT_SECONDS
        pending: set[asyncio.Task[Any]] = {*tasks, hurry}
        while pending != {hurry} and hurry in pending and loop.time() < end:
            _, pending = await asyncio.wait(pending, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _housekeeping(self, streams: list[Stream]) -> None:
        flushed = 0.0
        while True:
            if self.options.stop_file and self.options.stop_file.exists():
                self.stop("stop-file")
            self._report(streams, "draining" if self.stopping.is_set() else "running")
            if self.now() - flushed >= FLUSH_SECONDS:
                flushed = self.now()
                for stream in streams:
                    stream.file.flush()
            await asyncio.sleep(STATUS_SECONDS)

    def _report(self, streams: list[Stream], state: str) -> None:
        """Write the status file."""
        if not self.options.status:
            return
        now = self.now()
        report: dict[str, Any] = {"state": state, "wall": time.time(), "elapsed": now}
        report |= {"seconds_since_ack": now - self.silence.last, "longest_gap": self.silence.so_far(now)}
        for stream in streams:
            names = ("sent", OK, INFO, FAIL, "503")
            report[stream.name] = {name: stream.counts[name] for name in names}
            report[stream.name] |= {"outstanding": stream.outstanding, "late": stream.latest}
        write_text(self.options.status, compact(report) + "\n")

    @staticmethod
    def _write(stream: Stream, line: dict[str, Any]) -> None:
        rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in line.items()}
        stream.file.write(compact(rounded) + "\n")

    def _ballot(self, number: int) -> dict[str, Any]:
        choice = self.form.choices[number % len(self.form.choices)]
        return {"token": tokens.token(self.mark, number), "choice": choice}

    async def _vote(self, client: httpx.AsyncClient, number: int) -> Answer:
        page = f"/polls/{self.options.question}/"
        response = await client.post(
            f"{page}vote/",
            data={"csrfmiddlewaretoken": self.form.csrf, **self._ballot(number)},
            headers={"Referer": f"{self.options.url}{page}", "Cookie": self.form.cookies},
        )
        return vote_outcome(response, self.options.question)

    @staticmethod
    async def _read(client: httpx.AsyncClient) -> Answer:
        return read_outcome(await client.get("/polls/"))


def get_form(options: Options, client: httpx.Client) -> Form:
    """Get the question's page and read its form; raise InputError when the site does not give one."""
    where = f"{options.url}/polls/{options.question}/"
    try:
        page = client.get(where)
    except httpx.HTTPError as error:
        raise InputError(f"{where}: {error}") from error
    csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    choices = tuple(int(found) for found in re.findall(r'name="choice"[^>]* value="(\d+)"', page.text))
    if page.status_code != httpx.codes.OK or csrf is None or not choices:
        raise InputError(f"{where}: answered {page.status_code} without a form to vote with")
    cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
    return Form(csrf[1], cookies, choices)


def observe(options: Options) -> str:
    """Vote and read until stopped; return a line that sums it up.

    Raises InputError when the site cannot be reached at the start, or a file cannot be written.
    """
    try:
        trust = ssl.create_default_context(cafile=str(options.ca_file) if options.ca_file else None)
    except OSError as error:
        raise InputError(f"{options.ca_file}: cannot be used as certificate authority: {error}") from error
    timeout = httpx.Timeout(options.timeout, connect=min(CONNECT_SECONDS, options.timeout))
    with httpx.Client(verify=trust, timeout=CONNECT_SECONDS, trust_env=False) as client:
        form = get_form(options, client)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS)

    def make_client() -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=options.url, verify=trust, timeout=timeout, limits=limits, trust_env=False)

    async def run() -> Observer:
        observer = Observer(options, form, make_client)
        await observer.run()
        return observer

    try:
        for path in (options.votes, options.reads):
            path.parent.mkdir(parents=True, exist_ok=True)
        observer = asyncio.run(run())
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from error
    longest = observer.silence.longest
    return f"observe: ended by {observer.reason}; longest time without an acknowledged vote {longest:.2f} s"
