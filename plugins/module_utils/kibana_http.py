# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Calls over verified TLS, for the modules of role kibana."""

from __future__ import annotations

import base64
import json
import ssl
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 60


class ApiError(Exception):
    """A server refused or did not answer; the text says which and why, without secrets."""


def basic(user: str, password: str) -> str:
    """Return the value of an Authorization header for a user with a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Api:
    """A server's HTTP API."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        """Speak to ``url`` (which must be https) with the trust, and the client certificate if any, of ``context``."""
        if not url.startswith("https://"):
            raise ApiError(f"{url} must start with https://, so that no password travels in clear.")
        self.url = url.rstrip("/")
        self.context = context

    def call(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request and return the status and the body of the answer, whatever they are.

        Raises:
            ApiError: there is no answer.
        """
        request = Request(f"{self.url}{path}", data=body, headers=headers, method=method)  # noqa: S310 - https, checked above
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS, context=self.context) as answer:  # noqa: S310
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()
        except (URLError, OSError, HTTPException) as error:
            raise ApiError(f"{self.url} did not answer: {getattr(error, 'reason', error)}") from error


def refusal(status: int, body: bytes) -> str:
    """Return what a server says about a refused request, in a line."""
    try:
        answer: Any = json.loads(body)
        error = answer.get("error")
        reason = error.get("reason") if isinstance(error, dict) else answer.get("message") or error
    except (ValueError, AttributeError):
        reason = body.decode(errors="replace")
    return f"{status} {str(reason or 'no reason given')[:300]}"
