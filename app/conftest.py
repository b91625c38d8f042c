"""Settings for `pytest app`: the project on the path, Django configured, a database to come.

Each database alias gets a directory of its own for the server's socket, so that a test can take
one entry point away and leave the other.
"""

import os
import sys
import tempfile
from pathlib import Path

import django

APP = Path(__file__).parent
SCRATCH = tempfile.TemporaryDirectory(prefix="polls-test-", dir="/tmp")  # sockets: a short path


def _write_config(scratch: Path) -> Path:
    """Write the tests' configuration with a directory of sockets for each database."""
    scratch.chmod(0o755)  # the server may run under another account
    text = (APP / "tests" / "polls.toml").read_text(encoding="utf-8")
    for alias in ("default", "failover1"):
        (scratch / alias).mkdir()
        text = text.replace("/nowhere", str(scratch / alias), 1)
    config = scratch / "polls.toml"
    config.write_text(text, encoding="utf-8")
    return config


sys.path.insert(0, str(APP))
os.environ["POLLS_CONFIG"] = str(_write_config(Path(SCRATCH.name)))
os.environ["DJANGO_SETTINGS_MODULE"] = "sreproject.settings_test"


def pytest_configure() -> None:
    """Set Django up before test modules import models."""
    django.setup()
