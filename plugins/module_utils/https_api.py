# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""The client with which modules call the JSON APIs of etcd, Elasticsearch and Kibana."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
Headers = Mapping[str, str]

# Options of modules, for their argument_spec: whom to trust, and who calls.
CA_OPTIONS: Json = {"ca_file": {"type": "path", "required": True}}
TLS_OPTIONS: Json = CA_OPTIONS | {
    "cert_file": {"type": "path", "required": True},
    "key_file": {"type": "path", "required": True},
}

# Fragments of OpenSSL's reasons for which the other side turns our certificate down.
OUR_CERTIFICATE = ("alert", "certificate required")


class ApiError(Exception):
    """A call was refused or not answered; the text says in one line which and why, without secrets."""

    def __init__(self, text: str, *, status: int = 0, body: bytes = b"", tls: bool = False) -> None:
        """Carry the status and body of a refusal (0 and none without an answer), or that TLS did not come about."""
        super().__init__(text)
        self.status = status
        self.body = body
        self.tls = tls


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header that signs a user in with a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    """Return the header that signs in with a token."""
    return {"Authorization": f"Bearer {token}"}


def reason(body: bytes) -> str:
    """Return why a server refuses: etcd's error, Elasticsearch's reason, Kibana's message, or its text, in a line."""
    text: object = body.decode(errors="replace")
    try:
        answer = json.loads(body)
        error = answer.get("error")
        text = error.get("reason") if isinstance(error, dict) else answer.get("message") or error
    except (ValueError, AttributeError):
        pass
    return " ".join(str(text or "no reason given").split())[:300]


class Api:
    """A server's API over verified TLS. Nothing goes through a proxy, and no redirect is followed."""

    def __init__(
        self,
        url: str,
        files: Mapping[str, Any],
        *,
        headers: Headers | None = None,
        timeout: float = 30,
        where: str = "",
    ) -> None:
        """Call ``url`` with the trust, and the certificate if any, of ``files``: a module's TLS_OPTIONS or CA_OPTIONS.

        ``headers`` go with every call. ``where`` is the variable to look at for the files, if it is not these options.

        Raises:
            ApiError: the URL is not https, or a file cannot be used.
        """
        if not url.startswith("https://"):
            raise ApiError(f"{url} must start with https://, so that no password travels in clear.")
        self.url = url.rstrip("/")
        self.headers = headers or {}
        self.timeout = timeout
        self.names = {option: f"{where or option} {files[option]}" for option in TLS_OPTIONS if files.get(option)}
        used = self.names["ca_file"]
        try:
            self.context = ssl.create_default_context(cafile=files["ca_file"])
            if "cert_file" in self.names:
                used = f"{self.names['cert_file']} with {self.names['key_file']}"
                self.context.load_cert_chain(files["cert_file"], files["key_file"])
        except OSError as error:
            raise ApiError(f"{used} cannot be used: {error}", tls=True) from error

    def send(self, method: str, path: str, content: bytes | None = None, headers: Headers | None = None) -> bytes:
        """Send a request and return the body of the answer.

        Raises:
            ApiError: the call was refused, or there was no answer.
        """
        address = urlsplit(self.url)
        try:
            # Not urllib's request: that reads proxies from the environment, and takes passwords along when redirected.
            with closing(
                HTTPSConnection(address.hostname or "", address.port or 443, timeout=self.timeout, context=self.context)
            ) as connection:
                connection.request(method, address.path + path, content, {**self.headers, **(headers or {})})
                answer = connection.getresponse()
                status, body = answer.status, answer.read()
        except ssl.SSLCertVerificationError as error:
            text = f"the certificate of {self.url} is refused ({error.verify_message}) by {self.names['ca_file']}"
            raise ApiError(text, tls=True) from error
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, ssl.SSLError) and any(word in str(error).lower() for word in OUR_CERTIFICATE):
                ours = self.names.get("cert_file", "of which there is none")
                why = f"expired, or of an authority that it does not know? {error.reason}"
                raise ApiError(f"{self.url} refuses our certificate, {ours} ({why})", tls=True) from error
            raise ApiError(f"{self.url} did not answer: {str(error) or type(error).__name__}") from error
        if status // 100 != 2:  # noqa: PLR2004 - the class of all successes
            raise ApiError(f"{method} {self.url}{path}: {status} {reason(body)}", status=status, body=body)
        return body

    def call(self, method: str, path: str, content: Json | None = None, headers: Headers | None = None) -> Json:
        """Send JSON, if any, and return the JSON of the answer.

        Raises:
            ApiError: the call was refused, or there was no answer that is a JSON object.
        """
        data = None
        if content is not None:
            data = json.dumps(content).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        body = self.send(method, path, data, headers)
        try:
            return dict(json.loads(body))
        except (ValueError, TypeError) as error:
            raise ApiError(f"{method} {self.url}{path}: the answer is no JSON object") from error
