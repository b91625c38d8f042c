"""Tokens of one run of the voter, which are told from everybody else's.

A token is a UUID of version 8 (RFC 9562, for uses of one's own): 60 bits that mark the run and the
number of the vote. So the ledger's rows of a run are found without regard to clocks, other voters'
rows do not confuse, and a row that nobody sent under this mark is seen.
"""

from __future__ import annotations

import secrets
from uuid import UUID

MARK_BITS = 60
NUMBER_BITS = 62


def new_mark() -> str:
    """Return a random mark for a run: 15 hexadecimal digits."""
    return f"{secrets.randbits(MARK_BITS):015x}"


def token(mark: str, number: int) -> str:
    """Return the token of a run's vote; raise ValueError for a number out of range."""
    if not 0 <= number < 1 << NUMBER_BITS:
        raise ValueError(f"there is no vote number {number}")
    bits = int(mark, 16)
    return str(UUID(int=(bits >> 12) << 80 | 8 << 76 | (bits & 0xFFF) << 64 | 2 << 62 | number))


def is_of(mark: str, text: str) -> bool:
    """Tell whether a token belongs to a run."""
    return token(mark, 0)[:19] == text[:19] and text[19:20] in tuple("89ab")
