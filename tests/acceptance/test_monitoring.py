"""What arrives in Elasticsearch, who may do what there, and the page that shows it."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
import time
from collections.abc import Callable
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.sync_api import Browser

from tests.acceptance import elastic, lab, pages
from tests.acceptance.elastic import MONITORING, SHIPPERS, all_of, ask, count, search
from tests.acceptance.test_repair import changed

VISITS = 600


def since(moment: dt.datetime) -> dict[str, dict[str, dict[str, str]]]:
    """Return a clause for events after a moment."""
    return {"range": {"@timestamp": {"gte": moment.isoformat()}}}


@pytest.fixture(scope="module")
def visitors() -> dt.datetime:
    """Send visitors from around the world, wait for their events, and return when they began to come."""
    elastic.wait_until_complete()
    begin = dt.datetime.now(dt.UTC)
    traffic = lab.playbook("playbooks/demo-traffic.yml", "-e", f"demo_requests={VISITS}", "-e", "demo_rate=40")
    assert traffic.returncode == 0, traffic.stdout
    elastic.wait_until_complete()
    return begin


@pytest.mark.usefixtures("visitors")
def test_every_line_is_parsed() -> None:
    """No event says that its line was not understood."""
    failed = search({"exists": {"field": "error.message"}}, size=3)["hits"]["hits"]
    assert failed == []


def test_visitors_have_a_place(visitors: dt.datetime) -> None:
    """More than nine in ten of the public addresses are located, on every continent but one."""
    public = all_of(
        {"term": {"event.dataset": "nginx.access"}},
        since(visitors),
        without=[{"term": {"source.ip": lab.address(MONITORING).rpartition(".")[0] + ".0/24"}}],
    )
    located = all_of(public, {"exists": {"field": "source.geo.location"}})
    assert count(public) > VISITS
    assert count(located) > 0.9 * count(public)
    continents = {"terms": {"field": "source.geo.continent_name", "size": 10}}
    found = search(public, size=0, aggs={"continents": continents})["aggregations"]["continents"]["buckets"]
    assert len(found) == 6


def test_requests_alternate_between_the_gunicorns(visitors: dt.datetime) -> None:
    """Both answer about as often, and each event says how long it took."""
    events = all_of({"term": {"event.dataset": "nginx.upstream"}}, since(visitors))
    backends = {
        "terms": {"field": "nginx.upstream.backend"},
        "aggs": {
            "upstream": {"max": {"field": "nginx.upstream.response_time"}},
            "request": {"max": {"field": "nginx.upstream.request_time"}},
        },
    }
    buckets = search(events, size=0, aggs={"backends": backends})["aggregations"]["backends"]["buckets"]
    counts = {bucket["key"]: bucket["doc_count"] for bucket in buckets}
    assert set(counts) == {"127.0.0.1:8000", "127.0.0.1:8001"}
    assert min(counts.values()) > 0.8 * max(counts.values())
    for bucket in buckets:
        # nginx takes both from a clock of milliseconds, at two moments.
        assert 0 < bucket["upstream"]["value"] <= bucket["request"]["value"] + 0.0015 < 30


def test_answers_have_their_codes(visitors: dt.datetime) -> None:
    """The demo's pages, votes, missing pages and errors are told apart by status."""
    codes = {"terms": {"field": "http.response.status_code", "size": 20}}
    events = all_of({"term": {"event.dataset": "nginx.access"}}, since(visitors))
    buckets = search(events, size=0, aggs={"codes": codes})["aggregations"]["codes"]["buckets"]
    assert {bucket["key"] for bucket in buckets} >= {200, 302, 404, 500}


@pytest.mark.parametrize("host", SHIPPERS)
def test_hosts_are_told_apart(host: str) -> None:
    """Each VM's events carry its name."""
    assert count({"term": {"host.name": host}}) > 0


def test_errors_of_the_database_carry_their_sqlstate() -> None:
    """So do database and user."""
    primary = lab.primary()
    psql = ["psql", "--no-psqlrc", "--username=postgres", "--dbname=polls"]
    lab.run(primary, *psql, stdin="select 1/0; select 'ö' from nobody;")
    for state, word in (("22012", "division by zero"), ("42P01", "nobody")):
        query = all_of({"term": {"postgresql.log.sql_state_code": state}}, {"term": {"host.name": primary}})
        elastic.wait_for(query, 30)
        event = search(query, size=1, sort=[{"@timestamp": "desc"}])["hits"]["hits"][0]["_source"]
        assert event["user"]["name"] == "postgres"
        assert event["postgresql"]["log"]["database"] == "polls"
        assert event["log"]["level"] == "ERROR"
        assert word in event["message"]


def test_a_statement_of_any_size_stops_nobodys_logs() -> None:
    """Of one that is too long an event has the beginning, and says so; one of many lines is whole."""
    primary = lab.primary()
    started = changed(MONITORING, "elasticsearch.service")
    cut = all_of({"term": {"log.flags": "truncated"}}, {"term": {"host.name": primary}})
    before = count(cut)
    lines = [f"-- {number} of {time.monotonic_ns()}" for number in range(700)]
    for text in (*["x" * 8_000_000] * 3, "\n".join(lines)):
        lab.run(primary, "psql", "--no-psqlrc", "--username=postgres", stdin=f'select 1/0 as "\n{text}\n";')
    elastic.wait_until_complete()
    assert changed(MONITORING, "elasticsearch.service") == started
    assert count(cut) == before + 3
    query = all_of({"term": {"host.name": primary}}, {"term": {"log.level": "STATEMENT"}})
    newest = search(query, size=4, sort=[{"@timestamp": "desc"}])["hits"]["hits"]
    assert any(all(line in event["_source"]["message"] for line in lines) for event in newest)


def test_a_request_is_soon_searchable(tell: Callable[[str], None]) -> None:
    """From the answer to the event; the time is printed, it is a matter of Filebeat's and Elasticsearch's rhythms."""
    mark = f"/polls/?mark={time.monotonic_ns()}"
    lab.run(lab.group("app")[0], "python3", "-c", FETCH, lab.url(mark))
    query = {"term": {"url.original": mark}}
    took = lab.wait_until("the request among the events", lambda: bool(search(query)["hits"]["hits"]), 60)
    tell(f"searchable {took:.1f} s after the answer")


FETCH = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile="/etc/ssl/site/ca.crt")
urllib.request.urlopen(sys.argv[1], context=context).read()
"""


def test_plain_and_anonymous_requests_are_refused() -> None:
    """Neither without TLS, nor without a certificate of the site's CA, nor without a password."""
    source = lab.group("app")[0]
    assert ask("GET", "/", source=source, user="reader").status == 200
    assert ask("GET", "/", source=source, user="", tls=False).status == 0
    assert ask("GET", "/", source=source, user="reader", certificate=False).status == 0
    assert ask("GET", "/", source=source, user="").status == 401
    assert ask("GET", "/", source=source, user="reader", wrong_password=True).status == 401
    assert ask("GET", "/", source=source, user="elastic", wrong_password=True).status == 401


@pytest.mark.usefixtures("visitors")
def test_filebeat_can_write_and_nothing_else() -> None:
    """Its user neither reads nor deletes, and changes nothing but by adding events."""
    event = search({"term": {"event.dataset": "nginx.access"}}, size=1)["hits"]["hits"][0]
    index, kind, name = event["_index"], event.get("_type", "_doc"), event["_id"]
    refused: list[tuple[str, str, object]] = [
        ("POST", "/filebeat-*/_search", None),
        ("GET", f"/{index}/{kind}/{name}", None),
        ("DELETE", f"/{index}", None),
        ("DELETE", f"/{index}/{kind}/{name}", None),
        ("POST", f"/{index}/_delete_by_query", {"query": {"match_all": {}}}),
        ("PUT", "/somewhere-else", None),
        ("GET", "/_security/user", None),
        ("PUT", "/_ingest/pipeline/theirs", {"processors": []}),
        ("PUT", "/_cluster/settings", {"transient": {"cluster.routing.allocation.enable": "none"}}),
    ]
    answers = {wish[:2]: ask(*wish, user="filebeat_writer", source=SHIPPERS[0]).status for wish in refused}
    assert set(answers.values()) == {403}, answers
    assert count({"ids": {"values": [name]}}) == 1


@pytest.mark.usefixtures("visitors")
def test_old_events_will_be_removed() -> None:
    """Every index of events is under the lifecycle policy, and none waits for a node that does not exist."""
    explained = ask("GET", "/filebeat-*/_ilm/explain", user="elastic").body["indices"]
    assert {(index["managed"], index["policy"]) for index in explained.values()} == {(True, "logs")}
    assert not [index for index in explained.values() if index.get("step") == "ERROR"]
    assert ask("GET", "/_cluster/health/filebeat-*", user="elastic").body["status"] == "green"


@pytest.mark.usefixtures("visitors")
def test_dashboards_are_drawn(chromium: Browser) -> None:
    """One page that needs no network and fits, a picture for each panel, and the map's table adds up to its events."""
    observe = lab.playbook("playbooks/observe.yml")
    assert observe.returncode == 0, observe.stdout
    folder = lab.DIRECTORY / "observe"
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]+"', page) == []
    pages.assert_file_is_whole(chromium, folder / "index.html")
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) >= 5
    assert {picture.read_bytes()[:8] for picture in pictures} == {b"\x89PNG\r\n\x1a\n"}
    with (folder / "access-map.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert sum(int(row["count"]) for row in rows) >= 0.9 * VISITS
    assert all(-90 <= float(row["latitude"]) <= 90 and -180 <= float(row["longitude"]) <= 180 for row in rows)
    assert 'href="metrics/index.html"' in page
    for host in ("", *lab.hosts()):
        metrics = folder / "metrics" / host / "index.html"
        panels = re.findall(r'data-panel="([^"]+)">(.*?)</script>', metrics.read_text(encoding="utf-8"))
        # The kernel may not say how long anything waited.
        assert {name for name, spec in panels if "Nothing to show" in spec} <= {"gunicorns", "units", "pressure"}, (
            metrics
        )
        if host in {"", MONITORING}:
            pages.assert_file_is_whole(chromium, metrics)


@pytest.mark.parametrize(
    ("role", "variable", "value"),
    [
        ("elasticsearch", "elasticsearch_heap_mb", 10_000_000),
        ("elasticsearch", "elasticsearch_password", "x" * 40),
        ("filebeat", "filebeat_writer_password", "x" * 40),
    ],
)
def test_wrong_input_is_refused(role: str, variable: str, value: object) -> None:
    """In one line that names the role and the variable; nothing is changed, and events go on arriving."""
    run = lab.playbook(
        "playbooks/monitoring.yml", "--tags", f"elastic_packages,{role}", "-e", json.dumps({variable: value})
    )
    assert run.returncode != 0
    assert re.search(rf"{role}: .*{variable}", " ".join((run.stdout + run.stderr).split())), run.stdout
    assert not re.search(r"changed=[1-9]", run.stdout), run.stdout


def identity(*, expired: bool, foreign: bool) -> tuple[str, str]:
    """Return a certificate and its key, by the site's own authority or by itself, valid until tomorrow or yesterday."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.load_pem_x509_certificate((lab.DIRECTORY / "ca" / "ca.crt").read_bytes())
    passphrase = elastic.password("certificates_ca_passphrase").encode()
    signer = serialization.load_pem_private_key((lab.DIRECTORY / "ca" / "ca.key").read_bytes(), passphrase)
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]) if foreign else authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * day)
        .not_valid_after(now - day if expired else now + day)
        .sign(key if foreign else cast("ec.EllipticCurvePrivateKey", signer), hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem).decode(), private.decode()


@pytest.mark.parametrize("kind", ["expired", "foreign"])
def test_wrong_certificate_is_refused(kind: str) -> None:
    """In one line that names the file; Filebeat goes on with the one it has."""
    host = SHIPPERS[0]
    certificate, key = identity(expired=kind == "expired", foreign=kind == "foreign")
    lab.run(host, "cp", "--recursive", "/etc/ssl/site", "/root/wrong")
    for name, content in (("host.crt", certificate), ("host.key", key)):
        lab.run(host, "sh", "-c", f"cat > /root/wrong/{name}", stdin=content)
    wrong = {"filebeat_tls_dir": "/root/wrong"}
    arguments = ["--limit", host, "--tags", "elastic_packages,filebeat", "-e", json.dumps(wrong)]
    run = lab.playbook("playbooks/monitoring.yml", *arguments)
    lab.run(host, "rm", "--recursive", "/root/wrong")
    assert run.returncode != 0
    said = " ".join((run.stdout + run.stderr).split())
    assert re.search(r"filebeat: \S+ refuses our certificate, filebeat_tls_dir /root/wrong/host.crt", said), run.stdout
    assert not re.search(r"changed=[1-9]", run.stdout), run.stdout
    assert lab.on(host).check_output("systemctl is-active filebeat") == "active"
