"""An HTTPS server on loopback that answers only what a test expects, with a client certificate where wanted."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Request:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, bytes]


@dataclass
class Server:
    """A running server: where it is, whom it trusts, what it was asked."""

    url: str
    certificate: Path
    key: Path
    requests: list[Request] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    @property
    def files(self) -> dict[str, str]:
        """The options of modules about TLS: one certificate is the authority's, the server's and the client's."""
        return {"ca_file": str(self.certificate), "cert_file": str(self.certificate), "key_file": str(self.key)}


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that is its own authority, and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "host.crt", folder / "host.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@contextmanager
def serve(folder: Path, answer: Callable[[Request], Answer], *, client_certificate: bool) -> Iterator[Server]:
    """Run a server; what ``answer`` raises, such as a failed assertion, is raised again at the end."""
    certificate, key = make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate)

    class Handler(BaseHTTPRequestHandler):
        """Hands every request to ``answer``."""

        def handle_any(self) -> None:
            """Answer a request of any method."""
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, path, query, headers, body)
            server.requests.append(request)
            try:
                status, content = answer(request)
            except BaseException as error:  # noqa: BLE001 - raised again in the test
                server.errors.append(error)
                status, content = 500, b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the base class's names

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Listener(ThreadingHTTPServer):
        """Hears out whom it does not let in: a connection that is closed at once may lose the alert on its way."""

        def finish_request(self, request: Any, client_address: Any) -> None:
            """Answer the requests of a connection, if its certificate is in order."""
            with context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as connection:
                try:
                    connection.do_handshake()
                except ssl.SSLError:
                    # Who got the alert, or was the one who sent it, may be gone already.
                    with suppress(ConnectionResetError):
                        while socket.socket.recv(connection, 4096):
                            pass
                else:
                    super().finish_request(connection, client_address)

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server = Server(f"https://127.0.0.1:{listener.server_port}", certificate, key)
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
    if server.errors:
        raise server.errors[0]
