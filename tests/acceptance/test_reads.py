"""Whom readers of a standby are led to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.acceptance import lab

APP = lab.group("app")[0]
# PostgreSQL notices a silent primary after five seconds, and HAProxy asks once a second.
NOTICE_SECONDS = 15

ASK = """
cd "$(ls -td /opt/polls/releases/*/app | head -n 1)"
POLLS_CONFIG=../polls.toml PYTHONDONTWRITEBYTECODE=1 runuser -u polls -- ../venv/bin/python manage.py shell --command '
from django.db import connections
with connections["failover1"].cursor() as cursor:
    cursor.execute("select host(inet_server_addr())")
    print(cursor.fetchone()[0])'
"""


def reader() -> str:
    """Return the host that the application reads from where it takes a standby."""
    said = lab.run(APP, "sh", "-euc", ASK).stdout.split()
    return next((host for host in lab.group("postgres") if said and lab.address(host) == said[-1]), "nobody")


@contextmanager
def apart(host: str, other: str) -> Iterator[None]:
    """Drop all packets of `other` on a host."""
    chain = f"type filter hook input priority -200; ip saddr {lab.address(other)} drop;"
    lab.on(host).check_output(f"nft 'table inet apart {{ chain input {{ {chain} }}; }}'")
    try:
        yield
    finally:
        lab.on(host).check_output("nft delete table inet apart")


@pytest.mark.usefixtures("whole_cluster")
def test_a_standby_that_receives_nothing_is_not_read_from() -> None:
    """Its results are old. While there is no primary it is the best there is: experiment stale-standby reads then."""
    primary, standby = lab.primary(), lab.standby()
    assert reader() == standby
    with apart(standby, primary):
        lab.wait_until("readers are led to the primary", lambda: reader() == primary, NOTICE_SECONDS)
    lab.wait_until("readers are led to the standby again", lambda: reader() == standby, NOTICE_SECONDS)
