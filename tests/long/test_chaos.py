"""More experiments, and the negative control that takes longest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance.test_chaos import assert_relieved, broken_by


@pytest.mark.usefixtures("whole_cluster")
@pytest.mark.parametrize("name", ["primary-and-witness-off", "primary-isolated"])
def test_lost_primary_is_relieved_and_the_run_is_green(name: str, tell: Callable[[str], None]) -> None:
    """Gone with a witness beside it, or reached by clients alone and sure that it leads."""
    assert_relieved(name, tell)


@pytest.mark.usefixtures("whole_cluster")
def test_asynchronous_replication_makes_a_run_red() -> None:
    """The negative control: votes that only the lost primary had are missed, and the setting is back afterwards."""
    assert "lost" in broken_by("asynchronous")
