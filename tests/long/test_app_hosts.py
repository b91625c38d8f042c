"""Two app hosts with one address: either may be lost, updated, or fail, while people vote."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.acceptance import lab
from tests.acceptance.test_chaos import LOW_RATE, assert_green, experiment
from tests.acceptance.test_site import NOTHING, changes

APP = lab.group("app")
ROLE = ("site.yml", "--tags", "keepalived")
# Two failed checks, a second each and a started one, three advertisements, and a bit.
MOVE_SECONDS = 8


def virtual_address() -> str:
    """Return the site's virtual address, as its certificate has it beside each host's own."""
    command = "openssl x509 -noout -ext subjectAltName -in /etc/ssl/site/host.crt | grep -o 'IP Address:[0-9.]*'"
    addresses = [{line.partition(":")[2] for line in lab.on(host).check_output(command).split("\n")} for host in APP]
    (found,) = set.intersection(*addresses) - {"127.0.0.1"}
    return str(found)


def holders(address: str) -> list[str]:
    """Return the hosts that have an address."""
    return [host for host in APP if address in lab.on(host).check_output("ip -4 -oneline address show")]


def are_holding(address: str, many: int) -> bool:
    """Say whether so many hosts have an address."""
    return len(holders(address)) == many


@pytest.mark.usefixtures("whole_cluster")
@pytest.mark.parametrize("name", ["app-host-off", "app-host-updated", "hosts-rebooted"])
def test_an_app_host_goes_away_under_votes(name: str, tell: Callable[[str], None]) -> None:
    """Lost without a word, or rebooted in its turn."""
    assert_green(experiment(f"playbooks/chaos-{name}.yml", *LOW_RATE), name, tell)


def test_the_address_leaves_a_host_whose_nginx_fails() -> None:
    """And stays where it is when that host is well again."""
    address = virtual_address()
    (holder,) = holders(address)
    lab.on(holder).check_output("systemctl stop nginx")
    try:
        lab.wait_until("another host with the address", lambda: holders(address) not in ([], [holder]), MOVE_SECONDS)
        (other,) = holders(address)
    finally:
        lab.on(holder).check_output("systemctl start nginx")
    # Longer than it takes to be preferred again, had the other one less.
    ready = "sleep 5; curl -sf -o /dev/null --cacert /etc/ssl/site/ca.crt https://localhost/readyz"
    lab.on(holder).check_output(ready)
    assert holders(address) == [other]


def test_only_app_hosts_may_claim_the_address() -> None:
    """Their firewalls take VRRP from each other and from nobody else."""
    peers = ", ".join(sorted(lab.address(host) for host in APP))
    for host in APP:
        rules = lab.on(host).check_output("nft list chain inet site_firewall input")
        assert [line.strip() for line in rules.splitlines() if "vrrp" in line] == [
            f"ip saddr {{ {peers} }} meta l4proto vrrp accept"
        ]


def test_without_a_virtual_address_nothing_of_it_stays() -> None:
    """It is stopped and removed, and set up again; each a second time changes nothing."""
    address = virtual_address()
    for variables, many in ((("-e", "site_virtual_address="), 0), ((), 1)):
        first, second = (lab.playbook(*ROLE, *variables) for _ in range(2))
        assert all(changes(first.stdout)[host] for host in APP), first.stdout + first.stderr
        assert changes(second.stdout) == NOTHING, second.stdout + second.stderr
        lab.wait_until("as many with the address", partial(are_holding, address, many), MOVE_SECONDS)
        for host in APP:
            assert lab.on(host).service("keepalived").is_running == bool(many)
            assert lab.on(host).file("/etc/keepalived/keepalived.conf").exists == bool(many)
