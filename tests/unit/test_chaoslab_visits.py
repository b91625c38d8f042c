"""The demo's visitors: the same for the same seed, from the given networks, doing everything in the given shares."""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaoslab import visits
from chaoslab.cli import main
from tests.unit.fake_site import Site

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
VISITORS: list[dict[str, Any]] = yaml.safe_load((PLAYBOOKS / "vars" / "demo_visitors.yml").read_text())["demo_visitors"]
CROWDS = [visits.crowd(f"{visitor['network']}={visitor['weight']}") for visitor in VISITORS]
MANY = 20_000


def test_same_seed_same_visits() -> None:
    """A demo can be repeated, and another seed is another demo."""
    first, again, other = (visits.plan(200, seed, CROWDS, "/error") for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_visitors_come_from_their_networks_by_weight() -> None:
    """Nobody comes from elsewhere, nobody has a network's own or its broadcast address."""
    networks = {ipaddress.ip_network(visitor["network"]): visitor for visitor in VISITORS}
    counts: Counter[str] = Counter()
    for visit in visits.plan(MANY, 1, CROWDS, "/error"):
        address = ipaddress.ip_address(visit.address)
        home = next(network for network in networks if address in network)
        assert address not in {home.network_address, home.broadcast_address}
        counts[networks[home]["city"]] += 1
    total = sum(visitor["weight"] for visitor in VISITORS)
    for visitor in VISITORS:
        assert counts[visitor["city"]] / MANY == pytest.approx(visitor["weight"] / total, abs=0.02)


def test_networks_are_public() -> None:
    """Otherwise no map knows where they are."""
    assert all(ipaddress.ip_network(visitor["network"]).is_global for visitor in VISITORS)


@pytest.mark.parametrize("error_path", ["/error", ""])
def test_every_kind_of_page_is_visited(error_path: str) -> None:
    """In its share; the error only where the site has a path for it."""
    counts = Counter(visit.page for visit in visits.plan(MANY, 1, CROWDS, error_path))
    wanted = {page: share for page, share in visits.PAGES.items() if page != "error"}
    if error_path:
        wanted[error_path] = visits.PAGES["error"]
    assert set(counts) == set(wanted)
    for page, share in wanted.items():
        assert counts[page] / MANY == pytest.approx(share / sum(wanted.values()), abs=0.02)


@pytest.mark.parametrize("crowd", ["nowhere=1", "192.0.2.0/24", "192.0.2.0/24=0", "192.0.2.1/32=1"])
def test_a_network_that_is_none_is_refused(crowd: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By name."""
    with pytest.raises(SystemExit) as refused:
        main(["visit", "--url", "http://127.0.0.1:9", "--count", "1", "--visitors", crowd])
    assert refused.value.code == 2
    assert f"argument --visitors: '{crowd}' " in capsys.readouterr().err


def visit(site: Site, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Send a hundred visitors and return what is printed."""
    options = ["--count", "100", "--rate", "200", "--error-path", "/error", "--visitors", "192.0.2.0/24=1"]
    assert main(["visit", "--url", site.url, *options]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_visits_are_made_as_planned(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Each by its own address; a vote gets its form first, and counts when it is confirmed."""
    planned = visits.plan(100, 1, [visits.crowd("192.0.2.0/24=1")], "/error")
    wanted: Counter[tuple[str, str]] = Counter()
    for one in planned:
        page = f"/polls/{one.question}/" if one.question else one.page
        wanted[f"GET {page}", one.address] += 1
        wanted[f"POST {page}vote/", one.address] += one.question > 0
    votes = sum(one.question > 0 for one in planned)
    assert visit(site, capsys) == {
        "statuses": {"200": 100, "302": votes},
        "votes": votes,
        "addresses": len({one.address for one in planned}),
    }
    assert Counter(site.requests) == +wanted
    assert len({vote["token"] for vote in site.votes}) == votes


def test_visits_of_a_site_that_refuses_or_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    """They are counted, and are no votes."""
    with Site(lambda _number: (0.0, 503)) as site:
        refused = visit(site, capsys)
    assert (refused["votes"], refused["statuses"]) == (0, {"200": 100, "503": len(site.votes)})
    assert visit(site, capsys)["statuses"] == {"error": 100}
