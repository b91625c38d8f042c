#!/usr/bin/python3
# Managed by Ansible.
"""Keep the disk of Elasticsearch from filling up with logs; started by a timer, does one look each time.

Above the high mark the oldest indices that are no longer written are deleted. Above the stop mark, when that was not
enough, the whole cluster refuses writes with an answer that Filebeat takes as "later", and below it takes them again.
Elasticsearch's own block at 95 % answers for each event instead, and Filebeat drops such events.
"""

from __future__ import annotations

import argparse
import base64
import json
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

TIMEOUT_SECONDS = 15
# Writes are taken again only when use is this far below the stop mark, so that the block does not come and go.
HYSTERESIS_PERCENT = 2
MB = 1024 * 1024
CLUSTER_BLOCK = "cluster.blocks.read_only_allow_delete"
INDEX_BLOCK = "index.blocks.read_only_allow_delete"
# Priorities of syslog, which the journal reads from the beginning of a line.
WARNING, NOTICE = "<4>", "<5>"


class GuardError(Exception):
    """Elasticsearch refused a call or did not answer; the text says which and why."""


class Client:
    """Elasticsearch over TLS, with a client certificate and a password."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Use the URL, the user with its password, and the certificates of the command line."""
        self.url = options.url
        context = ssl.create_default_context(cafile=options.certs / "ca.crt")
        context.load_cert_chain(options.certs / "host.crt", options.certs / "host.key")
        self.opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        login = f"{options.user}:{options.password_file.read_text().strip()}"
        self.authorization = "Basic " + base64.b64encode(login.encode()).decode()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Return the answer to a call; raises GuardError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": self.authorization, "Content-Type": "application/json"}
        request = Request(self.url + path, data=data, headers=headers, method=method)  # noqa: S310 - see main()
        try:
            with self.opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except HTTPError as error:
            text = " ".join(error.read().decode(errors="replace").split())[:300]
            raise GuardError(f"{method} {path}: {error.code}: {text}") from error
        except (URLError, OSError, ValueError) as error:
            raise GuardError(f"{self.url} did not answer: {error}") from error


@dataclass(frozen=True)
class Disk:
    """The disk of one node, in bytes."""

    node: str
    total: int
    available: int

    @property
    def used(self) -> int:
        """Bytes that Elasticsearch cannot have, as it counts them itself."""
        return self.total - self.available

    @property
    def percent(self) -> float:
        """Use in percent."""
        return 100 * self.used / self.total

    def __str__(self) -> str:
        """Say whose disk it is and how full."""
        return f"disk of {self.node} is {self.percent:.1f} % used ({self.used // MB} of {self.total // MB} MB)"


@dataclass(frozen=True)
class Index:
    """An index that is no longer written: its name, its size in bytes and when it was made, in ms of the epoch."""

    name: str
    size: int
    created: int


class Guard:
    """One look at the disks, and what follows from it."""

    def __init__(self, api: Client, options: argparse.Namespace) -> None:
        """Act through ``api`` in the name of a node, within the limits of the command line."""
        self.api = api
        self.options = options

    def say(self, priority: str, text: str) -> None:
        """Write a line to the journal."""
        print(f"{priority}{text}", flush=True)

    def run(self) -> bool:
        """Look once and act; return whether logs are taken.

        Only the guard of the elected master does, so that no two act at once.
        """
        master = self.api.call("GET", "/_cluster/state/master_node")["master_node"]
        nodes = self.api.call("GET", "/_nodes/stats/fs")["nodes"]
        if nodes.get(master, {}).get("name") != self.options.node:
            return True
        disks = [
            Disk(node["name"], node["fs"]["total"]["total_in_bytes"], node["fs"]["total"]["available_in_bytes"])
            for node in nodes.values()
            if any(role.startswith("data") for role in node["roles"])
        ]
        disk = max(disks, key=lambda one: one.percent)
        freed = self.make_room(disk) if disk.percent > self.options.high else 0
        taken = self.block(disk, freed)
        if red := self.api.call("GET", "/_cluster/health")["status"] == "red":
            self.say(WARNING, "the cluster is red: an index has no copy left, see GET /_cluster/allocation/explain")
        return taken and not red

    def make_room(self, disk: Disk) -> int:
        """Delete the oldest indices until the disk is below the high mark; return how many bytes they had."""
        wanted = disk.used - disk.total * self.options.high / 100
        freed = 0
        for index in self.rolled_over():
            if freed >= wanted:
                break
            self.api.call("DELETE", f"/{quote(index.name)}")
            freed += index.size
            self.say(
                NOTICE,
                f"{disk}, above {self.options.high:g} %: deleted the oldest index {index.name} ({index.size // MB} MB)",
            )
        if freed < wanted:
            self.say(
                WARNING,
                f"{disk}, above {self.options.high:g} %, and no index is left to delete but those being written: "
                "find what else fills it, or make it larger",
            )
        return freed

    def rolled_over(self) -> list[Index]:
        """Return the indices that are no longer written, the oldest first."""
        pattern = self.options.indices
        aliases = self.api.call("GET", f"/{pattern}/_alias")
        candidates, written = set(), set()
        for name, index in aliases.items():
            for alias in index["aliases"].values():
                # Without the mark, roll-over has not happened in this alias: everything in it may be written.
                if alias.get("is_write_index") is False:
                    candidates.add(name)
                else:
                    written.add(name)
        if self.options.data_streams:
            for stream in self.api.call("GET", f"/_data_stream/{pattern}")["data_streams"]:
                names = [index["index_name"] for index in stream["indices"]]
                candidates.update(names[:-1])
                written.update(names[-1:])
        listed = self.api.call("GET", f"/_cat/indices/{pattern}?format=json&h=index,creation.date")
        sizes = self.api.call("GET", f"/{pattern}/_stats/store,translog")["indices"]
        found = [
            Index(
                one["index"],
                # In version 6 what was written in the last hours is there twice: in the index and in its translog.
                sum(sizes[one["index"]]["primaries"][part]["size_in_bytes"] for part in ("store", "translog")),
                int(one["creation.date"]),
            )
            for one in listed
            if one["index"] in candidates - written and one["index"] in sizes
        ]
        return sorted(found, key=lambda index: (index.created, index.name))

    def block(self, disk: Disk, freed: int) -> bool:
        """Refuse writes above the stop mark, and take them again below it; return whether they are taken."""
        settings = self.api.call("GET", "/_cluster/settings?flat_settings=true")["persistent"]
        blocked = settings.get(CLUSTER_BLOCK) == "true"
        stop = self.options.stop
        expected = disk.percent - 100 * freed / disk.total
        if expected > stop:
            if not blocked:
                self.set_cluster_block(value=True)
            self.say(WARNING, f"{disk}, above {stop:g} %: writes are refused, senders wait")
            return False
        if blocked and expected < stop - HYSTERESIS_PERCENT:
            self.set_cluster_block(value=None)
            self.say(NOTICE, f"{disk}, below {stop - HYSTERESIS_PERCENT:g} %: writes are taken again")
            blocked = False
        if not blocked:
            self.lift_index_blocks(disk)
        return not blocked

    def set_cluster_block(self, *, value: bool | None) -> None:
        """Set or lift the block on the whole cluster."""
        # Nothing else may be in the call: only a change of the block itself passes the block.
        self.api.call("PUT", "/_cluster/settings", {"persistent": {CLUSTER_BLOCK: value}})

    def lift_index_blocks(self, disk: Disk) -> None:
        """Lift what Elasticsearch's own last mark set index by index, and version 6 never lifts."""
        path = f"/{self.options.indices}/_settings"
        found = self.api.call("GET", f"{path}/{INDEX_BLOCK}?flat_settings=true")
        names = sorted(name for name, index in found.items() if index["settings"].get(INDEX_BLOCK) == "true")
        if names:
            self.api.call("PUT", path, {INDEX_BLOCK: None})
            self.say(NOTICE, f"{disk}: lifted the block that Elasticsearch had put on {', '.join(names)}")


def main(arguments: list[str] | None = None) -> int:
    """Look once; return 0, or 1 after saying why logs are not taken or it is not known whether they are."""
    parser = argparse.ArgumentParser(description="Keep the disk of Elasticsearch from filling up with logs.")
    parser.add_argument("--url", required=True, help="URL of this host's node, https")
    parser.add_argument("--node", required=True, help="name of this host's node")
    parser.add_argument("--user", required=True, help="user of Elasticsearch")
    parser.add_argument("--password-file", type=Path, required=True, help="file with its password")
    parser.add_argument("--certs", type=Path, required=True, help="folder with ca.crt, host.crt and host.key")
    parser.add_argument("--indices", required=True, help="pattern of the indices that may be deleted")
    parser.add_argument("--high", type=float, required=True, metavar="PERCENT", help="use above which to delete")
    parser.add_argument("--stop", type=float, required=True, metavar="PERCENT", help="use above which to refuse writes")
    parser.add_argument("--data-streams", action="store_true", help="look for data streams, too (since version 7.9)")
    options = parser.parse_args(arguments)
    if not options.url.startswith("https://"):
        parser.error("--url must start with https://")
    try:
        return 0 if Guard(Client(options), options).run() else 1
    except (GuardError, OSError) as error:
        print(f"{WARNING}{error}", flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
