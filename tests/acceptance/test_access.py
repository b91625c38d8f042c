"""Who may reach what: ports, client certificates, and PostgreSQL's own rules."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.acceptance import lab

APP, DATABASES, ETCD = lab.group("app"), lab.group("postgres"), lab.group("etcd")
SEARCH = lab.group("elasticsearch")
WITNESSES, BACKUP, PROMETHEUS = lab.group("witness"), lab.group("backup"), lab.group("prometheus")
EVERYBODY = [*lab.hosts(), "outside"]

# Every port that may be reached from another host, by the group it is on, with those who may.
FLOWS = {
    "all": {9100: PROMETHEUS},
    "app": {80: EVERYBODY, 443: EVERYBODY, 8405: PROMETHEUS, 9145: PROMETHEUS},
    "etcd": {2379: ETCD + DATABASES + WITNESSES + PROMETHEUS, 2380: ETCD},
    "postgres": {
        5432: APP + DATABASES + BACKUP,
        8008: APP + DATABASES + WITNESSES + PROMETHEUS,
        8432: BACKUP,
        9187: PROMETHEUS,
    },
    "backup": {8432: DATABASES},
    "elasticsearch": {9200: APP + DATABASES + SEARCH + PROMETHEUS, 9300: SEARCH},
}
PROBED = [22, 80, 111, 443, 2379, 2380, 2381, 3903, 5000, 5001, 5066, 5432, 5601, 8000, 8001, 8008, 8405, 8432, 9001]
PROBED += [9090, 9093, 9100, 9115, 9145, 9187, 9200, 9300]


KNOCK = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def knock(target):
    try:
        socket.create_connection(target, timeout=2).close()
    except OSError:
        return False
    return True
targets = json.loads(sys.argv[1])
print(json.dumps(list(ThreadPoolExecutor(64).map(knock, map(tuple, targets)))))
"""

REQUEST = """
import http.client, json, ssl, sys
address, port, path, certificate = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile="/etc/ssl/site/ca.crt")
if certificate:
    context.load_cert_chain("/etc/ssl/site/host.crt", "/etc/ssl/site/host.key")
connection = http.client.HTTPSConnection(address, port, context=context, timeout=5)
try:
    connection.request("GET", path)
    print(connection.getresponse().status)
except (ssl.SSLError, ConnectionError) as error:
    print("refused:", error)
"""

CONNECT = """
import json, sys
import psycopg2
try:
    psycopg2.connect(**json.load(sys.stdin)).close()
    print("connected")
except psycopg2.OperationalError as error:
    print(error)
"""


def groups_of(host: str) -> list[str]:
    """Return the groups with ports of their own that a host is in."""
    return [name for name in FLOWS if name == "all" or host in lab.group(name)]


def may_reach(source: str, host: str, port: int) -> bool:
    """Say whether a flow is wanted."""
    return any(source in FLOWS[name].get(port, []) for name in groups_of(host))


@pytest.mark.parametrize("source", EVERYBODY)
def test_firewall_opens_exactly_the_wanted_flows(source: str) -> None:
    """From each host, and from outside, to every port of each other host."""
    targets = [(host, port) for host in lab.hosts() if host != source for port in PROBED]
    addresses = [(lab.address(host), port) for host, port in targets]
    command = ["python3", "-c", KNOCK, json.dumps(addresses)]
    if source == "outside":
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    else:
        output = lab.run(source, *command).stdout
    answers = json.loads(output)
    reached = {target for target, answer in zip(targets, answers, strict=True) if answer}
    assert reached == {target for target in targets if may_reach(source, *target)}


@pytest.mark.parametrize("host", lab.hosts())
def test_only_wanted_ports_listen_beyond_loopback(host: str) -> None:
    """Also behind the firewall there is no service that need not be there."""
    listening = {line.split()[3] for line in lab.on(host).check_output("ss -Htln").splitlines()}
    # Docker's resolver listens in each container, on a loopback address of its own.
    beyond = {int(item.rpartition(":")[2]) for item in listening if not item.startswith(("127.", "[::1]"))}
    assert beyond == {port for name in groups_of(host) for port in FLOWS[name]}


@pytest.mark.parametrize(
    ("port", "path", "sources", "targets"),
    [
        (2379, "/version", DATABASES, ETCD),
        (8008, "/patroni", DATABASES, DATABASES),
        (8405, "/metrics", PROMETHEUS, APP),
        (9100, "/metrics", PROMETHEUS, lab.hosts()),
        (9187, "/metrics", PROMETHEUS, DATABASES),
    ],
)
def test_client_without_certificate_is_refused(port: int, path: str, sources: list[str], targets: list[str]) -> None:
    """Neither etcd nor Patroni nor an exporter talks to a client without one of the CA's certificates."""
    for target in targets:
        source = next((host for host in sources if host != target), target)
        answers = {
            certificate: lab.run(
                source, "python3", "-c", REQUEST, json.dumps([lab.address(target), port, path, certificate])
            ).stdout.strip()
            for certificate in (True, False)
        }
        assert answers[True] == "200"
        assert answers[False].startswith("refused:")


def connect(source: str, **parameters: str | int) -> str:
    """Connect to PostgreSQL from a host; return what libpq says."""
    venv = "/opt/patroni" if source in DATABASES else "/opt/polls/releases/*/venv"
    command = f'exec "$(ls -d {venv}/bin/python3 | head -n 1)" -c "$1"'
    result = lab.run(source, "sh", "-c", command, "sh", CONNECT, stdin=json.dumps(parameters))
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def polls_login() -> str:
    """Return the name under which the application logs in."""
    return lab.sql(DATABASES[0], "select rolname from pg_roles where rolname like 'polls-%'")


def right(target: str) -> dict[str, str | int]:
    """Return what the application connects with."""
    return {
        "host": "postgres",
        "hostaddr": lab.address(target),
        "port": 5432,
        "user": polls_login(),
        "dbname": "polls",
        "password": (lab.DIRECTORY / "secrets" / "polls_database_password").read_text().strip(),
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ssl/site/ca.crt",
        "connect_timeout": 5,
    }


@pytest.mark.parametrize("target", DATABASES)
def test_postgresql_accepts_the_application(target: str) -> None:
    """The control: with everything right the same client gets in."""
    assert connect(APP[0], **right(target)) == "connected"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sslmode": "disable"}, "no pg_hba.conf entry"),
        ({"user": "postgres"}, "no pg_hba.conf entry"),
        ({"user": "rewind", "dbname": "postgres"}, "no pg_hba.conf entry"),
        ({"user": "nobody"}, "no pg_hba.conf entry"),
        ({"user": "drill"}, "no pg_hba.conf entry"),
        ({"dbname": "postgres"}, "no pg_hba.conf entry"),
        ({"user": "repuser", "replication": "true"}, "no pg_hba.conf entry for replication connection"),
        ({"password": "wrong"}, "password authentication failed"),
        ({"host": "elsewhere"}, 'does not match host name "elsewhere"'),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("target", DATABASES)
def test_postgresql_refuses_everything_else(target: str, change: dict[str, str], reason: str) -> None:
    """From the application's own host, each with one thing wrong."""
    assert reason in connect(APP[0], **(right(target) | change))


def test_postgresql_refuses_the_application_from_another_host() -> None:
    """The application's account is good for the application's hosts only."""
    source, target = DATABASES[:2]
    assert "no pg_hba.conf entry" in connect(source, **right(target))


def test_application_cannot_do_what_a_superuser_can() -> None:
    """Its login and the account that it acts as own its database and nothing else."""
    statement = (
        "select rolname ~ '-', rolcanlogin, rolsuper or rolcreaterole or rolcreatedb or rolreplication from pg_roles"
        " where rolname ~ '^polls' order by rolname"
    )
    assert lab.sql(DATABASES[0], statement).split() == ["f|f|f", "t|t|f"]
    members = "select string_agg(roleid::regrole::text, ',') from pg_auth_members where member = {}::regrole"
    assert lab.sql(DATABASES[0], members.format(f"'\"{polls_login()}\"'")) == "polls"
