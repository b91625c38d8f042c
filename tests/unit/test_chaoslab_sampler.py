"""The sampler, as a single file under another interpreter, against a node of our own with mutual TLS."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaoslab import sampler
from chaoslab.records import load_samples
from tests.unit.fake_server import Request, serve

PRIMARY = {"state": "running", "role": "primary", "timeline": 1, "xlog": {"location": 100}}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[str]:
    """Return the address of a node that says that it is primary and holds the lease; its identity is in tmp_path."""

    def answer(request: Request) -> tuple[int, bytes]:
        assert request.path == "/leader"
        return 200, json.dumps(PRIMARY).encode()

    with serve(tmp_path, answer, client_certificate=True) as server:
        (tmp_path / "ca.crt").symlink_to(server.certificate)
        yield server.url.removeprefix("https://")


def start(directory: Path, *options: str) -> subprocess.Popen[str]:
    """Copy the sampler and start it alone."""
    program = directory / "sampler.py"
    program.write_text(Path(sampler.__file__).read_text())
    command = [sys.executable, "-I", str(program), str(directory), f"--identity={directory}", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], directory: Path) -> tuple[int, list[dict[str, Any]], str]:
    """Return a sampler's exit code, its lines and its complaints."""
    _, error = process.communicate()
    out = directory / "samples.jsonl"
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return process.returncode, lines, error


def test_samples_are_taken_at_their_pace(node: str, tmp_path: Path) -> None:
    """A node that hangs does not slow the other, and its silence is a sample, too."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        pair = f"--node=a={node}", f"--node=b=127.0.0.1:{mute.getsockname()[1]}"
        code, lines, _ = ended(start(tmp_path, *pair, "--max-seconds=1.5"), tmp_path)
    assert code == 0
    assert (lines[0]["anchor"]["nodes"], lines[-1]["end"]["reason"]) == (["a", "b"], "max-seconds")
    first = [line for line in lines if line.get("node") == "a"]
    second = [line for line in lines if line.get("node") == "b"]
    assert len(first) >= 3
    assert all(
        (line["lease"], line["role"], line["timeline"], line["position"]) == (True, "primary", 1, 100) for line in first
    )
    assert second
    assert all("imed out" in line["error"] for line in second)
    assert len(load_samples(tmp_path / "samples.jsonl")) == len(first) + len(second)


def test_a_violation_is_noted_at_once(node: str, tmp_path: Path) -> None:
    """The guardrail file exists while the sampler still runs."""
    guardrail = tmp_path / "violation.json"
    process = start(tmp_path, f"--node=a={node}", f"--node=b={node}")
    while process.poll() is None and not guardrail.exists():
        time.sleep(0.05)
    found = json.loads(guardrail.read_text())
    process.terminate()
    _, lines, _ = ended(process, tmp_path)
    assert (found["kind"], sorted(found["nodes"])) == ("violation", ["a", "b"])
    assert [line["finding"]["kind"] for line in lines if "finding" in line][:1] == ["violation"]


def test_a_signal_ends_it(node: str, tmp_path: Path) -> None:
    """Well before its time, as the role stops it."""
    process = start(tmp_path, f"--node=a={node}", "--max-seconds=60")
    out = tmp_path / "samples.jsonl"
    while process.poll() is None and not (out.exists() and '"node"' in out.read_text()):
        time.sleep(0.05)
    process.terminate()
    code, lines, _ = ended(process, tmp_path)
    assert (code, lines[-1]["end"]["reason"]) == (0, "signal")


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    """A node without an address, a certificate that is not there."""
    for option, message in (("a", "'a' is not NAME=ADDRESS"), ("a=127.0.0.1", f"sampler: {tmp_path}: No such file")):
        code, _, error = ended(start(tmp_path, f"--node={option}"), tmp_path)
        assert code == 2
        assert message in error
