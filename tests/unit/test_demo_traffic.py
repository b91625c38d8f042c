"""The demo's visitors: the same for the same seed, from the given networks, doing everything in the given shares."""

from __future__ import annotations

import ipaddress
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.load import load

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
demo_traffic = load("plugins/modules/demo_traffic.py")

VISITORS: list[dict[str, Any]] = yaml.safe_load((PLAYBOOKS / "vars" / "demo_visitors.yml").read_text())["demo_visitors"]
MANY = 20_000


def test_same_seed_same_visits() -> None:
    """A demo can be repeated, and another seed is another demo."""
    first, again, other = (demo_traffic.plan(200, seed, VISITORS, "/error") for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_visitors_come_from_their_networks_by_weight() -> None:
    """Nobody comes from elsewhere, nobody has a network's own or its broadcast address."""
    networks = {ipaddress.ip_network(visitor["network"]): visitor for visitor in VISITORS}
    counts: Counter[str] = Counter()
    for visit in demo_traffic.plan(MANY, 1, VISITORS, "/error"):
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
    counts = Counter(visit.page for visit in demo_traffic.plan(MANY, 1, VISITORS, error_path))
    wanted = {page: share for page, share in demo_traffic.PAGES.items() if page != "error"}
    if error_path:
        wanted[error_path] = demo_traffic.PAGES["error"]
    assert set(counts) == set(wanted)
    for page, share in wanted.items():
        assert counts[page] / MANY == pytest.approx(share / sum(wanted.values()), abs=0.02)


def test_a_network_that_is_none_is_refused() -> None:
    """By name."""
    with pytest.raises(ValueError, match="nowhere"):
        demo_traffic.plan(1, 1, [{"network": "nowhere", "weight": 1}], "")
