"""A run of voters and readers: two streams, the file of each with a line per request, and a status file.

All times in the files are seconds on one monotonic clock whose zero is the begin of the run; the first line
of each file, the anchor, holds the wall-clock time of that zero.
"""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

from chaoslab import tokens, voter
from chaoslab.files import InputError, compact, write_text
from chaoslab.voter import CONNECT_SECONDS, FAIL, INFO, OK, Sent, Stream

FLUSH_SECONDS = 0.5
STATUS_SECONDS = 0.2


@dataclass(frozen=True)
class Options:
    """Where to vote, the folder of the run's files, how many votes a second and as many pages, and times in seconds."""

    url: str
    ca_file: Path | None
    folder: Path
    rate: float
    timeout: float
    max_seconds: float


@dataclass
class Silence:
    """The longest time without an acknowledged vote, as it grows."""

    last: float = 0.0
    longest: float = 0.0

    def acknowledged(self, now: float) -> None:
        """Note an acknowledgement at `now` seconds."""
        self.longest = max(self.longest, now - self.last)
        self.last = max(self.last, now)

    def so_far(self, now: float) -> float:
        """Return the longest silence in seconds, the one that lasts included."""
        return max(self.longest, now - self.last)


@dataclass(kw_only=True)
class Record(Stream):
    """A stream that writes every answer into a file and counts it."""

    file: IO[str]
    # What a line says about request n beside its answer.
    describe: Callable[[int], dict[str, Any]] = lambda _number: {}
    counts: Counter[str] = field(default_factory=Counter)
    silence: Silence = field(default_factory=Silence)

    def __post_init__(self) -> None:
        """Hear of every answer."""
        self.note = self._note

    def write(self, line: dict[str, Any]) -> None:
        """Write a line."""
        rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in line.items()}
        self.file.write(compact(rounded) + "\n")

    def report(self) -> dict[str, Any]:
        """Return what the status file says."""
        counts = {name: self.counts[name] for name in (OK, INFO, FAIL, "503")}
        outstanding = self.sent - sum(self.counts[name] for name in (OK, INFO, FAIL))
        return {"sent": self.sent, **counts, "outstanding": outstanding, "late": self.late}

    def _note(self, one: Sent) -> None:
        answer = one.answer
        self.counts.update([answer.outcome, str(answer.status)])
        if answer.outcome == OK:
            self.silence.acknowledged(one.done)
        line = {"n": one.number, **self.describe(one.number), "intended": one.intended, "sent": one.sent}
        line |= {"done": one.done, "status": answer.status, "outcome": answer.outcome}
        line |= {"resent": answer.resent} if answer.resent else {}
        self.write(line | ({"error": answer.error} if answer.error else {}))


class Observer:
    """A run of voters and readers, from its first request to its last answer."""

    def __init__(self, options: Options, mark: str, votes: Record, reads: Record) -> None:
        """Take the options, the mark of the votes' tokens, and both streams, which begin at the same time."""
        self.options = options
        self.mark = mark
        self.votes = votes
        self.records = {"votes": votes, "reads": reads}
        self.reason = ""

    def stop(self, reason: str) -> None:
        """Send nothing more; when told twice by a signal, do not wait for answers either."""
        if not self.reason:
            for record in self.records.values():
                record.stop()
            self._drain(reason)
        elif reason == "signal":
            self._abandon()

    async def run(self) -> None:
        """Send until told to stop, then wait for what is outstanding."""
        options, records = self.options, self.records.values()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, "signal")
        wall = time.time() - self.votes.now()
        for kind, record in self.records.items():
            anchor = {"wall": wall, "kind": kind, "rate": record.rate, "url": options.url, "mark": self.mark}
            record.write({"anchor": anchor | {"timeout": options.timeout}})
        housekeeping = asyncio.create_task(self._housekeeping())
        await asyncio.gather(*(record.run(math.ceil(options.max_seconds * record.rate)) for record in records))
        self.reason = self.reason or "max-seconds"
        housekeeping.cancel()
        await asyncio.gather(housekeeping, return_exceptions=True)
        for record in records:
            record.write({"end": {"time": record.now(), "sent": record.sent, "reason": self.reason}})
        self._report("ended")

    def _drain(self, reason: str) -> None:
        """Wait for outstanding answers, no longer than any of them may take."""
        self.reason = reason
        asyncio.get_running_loop().call_later(self.options.timeout + CONNECT_SECONDS, self._abandon)

    def _abandon(self) -> None:
        for record in self.records.values():
            record.abandon()

    async def _housekeeping(self) -> None:
        flushed = 0.0
        while True:
            now = self.votes.now()
            if (self.options.folder / "stop").exists():
                self.stop("stop-file")
            if now >= self.options.max_seconds and not self.reason:
                self._drain("max-seconds")
            self._report("draining" if self.reason else "running")
            if now - flushed >= FLUSH_SECONDS:
                flushed = now
                for record in self.records.values():
                    record.file.flush()
            await asyncio.sleep(STATUS_SECONDS)

    def _report(self, state: str) -> None:
        """Write the status file."""
        now, silence = self.votes.now(), self.votes.silence
        report = {"state": state, "wall": time.time(), "elapsed": now}
        report |= {"seconds_since_ack": now - silence.last, "longest_gap": silence.so_far(now)}
        report |= {name: record.report() for name, record in self.records.items()}
        write_text(self.options.folder / "status.json", compact(report) + "\n")


async def _observe(options: Options) -> Observer:
    def client() -> httpx.AsyncClient:
        return voter.client(options.url, options.ca_file, options.timeout)

    async with client() as voting, client() as reading:
        form = await voter.take_form(voting)
        mark = tokens.new_mark()

        def ballot(number: int) -> dict[str, Any]:
            return {"token": tokens.token(mark, number), "choice": form.choice(number)}

        with (
            (options.folder / "votes.jsonl").open("w", encoding="utf-8") as votes,
            (options.folder / "reads.jsonl").open("w", encoding="utf-8") as reads,
        ):
            begin = time.monotonic()
            observer = Observer(
                options,
                mark,
                Record(
                    send=lambda number: voter.vote(voting, form, **ballot(number)),
                    rate=options.rate,
                    begin=begin,
                    file=votes,
                    describe=ballot,
                ),
                Record(send=lambda _: voter.read(reading), rate=options.rate, begin=begin, file=reads),
            )
            await observer.run()
    return observer


def observe(options: Options) -> str:
    """Vote and read until stopped; return a line that sums it up.

    Raises InputError when the site cannot be reached at the start, or a file cannot be written.
    """
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        observer = asyncio.run(_observe(options))
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from error
    longest = observer.votes.silence.longest
    return f"observe: ended by {observer.reason}; longest time without an acknowledged vote {longest:.2f} s"
