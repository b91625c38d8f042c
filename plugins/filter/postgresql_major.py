# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Filter: which major version of PostgreSQL a release of Debian has."""

from __future__ import annotations

from collections.abc import Callable

# Of the package `postgresql` in each release: packages.debian.org/postgresql.
MAJORS = {"12": 15, "13": 17}


def postgresql_major(release: str) -> int:
    """Return the major version that a release has, ``12`` or ``13``; for another one, that of the newest.

    Which release a host has is not known when input is checked, and refused afterwards where it is none of these.
    """
    return MAJORS.get(str(release), max(MAJORS.values()))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[[str], int]]:
        """Return the filters of this file by name."""
        return {"postgresql_major": postgresql_major}
