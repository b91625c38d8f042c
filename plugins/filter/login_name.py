# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Filter: a name for whoever logs in that changes with the password."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

# Eight hexadecimal digits: among the few passwords that a site has had, no two share them.
DIGITS = 8


def login_name(owner: str, password: str, pepper: str) -> str:
    """Return the name under which ``owner`` logs in with ``password``.

    A new password makes another login, so that the former one is good until everybody has been told.
    Others may read the name; ``pepper``, another secret, keeps it from helping to guess the password.
    """
    digest = hashlib.sha256(f"{pepper}{password}".encode()).hexdigest()
    return f"{owner}-{digest[:DIGITS]}"


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filters of this file by name."""
        return {"login_name": login_name}
