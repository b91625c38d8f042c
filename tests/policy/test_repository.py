"""This repository keeps its own rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy.repository import Repository
from tests.policy.rules import RULES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def repository() -> Repository:
    """Return this repository, read once."""
    return Repository(ROOT)


@pytest.mark.parametrize("name", RULES)
def test_rule(repository: Repository, name: str) -> None:
    """No rule finds anything."""
    findings = sorted(RULES[name](repository))
    assert not findings, "\n".join([RULES[name].__doc__ or name, *findings])
