"""Ask every database's Patroni who is who, and say whom an experiment means by its targets; print it as JSON.

Standard library only and one file, so that it runs on an app host, whose certificate Patroni's REST interface accepts,
by the system's Python:

    python3 - SECONDS HOSTS [VOTERS] < cluster.py

HOSTS is the site as role chaos takes it (`chaos_hosts`), VOTERS what `etcdctl endpoint status --write-out=json` said.
Waits up to SECONDS for the cluster to be whole: one primary that all databases agree on, and all others streaming, one
of them synchronously.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PORT = 8008
IDENTITY = Path("/etc/ssl/site")
TIMEOUT_SECONDS = 3.0
POLL_SECONDS = 0.5


def members(address: str, trust: ssl.SSLContext) -> list[dict[str, Any]]:
    """Return the cluster's members as one database sees them; nothing when it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    try:
        with opener.open(f"https://{address}:{PORT}/cluster", timeout=TIMEOUT_SECONDS) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())["members"]
    except (OSError, ValueError, KeyError):
        return []
    return found


def leader(listing: list[dict[str, Any]]) -> str | None:
    """Return who is primary in one listing."""
    return next((one["name"] for one in listing if one["role"] == "leader" and one["state"] == "running"), None)


def is_whole(listing: list[dict[str, Any]], names: set[str]) -> bool:
    """Tell whether a listing shows a primary, everybody else streaming from it, and a synchronous standby."""
    others = [one for one in listing if one["role"] != "leader"]
    return (
        leader(listing) is not None
        and {one["name"] for one in listing} == names
        and all(one["state"] == "streaming" for one in others)
        and (not others or any(one["role"] in {"sync_standby", "quorum_standby"} for one in others))
        and len({one.get("timeline") for one in listing}) == 1
    )


def look(nodes: dict[str, str], trust: ssl.SSLContext) -> dict[str, Any]:
    """Return what all databases say."""
    said = {name: members(address, trust) for name, address in nodes.items()}
    heard = [listing for listing in said.values() if listing]
    leaders = {found for listing in heard if (found := leader(listing))}
    whole = (
        len(heard) == len(nodes)
        and len(leaders) == 1
        and all(is_whole(listing, nodes.keys() | set()) for listing in heard)
    )
    primary = next(iter(leaders)) if len(leaders) == 1 else None
    shown = next((listing for listing in heard if leader(listing) == primary), [])
    roles = [f"{one['name']}: {one['role'].replace('_', ' ')}, {one['state']}" for one in shown]
    silent = [f"{name}: no answer" for name, listing in said.items() if not listing]
    return {
        "whole": whole,
        "primary": primary,
        "text": "; ".join([*roles, *silent]),
    }


def followers(members: dict[str, str], voters: list[dict[str, Any]]) -> list[str]:
    """Return the members of etcd, name to address, that answered and do not lead."""
    found = {
        one["Endpoint"].split("//")[-1].rpartition(":")[0]
        for one in voters
        if one["Status"]["header"]["member_id"] != one["Status"]["leader"]
    }
    return [name for name, address in members.items() if address in found]


def lone_witnesses(hosts: Mapping[str, Any]) -> list[str]:
    """Return the witnesses whose hosts take neither a voter of etcd nor the application along."""
    return [name for name in hosts["witnesses"] if name not in hosts["etcd"] and name not in hosts["app"]]


def targets(hosts: dict[str, Any], primary: str | None, voters: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the hosts that an experiment means by each target; roles swap, so this holds only for the moment."""
    standbys = [name for name in hosts["databases"] if name != primary]
    return {
        "app": hosts["app"],
        "app-others": hosts["app"][1:],
        "backup": hosts["backup"],
        # What is done to the cluster as a whole is done on a standby, so that its healing outlives the primary.
        "cluster": standbys,
        "databases": list(hosts["databases"]),
        "elasticsearch": hosts["elasticsearch"],
        "etcd-follower": followers(hosts["etcd"], voters),
        "primary": [primary] if primary else [],
        "primary-and-witness": [primary, *lone_witnesses(hosts)[:1]] if primary else [],
        "standby": standbys,
        "witnesses": hosts["witnesses"],
    }


def main(arguments: list[str]) -> None:
    """Look until all is whole or the time is over."""
    end = time.monotonic() + float(arguments[0])
    hosts = json.loads(arguments[1])
    voters = json.loads("".join(arguments[2:]) or "[]")
    trust = ssl.create_default_context(cafile=str(IDENTITY / "ca.crt"))
    trust.load_cert_chain(IDENTITY / "host.crt", IDENTITY / "host.key")
    while not (found := look(hosts["databases"], trust))["whole"] and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    sys.stdout.write(json.dumps(found | {"targets": targets(hosts, found["primary"], voters)}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
