"""The certificate authority is replaced while people vote, also where its key is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.acceptance import lab, load
from tests.acceptance.test_chaos import LOW_RATE, assert_green, experiment
from tests.acceptance.test_site import assert_nothing_is_left_to_do

FOLDER = lab.DIRECTORY / "ca"


@pytest.mark.usefixtures("whole_cluster")
def test_the_authority_is_rotated_under_votes(tell: Callable[[str], None]) -> None:
    """Hosts and the control node are left with the new one alone."""
    before = (FOLDER / "ca.crt").read_bytes()
    assert_green(experiment("playbooks/chaos-ca-rotated.yml", *LOW_RATE), "ca-rotated", tell)
    after = (FOLDER / "ca.crt").read_bytes()
    assert after != before
    assert after.count(b"BEGIN CERTIFICATE") == 1
    assert {lab.on(host).file("/etc/ssl/site/ca.crt").content for host in lab.hosts()} == {after}
    assert before in {path.read_bytes() for path in FOLDER.glob("former-*/ca.crt")}
    assert_nothing_is_left_to_do()


@pytest.mark.usefixtures("whole_cluster")
def test_authority_whose_key_is_lost_is_rotated(browser: httpx.Client, tmp_path: Path) -> None:
    """Refused by site.yml; while people vote by the playbook for it, which is cut off on its way and run again."""
    shutil.move(FOLDER / "ca.key", tmp_path)
    refused = lab.playbook("site.yml", "--tags", "certificates")
    assert refused.returncode != 0
    assert "has ca.crt and not its key" in " ".join(refused.stdout.split())
    with load.votes(5) as votes:
        lab.cut_off("[certificates : sign | Sign it on the control node]", "playbooks/rotate-ca.yml")
        assert "rotation is not complete" in lab.playbook("playbooks/status.yml").stdout
        run = lab.playbook("playbooks/rotate-ca.yml")
        assert run.returncode == 0, run.stdout
    assert votes.failed() == []
    assert "rotation is not complete" not in lab.playbook("playbooks/status.yml").stdout
    assert_nothing_is_left_to_do()
    # It still trusts the former one alone.
    with pytest.raises(httpx.ConnectError):
        browser.get(lab.url("/polls/"))
