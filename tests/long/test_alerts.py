"""Faults of which people are told, and the negative control: a rule that is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.acceptance import lab
from tests.acceptance.test_alerts import MONITORING
from tests.acceptance.test_chaos import RATE, assert_green, experiment, judged

RULES = "/etc/prometheus/site-rules.yml"
MAILBOX = "/var/lib/mailbox"
ADDRESS = "oncall@example.org"
MAIL = {
    "prometheus_ticket_email": ADDRESS,
    "prometheus_smtp": {"server": "localhost:2525", "from": "alerts@example.org"},
}
TRUSTED = "/usr/local/share/ca-certificates/site.crt"


def load_rules(text: str) -> None:
    """Have Prometheus go by other rules."""
    script = f"cat > {RULES}; promtool check rules {RULES}; systemctl reload prometheus"
    done = lab.run(MONITORING, "sh", "-euc", script, stdin=text)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def silent_alert(request: pytest.FixtureRequest) -> Iterator[str]:
    """Take the rule of this alert out of Prometheus until the test is over, and return the alert's name."""
    text = (lab.ROOT / "roles" / "prometheus" / "files" / "rules.yml").read_text(encoding="utf-8")
    rules = yaml.safe_load(text)
    (group,) = [one for one in rules["groups"] if request.param in {rule["alert"] for rule in one["rules"]}]
    group["rules"] = [rule for rule in group["rules"] if rule["alert"] != request.param]
    load_rules(yaml.safe_dump(rules))
    yield request.param
    load_rules(text)


@pytest.fixture
def mail_server() -> Iterator[None]:
    """Have a mail server on the host with Prometheus, and alerts mailed to it, until the test is over.

    It takes no mail without STARTTLS; the host trusts the site's authority, which is where its certificate is from.
    """
    monitoring = lab.on(MONITORING)
    monitoring.check_output("apt-get install --yes --no-install-recommends python3-aiosmtpd")
    monitoring.check_output(f"cp /etc/ssl/site/ca.crt {TRUSTED} && update-ca-certificates")
    tls = "--tlscert /etc/ssl/site/host.crt --tlskey /etc/ssl/site/host.key"
    handler = f"--class aiosmtpd.handlers.Mailbox {MAILBOX}/in"
    server = f"python3 -m aiosmtpd --nosetuid --listen 127.0.0.1:2525 {tls} {handler}"
    properties = ("User=mail", "SupplementaryGroups=site-tls", "StateDirectory=mailbox")
    options = " ".join(["--collect --unit=mailbox", *(f"--property={one}" for one in properties)])
    monitoring.check_output(f"systemd-run --quiet {options} /usr/bin/{server}")
    tags = ("site.yml", "--tags", "prometheus", "--limit", MONITORING)
    assert lab.playbook(*tags, "-e", json.dumps(MAIL)).returncode == 0
    yield
    assert lab.playbook(*tags).returncode == 0
    monitoring.check_output(f"systemctl stop mailbox; rm -r {MAILBOX} {TRUSTED}; update-ca-certificates")


READ = """
import json, mailbox, sys
print(json.dumps([[mail["To"], mail["Subject"], str(mail.get_payload(decode=True) or b"".join(
    part.get_payload(decode=True) for part in mail.get_payload()), "utf-8")] for mail in mailbox.Maildir(sys.argv[1])]))
"""


def mails(subject: str) -> list[str]:
    """Return the texts of the mails with this subject."""
    found = json.loads(lab.on(MONITORING).check_output(f"python3 -c '{READ}' {MAILBOX}/in"))
    assert {to for to, _, _ in found} <= {ADDRESS}
    return [text for _, about, text in found if about == subject]


@pytest.mark.usefixtures("whole_cluster", "mail_server")
def test_people_are_written_to_when_an_alert_begins_and_when_it_ends() -> None:
    """In plain words and with the host; one fault is one mail."""
    voter = lab.on(next(host for host in lab.group("etcd") if host in lab.group("app")))
    voter.check_output("systemctl stop etcd")
    try:
        lab.wait_until("a mail", lambda: mails("Alert: EtcdVoterDown") != [], 60)
    finally:
        voter.check_output("systemctl start etcd")
    (text,) = mails("Alert: EtcdVoterDown")
    assert f"{lab.group('app')[0]}: this etcd voter does not answer" in text
    assert "docs/runbooks/alerts.md#etcdvoterdown" in text
    lab.wait_until("the other mail", lambda: mails("Over: EtcdVoterDown") != [], 120)


@pytest.mark.usefixtures("whole_cluster")
@pytest.mark.parametrize("name", ["elasticsearch-down", "standby-down", "etcd-voter-down", "switchover"])
def test_fault_makes_ring_what_it_should(name: str, tell: Callable[[str], None]) -> None:
    """And nothing else; a planned switchover makes nothing ring."""
    assert_green(experiment(f"playbooks/chaos-{name}.yml", *RATE), name, tell)


@pytest.mark.usefixtures("whole_cluster")
@pytest.mark.parametrize(
    ("name", "silent_alert"),
    [
        ("etcd-voter-down", "EtcdVoterDown"),
        ("elasticsearch-down", "ElasticsearchDown"),
        ("primary-off", "HostDown"),
    ],
    indirect=["silent_alert"],
)
def test_silent_alert_makes_a_run_red(name: str, silent_alert: str) -> None:
    """The negative control: the fault is the same, and nobody is told."""
    code, output, (folder,) = experiment(f"playbooks/chaos-{name}.yml", *RATE)
    assert code != 0
    assert f"{silent_alert} was silent" in output
    assert {rule["key"] for rule in judged(folder)["rules"] if not rule["holds"]} == {"alerts"}
