"""The sampler, as a single file under another interpreter, against nodes of our own with mutual TLS."""

from __future__ import annotations

import datetime as dt
import http.server
import ipaddress
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chaoslab import sampler
from chaoslab.records import load_samples

PRIMARY = {"state": "running", "role": "primary", "timeline": 1, "xlog": {"location": 100}}


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a certificate for 127.0.0.1 that is its own authority, and its key."""
    directory = tmp_path_factory.mktemp("identity")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = builder.add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for file, content in (("ca.crt", pem), ("host.crt", pem), ("host.key", secret)):
        (directory / file).write_bytes(content)
    return directory


class Node:
    """One node: what it says, with which status, and after how long."""

    def __init__(self, identity: Path) -> None:
        """Listen on loopback."""
        self.says: dict[str, Any] = dict(PRIMARY)
        self.status = 200
        self.pause = 0.0
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/leader"
                time.sleep(node.pause)
                self.send_response(node.status)
                self.end_headers()
                self.wfile.write(json.dumps(node.says).encode())

            def log_message(self, *_message: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_request: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(identity / "ca.crt"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(identity / "host.crt", identity / "host.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, args=(0.05,)).start()

    @property
    def address(self) -> str:
        """Address and port."""
        return f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def nodes(identity: Path) -> Iterator[tuple[Node, Node]]:
    """Return two nodes, both of which say that they are primary and hold the lease."""
    found = Node(identity), Node(identity)
    yield found
    for node in found:
        node.server.shutdown()
        node.server.server_close()


def start(identity: Path, directory: Path, *options: str, seconds: float) -> subprocess.Popen[str]:
    """Copy the sampler and start it alone."""
    program = directory / "sampler.py"
    program.write_text(Path(sampler.__file__).read_text())
    own = [
        f"--{name}={identity / file}" for name, file in (("ca", "ca.crt"), ("cert", "host.crt"), ("key", "host.key"))
    ]
    command = [sys.executable, "-I", str(program), *own, "--out", str(directory / "samples.jsonl")]
    command += ["--max-seconds", str(seconds), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], directory: Path) -> tuple[int, list[dict[str, Any]], str]:
    """Return a sampler's exit code, its lines and its complaints."""
    _, error = process.communicate()
    out = directory / "samples.jsonl"
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return process.returncode, lines, error


def run(identity: Path, directory: Path, *options: str, seconds: float = 1.5) -> tuple[int, list[dict[str, Any]], str]:
    """Run the sampler to its end."""
    return ended(start(identity, directory, *options, seconds=seconds), directory)


def test_samples_are_taken_at_their_pace(identity: Path, nodes: tuple[Node, Node], tmp_path: Path) -> None:
    """A node that hangs does not slow the other, and its silence is a sample, too."""
    nodes[1].pause = 30
    pair = [f"--node={name}={node.address}" for name, node in zip("ab", nodes, strict=True)]
    code, lines, _ = run(identity, tmp_path, *pair, "--timeout=0.5")
    assert code == 0
    assert (lines[0]["anchor"]["nodes"], lines[-1]["end"]["reason"]) == (["a", "b"], "max-seconds")
    first = [line for line in lines if line.get("node") == "a"]
    second = [line for line in lines if line.get("node") == "b"]
    assert len(first) >= 3
    assert all(
        (line["lease"], line["role"], line["timeline"], line["position"]) == (True, "primary", 1, 100) for line in first
    )
    assert second
    assert all("imed out" in line["error"] or "imeout" in line["error"] for line in second)
    assert len(load_samples(tmp_path / "samples.jsonl")) == len(first) + len(second)


def test_a_violation_is_noted_at_once(identity: Path, nodes: tuple[Node, Node], tmp_path: Path) -> None:
    """The guardrail file exists while the sampler still runs."""
    guardrail = tmp_path / "violations.json"
    pair = [f"--node={name}={node.address}" for name, node in zip("ab", nodes, strict=True)]
    code, lines, _ = run(identity, tmp_path, *pair, "--violations", str(guardrail), seconds=3)
    assert code == 0
    found = json.loads(guardrail.read_text())
    assert (found["kind"], sorted(found["nodes"])) == ("violation", ["a", "b"])
    assert [line["finding"]["kind"] for line in lines if "finding" in line][:1] == ["violation"]


def test_a_signal_ends_it(identity: Path, nodes: tuple[Node, Node], tmp_path: Path) -> None:
    """Well before its time, as the role stops it."""
    nodes[0].status = 503
    process = start(identity, tmp_path, f"--node=a={nodes[0].address}", seconds=60)
    out = tmp_path / "samples.jsonl"
    while process.poll() is None and not (out.exists() and '"node"' in out.read_text()):
        time.sleep(0.05)
    process.terminate()
    code, lines, _ = ended(process, tmp_path)
    assert (code, lines[-1]["end"]["reason"]) == (0, "signal")
    assert "lease" not in lines[1]


def test_wrong_arguments_are_named(identity: Path, tmp_path: Path) -> None:
    """A node without an address, a certificate that is not there."""
    code, _, error = run(identity, tmp_path, "--node=a")
    assert code == 2
    assert "'a' is not NAME=ADDRESS" in error
    code, _, error = run(identity, tmp_path, "--node=a=127.0.0.1", "--cert", str(tmp_path / "missing.crt"))
    assert code == 2
    assert "sampler: " in error
