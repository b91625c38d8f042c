#!/usr/bin/env python3
"""What environment variables say of the lab: its name and what follows from it, its Debian, its further app hosts.

A program and not templates in hosts.yml: Ansible compiles a template anew in each of its processes, and nearly every
task needs these values.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# hosts.yml has the first one. Addresses from here on are nobody's.
FIRST, MOST = 2, 9
FREE_ADDRESS = 20
# Of this file and not of a link to it: a test's inventory links here.
ROOT = Path(__file__).resolve().parents[2]


def subnet_prefix(name: str) -> str:
    """Return the first three numbers of the lab's network: each lab has its own, so that they stand side by side."""
    second, third = hashlib.sha256(name.encode()).digest()[:2]
    return f"10.{64 + second % 64}.{third}"


def inventory(environment: Mapping[str, str]) -> dict[str, object]:
    """Return variables of all hosts, and the app hosts beyond the first, in the form of Ansible's inventory scripts.

    Raises ValueError where LAB_APP_HOSTS is no number from 1 to 9.
    """
    count = environment.get("LAB_APP_HOSTS") or "1"
    if not count.isdecimal() or not 1 <= int(count) <= MOST:
        raise ValueError(f"LAB_APP_HOSTS is {count}; give the number of app hosts, 1 to {MOST}")
    name = environment.get("LAB") or "lab"
    prefix = subnet_prefix(name)
    variables = {
        "lab_name": name,
        "lab_dir": str(ROOT / ".lab" / name),
        # Of one host alone it can be set beside its address.
        "lab_debian": environment.get("LAB_DEBIAN") or "13",
        "lab_subnet_prefix": prefix,
        "elastic_packages_source": environment.get("ELASTIC_PACKAGES_SOURCE") or "auto",
    }
    hosts = {
        f"main-{number}": {
            "ansible_host": f"{name}-main-{number}",
            "host_address": f"{prefix}.{FREE_ADDRESS + number}",
        }
        for number in range(FIRST, int(count) + 1)
    }
    groups = {group: {"hosts": list(hosts)} for group in ("app", "witness")}
    return {"all": {"vars": variables}, **groups, "_meta": {"hostvars": hosts}}


if __name__ == "__main__":
    try:
        json.dump(inventory(os.environ), sys.stdout)
    except ValueError as error:
        sys.exit(str(error))
