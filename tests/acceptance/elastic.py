"""Elasticsearch as the tests see it: asked from a host that may, as any of its users."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.acceptance import lab

MONITORING = lab.group("elasticsearch")[0]
SHIPPERS = [*lab.group("app"), *lab.group("postgres")]
DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2} "

REQUEST = """
import base64, http.client, json, ssl, sys
wish = json.load(sys.stdin)
context = ssl.create_default_context(cafile="/etc/ssl/site/ca.crt")
if wish["certificate"]:
    context.load_cert_chain("/etc/ssl/site/host.crt", "/etc/ssl/site/host.key")
if wish["tls"]:
    connection = http.client.HTTPSConnection(wish["address"], 9200, context=context, timeout=30)
else:
    connection = http.client.HTTPConnection(wish["address"], 9200, timeout=30)
headers = {"Content-Type": "application/json"}
if wish["user"]:
    pair = base64.b64encode(f"{wish['user']}:{wish['password']}".encode()).decode()
    headers["Authorization"] = f"Basic {pair}"
body = None if wish["body"] is None else json.dumps(wish["body"])
try:
    connection.request(wish["method"], wish["path"], body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    print(json.dumps({"status": answer.status, "body": json.loads(text) if text.startswith(("{", "[")) else text}))
except (OSError, http.client.HTTPException) as error:
    print(json.dumps({"status": 0, "body": repr(error)}))
"""


@dataclass(frozen=True)
class Answer:
    """What Elasticsearch said; the status is 0 when there was no answer by HTTP."""

    status: int
    body: Any


def password(name: str) -> str:
    """Return one of the lab's secrets."""
    return (lab.DIRECTORY / "secrets" / name).read_text().strip()


PASSWORDS = {
    "elastic": "elasticsearch_password",
    "reader": "elasticsearch_reader_password",
    "filebeat_writer": "filebeat_writer_password",
    "filebeat_setup": "filebeat_setup_password",
}


def ask(
    method: str,
    path: str,
    body: object = None,
    *,
    user: str = "reader",
    secret: str = "",
    source: str = MONITORING,
    wrong_password: bool = False,
    certificate: bool = True,
    tls: bool = True,
) -> Answer:
    """Send one request from a host; an empty user is nobody, ``secret`` another one than the user's."""
    wish = {
        "method": method,
        "path": path,
        "body": body,
        "user": user,
        "password": "wrong" if wrong_password else password(secret or PASSWORDS[user]) if user else "",
        "address": lab.address(MONITORING),
        "certificate": certificate,
        "tls": tls,
    }
    result = lab.run(source, "python3", "-c", REQUEST, stdin=json.dumps(wish))
    assert result.returncode == 0, result.stderr
    return Answer(**json.loads(result.stdout))


def search(query: dict[str, Any], **more: object) -> dict[str, Any]:
    """Search all events; nothing is left out silently."""
    answer = ask("POST", "/filebeat-*/_search?ignore_unavailable=false", {"query": query, **more})
    assert answer.status == 200, answer.body
    assert answer.body["_shards"]["failed"] == 0, answer.body
    found: dict[str, Any] = answer.body
    return found


def all_of(*clauses: dict[str, Any], without: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return a query for events that meet every clause and none of the others."""
    return {"bool": {"filter": list(clauses), "must_not": without or []}}


def count(query: dict[str, Any]) -> int:
    """Return how many events there are, as of now: what has been written is made searchable first."""
    refreshed = ask("POST", "/filebeat-*/_refresh", user="elastic")
    assert refreshed.status == 200, refreshed.body
    answer = ask("POST", "/filebeat-*/_count", {"query": query})
    assert answer.status == 200, answer.body
    number: int = answer.body["count"]
    return number


def wait_for(query: dict[str, Any], seconds: float) -> None:
    """Wait until there is an event."""
    lab.wait_until(f"an event for {query}", lambda: count(query) > 0, seconds)


def is_up() -> bool:
    """Say whether Elasticsearch answers and has all its primary shards."""
    health = ask("GET", "/_cluster/health", user="elastic")
    return health.status == 200 and health.body["status"] in {"green", "yellow"}


@dataclass(frozen=True)
class Log:
    """One kind of log on one host: its files (rotated ones have more at the end), and what its events are called."""

    host: str
    dataset: str
    files: str
    begins: str = "^"

    @property
    def query(self) -> dict[str, Any]:
        """The query for its events."""
        return all_of({"term": {"host.name": self.host}}, {"term": {"event.dataset": self.dataset}})

    def lines(self) -> int:
        """Return the number of lines in its files that begin an event."""
        # zcat takes rotated files as they are, compressed or not.
        found = lab.run(self.host, "sh", "-c", f"zcat --force {self.files} | grep --count -E '{self.begins}'")
        return int(found.stdout)

    def difference(self) -> int:
        """Return how many lines have no event (above zero), or events that no line explains (below)."""
        # Lines first: one that arrives in between makes the difference too small for a moment, never hides a loss.
        lines = self.lines()
        return lines - count(self.query)


LOGS = [
    *(
        Log(host, dataset, files)
        for host in lab.group("app")
        for dataset, files in (
            ("nginx.access", "/var/log/nginx/access.log*"),
            ("nginx.upstream", "/var/log/nginx/upstream.log*"),
        )
    ),
    *(
        Log(host, "postgresql.log", "/var/log/postgresql/*.log* /var/log/patroni/*.log*", DATE)
        for host in lab.group("postgres")
    ),
]


def differences() -> dict[str, int]:
    """Return for each log how many lines have no event."""
    return {f"{log.host} {log.dataset}": log.difference() for log in LOGS}


def is_complete() -> bool:
    """Say whether every line of every log is an event, once."""
    return not any(differences().values())


def wait_until_caught_up(seconds: float = 120) -> float:
    """Wait until every line that is in a log now is in Elasticsearch, and return how long that took, in seconds.

    For when more lines keep coming: `wait_until_complete` then has to follow when they have stopped.
    """
    marks = {log: log.lines() for log in LOGS}
    return lab.wait_until(
        "what was in the logs in Elasticsearch",
        lambda: all(count(log.query) >= lines for log, lines in marks.items()),
        seconds,
    )


def wait_until_complete(seconds: float = 120) -> float:
    """Wait until every line is there exactly once, and return how long that took, in seconds."""
    try:
        return lab.wait_until("every line of every log in Elasticsearch exactly once", is_complete, seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; lines without an event: {differences()}") from error
