"""As much of etcd's v3 API, through its JSON gateway, as a witness needs."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .decision import Compare, Delete, Key, Put, View

Json = dict[str, Any]
# Texts of etcd's errors (api/v3rpc/rpctypes) after which a new token helps: a simple token ends after five minutes.
STALE_TOKEN = ("invalid auth token", "revision of auth store is old", "revision in header is old", "user name is empty")
# All members are used this often, in seconds: none shall have to begin with a new token when it is needed.
REFRESH = 60
# A token has etcd's index in it. One that is ahead of etcd's, because etcd was begun anew, gets no answer until etcd
# has come as far. So a member that has not answered for so long, in seconds, is asked for a new one.
SILENCE = 10
HEDGE_DELAY = 0.2


class EtcdError(Exception):
    """A question that got no answer, or a refusal; the text says which."""


def encode(text: str) -> str:
    """Return a key or value as the gateway wants it."""
    return base64.b64encode(text.encode()).decode()


def read_key(answer: Json) -> Key | None:
    """Return the key in the answer to one range request."""
    found = answer.get("response_range", {}).get("kvs", [])
    if not found:
        return None
    value = base64.b64decode(found[0].get("value", "")).decode(errors="replace")
    return Key(value, int(found[0]["create_revision"]), int(found[0]["mod_revision"]))


class Endpoint:
    """One member of etcd: a connection and a token that are kept, one question at a time."""

    def __init__(self, url: str, tls: ssl.SSLContext, user: str, password_file: Path, timeout: float) -> None:
        """Speak to ``url`` as ``user``, waiting ``timeout`` seconds at each step."""
        address = urlsplit(url)
        self.url = url
        self.user = user
        self.password_file = password_file
        self.token = ""
        self.answered = 0.0
        self.lock = threading.Lock()
        self.connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, timeout=timeout, context=tls
        )

    def post(self, path: str, body: Json) -> Json:
        """Ask once."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": self.token} if self.token else {})
        try:
            self.connection.request("POST", f"/v3/{path}", json.dumps(body), headers)
            response = self.connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            # Whatever is left on the connection belongs to nobody.
            self.connection.close()
            raise EtcdError(f"{self.url}: {str(error) or type(error).__name__}") from error
        if not isinstance(answer, dict) or response.status != http.client.OK or "error" in answer:
            # Version 3.4 says it twice, 3.5 in its message only.
            text = answer.get("message") if isinstance(answer, dict) else answer
            raise EtcdError(f"{self.url}: {text}")
        self.answered = time.monotonic()
        return answer

    def call(self, path: str, body: Json) -> Json:
        """Ask, with a new token where the old one has ended.

        Raises:
            EtcdError: no answer, or a refusal.
        """
        with self.lock:
            if self.token:
                try:
                    return self.post(path, body)
                except EtcdError as error:
                    if not any(text in str(error) for text in STALE_TOKEN):
                        if time.monotonic() - self.answered >= SILENCE:
                            self.token = ""
                        raise
            self.token = ""
            password = self.password_file.read_text("utf-8").strip()
            self.token = str(self.post("auth/authenticate", {"name": self.user, "password": password})["token"])
            return self.post(path, body)


class Etcd:
    """All members of etcd, of which the first that answers counts."""

    def __init__(self, endpoints: list[Endpoint], paths: Mapping[str, str], patience: float) -> None:
        """Use ``endpoints``, the nearest first, for the keys at ``paths``; wait ``patience`` seconds for an answer."""
        self.endpoints = endpoints
        self.paths = paths
        self.patience = patience
        self.refreshed = -float(REFRESH)
        # One question to a member at a time: one that does not answer occupies its own place only.
        self.pools = {one.url: ThreadPoolExecutor(1) for one in endpoints}
        self.asked: dict[str, Future[Json]] = {}

    def ask(self, path: str, body: Json) -> Json:
        """Ask the member that answered last and, when it hesitates, the others too; take the first answer.

        Only for what may be asked twice.

        Raises:
            EtcdError: nobody answered in time.
        """
        now = time.monotonic()
        free = [one for one in self.endpoints if one.url not in self.asked or self.asked[one.url].done()]
        stages = [(free[:1], HEDGE_DELAY), (free[1:], self.patience)]
        if now - self.refreshed >= REFRESH:
            stages, self.refreshed = [(free, self.patience)], now
        errors: list[str] = []
        open_questions: dict[Future[Json], Endpoint] = {}
        for members, patience in stages:
            for one in members:
                self.asked[one.url] = self.pools[one.url].submit(one.call, path, body)
                open_questions[self.asked[one.url]] = one
            answer = self.first(open_questions, now + patience, errors)
            if answer is not None:
                return answer
        raise EtcdError("; ".join(errors) or "no member answered in time")

    def first(self, questions: dict[Future[Json], Endpoint], until: float, errors: list[str]) -> Json | None:
        """Return the first answer that comes before ``until``, and ask who gave it first from now on."""
        while questions:
            done, _ = wait(questions, max(until - time.monotonic(), 0), FIRST_COMPLETED)
            if not done:
                return None
            for future in done:
                one = questions.pop(future)
                try:
                    answer = future.result()
                except (EtcdError, OSError) as error:
                    errors.append(str(error))
                    continue
                self.endpoints.remove(one)
                self.endpoints.insert(0, one)
                return answer
        return None

    def view(self) -> View:
        """Read all keys at one revision; a majority has to stand behind the answer. Raises EtcdError."""
        reading = [{"request_range": {"key": encode(self.paths[name])}} for name in View.__dataclass_fields__]
        responses = self.ask("kv/txn", {"success": reading})["responses"]
        return View(**{name: read_key(one) for name, one in zip(View.__dataclass_fields__, responses, strict=True)})

    def lease(self, seconds: int) -> str:
        """Return the id of a new lease. Raises EtcdError."""
        return str(self.ask("lease/grant", {"TTL": seconds})["ID"])

    def change(self, compares: Iterable[Compare], changes: Iterable[Delete | Put], lease: str) -> bool:
        """Carry out ``changes`` if all of ``compares`` hold; say whether they did.

        When members hesitate, the same transaction may reach etcd twice. Whoever uses it compares what it changes, so
        that it comes true once at most; the answer may still be that to the second. Raises EtcdError.
        """
        return bool(self.ask("kv/txn", transaction(self.paths, compares, changes, lease)).get("succeeded"))


def transaction(
    paths: Mapping[str, str], compares: Iterable[Compare], changes: Iterable[Delete | Put], lease: str
) -> Json:
    """Return a transaction in the form of the gateway; passing keys hang on ``lease``."""
    operations: list[Json] = []
    for change in changes:
        key = encode(paths[change.key])
        if isinstance(change, Delete):
            operations.append({"request_delete_range": {"key": key}})
        else:
            hanging = {"lease": lease} if change.passing else {}
            operations.append({"request_put": {"key": key, "value": encode(change.value), **hanging}})
    conditions = [
        {"key": encode(paths[one.key]), "target": "MOD", "result": "EQUAL", "mod_revision": str(one.modified)}
        for one in compares
    ]
    return {"compare": conditions, "success": operations}
