#!/usr/bin/python3
"""Restart a Filebeat that runs but ships nothing, and let it send again what Elasticsearch has refused.

systemd restarts a Filebeat that ends. This program, on a timer, finds the one that does not end:

hung     its statistics are not answered (frozen, deadlocked),
stuck    events wait, nothing is sent and nothing acknowledged, although Elasticsearch answers,
stalled  a file grows and Filebeat's notes about it stay where they are, although Elasticsearch answers.

It never restarts because of Elasticsearch: one that is down or refuses events is named once in the journal, and once
more when it is well again. Nothing is lost by a restart: Filebeat notes only what Elasticsearch has acknowledged.

An event that Elasticsearch refuses by itself, as when the index to write to is missing, is dropped by Filebeat and
noted as done. This program keeps a copy of the notes from before and, when Elasticsearch is as it has to be, puts them
back: Filebeat sends everything since once more, and what had arrived is refused as a duplicate. An event that is
refused again then is at fault itself and left out.

An Elasticsearch that was set up anew has nothing of what the old one has acknowledged. Once it takes events, Filebeat
begins without notes: it sends all that the host's logs still have.

Where notes are so damaged that Filebeat cannot start, they are put right, too.
"""

from __future__ import annotations

import argparse
import base64
import glob
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
UNIT = "filebeat.service"
# Looks without progress before a restart.
LOOKS = 3
# Seconds after a restart of either kind in which Filebeat is left alone.
HOLD_OFF = 300
# Seconds after its start before Filebeat has to answer.
GRACE = 30
# Times that a silent statistics endpoint is asked in one look, so that one slow answer is no verdict.
TRIES = 3
# What the output does, whether or not it succeeds: any of these moving means that it is not stuck.
OUTPUT_COUNTERS = (
    ("libbeat", "output", "events", "total"),
    ("libbeat", "output", "events", "acked"),
    ("libbeat", "output", "events", "failed"),
    ("libbeat", "output", "write", "bytes"),
    ("libbeat", "output", "read", "bytes"),
    ("libbeat", "output", "write", "errors"),
    ("libbeat", "output", "read", "errors"),
)
CLUSTER_ID = re.compile(r'"cluster_uuid"\s*:\s*"([^"]+)"')
# What a node says that has not found its cluster.
NO_CLUSTER = "_na_"
NATIVE_KEY = re.compile(r"native::(\d+)-(\d+)")


@dataclass(frozen=True)
class Service:
    """What systemd says about the unit."""

    active: bool
    pid: int
    # Seconds since its last start.
    age: float


@dataclass
class File:
    """One watched file at one look; offset is None where Filebeat has no note of it."""

    size: int
    offset: int | None


@dataclass
class Look:
    """What one look saw."""

    pid: int
    waiting: int
    acked: int
    dropped: int
    output: list[int]
    # What was wrong with Elasticsearch, "" for nothing.
    wrong: str = ""
    # The id that its cluster was given when it was set up, "" where that is not known.
    cluster: str = ""
    # By "device-inode", which stays when a rotation renames the file.
    files: dict[str, File] = field(default_factory=dict)


@dataclass
class State:
    """What is kept between runs."""

    looks: list[Look] = field(default_factory=list)
    # Seconds of the clock that counts from boot.
    restarted: float | None = None
    # What was last said about Elasticsearch, "" for nothing bad.
    said: str = ""
    # Filebeat's notes, by key, at the last look that found nothing dropped.
    notes: Json | None = None
    # How many events Filebeat has dropped since those notes.
    dropped: int = 0
    # Whether it has begun once more from those notes.
    again: bool = False
    # The id of the cluster that Filebeat's notes are about.
    cluster: str = ""


class UnreachableError(Exception):
    """A question that was not answered; the text says why."""


def stuck(looks: list[Look]) -> bool:
    """Return whether events waited through all of these looks while the output did nothing."""
    return all(look.waiting > 0 for look in looks) and all(look.output == looks[0].output for look in looks)


def refused(looks: list[Look]) -> bool:
    """Return whether the output tried through all of these looks and nothing was acknowledged."""
    waiting = all(look.waiting > 0 for look in looks)
    return waiting and looks[0].output != looks[-1].output and looks[0].acked == looks[-1].acked


def stalled(looks: list[Look]) -> list[str]:
    """Return the files that grew while Filebeat's notes about them, being behind, stood still."""
    names = []
    for name, last in looks[-1].files.items():
        seen = [look.files[name] for look in looks if name in look.files]
        behind = all((one.offset or 0) < one.size for one in seen)
        still = all(one.offset == last.offset for one in seen)
        if len(seen) == len(looks) and seen[0].size < last.size and behind and still:
            names.append(name)
    return sorted(names)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the file of Filebeat's registry with all notes as of some change, which is its name; None at first."""
    return max(
        (path for path in folder.glob("*.json") if path.stem.isdigit()), key=lambda path: int(path.stem), default=None
    )


def read_registry(folder: Path) -> Json:
    """Return Filebeat's notes by key, which say how far in which file it has been acknowledged.

    The folder holds a checkpoint (an array of notes, each with its ``_key``) and a log of the changes since, two lines
    for each. From a change that is half written on, the log is passed over, as Filebeat itself does.

    Raises:
        OSError, ValueError, LookupError, TypeError, AttributeError: they change too much just now, or are damaged.
    """
    notes: Json = {}
    number = 0
    if checkpoint := newest_checkpoint(folder):
        number = int(checkpoint.stem)
        notes = {entry.pop("_key"): entry for entry in json.loads(checkpoint.read_text("utf-8"))}
    log = folder / "log.json"
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    if newest_checkpoint(folder) != checkpoint:
        raise OSError("a new checkpoint has taken the log's place")
    for first, second in zip(lines[::2], lines[1::2], strict=False):
        try:
            action, change = json.loads(first), json.loads(second)
        except ValueError:
            break
        # Older ones are in the checkpoint: the log was not emptied after it.
        if action["id"] <= number:
            continue
        if action["op"] == "set":
            notes[change["k"]] = change["v"]
        else:
            notes.pop(change["k"], None)
    return notes


def offsets(notes: Json) -> dict[str, int]:
    """Return the noted offsets, in bytes, by "device-inode"."""
    found = {}
    for key, note in notes.items():
        cursor = note.get("cursor")
        # Each of the two inputs has its own place for it.
        offset = cursor.get("offset") if isinstance(cursor, dict) else note.get("offset")
        if (file := NATIVE_KEY.search(key)) and isinstance(offset, int):
            found[f"{file[2]}-{file[1]}"] = offset
    return found


def is_json(path: Path, form: type) -> bool:
    """Return whether a file is there and holds this form of JSON."""
    try:
        return isinstance(json.loads(path.read_text("utf-8")), form)
    except (OSError, ValueError):
        return False


def cluster_id(body: str) -> str:
    """Return the id that Elasticsearch's cluster got when it was set up, from its answer at /, or ""."""
    found = CLUSTER_ID.search(body)
    return "" if found is None or found[1] == NO_CLUSTER else found[1]


class Host:
    """The host that the watchdog runs on, as the command line describes it."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Use ``options`` as parse() returns them."""
        self.options = options

    def service(self) -> Service:
        """Return what systemd says about Filebeat."""
        properties = "ActiveState,MainPID,ExecMainStartTimestampMonotonic"
        command = ["systemctl", "show", f"--property={properties}", UNIT]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
        values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        started = int(values.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
        pid = int(values.get("MainPID") or 0)
        active = values.get("ActiveState") == "active" and pid > 0
        return Service(active=active, pid=pid, age=time.clock_gettime(time.CLOCK_MONOTONIC) - started)

    def stats(self, timeout: float = 3, pause: float = 1) -> Json:
        """Return Filebeat's statistics, with seconds of patience for each step and between the tries.

        Raises:
            UnreachableError: it did not answer, not even when asked again.
            PermissionError: the socket may not be used.
        """
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(pause)
            connection = http.client.HTTPConnection("localhost")
            try:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(timeout)
                connection.sock.connect(str(self.options.socket))
                connection.request("GET", "/stats")
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except PermissionError:
                # Says something about this program's rights and nothing about Filebeat.
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = str(error) or type(error).__name__
                continue
            finally:
                connection.close()
            if answer.status == http.client.OK and isinstance(body, dict):
                return body
            reason = f"HTTP {answer.status}"
        raise UnreachableError(reason)

    def notes(self) -> Json | None:
        """Return Filebeat's notes, or None where they cannot be read."""
        try:
            return read_registry(self.options.registry)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            # Replaced while it was read, or of a form that is not known: no verdict is founded on it.
            return None

    def files(self, notes: Json | None) -> dict[str, File]:
        """Return size and acknowledged offset of the watched files by "device-inode"; none without the notes."""
        if notes is None:
            return {}
        noted = offsets(notes)
        files = {}
        for name in {name for pattern in self.options.file for name in glob.glob(pattern)}:  # noqa: PTH207 - absolute
            if name.endswith(".gz"):
                continue
            try:
                status = os.stat(name)  # noqa: PTH116 - a plain name
            except OSError:
                continue
            key = f"{status.st_dev}-{status.st_ino}"
            files[key] = File(status.st_size, noted.get(key))
        return files

    def elasticsearch(self) -> tuple[str, str]:
        """Return what keeps every Elasticsearch from taking events, or "" when one answers well, and its cluster's id.

        Asks with Filebeat's own certificate and password, and for what Filebeat asks before it sends: an Elasticsearch
        that refuses those, or lacks what Filebeat needs, is not mended by a restart either.
        """
        context = ssl.create_default_context(cafile=self.options.certs / "ca.crt")
        context.load_cert_chain(self.options.certs / "host.crt", self.options.certs / "host.key")
        login = f"filebeat_writer:{os.environ.get('FILEBEAT_WRITER_PASSWORD', '')}"
        headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        wrong, cluster = "no address is configured", ""
        for url in self.options.elasticsearch:
            address = urlsplit(url)
            connection = http.client.HTTPSConnection(address.hostname or "", address.port, timeout=5, context=context)
            try:
                wrong, cluster = "", ""
                for need in ["/", *self.options.needs]:
                    path, _, text = need.partition(" ")
                    connection.request("GET", path, headers=headers)
                    answer = connection.getresponse()
                    body = answer.read().decode(errors="replace")
                    if answer.status != http.client.OK:
                        wrong = f"{url}{path} answers with HTTP {answer.status}"
                        break
                    if text not in body:
                        wrong = f"{url}{path} answers without {text}"
                        break
                    if path == "/":
                        cluster = cluster_id(body)
            except (OSError, http.client.HTTPException) as error:
                wrong = f"{url} does not answer ({str(error) or type(error).__name__})"
            finally:
                connection.close()
            if not wrong:
                break
        return wrong, cluster

    def restart(self, notes: Json | None) -> None:
        """Restart the unit, with these notes where some are given."""
        if notes is None:
            self.systemctl("restart")
            return
        try:
            self.systemctl("stop")
            self.write_notes(notes)
        finally:
            self.systemctl("start")

    def systemctl(self, verb: str) -> None:
        """Stop, start or restart the unit; systemd kills what does not stop within the unit's own limit."""
        subprocess.run(["systemctl", verb, UNIT], check=True, timeout=60)

    def write_notes(self, notes: Json) -> None:
        """Make the registry of a Filebeat that does not run say this, by a log that follows the checkpoint."""
        folder = self.options.registry
        checkpoint = newest_checkpoint(folder)
        changes = [("set", {"k": key, "v": note}) for key, note in notes.items()]
        known = json.loads(checkpoint.read_text("utf-8")) if checkpoint else []
        changes += [("remove", {"k": entry["_key"]}) for entry in known if entry["_key"] not in notes]
        first = int(checkpoint.stem) + 1 if checkpoint else 1
        lines = [
            part for number, (op, change) in enumerate(changes, first) for part in ({"op": op, "id": number}, change)
        ]
        self.put(folder / "log.json", "".join(f"{json.dumps(line)}\n" for line in lines))

    def put(self, path: Path, text: str) -> None:
        """Write a file of Filebeat's in one step."""
        new = path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.chmod(0o600)
        owner = path.parent.stat()
        os.chown(new, owner.st_uid, owner.st_gid)
        new.replace(path)

    def mend(self, notes: Json | None) -> None:
        """Put right what keeps Filebeat, which does not run, from starting; a damaged log of changes does not."""
        folder = self.options.registry
        if not folder.is_dir():
            return
        # Written at the very first start and not in one step. It never says anything else.
        if not is_json(meta := folder / "meta.json", dict):
            self.put(meta, '{"version":"1"}\n')
            self.say(f"{meta} was damaged, so that Filebeat could not start: written anew. Nothing is lost.")
        if (checkpoint := newest_checkpoint(folder)) and not is_json(checkpoint, list):
            checkpoint.rename(f"{checkpoint}.damaged")
            self.write_notes(notes or {})
            begin = "the beginning of all logs" if notes is None else "the last look before"
            self.say(f"{checkpoint} was damaged, so that Filebeat could not start: it sends again from {begin}.")

    def say(self, text: str) -> None:
        """Write a line to the journal, which is where the unit's output goes, as a notice."""
        print(f"<5>{text}" if "JOURNAL_STREAM" in os.environ else text, flush=True)


class Watchdog:
    """Looks once, decides, and acts."""

    def __init__(self, host: Host) -> None:
        """Watch ``host``."""
        self.host = host

    def run(self, state: State, now: float) -> State:
        """Look at ``now`` (seconds from boot) and return what to remember until the next look."""
        service = self.host.service()
        if not service.active:
            # Stopped by somebody, or just being restarted by systemd.
            self.host.mend(state.notes)
            return replace(state, looks=[])
        # Ahead of the statistics: what is dropped is counted there first and noted after.
        notes = self.host.notes()
        try:
            stats = self.host.stats()
        except UnreachableError as error:
            if service.age < GRACE:
                return replace(state, looks=[])
            return self.act(state, now, f"is hung: its statistics are not answered ({error})")

        looks = [look for look in state.looks if look.pid == service.pid]
        looks = [*looks, self.look(service.pid, stats, notes)][-LOOKS:]
        state = replace(state, looks=looks)
        # A process counts from its start.
        state.dropped += max(0, looks[-1].dropped - (looks[-2].dropped if len(looks) > 1 else 0))
        if looks[-1].cluster and not looks[-1].wrong:
            if state.cluster not in {"", looks[-1].cluster}:
                return self.begin_anew(state, now)
            state.cluster = looks[-1].cluster
        if state.dropped:
            return self.offer(state, notes, now)
        if notes is not None and not looks[-1].wrong:
            state.notes, state.again = notes, False
        return state if len(looks) < LOOKS else self.judge(state, now)

    @staticmethod
    def counter(stats: Json, *path: str) -> int:
        """Return one number of Filebeat's statistics; one that is missing has never counted."""
        value: Any = stats
        for name in path:
            value = value.get(name, {}) if isinstance(value, dict) else {}
        return value if isinstance(value, int) else 0

    def look(self, pid: int, stats: Json, notes: Json | None) -> Look:
        """Put together what is seen now."""
        wrong, cluster = self.host.elasticsearch()
        return Look(
            pid=pid,
            waiting=self.counter(stats, "libbeat", "pipeline", "events", "active"),
            acked=self.counter(stats, "libbeat", "output", "events", "acked"),
            dropped=self.counter(stats, "libbeat", "output", "events", "dropped"),
            output=[self.counter(stats, *path) for path in OUTPUT_COUNTERS],
            wrong=wrong,
            cluster=cluster,
            files=self.host.files(notes),
        )

    def judge(self, state: State, now: float) -> State:
        """Decide what the last looks mean together."""
        looks = state.looks
        wrong = looks[-1].wrong
        files = stalled(looks)
        if refused(looks):
            return self.blame(state, wrong or "it answers but acknowledges no events (a full disk, a blocked index?)")
        if stuck(looks) or files:
            if wrong:
                return self.blame(state, wrong)
            if any(look.wrong for look in looks):
                # It has only just come back: Filebeat is about to notice.
                return state
            count = f"through {len(looks)} looks"
            if stuck(looks):
                return self.act(state, now, f"is stuck: {looks[-1].waiting} events wait and nothing is sent {count}")
            return self.act(state, now, f"is stalled: {len(files)} file(s) grow and are not read {count}")
        if state.said and not wrong:
            self.host.say("Elasticsearch takes events again.")
            state.said = ""
        return state

    def blame(self, state: State, wrong: str) -> State:
        """Say once that it is Elasticsearch, and leave Filebeat alone: it waits and sends again by itself."""
        if state.said != wrong:
            self.host.say(f"Filebeat waits for Elasticsearch: {wrong}. A restart would not help; nothing was done.")
            state.said = wrong
        return state

    def offer(self, state: State, notes: Json | None, now: float) -> State:
        """Let Filebeat send again what it has dropped, once, and not before Elasticsearch takes it."""
        if wrong := state.looks[-1].wrong:
            if state.said != wrong:
                self.host.say(
                    f"Filebeat drops events, {state.dropped} so far, which it will send again after this: {wrong}."
                )
            return replace(state, said=wrong, again=False)
        if state.again or state.notes is None:
            why = "Elasticsearch is well and refused them twice" if state.again else "it is not known where they begin"
            self.host.say(
                f"{state.dropped} events are left out: {why}. `journalctl -u filebeat` has them, with the reason."
            )
            return replace(state, notes=notes, dropped=0, again=False)
        reason = f"has to send {state.dropped} events again, which Elasticsearch refused"
        return self.act(replace(state, said=""), now, reason, again=True)

    def begin_anew(self, state: State, now: float) -> State:
        """Let Filebeat send all that the logs have to an Elasticsearch that is not the one of its notes."""
        cluster = state.looks[-1].cluster
        reason = "has to send all logs again, because Elasticsearch was set up anew"
        acted = self.act(replace(state, notes={}, said=""), now, reason, again=True)
        # Where it was left alone, the next look finds the same.
        return replace(acted, cluster=cluster) if acted.restarted == now else state

    def act(self, state: State, now: float, reason: str, *, again: bool = False) -> State:
        """Restart Filebeat, from the notes of before if ``again``, unless that was done just now."""
        # Times from before the host's last start are ahead.
        if state.restarted is not None and 0 <= now - state.restarted < HOLD_OFF:
            ago = now - state.restarted
            self.host.say(f"Filebeat {reason}. Left alone: it was restarted {ago:.0f} s ago.")
            return state
        self.host.say(f"Filebeat {reason}. Restarting it.")
        started = time.monotonic()
        self.host.restart(state.notes if again else None)
        self.host.say(f"Filebeat runs again after {time.monotonic() - started:.1f} s.")
        return replace(state, looks=[], restarted=now, dropped=0 if again else state.dropped, again=again)


def load_state(path: Path) -> State:
    """Return what the last run remembered; nothing where that is missing or unreadable."""
    try:
        raw = json.loads(path.read_text("utf-8"))
        looks = []
        for look in raw["looks"]:
            files = {name: File(**one) for name, one in look.pop("files").items()}
            looks.append(Look(**look, files=files))
        return State(**{**raw, "looks": looks})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()


def save_state(path: Path, state: State) -> None:
    """Keep ``state`` in one step, so that a cut-off run leaves the old one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(state)), encoding="utf-8")
    new.replace(path)


def save_metrics(path: Path, state: State) -> None:
    """Say for Prometheus whether events wait or are dropped because of Elasticsearch."""
    new = path.with_suffix(".new")
    new.write_text(f"# TYPE filebeat_blocked gauge\nfilebeat_blocked {bool(state.said):d}\n", encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", type=Path, required=True, help="unix socket of Filebeat's statistics")
    parser.add_argument("--registry", type=Path, required=True, help="folder of Filebeat's registry")
    parser.add_argument("--state", type=Path, required=True, help="file that keeps what was seen")
    parser.add_argument("--metrics", type=Path, required=True, help="file that says for Prometheus how it is")
    parser.add_argument("--certs", type=Path, required=True, help="folder with ca.crt, host.crt and host.key")
    for name, text in (
        ("--file", "pattern of files it ships"),
        ("--elasticsearch", "URL"),
        (
            "--needs",
            "path that Elasticsearch must know before it takes events, and after a space, what it must answer there",
        ),
    ):
        parser.add_argument(name, action="append", default=[], help=f"{text}; repeatable")
    parser.epilog = "The password of filebeat_writer is read from the environment variable FILEBEAT_WRITER_PASSWORD."
    return parser.parse_args(arguments)


def main() -> int:
    """Look once."""
    options = parse()
    state = Watchdog(Host(options)).run(load_state(options.state), time.clock_gettime(time.CLOCK_BOOTTIME))
    save_state(options.state, state)
    save_metrics(options.metrics, state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
