#!/usr/bin/env python3
"""Further app hosts of the lab: LAB_APP_HOSTS is how many there are in all, one where it is not set."""

from __future__ import annotations

import json
import os
import sys

# hosts.yml has the first one. Addresses from here on are nobody's.
FIRST, MOST = 2, 9
FREE_ADDRESS = 20


def inventory(count: str) -> dict[str, object]:
    """Return the app hosts beyond the first in the form of Ansible's inventory scripts.

    Raises ValueError where `count` is no number from 1 to 9.
    """
    if not count.isdecimal() or not 1 <= int(count) <= MOST:
        raise ValueError(f"LAB_APP_HOSTS is {count}; give the number of app hosts, 1 to {MOST}")
    hosts = {
        f"main-{number}": {
            "ansible_host": f"{{{{ lab_name }}}}-main-{number}",
            "host_address": f"{{{{ lab_subnet_prefix }}}}.{FREE_ADDRESS + number}",
        }
        for number in range(FIRST, int(count) + 1)
    }
    groups = {name: {"hosts": list(hosts)} for name in ("app", "witness")}
    return {**groups, "_meta": {"hostvars": hosts}}


if __name__ == "__main__":
    try:
        json.dump(inventory(os.environ.get("LAB_APP_HOSTS") or "1"), sys.stdout)
    except ValueError as error:
        sys.exit(str(error))
