"""What the acceptance tests share: a browser, and a cluster that is whole before and after each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.acceptance import lab

HEAL_SECONDS = 60
CHROMIUM = Path(__file__).with_name("chromium")


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    """Return a client that trusts the site's CA and does not follow redirects."""
    with httpx.Client(verify=lab.trust(), timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium in a container of its own, built the first time; it trusts the site's present CA."""
    command = ["docker", "inspect", "--format", "{{.Config.Image}}", f"{lab.NAME}-{lab.group('app')[0]}"]
    base = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    image = f"ansible-sre-stack/chromium:{base.rpartition(':')[2]}"
    command = ["docker", "build", "--quiet", "--build-arg", f"BASE={base}", "--tag", image, str(CHROMIUM)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    settings = {"LAB": lab.NAME, "CHROMIUM_IMAGE": image, "CHROMIUM_CA": lab.CA_FILE.read_text(encoding="ascii")}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM / "run", env={**os.environ, **settings})
        yield browser
        browser.close()


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
