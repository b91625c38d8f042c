"""The restore drill's judgement: what comes out red, and what its line and its page say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.load import load

drill = load("roles/pgbackrest/files/pgbackrest_drill.py")

NOTED: dict[str, Any] = {
    "moment": "2026-11-26 18:01:54.749607+00",
    "bytes": 30_000_000,
    "ledger": {"votes": 1654, "checksum": "-77"},
    "at_stake": {"votes": 12, "seconds": 31.4},
}
RESTORED: dict[str, Any] = {
    "ledger": {"votes": 1654, "checksum": "-77"},
    "unexplained": 0,
    "checksums": "on",
    "corrupt": 0,
    "indexes": 204,
}


class Site:
    """A drill whose running primary and whose restore answer as they are told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answer well."""
        self.restored = RESTORED
        self.archived = "t"
        self.folder = folder
        config = folder / "drill.json"
        config.write_text(json.dumps({"stanza": "site-17", "folder": str(folder)}))
        monkeypatch.setattr(drill, "CONFIG", config)
        monkeypatch.setattr(drill, "ARCHIVED_SECONDS", 0.1)
        monkeypatch.setattr(drill.Drill, "ask", lambda _self, _database, query, **_variables: self.ask(query))
        monkeypatch.setattr(drill.Drill, "restore", lambda _self, _moment, _repository: (self.restored, 7.21))
        monkeypatch.setattr(sys, "argv", ["pgbackrest-drill"])

    def ask(self, query: str) -> str:
        """Answer one of the drill's queries."""
        if query == drill.NOTE:
            return json.dumps(NOTED)
        return "000000010000000000000007" if query == drill.SWITCH else self.archived


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site whose backups are good."""
    return Site(tmp_path, monkeypatch)


def test_good_backups_pass(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, which the page and the kept verdict have as well."""
    assert drill.main() == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith("PASS restore-drill: 1654 votes as of 2026-11-26 18:01:54.749607+00, all that")
    assert line.endswith("12 votes in 31 s were not archived yet; restored in 7.2 s")
    assert json.loads((site.folder / "verdict.json").read_text())["verdict"] == line
    page = (site.folder / "report.html").read_text()
    assert line in page
    assert page.count("✓") == 6
    assert "✗" not in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ledger": {"votes": 1653, "checksum": "5"}}, "1653 votes, and the running ledger had 1654; other votes than"),
        ({"ledger": {"votes": 1654, "checksum": "5"}}, "FAIL restore-drill: other votes than the running ledger had"),
        ({"unexplained": 2}, "2 tallies that opening counts and votes do not explain"),
        ({"checksums": "off"}, "checksums are off"),
        ({"corrupt": 1}, "1 corrupt places in tables"),
    ],
    ids=["fewer votes", "other votes", "tallies", "checksums", "corrupt"],
)
def test_what_is_not_as_it_was_fails(
    site: Site, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    """By its reason."""
    site.restored = RESTORED | change
    assert drill.main() == 1
    assert said in capsys.readouterr().out
    assert "✗" in (site.folder / "report.html").read_text()


def test_an_archive_that_gets_nothing_fails(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a restore; the page says so."""
    site.archived = "f"
    assert drill.main() == 1
    assert "FAIL restore-drill: the archive does not get 000000010000000000000007" in capsys.readouterr().out
    assert "the archive does not get" in (site.folder / "report.html").read_text()


def test_nothing_archived_yet_is_no_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary that has just begun has no last segment."""
    monkeypatch.setitem(NOTED, "at_stake", {"votes": 0, "seconds": None})
    assert drill.main() == 0
    assert "0 votes in 0 s were not archived yet" in (site.folder / "verdict.json").read_text()


def test_a_disk_without_room_is_not_filled(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The archive is on it, too."""
    monkeypatch.setitem(NOTED, "bytes", 2**60)
    monkeypatch.setattr(drill.Drill, "restore", lambda *_: pytest.fail("it was restored"))
    assert drill.main() == 1
    assert "are needed to restore there; nothing was done" in capsys.readouterr().out
    assert "free, and 1152921506.8 GB are needed" in (site.folder / "report.html").read_text()
