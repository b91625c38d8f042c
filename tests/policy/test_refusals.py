"""Wrong input is refused with one clear line before any host is touched.

The hosts of the scratch inventory are "reached" by a program that notes that it was called and then
fails, so that a run which opens a connection shows.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = ROOT / "inventories" / "production"
EXAMPLE = yaml.safe_load((PRODUCTION / "secrets.yml.example").read_text(encoding="utf-8"))["all"]["vars"]
SECRETS = tuple(EXAMPLE)
Inventory = dict[str, Any]
Change = Callable[[Inventory], object]


def inventory() -> Inventory:
    """Return the inventory for VMs, whose hosts do not exist, with a value for each secret that its example lists."""
    tree: Inventory = yaml.safe_load((PRODUCTION / "hosts.yml").read_text(encoding="utf-8"))
    assert set(EXAMPLE.values()) == {None}, "an example of a secret is a secret that somebody will use"
    # Whoever is taken out of a group keeps the address.
    hosts: dict[str, Any] = {}
    for group in tree["all"]["children"].values():
        hosts |= {name: known for name, known in group["hosts"].items() if known}
        group["hosts"] = dict.fromkeys(group["hosts"])
    tree["all"]["hosts"] = hosts
    # Every role accepts these. Nobody is asked for packages.
    values = {name: name.replace("_", "") + "x" * 50 for name in SECRETS}
    tree["all"]["vars"] |= values | {"elastic_packages_source": "assembled"}
    return tree


def set_variables(**values: object) -> Change:
    """Return a change that sets variables of all hosts."""
    return lambda tree: tree["all"]["vars"].update(values)


def drop_variable(name: str) -> Change:
    """Return a change that takes a variable of all hosts away."""
    return lambda tree: tree["all"]["vars"].pop(name)


def drop_member(group: str, host: str) -> Change:
    """Return a change that takes a host out of a group."""
    return lambda tree: tree["all"]["children"][group]["hosts"].pop(host)


def two_app_hosts(virtual_address: str) -> Change:
    """Return a change that adds an app host, and an address for both."""

    def change(tree: Inventory) -> None:
        tree["all"]["hosts"]["main-2"] = {"ansible_host": "192.0.2.21"}
        tree["all"]["children"]["app"]["hosts"]["main-2"] = None
        tree["all"]["vars"]["site_virtual_address"] = virtual_address

    return change


@dataclass(frozen=True)
class Run:
    """What a run of ansible-playbook left."""

    code: int
    output: str
    touched: bool

    @property
    def errors(self) -> list[str]:
        """Return the errors that Ansible printed, without its own words ahead of them."""
        lines = re.findall(r"^\[ERROR\]: (.*)$", self.output, re.MULTILINE)
        return [re.sub(r"^(Task failed: |Action failed: )+", "", line).strip() for line in lines]


class Scratch:
    """A directory with an inventory that may be spoiled, and runs against it."""

    def __init__(self, path: Path) -> None:
        """Prepare the program that stands for every connection."""
        self.path = path
        self.mark = path / "touched"
        self.connect = path / "connect"
        self.connect.write_text(f"#!/bin/sh\ntouch '{self.mark}'\nexit 255\n", encoding="utf-8")
        self.connect.chmod(0o755)
        (path / "group_vars").symlink_to(ROOT / "group_vars")

    def run(self, playbook: str, *arguments: str, change: Change | None = None) -> Run:
        """Run a playbook of the repository against the inventory, changed when so asked."""
        tree = inventory()
        tree["all"]["vars"] |= {
            "ansible_connection": "ssh",
            "ansible_ssh_executable": str(self.connect),
            "certificates_ca_dir": str(self.path / "ca"),
        }
        if change is not None:
            change(tree)
        hosts = self.path / "hosts.yml"
        hosts.write_text(yaml.safe_dump(tree), encoding="utf-8")
        program = Path(sys.executable).with_name("ansible-playbook")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        result = subprocess.run(
            [program, "-i", hosts, f"playbooks/{playbook}", *arguments],
            cwd=ROOT,
            env=environment | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "1000"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Run(result.returncode, result.stdout + result.stderr, self.mark.exists())


# What is wrong; what the line says: its beginning, the variable, what would be right
REFUSALS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "missing secret": (drop_variable("patroni_rewind_password"), ("patroni: ", "missing", "patroni_rewind_password")),
    "short secret": (set_variables(polls_admin_password="short"), ("polls: ", "polls_admin_password", "at least 16")),
    "unknown version": (
        set_variables(patroni_postgresql_version=14),
        ("patroni: ", "patroni_postgresql_version", "one of: 15, 17"),
    ),
    "options of another type": (
        set_variables(nginx_http_port="http", nginx_hsts_max_age=[]),
        ("nginx: ", "nginx_http_port", "unable to convert to int", "; ", "nginx_hsts_max_age"),
    ),
    "even number of voters": (
        drop_member("etcd", "main"),
        ("etcd: ", "etcd_members", "2 voters", "an odd number of at least three"),
    ),
    "lease too short for a round": (
        set_variables(patroni_ttl=20, patroni_loop_wait=10, patroni_retry_timeout=10),
        ("patroni: ", "patroni_ttl is 20", "at least patroni_loop_wait + 2 * patroni_retry_timeout = 30"),
    ),
    "lease below the floor": (
        set_variables(patroni_ttl=19, patroni_loop_wait=1, patroni_retry_timeout=3),
        ("patroni: ", "patroni_ttl is 19", "no less than 20"),
    ),
    "backups on a database host": (
        lambda tree: tree["all"]["children"]["backup"].update(hosts={"postgres-1": None}),
        ("pgbackrest: ", "pgbackrest_repository_address 192.0.2.12", "somewhere else"),
    ),
    "no backup kept": (
        set_variables(pgbackrest_keep_full=0),
        ("pgbackrest: ", "pgbackrest_keep_full is 0", "at least 1 (full backups)"),
    ),
    "copy of the backups to nowhere": (
        set_variables(pgbackrest_copy_path="polls/backups"),
        ("pgbackrest: ", "pgbackrest_copy_path is 'polls/backups'", "has nothing", "give both or neither"),
    ),
    "copy of the backups without TLS": (
        set_variables(
            pgbackrest_copy_path="polls/backups",
            pgbackrest_copy_remote={"type": "s3", "endpoint": "http://192.0.2.20:9000", "access_key_id": "site"},
        ),
        ("pgbackrest: ", "pgbackrest_copy_remote has access_key_id, endpoint, type", "https"),
    ),
    "virtual address for one host": (
        set_variables(site_virtual_address="192.0.2.20"),
        ("keepalived: ", "keepalived_virtual_address is 192.0.2.20", "no other host", "at least two hosts"),
    ),
    "virtual address that a host has": (
        two_app_hosts("192.0.2.14"),
        ("host_address of monitoring is '192.0.2.14'", "each host its own, which is not site_virtual_address"),
    ),
    "virtual address that is a name": (
        two_app_hosts("polls.example.org"),
        ("keepalived: ", "keepalived_virtual_address is polls.example.org", "an IPv4 address"),
    ),
    "no standby": (drop_member("postgres", "postgres-2"), ("patroni: ", "patroni_members lists 1", "at least two")),
    "member not in the inventory": (
        set_variables(patroni_members={"postgres-1": "192.0.2.12", "postgres-9": "192.0.2.19"}),
        ("postgres-9", "patroni_members", "postgres-1, postgres-2"),
    ),
    "voter not in the inventory": (
        set_variables(etcd_members={"main": "192.0.2.11", "postgres-1": "192.0.2.12", "etcd-9": "192.0.2.19"}),
        ("etcd-9", "etcd_members", "postgres-1, postgres-2"),
    ),
    "witness on a database host": (
        lambda tree: tree["all"]["children"]["witness"]["hosts"].update({"postgres-1": None}),
        ("patroni_witness: ", "patroni_witness_members names postgres-1", "no database"),
    ),
    "secrets without a value": (
        set_variables(**dict.fromkeys(SECRETS)),
        (*SECRETS, "no value", "secrets.yml"),
    ),
    "names that no certificate can have": (
        set_variables(
            site_names=[
                "polls.example.org",
                "https://polls.example.org",
                "*.example.org",
                "polls.example.org:443",
                "jürgen.example.org",
                "Polls.example.org",
                "192.0.2.1",
            ]
        ),
        (
            "site_names has https://polls.example.org, *.example.org, polls.example.org:443, jürgen.example.org, ",
            "Polls.example.org, 192.0.2.1;",
            "a list of DNS names in small letters, IDN as xn--...",
        ),
    ),
    "one name that is no list": (
        set_variables(site_names="polls.example.org"),
        ("site_names has polls.example.org;", "a list of DNS names"),
    ),
    "operators that are no addresses": (
        set_variables(site_operators=["192.0.2.1", "office.example.org"]),
        ("site_operators has office.example.org;", "addresses or networks"),
    ),
    "trusted proxies that are no addresses": (
        set_variables(nginx_trusted_proxies=["1.2.3.4.5"]),
        ("nginx: ", "nginx_trusted_proxies is 1.2.3.4.5", "addresses or networks"),
    ),
    "unknown source of packages": (
        set_variables(elastic_packages_source="tarball"),
        ("elastic_packages: ", "elastic_packages_source", "auto, elastic, assembled, directory"),
    ),
    "packages that nobody has brought": (
        set_variables(elastic_packages_source="directory"),
        ("elastic_packages: ", "elastic_packages_source is directory and elastic_packages_directory ''"),
    ),
    "packages that were brought to another place": (
        set_variables(elastic_packages_source="directory", elastic_packages_directory="/nowhere"),
        ("elastic_packages: ", "/nowhere (elastic_packages_directory) is no folder on the control node"),
    ),
    "alerts by mail without a server": (
        set_variables(
            prometheus_page_email="oncall@example.org", prometheus_smtp={"server": "mail", "from": "a@example.org"}
        ),
        ("prometheus: ", "mail goes to oncall@example.org", "prometheus_smtp.server is 'mail'", "mail.example.org:587"),
    ),
    "alerts by mail with half a login": (
        set_variables(prometheus_smtp={"server": "mail.example.org:587", "from": "a@example.org", "user": "a"}),
        ("prometheus: ", "user and password in prometheus_smtp", "both or none"),
    ),
    "marks of the disk in the wrong order": (
        set_variables(elasticsearch_disk_high_percent=92, elasticsearch_disk_stop_percent=90),
        ("elasticsearch: ", "elasticsearch_disk_high_percent is 92", "high < stop <= 93"),
    ),
}

# A host that has the role: one is checked, in a third of the time. That one host stops all shows in runs of site.yml.
HOSTS = {
    **dict.fromkeys(("etcd", "patroni", "patroni_witness", "pgbackrest"), "postgres-1"),
    **dict.fromkeys(("keepalived", "nginx", "polls"), "main"),
    **dict.fromkeys(("elastic_packages", "elasticsearch", "prometheus"), "monitoring"),
}


def limit(said: tuple[str, ...]) -> list[str]:
    """Return the arguments with which a host is checked whose role says this, or all hosts where no role does."""
    host = HOSTS.get(said[0].removesuffix(": "))
    return ["--limit", host] if host else []


# The playbook with its arguments; what is wrong with the inventory; what the last line says
Case = tuple[list[str], Change | None, tuple[str, ...]]
CASES: dict[str, Case] = {
    **{case: (["preflight.yml", *limit(said)], change, said) for case, (change, said) in REFUSALS.items()},
    **{
        f"{case} in {' '.join(arguments)}": (arguments, *REFUSALS[case])
        for case, arguments in (
            ("missing secret", ["site.yml"]),
            ("no standby", ["site.yml", "--check"]),
            ("lease below the floor", ["site.yml", "--tags", "nginx"]),
        )
    },
    "limit that matches no host": (["site.yml", "--limit", "postgres-9"], None, ("limit", "no hosts to target")),
    "switchover to a host that is not in the inventory": (
        ["switchover.yml", "-e", "switchover_candidate=postgres-9"],
        None,
        ("switchover: ", "switchover_candidate postgres-9", "postgres-1, postgres-2"),
    ),
    "update that may reboot perhaps": (
        ["update.yml", "-e", "update_reboot=perhaps"],
        None,
        ("update: ", "update_reboot is perhaps", "true or false"),
    ),
    "no secret to change": (
        ["rotate-secrets.yml"],
        None,
        ("secrets: nothing cannot be changed", "give all, or some of", "polls_database_password"),
    ),
    "secret that cannot be changed": (
        ["rotate-secrets.yml", "-e", "secrets=polls_admin_password,pgbackrest_cipher_passphrase"],
        None,
        ("secrets: pgbackrest_cipher_passphrase cannot be changed", "every backup there is"),
    ),
    "new secret without the former one": (
        ["rotate-secrets.yml", "-e", "secrets=all"],
        set_variables(etcd_root_password_former="a" * 50, polls_secret_key_former="k" * 60),
        ("secrets: elasticsearch_password_former is missing", "the value that elasticsearch_password had before"),
    ),
    "new secret that is the former one": (
        ["rotate-secrets.yml", "-e", "secrets=polls_secret_key"],
        set_variables(polls_secret_key="k" * 60, polls_secret_key_former="k" * 60),
        ("secrets: polls_secret_key_former is missing or no other value",),
    ),
    "rotation of the authority on some hosts": (
        ["rotate-ca.yml", "--limit", "postgres"],
        None,
        ("rotate-ca: ", "main, monitoring would be left out by --limit", "run it without"),
    ),
    "rotation of the authority without some roles": (
        ["rotate-ca.yml", "--skip-tags", "nginx"],
        None,
        ("rotate-ca: ", "--skip-tags", "run it without"),
    ),
    "replacement of nobody": (
        ["replace-host.yml"],
        None,
        ("replace-host: ", "host is not given", "one host of the inventory", "monitoring"),
    ),
    "replacement of two hosts": (
        ["replace-host.yml", "-e", "host=postgres-1,postgres-2"],
        None,
        ("replace-host: ", "host is postgres-1,postgres-2", "one host of the inventory", "monitoring"),
    ),
    "replacement of a host that is not in the inventory": (
        ["replace-host.yml", "-e", "host=postgres-9", "--check"],
        None,
        ("replace-host: ", "host is postgres-9", "one host of the inventory", "monitoring"),
    ),
    "replacement that the others are not told of": (
        ["replace-host.yml", "-e", "host=postgres-1", "--limit", "postgres-1"],
        None,
        ("replace-host: ", "without --limit postgres-1", "the other hosts"),
    ),
    # What group_vars set is changed on the command line.
    "unknown version of Elasticsearch": (
        ["preflight.yml", "-e", "elasticsearch_version=7.17.29"],
        None,
        ("elasticsearch: ", "elasticsearch_version is 7.17.29", "6 and 8"),
    ),
    "unknown module of Filebeat": (
        ["preflight.yml", "-e", '{"filebeat_modules": {"nginks": ["access"]}}'],
        None,
        ("filebeat: ", "filebeat_modules names nginks", "nginx, postgresql"),
    ),
    "unknown fileset of Filebeat": (
        ["preflight.yml", "-e", '{"filebeat_modules": {"nginx": ["acces"], "postgresql": []}}'],
        None,
        (
            "filebeat: ",
            "filebeat_modules has nginx: ['acces']; give a list of access, error; and postgresql: []; give a list",
        ),
    ),
    "demo traffic where real people vote": (["demo-traffic.yml"], None, ("demo-traffic: ", "no lab", "lab_dir")),
    "demo traffic without bounds": (
        ["demo-traffic.yml", "-e", "demo_requests=1000000"],
        set_variables(lab_dir="/lab", nginx_trusted_proxies=["192.0.2.1"]),
        ("demo-traffic: ", "demo_requests must be 1 to 100000"),
    ),
    "experiment where nothing may be broken": (
        ["chaos.yml", "-e", "chaos_experiment=primary-down"],
        None,
        ("chaos: ", "chaos_allowed is not true"),
    ),
    "experiment that there is not": (
        ["chaos.yml", "-e", "chaos_experiment=primary-of"],
        set_variables(chaos_allowed=True),
        ("chaos: ", "there is no experiment primary-of", "primary-off"),
    ),
    "experiment that only pretends": (
        ["chaos.yml", "-e", "chaos_experiment=primary-down", "--check"],
        set_variables(chaos_allowed=True),
        ("chaos: ", "cannot be run with --check"),
    ),
    "machine that nobody can switch off": (
        ["chaos.yml", "-e", "chaos_experiment=primary-off"],
        set_variables(chaos_allowed=True),
        ("chaos: ", "primary-off needs vm-off", "chaos_platform (not set)"),
    ),
    "page of dashboards without a place": (["observe.yml"], None, ("observe: ", "observe_dir is missing")),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Run]]]:
    """Start every run, as many at a time as the machine has processors: most of the time is Ansible's start."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def start(arguments: list[str], change: Change | None) -> Future[Run]:
            return pool.submit(Scratch(tmp_path_factory.mktemp("refusal")).run, *arguments, change=change)

        yield {case: start(arguments, change) for case, (arguments, change, _) in CASES.items()}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_refused_before_any_host_is_touched(runs: dict[str, Future[Run]], case: str) -> None:
    """The last error is one line: the role, the variable, what would be right. No host is reached."""
    run = runs[case].result()
    assert run.code != 0, run.output
    assert not run.touched, run.output
    line = run.errors[-1]
    for part in CASES[case][2]:
        assert part in line, run.output
    assert "argument_spec_data" not in run.output, "the whole specification drowns the line"


@pytest.mark.parametrize(
    "wrong",
    [
        {
            "main": "main.example.org",
            "monitoring": "2001:db8::12",
            "postgres-1": "127.0.0.1",
            "postgres-2": "192.0.2.12/24",
        },
        {"main": None, "monitoring": "{{ ansible_host }}", "postgres-1": "192.0.2.99", "postgres-2": "192.0.2.99"},
    ],
)
def test_every_wrong_address_is_refused(tmp_path: Path, wrong: dict[str, str | None]) -> None:
    """A host's address is an IPv4 address, its own, and one that the others can reach."""

    def change(tree: Inventory) -> None:
        for host, value in wrong.items():
            tree["all"]["hosts"][host] = {"host_address": value}

    run = Scratch(tmp_path).run("preflight.yml", change=change)
    assert not run.touched
    for host, value in wrong.items():
        # Without ansible_host, Ansible takes the host's name.
        said = {None: "", "{{ ansible_host }}": host}.get(value, value)
        line = f"host_address of {host} is '{said}'; give an IPv4 address that the other hosts reach, each host its own"
        assert any(line in error for error in run.errors), run.output


def test_right_input_reaches_the_hosts(tmp_path: Path) -> None:
    """The inventory that the cases spoil is accepted, and a connection would show."""
    run = Scratch(tmp_path).run("preflight.yml")
    assert run.touched, run.output
    assert "UNREACHABLE" in run.output


def test_no_secret_is_printed(runs: dict[str, Future[Run]]) -> None:
    """A refusal names a secret, it does not show it."""
    for run in runs.values():
        assert "x" * 50 not in run.result().output
