"""Prometheus sees every part of the site, and each alert rings when it has to. With faults: test_chaos.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance import lab
from tests.acceptance.elastic import SHIPPERS

MONITORING = lab.group("prometheus")[0]
CURL = ("curl", "--silent", "--show-error", "--fail", "--cacert", "/etc/ssl/site/ca.crt")
CERTIFICATE = ("--cert", "/etc/ssl/site/host.crt", "--key", "/etc/ssl/site/host.key")


def query(expression: str) -> list[dict[str, Any]]:
    """Return what Prometheus answers to a query, a series each."""
    ask = ("--get", "--data-urlencode", f"query={expression}", "https://127.0.0.1:9090/api/v1/query")
    done = lab.run(MONITORING, *CURL, *CERTIFICATE, *ask)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["data"]["result"]
    return found


def test_each_alert_rings_when_it_has_to() -> None:
    """Prometheus's own test of rules: the samples in alerts.yml, and what they make ring."""
    tests = Path(__file__).with_name("alerts.yml").read_text(encoding="utf-8")
    rules = "/etc/prometheus/site-rules.yml"
    script = f'cd "$(mktemp -d)"; cp {rules} rules.yml; cat > alerts.yml; promtool test rules alerts.yml'
    done = lab.run(MONITORING, "sh", "-euc", script, stdin=tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_sees_every_part(browser: httpx.Client) -> None:
    """Each job answers, of each host that it should be asked of; what an alert is made of is there."""
    # nginx's answers are counted from the first one on.
    assert browser.get(lab.url("/polls/")).is_success
    lab.wait_until("the answer is counted", lambda: query("nginx_answers_total") != [], 30)
    lab.wait_until("all targets are up", lambda: not query("up == 0"), 30)
    seen = {(one["metric"]["job"], one["metric"]["host"]) for one in query("up")}
    app, databases, search = lab.group("app"), lab.group("postgres"), lab.group("elasticsearch")
    jobs = {
        "node": lab.hosts(),
        "certificate": lab.hosts(),
        "postgres": databases,
        "patroni": databases,
        "etcd": lab.group("etcd"),
        "haproxy": app,
        "nginx": app,
        "site": app,
        "elasticsearch": search,
    }
    assert seen == {(job, host) for job, hosts in jobs.items() for host in hosts}
    for metric, value in {
        "sum(patroni_primary)": 1,
        "sum(patroni_sync_standby)": 1,
        "sum(patroni_postgres_streaming == 1 and patroni_replica == 1)": 1,
        "min(etcd_server_has_leader)": 1,
        "min(pg_up)": 1,
        'min(probe_success{job=~"site|elasticsearch|certificate"})': 1,
        "count(patroni_witness_ready)": len(lab.group("witness")),
        "count(filebeat_blocked)": len(SHIPPERS),
        "max(filebeat_blocked)": 0,
        "count(archive_waiting_seconds)": len(databases),
        'count(node_systemd_unit_state{name="filebeat.service",state="active"} == 1)': len(SHIPPERS),
    }.items():
        assert [float(one["value"][1]) for one in query(metric)] == [value], metric
    for metric in ("haproxy_server_limit_sessions > 0", "node_filesystem_avail_bytes", "patroni_xlog_location"):
        assert query(metric), metric
    assert query('min(probe_ssl_earliest_cert_expiry{job="certificate"}) - time() > 300 * 86400')


def test_a_gunicorn_that_is_down_is_seen_without_visitors() -> None:
    """Prometheus's own question whether the site is ready is passed on to the other one, and counted."""
    app = lab.on(lab.group("app")[0])
    app.check_output("supervisorctl stop gunicorn-8000")
    try:
        seen = 'rate(nginx_passed_over_total{server="127.0.0.1:8000"}[20s]) > 0'
        lab.wait_until("it is counted", lambda: query(seen) != [], 40)
        assert query('probe_success{job="site"} == 0') == []
    finally:
        app.check_output("supervisorctl start gunicorn-8000")


@pytest.mark.parametrize("port", [9090, 9093, 9115])
def test_nobody_asks_without_a_certificate(port: int) -> None:
    """Also on the host itself: whoever may silence alerts has a certificate and may read its key."""
    ask = [*CURL, f"https://127.0.0.1:{port}/metrics"]
    assert lab.run(MONITORING, *ask).returncode != 0
    assert lab.run(MONITORING, *ask, *CERTIFICATE).returncode == 0
    assert lab.run(MONITORING, *ask, *CERTIFICATE, user="nobody").returncode != 0


@pytest.mark.parametrize("host", lab.group("postgres"))
def test_asking_for_metrics_makes_no_errors(host: str) -> None:
    """Of primary and standby alike: each error would be lines in the log, every five seconds."""
    found = lab.run(
        host, "sh", "-c", "grep -h -E ' exporter@[^ ]+ ERROR:' /var/log/postgresql/*.log | tail -n 3"
    ).stdout
    assert found == ""
