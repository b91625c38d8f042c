"""The database's service is stopped on the primary while people vote: the reference's own chaos test."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.acceptance import lab, load

# Seconds until the old primary follows the new one.
REJOIN = 60


@pytest.mark.usefixtures("whole_cluster")
def test_stopping_patroni_on_the_primary_fails_no_vote(tell: Callable[[str], None]) -> None:
    """No vote fails, no read fails, none is lost or doubled, and the old primary comes back by itself."""
    old = lab.primary()
    other = next(host for host in lab.group("postgres") if host != old)
    with load.votes() as votes, load.reads() as reads:
        time.sleep(3)
        lab.on(old).check_output("systemctl stop patroni")
        lab.wait_until(f"{other} is primary", lambda: lab.sql(other, "select pg_is_in_recovery()") == "f", 30)
        time.sleep(5)
        lab.on(old).check_output("systemctl start patroni")
        lab.wait_until(f"{old} streams from {other}", lab.is_whole, REJOIN)
        time.sleep(3)

    assert votes.wrong(302) == []
    assert reads.wrong(200) == []
    silence = votes.longest_silence(302)
    tell(f"{len(votes.outcomes)} votes, longest time without one acknowledged {silence:.2f} s")
    assert lab.primary() == other

    lab.wait_until("the same choices in every database", lab.same_everywhere, 10)
    attempted = {one.token for one in votes.outcomes}
    for host in lab.group("postgres"):
        assert attempted <= lab.ledger(host)
        lab.assert_explained(host)
