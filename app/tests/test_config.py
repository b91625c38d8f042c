"""A wrong configuration is refused, by the name of its key."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from sreproject import config

GOOD = (Path(__file__).parent / "polls.toml").read_text(encoding="utf-8")


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> config.Config:
    """Write a configuration and load it."""
    path = tmp_path / "polls.toml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("POLLS_CONFIG", str(path))
    return config.load()


def test_a_good_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With defaults for what it leaves out."""
    conf = load(tmp_path, monkeypatch, GOOD)
    assert conf.vote_deadline_seconds == 10
    assert conf.databases["default"].connect_timeout == 2
    assert conf.databases["failover1"].idle_seconds == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("secret_key =", "secret =", "has unknown keys: secret"),
        ("allowed_hosts = ", "# ", "lacks: allowed_hosts"),
        ('["testserver"]', '"testserver"', "allowed_hosts must be a list of strings"),
        ("for tests only for tests only", "short", "secret_key must have at least 50"),
        ("origins = []", 'origins = ["polls.example"]', "csrf_trusted_origins must begin with"),
        ("static_root", "vote_deadline_seconds = 0\nstatic_root", "must be above 0"),
        ("static_root", "vote_deadline_seconds = true\nstatic_root", "must be a number"),
        ("databases.failover1", "databases.other", "must hold exactly"),
        ("port = 5432", 'port = "5432"', r"databases.default.port must be a whole number"),
        ("port = 5432", "port = 70000", "port must be between 1 and 65535"),
        ('user = "polls"', 'user = ""', "user must be a string that is not empty"),
        ("port = 5432", 'port = 5432\nsslmode = "full"', "sslmode must be one of disable"),
        ("port = 5432", 'port = 5432\nsslmode = "verify-full"', "sslrootcert must be set"),
        ("port = 5432", "port = 5432\nconnect_timeout = 1", "must be at least 2 seconds"),
        ("port = 5432", "port = 5432\nidle_seconds = -1", "must not be negative"),
        ("[databases.default]", "[[databases.default]]", "databases.default must be a table"),
        ("secret_key =", "secret_key", "is not TOML"),
    ],
)
def test_a_bad_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    """The message says where, which and what would be right."""
    assert old in GOOD
    with pytest.raises(ImproperlyConfigured, match=message):
        load(tmp_path, monkeypatch, GOOD.replace(old, new, 1))


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a missing variable."""
    monkeypatch.setenv("POLLS_CONFIG", str(tmp_path / "nothing.toml"))
    with pytest.raises(ImproperlyConfigured, match=r"nothing.toml: No such file"):
        config.load()
    monkeypatch.delenv("POLLS_CONFIG")
    with pytest.raises(ImproperlyConfigured, match="POLLS_CONFIG must name"):
        config.load()


def test_no_message_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when the secret is what is wrong."""
    with pytest.raises(ImproperlyConfigured) as caught:
        load(tmp_path, monkeypatch, GOOD.replace("for tests only", "sesame", 4))
    assert "sesame" not in str(caught.value)
