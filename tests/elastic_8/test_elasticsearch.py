"""Role elasticsearch with Elasticsearch 8.19: what it configures, who may do what, and that no line is lost."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.acceptance import lab
from tests.acceptance.elastic import MONITORING, ask, password
from tests.acceptance.test_repair import changed

VERSION = "8.19.21"
UNIT = "elasticsearch.service"
MEMBERS = lab.group("elasticsearch")
# Where Filebeat writes, and its first index.
PLACE = "filebeat-7.17.29"
INDEX = f"{PLACE}-000001"
LOG = "/var/log/nginx/upstream.log"
AUTOCONFIGURED = {
    "autoconfiguration.password_hash",
    "xpack.security.http.ssl.keystore.secure_password",
    "xpack.security.transport.ssl.keystore.secure_password",
    "xpack.security.transport.ssl.truststore.secure_password",
}
SCENARIO = ("molecule/elastic_8/converge.yml", "--limit", "elasticsearch", "-e", "@molecule/elastic_8/vars/main.yml")


def converge(*arguments: str) -> int:
    """Run the scenario's playbook, which has to succeed, and return how many tasks changed something."""
    done = lab.playbook(*SCENARIO, "--tags", "elasticsearch", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return sum(map(int, re.findall(r"changed=(\d+)", done.stdout)))


def started() -> dict[str, str]:
    """Return when each member's service last changed its state."""
    return {host: changed(host, UNIT) for host in MEMBERS}


def is_whole() -> bool:
    """Say whether all members are there, and all copies of all shards."""
    health = ask("GET", "/_cluster/health", user="elastic").body
    if not isinstance(health, dict):
        return False
    return (health.get("status"), health.get("number_of_nodes")) == ("green", len(MEMBERS))


def master() -> str:
    """Return the elected master."""
    name: str = ask("GET", "/_cat/master?format=json", user="elastic").body[0]["node"]
    return name


def keystore(host: str) -> set[str]:
    """Return the names of the keystore's entries."""
    tool = "/usr/share/elasticsearch/bin/elasticsearch-keystore"
    return set(lab.on(host).check_output(f"ES_PATH_CONF=/etc/elasticsearch {tool} list").split())


@pytest.fixture(scope="module", autouse=True)
def place() -> None:
    """Have a place for Filebeat's events, as its own set-up makes it, by the user for that."""
    fields = {"properties": {"url": {"properties": {"original": {"type": "keyword"}}}}}
    template = {"settings": {"number_of_replicas": 1}, "mappings": fields}
    body = {"index_patterns": [f"{PLACE}-*"], "template": template}
    for path, content in ((f"_index_template/{PLACE}", body), (INDEX, {"aliases": {PLACE: {"is_write_index": True}}})):
        made = ask("PUT", f"/{path}", content, user="filebeat_setup")
        assert made.status == 200, made.body
    lab.on(MONITORING).check_output(f"mkdir -p {LOG.rpartition('/')[0]}; touch {LOG}; chgrp adm {LOG}")


@pytest.fixture
def rolled_over() -> None:
    """Have two indices under one name, as after a roll-over: the second is written."""
    for name, written in (("filebeat-written-1", False), ("filebeat-written-2", True)):
        body = {"aliases": {"filebeat-written": {"is_write_index": written}}, "settings": {"number_of_replicas": 0}}
        made = ask("PUT", f"/{name}", body, user="elastic")
        assert made.status == 200, made.body


LINE = "main to: 127.0.0.1:8000 [GET /$N HTTP/1.1] upstream_response_time 0.001 msec 1.000 request_time 0.001"
LINES = f'while :; do N=$(date +%s%N); echo "{LINE}" >> {LOG}; sleep 0.05; done'


@contextmanager
def lines() -> Iterator[None]:
    """Have nginx's log of its upstream grow by nearly twenty lines a second, each with a request of its own."""
    lab.run(MONITORING, "sh", "-c", "cat > /root/lines", stdin=LINES)
    lab.on(MONITORING).check_output("systemd-run --quiet --unit=lines sh /root/lines")
    try:
        yield
    finally:
        lab.on(MONITORING).check_output("systemctl stop lines")


def events() -> tuple[int, int]:
    """Return how many events there are, and how many different requests they are of."""
    ask("POST", f"/{PLACE}/_refresh", user="elastic")
    different = {"different": {"cardinality": {"field": "url.original", "precision_threshold": 40000}}}
    query = {"exists": {"field": "url.original"}}
    search = {"size": 0, "track_total_hits": True, "query": query, "aggs": different}
    found = ask("POST", f"/{PLACE}/_search", search).body
    if "hits" not in found:
        return 0, 0
    return found["hits"]["total"]["value"], found["aggregations"]["different"]["value"]


def written() -> int:
    """Return how many lines the log has."""
    return int(lab.on(MONITORING).check_output(f"wc -l < {LOG}"))


def assert_complete(tell: Callable[[str], None]) -> None:
    """Check that each line that was written is there, once."""
    expected = written()
    took = lab.wait_until("every line", lambda: events()[0] >= expected, 120)
    assert events() == (expected, expected)
    tell(f"{expected} lines, complete {took:.1f} s after the last")


def add(user: str) -> int:
    """Have a user add a document, and return the status of the answer."""
    return ask("POST", f"/{PLACE}/_doc", {"n": 1}, user=user).status


def test_it_is_this_version_with_a_basic_licence() -> None:
    """The node's own words."""
    assert ask("GET", "/", user="reader").body["version"]["number"] == VERSION
    assert ask("GET", "/_license", user="elastic").body["license"]["type"] == "basic"
    lab.wait_until("all members and shards", is_whole, 60)


def test_strangers_are_refused() -> None:
    """Neither without TLS, nor without a certificate of the site's authority, nor without the right password."""
    assert ask("GET", "/", user="", tls=False).status == 0
    assert ask("GET", "/", certificate=False).status == 0
    assert ask("GET", "/", user="").status == 401
    assert ask("GET", "/", wrong_password=True).status == 401


@pytest.mark.parametrize("port", [9200, 9300])
def test_both_layers_want_a_certificate(port: int) -> None:
    """Clients and nodes; the connection is ended during the handshake, or once something is sent."""
    address = f"{lab.address(MONITORING)}:{port}"
    connect = f"openssl s_client -connect {address} -CAfile /etc/ssl/site/ca.crt -verify_return_error -ign_eof"
    own = "-cert /etc/ssl/site/host.crt -key /etc/ssl/site/host.key"
    refused = lab.run(MONITORING, "sh", "-c", f"timeout 10 {connect}", stdin="GET / HTTP/1.0\r\n\r\n")
    assert "certificate required" in refused.stderr
    taken = lab.run(MONITORING, "sh", "-c", f"timeout 10 {connect} {own}", stdin="GET / HTTP/1.0\r\n\r\n")
    assert "Verify return code: 0" in taken.stdout
    assert "certificate required" not in taken.stderr


def test_nothing_is_left_of_the_package_s_own_security() -> None:
    """It had put its passwords into the keystore and itself into the configuration."""
    for host in MEMBERS:
        assert not keystore(host) & AUTOCONFIGURED
        assert "bootstrap.password" in keystore(host)
        assert ".p12" not in lab.on(host).file("/etc/elasticsearch/elasticsearch.yml").content_string


def test_writer_adds_and_nothing_else() -> None:
    """Version 8 has a privilege for exactly that: what is there cannot be replaced."""
    assert add("filebeat_writer") == 201
    assert ask("PUT", f"/{PLACE}/_doc/same", {"n": 1}, user="elastic").status == 201
    refused: list[tuple[str, str, object]] = [
        ("PUT", f"/{PLACE}/_doc/same", {"n": 2}),
        ("GET", f"/{PLACE}/_doc/same", None),
        ("POST", "/filebeat-*/_search", None),
        ("DELETE", f"/{INDEX}/_doc/same", None),
        ("DELETE", f"/{INDEX}", None),
        ("PUT", "/somewhere-else", None),
        ("GET", "/_security/user", None),
        ("PUT", "/_cluster/settings", {"persistent": {"cluster.routing.allocation.enable": "none"}}),
    ]
    answers = {wish[:2]: ask(*wish, user="filebeat_writer").status for wish in refused}
    assert set(answers.values()) == {403}, answers


def test_setup_and_reader_have_their_rights() -> None:
    """The one loads templates, the other searches, and neither does the other's."""
    template = {"index_patterns": ["filebeat-other-*"], "template": {"settings": {"number_of_replicas": 0}}}
    assert ask("PUT", "/_index_template/filebeat-other", template, user="filebeat_setup").status == 200
    assert ask("PUT", "/_index_template/filebeat-other", template, user="reader").status == 403
    assert ask("POST", "/filebeat-*/_search", user="reader").status == 200
    assert ask("POST", "/filebeat-*/_search", user="filebeat_setup").status == 403
    assert add("reader") == 403


def test_index_of_no_template_does_not_come_into_being_by_being_written_to() -> None:
    """Only the system's own do, which begin with a dot."""
    assert ask("POST", "/logs-of-mine/_doc", {"n": 1}, user="elastic").status == 404


def test_kibana_s_token_signs_in() -> None:
    """What role kibana does: a token of Kibana's service account, which Elasticsearch then knows."""
    path = "/_security/service/elastic/kibana/credential/token/test"
    made = ask("POST", path, user="elastic")
    assert made.status == 200, made.body
    tls = ("--cacert", "/etc/ssl/site/ca.crt", "--cert", "/etc/ssl/site/host.crt", "--key", "/etc/ssl/site/host.key")
    url = f"https://{lab.address(MONITORING)}:9200/_security/_authenticate"
    # Not on the command line, which every user of the host can read.
    header = f'header = "Authorization: Bearer {made.body["token"]["value"]}"\n'
    who = lab.run(MONITORING, "curl", "--silent", "--fail", *tls, "--config", "-", url, stdin=header)
    assert json.loads(who.stdout)["username"] == "elastic/kibana", who.returncode
    assert ask("DELETE", path, user="elastic").status == 200


@pytest.mark.usefixtures("rolled_over")
def test_disk_guard_does_its_work_with_its_rights(tell: Callable[[str], None]) -> None:
    """Above its marks it deletes what is no longer written and has writes refused, which costs no line."""
    # The others leave it to the elected master's.
    host = master()
    unit = lab.on(host).check_output("systemctl show --value --property=ExecStart elasticsearch-disk-guard")
    command = re.search(r"argv\[\]=(.*?) ;", unit)
    assert command is not None
    lab.on(host).check_output("systemctl stop elasticsearch-disk-guard.timer")
    with lines():
        lab.wait_until("lines to arrive", lambda: events()[0] > 100, 60)
        said = lab.run(host, "sh", "-c", re.sub(r"--high \d+ --stop \d+", "--high 0 --stop 0", command[1]))
        assert "deleted the oldest index filebeat-written-1 " in said.stdout, said
        assert "writes are refused, senders wait" in said.stdout, said
        assert add("filebeat_writer") == 403
        time.sleep(5)
        again = lab.run(host, "sh", "-c", command[1])
        assert again.returncode == 0, again
        assert "writes are taken again" in again.stdout
    assert_complete(tell)
    assert ask("GET", "/filebeat-written-1", user="elastic").status == 404
    lab.on(host).check_output("systemctl start elasticsearch-disk-guard.timer")


def test_killed_node_costs_no_line(tell: Callable[[str], None]) -> None:
    """It starts by itself, and Filebeat sends again what was not confirmed."""
    with lines():
        lab.wait_until("lines to arrive", lambda: events()[0] > 100, 60)
        lab.on(MONITORING).check_output(f"systemctl kill --signal=SIGKILL {UNIT}")
        lab.wait_until("all members and shards", is_whole, 180)
    assert_complete(tell)


@pytest.mark.parametrize("elected", [True, False])
def test_lost_member_costs_no_line(*, elected: bool, tell: Callable[[str], None]) -> None:
    """Its machine is off, be it the elected master's or another: two are a majority, and have every line."""
    # Filebeat's own host stays.
    if master() == MONITORING:
        lab.on(MONITORING).check_output(f"systemctl restart {UNIT}")
    lab.wait_until("all members and shards", is_whole, 180)
    host = next(one for one in MEMBERS if one != MONITORING and (one == master()) == elected)
    with lines():
        lab.wait_until("lines to arrive", lambda: events()[0] > 100, 60)
        with lab.switched_off(host):
            before = written()
            took = lab.wait_until("later lines", lambda: events()[0] > before, 180)
            time.sleep(20)
        lab.wait_until("all members and shards", is_whole, 300)
    tell(f"later lines were there {took:.1f} s after the loss")
    assert_complete(tell)


def test_changed_setting_restarts_each_member_once(tell: Callable[[str], None]) -> None:
    """One by one; no line is lost meanwhile, it is what they then run with, and the next run changes nothing."""
    before = started()
    setting = ("-e", "elasticsearch_heap_mb=520")
    assert converge("--check", *setting) > 0
    assert started() == before
    with lines():
        converge(*setting)
    after = started()
    assert all(after[host] != before[host] for host in MEMBERS)
    lab.wait_until("all members and shards", is_whole, 60)
    nodes = ask("GET", "/_nodes/jvm", user="elastic").body["nodes"].values()
    assert [node["jvm"]["mem"]["heap_max_in_bytes"] for node in nodes] == [520 * 1024 * 1024] * len(MEMBERS)
    assert_complete(tell)
    assert converge(*setting) == 0
    assert started() == after


def test_password_of_the_administrator_is_changed_with_the_former_one() -> None:
    """Without it, the variable to blame is named."""
    old, new = password("elasticsearch_password"), "x" * 20
    refused = lab.playbook(*SCENARIO, "--tags", "elasticsearch", "-e", f"elasticsearch_password={new}")
    assert refused.returncode != 0
    assert "elasticsearch_password is not the password of elastic" in " ".join(refused.stdout.split())
    converge("-e", f"elasticsearch_password={new}", "-e", f"elasticsearch_password_former={old}")
    assert ask("GET", "/", user="elastic").status == 401
    converge("-e", f"elasticsearch_password_former={new}")
    assert ask("GET", "/", user="elastic").status == 200
    assert converge() == 0


def test_renewed_certificate_is_served_without_a_restart() -> None:
    """Elasticsearch looks for changed files by itself."""
    show = (
        f"openssl s_client -connect {lab.address(MONITORING)}:9200 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )
    before, since = lab.on(MONITORING).check_output(show), started()
    lab.on(MONITORING).check_output("rm /etc/ssl/site/host.crt")
    done = lab.playbook(*SCENARIO)
    assert done.returncode == 0, done.stdout
    lab.wait_until("the new certificate", lambda: lab.on(MONITORING).check_output(show) != before, 30)
    assert started() == since
