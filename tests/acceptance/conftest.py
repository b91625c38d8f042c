"""What the acceptance tests share: a browser, and a cluster that is whole before and after each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.acceptance import lab

HEAL_SECONDS = 60


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    """Return a client that trusts the site's CA and does not follow redirects."""
    with httpx.Client(verify=lab.trust(), timeout=30) as client:
        yield client


@pytest.fixture
def whole_cluster() -> Iterator[None]:
    """Begin with a whole cluster, and insist that the test left one."""
    lab.wait_until("a whole cluster before the test", lab.is_whole, HEAL_SECONDS)
    yield
    lab.wait_until("a whole cluster after the test", lab.is_whole, HEAL_SECONDS)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return what prints a figure beside the test's name, also when the test passes."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f" [{text}] ", end="")

    return say
