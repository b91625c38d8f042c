"""Samples of the database cluster: who is primary on which timeline, who replicates, five times a second.

Standard library only and one file, so that it can be copied to any host whose certificate the databases accept and
run there by the system's Python 3.11:

    python3 sampler.py --node postgres-1=192.0.2.12 --node postgres-2=192.0.2.13 FOLDER

Each node has a thread of its own, so that one that does not answer does not delay the others. It is asked for
`/leader` of Patroni's REST interface: the status says whether the node holds the leader's lease, the body what
PostgreSQL does. HAProxy sends votes to whom holds the lease.

Lines of the output: an anchor with the wall-clock time of time 0, then one line per answer (or missing answer), its
times in seconds since then on a monotonic clock, then a line that says why it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

PORT = 8008
INTERVAL_SECONDS = 0.2
TIMEOUT_SECONDS = 1.0
# A node that was silent for this long may have been frozen, and is given GRACE_SECONDS to notice what it missed.
SILENCE_SECONDS = 1.0
GRACE_SECONDS = 2.0
# A primary that has lost sight of everything has to step down before the lease that it had would have ended.
LEASE_SECONDS = 20.0
REMEMBERED = 64


@dataclass(frozen=True)
class Sample:
    """One answer of one node. Times in seconds, positions in bytes of WAL; None is "not said"."""

    node: str
    asked: float
    answered: float
    lease: bool = False
    role: str | None = None
    state: str | None = None
    timeline: int | None = None
    position: int | None = None
    replication_state: str | None = None
    sync_standby: bool = False
    standbys: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def writable(self) -> bool:
        """Whether the node is primary and holds the lease, so that votes are sent to it."""
        return self.lease and self.role == "primary"


@dataclass(frozen=True)
class Finding:
    """Two nodes writable at the same time: a violation, or the stale belief of one that can confirm nothing."""

    time: float
    kind: str
    nodes: tuple[str, str]
    timelines: tuple[int | None, int | None]


@dataclass(frozen=True)
class Claim:
    """An answer of a writable node, and what was known of the node then; a later answer changes none of it."""

    sample: Sample
    # In seconds, when it answered again after a silence, and since when it is writable without a break.
    back: float
    reign: float
    # The standbys that it named last in that time, and how each is replicated to.
    named: dict[str, str]


class Watch:
    """Finds two writable nodes in a stream of samples.

    Two answers of one round prove nothing: the first node may have stepped down before the second took over. Proof is
    a sandwich: one node answered "writable" before the other was asked and again after the other had answered, with no
    other answer between, while the other answered "writable", too.

    One case is no violation but the known price of a lease: a primary that was frozen or cut off believes for a while
    in its old lease. It cannot confirm a vote, since that needs the very standby that has taken over. It is told by its
    older timeline and by its silence just before, or by having named the other as its synchronous standby in the
    reign that it believes in, without a break. It is reported as "stale", and after GRACE_SECONDS or LEASE_SECONDS as a
    violation.
    """

    def __init__(self) -> None:
        """Begin with no sample seen."""
        self._since: dict[str, float] = {}
        self._claims: dict[str, deque[Claim]] = {}
        self._heard: dict[str, float] = {}
        self._back: dict[str, float] = {}
        self._reign: dict[str, float] = {}
        self._named: dict[str, dict[str, str]] = {}

    def feed(self, sample: Sample) -> Finding | None:
        """Take the next sample, in the order of answers; return what it proves."""
        if sample.error is None:
            heard = self._heard.get(sample.node, sample.asked)
            if sample.answered - heard > SILENCE_SECONDS:
                self._back[sample.node] = sample.answered
                self._named.pop(sample.node, None)
            self._heard[sample.node] = sample.answered
        if not sample.writable:
            self._since.pop(sample.node, None)
            if sample.error is None:
                self._reign.pop(sample.node, None)
                self._named.pop(sample.node, None)
            return None
        self._reign.setdefault(sample.node, sample.answered)
        if sample.standbys:
            self._named[sample.node] = sample.standbys
        self._since.setdefault(sample.node, sample.answered)
        claim = Claim(
            sample,
            self._back.get(sample.node, float("-inf")),
            self._reign[sample.node],
            self._named.get(sample.node, {}),
        )
        self._claims.setdefault(sample.node, deque(maxlen=REMEMBERED)).append(claim)
        for other, seen in self._claims.items():
            if other != sample.node:
                for witness in seen:
                    if self._since[sample.node] <= witness.sample.asked and witness.sample.answered <= sample.asked:
                        return self._finding(claim, witness)
        return None

    def _finding(self, last: Claim, between: Claim) -> Finding:
        """Tell a violation from a stale belief."""
        sample, witness = last.sample, between.sample
        older, newer = sorted((last, between), key=lambda one: one.sample.timeline or 0)
        awake = sample.answered - older.back
        bound = older.named.get(newer.sample.node) == "sync"
        reign = sample.answered - newer.reign
        harmless = awake <= GRACE_SECONDS or (bound and reign <= LEASE_SECONDS)
        stale = sample.timeline != witness.timeline and harmless
        # What was proved once is not proved again by the same witnesses.
        self._claims[witness.node].clear()
        self._since[sample.node] = sample.answered
        nodes, timelines = (sample.node, witness.node), (sample.timeline, witness.timeline)
        return Finding(sample.answered, "stale" if stale else "violation", nodes, timelines)


def parse(node: str, asked: float, answered: float, status: int, body: bytes) -> Sample:
    """Make a sample of an answer; one that is no JSON object becomes a sample with an error."""
    try:
        found: dict[str, Any] = json.loads(body)
        xlog = found.get("xlog") or {}
        position = xlog.get("location", xlog.get("replayed_location"))
        return Sample(
            node,
            asked,
            answered,
            lease=status == http.client.OK,
            role=found.get("role"),
            state=found.get("state"),
            timeline=found.get("timeline"),
            position=position,
            replication_state=found.get("replication_state"),
            sync_standby=bool(found.get("sync_standby")),
            standbys={
                str(one.get("application_name")): str(one.get("sync_state")) for one in found.get("replication") or ()
            },
        )
    except (ValueError, AttributeError, TypeError) as error:
        return Sample(node, asked, answered, error=f"no answer of Patroni: {error}")


class Sampler:
    """The threads that ask and the files they write."""

    def __init__(self, options: argparse.Namespace, out: IO[str]) -> None:
        """Take parsed arguments and the open output; raise OSError for a missing certificate."""
        self.options = options
        self.out = out
        self.trust()
        self.lock = threading.Lock()
        self.watch = Watch()
        self.findings: list[Finding] = []
        self.stopping = threading.Event()
        self.reason = ""
        self.begin = time.monotonic()

    def trust(self) -> ssl.SSLContext:
        """Return whom to trust and what to show now: certificates are renewed, and authorities rotate."""
        trust = ssl.create_default_context(cafile=self.options.identity / "ca.crt")
        trust.load_cert_chain(self.options.identity / "host.crt", self.options.identity / "host.key")
        return trust

    def now(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self.begin

    def connect(self, host: str, port: int) -> http.client.HTTPSConnection:
        """Return a connection that is not open yet."""
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=self.trust())

    def ask(self, node: str, address: str) -> Sample:
        """Ask one node once; a missing answer is a sample, too."""
        asked = self.now()
        host, _, port = address.partition(":")
        try:
            with contextlib.closing(self.connect(host, int(port or PORT))) as connection:
                connection.request("GET", "/leader")
                answer = connection.getresponse()
                return parse(node, asked, self.now(), answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            return Sample(node, asked, self.now(), error=f"{type(error).__name__}: {error}")

    def follow(self, node: str, address: str) -> None:
        """Ask one node at every tick until the end; ticks that pass during an answer are left out."""
        while not self.stopping.is_set():
            self.record(self.ask(node, address))
            self.stopping.wait(INTERVAL_SECONDS - self.now() % INTERVAL_SECONDS)

    def record(self, sample: Sample) -> None:
        """Write a sample, and at once what it proves."""
        with self.lock:
            self.write({key: value for key, value in asdict(sample).items() if value not in (None, False, {})})
            if finding := self.watch.feed(sample):
                self.findings.append(finding)
                self.write({"finding": asdict(finding)})
                if finding.kind == "violation":
                    self.note(finding)

    def note(self, finding: Finding) -> None:
        """Write the guardrail file: it exists as soon as there is a violation."""
        count = sum(one.kind == "violation" for one in self.findings)
        found = asdict(finding) | {"wall": time.time(), "violations": count}
        temporary: Path = self.options.folder / "violation.json.part"
        temporary.write_text(json.dumps(found) + "\n", encoding="utf-8")
        temporary.replace(temporary.with_suffix(""))

    def write(self, line: dict[str, Any]) -> None:
        """Write one line, at once: a killed sampler loses nothing it has seen."""
        rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in line.items()}
        self.out.write(json.dumps(rounded, separators=(",", ":")) + "\n")
        self.out.flush()

    def stop(self, reason: str) -> None:
        """End at the next tick."""
        self.reason = self.reason or reason
        self.stopping.set()

    def run(self) -> None:
        """Sample until the time limit or a signal."""
        nodes = dict(self.options.node)
        anchor = {"wall": time.time() - self.now(), "kind": "samples", "interval": INTERVAL_SECONDS}
        self.write({"anchor": anchor | {"nodes": sorted(nodes)}})
        threads = [threading.Thread(target=self.follow, args=item, daemon=True) for item in nodes.items()]
        for thread in threads:
            thread.start()
        while not self.stopping.wait(INTERVAL_SECONDS):
            if self.now() >= self.options.max_seconds:
                self.stop("max-seconds")
        for thread in threads:
            thread.join(TIMEOUT_SECONDS + 1)
        with self.lock:
            self.write({"end": {"time": self.now(), "reason": self.reason}})


def node(text: str) -> tuple[str, str]:
    """Parse NAME=ADDRESS; raise ArgumentTypeError for anything else."""
    name, _, address = text.partition("=")
    if not name or not address:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=ADDRESS")
    return name, address


def arguments_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="sampler.py", description="Sample the state of a Patroni cluster.")
    add = parser.add_argument
    add("--node", type=node, action="append", required=True, metavar="NAME=ADDRESS[:PORT]", help="a database; repeat")
    text = "where to write samples.jsonl, and violation.json as soon as two nodes are writable at once"
    add("folder", type=Path, metavar="FOLDER", help=text)
    add("--max-seconds", type=float, default=900.0, metavar="SECONDS", help="end after this (%(default)s)")
    text = "folder with ca.crt, and host.crt and host.key to show (%(default)s)"
    add("--identity", type=Path, default=Path("/etc/ssl/site"), metavar="FOLDER", help=text)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return 0, or 2 when a file cannot be used."""
    options = arguments_of(arguments)
    try:
        with (options.folder / "samples.jsonl").open("w", encoding="utf-8") as file:
            sampler = Sampler(options, file)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: sampler.stop("signal"))
            sampler.run()
    except OSError as error:
        sys.stderr.write(f"sampler: {error.filename or options.identity}: {error.strerror or error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
