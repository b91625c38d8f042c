"""The Python that roles bring: modules of etcd and gunicorn, the packer of polls."""

from __future__ import annotations

import base64
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.unit.load import load

ROLES = Path(__file__).resolve().parents[2] / "roles"


https_api = load("plugins/module_utils/https_api.py")
etcd_auth = load("plugins/modules/etcd_auth.py")
supervisor_programs = load("plugins/modules/supervisor_programs.py")
login_name = load("plugins/filter/login_name.py")
pack = load("roles/polls/files/pack.py")


@pytest.mark.parametrize("changed", [{"password": "q" * 16}, {"pepper": "t" * 16}])
def test_a_login_has_another_name_with_another_password(changed: dict[str, str]) -> None:
    """The same for the same, so that a second run changes nothing; short, and a name that PostgreSQL and etcd take."""
    same = {"password": "p" * 16, "pepper": "s" * 16}
    name = login_name.login_name("polls", **same)
    assert re.fullmatch("polls-[0-9a-f]{8}", name)
    assert login_name.login_name("polls", **same) == name
    assert login_name.login_name("polls", **same | changed) != name


class Etcd:
    """As much of etcd's auth service as the module calls, with etcd's own refusals."""

    def __init__(self) -> None:
        """Begin as a new cluster: nobody, and authentication off."""
        self.enabled = False
        self.passwords: dict[str, str] = {}
        self.grants: dict[str, list[str]] = {}
        self.roles: dict[str, list[dict[str, str]]] = {}
        self.token = ""

    def log_in(self, name: str, password: str) -> str:
        """Return a token, or refuse as etcd does."""
        if not self.enabled:
            raise https_api.ApiError("etcdserver: authentication is not enabled")
        if self.passwords.get(name) != password:
            raise https_api.ApiError(f"etcdserver: {etcd_auth.WRONG_PASSWORD}")
        return f"token of {name}"

    def call(self, path: str, **body: Any) -> dict[str, Any]:  # noqa: C901, PLR0912 - one arm for each of etcd's calls
        """Carry out one call; with authentication on, only root may."""
        assert not self.enabled or self.token == "token of root"
        match path.removeprefix("auth/"):
            case "user/list":
                return {"users": list(self.passwords)}
            case "role/list":
                return {"roles": list(self.roles)}
            case "user/get":
                return {"roles": self.grants[body["name"]]}
            case "role/get":
                # READ is the gateway's default, which it does not spell out.
                left_out = [
                    {key: value for key, value in one.items() if value != "READ"} for one in self.roles[body["role"]]
                ]
                return {"perm": left_out}
            case "user/add":
                assert body["name"] not in self.passwords
                self.passwords[body["name"]] = body["password"]
                self.grants[body["name"]] = []
            case "user/changepw":
                self.passwords[body["name"]] = body["password"]
                if self.token == f"token of {body['name']}":
                    self.token = "no longer valid"
            case "user/grant":
                self.grants[body["user"]].append(body["role"])
            case "role/add":
                self.roles[body["name"]] = []
            case "role/grant":
                self.roles[body["name"]].append(body["perm"])
            case "role/revoke":
                self.roles[body["role"]] = [
                    one
                    for one in self.roles[body["role"]]
                    if (one["key"], one.get("range_end", "")) != (body["key"], body["range_end"])
                ]
            case "user/delete":
                del self.passwords[body["name"]], self.grants[body["name"]]
            case "role/delete":
                del self.roles[body["role"]]
            case "enable":
                assert self.grants["root"] == ["root"]
                self.enabled = True
            case other:
                pytest.fail(f"unknown call {other}")
        return {}


USERS: list[dict[str, Any]] = [{"name": "patroni", "password": "p" * 16, "prefix": "/service/"}]


def ensure(
    etcd: Etcd,
    *,
    root: str = "r" * 16,
    users: list[dict[str, Any]] = USERS,
    check_mode: bool = False,
    exclusive: bool = False,
    former: str = "",
) -> list[str]:
    """Run the module's core once and return what it did."""
    etcd.token = ""
    auth = etcd_auth.Auth(etcd, check_mode=check_mode)
    auth.ensure(root, users, exclusive=exclusive, former=former)
    actions: list[str] = auth.actions
    return actions


def test_etcd_gets_its_users_once() -> None:
    """The first run switches authentication on, the second does nothing."""
    etcd = Etcd()
    assert ensure(etcd)[-1] == "switch authentication on"
    assert etcd.enabled
    (permission,) = etcd.roles["patroni"]
    assert base64.b64decode(permission["key"]) == b"/service/"
    assert base64.b64decode(permission["range_end"]) == b"/service0"
    assert ensure(etcd) == []


def test_etcd_check_mode_only_tells() -> None:
    """Check mode names the actions and leaves etcd as it was."""
    etcd = Etcd()
    assert "add user patroni" in ensure(etcd, check_mode=True)
    assert not etcd.passwords


def test_etcd_catches_up_after_an_interrupted_run() -> None:
    """Users that an earlier run left behind before it switched authentication on get their passwords again."""
    etcd = Etcd()
    etcd.call("auth/user/add", name="root", password="")
    actions = ensure(etcd)
    assert "set the password of root" in actions
    assert etcd.passwords["root"] == "r" * 16


def test_etcd_follows_a_changed_password_and_prefix() -> None:
    """A new password is set, and keys of the old prefix are the user's no more."""
    etcd = Etcd()
    ensure(etcd)
    changed = [{"name": "patroni", "password": "q" * 16, "prefix": "/other/"}]
    assert ensure(etcd, users=changed) == [
        "revoke a permission of role patroni",
        "let role patroni use /other/",
        "set the password of patroni",
    ]
    assert ensure(etcd, users=changed) == []


def test_etcd_gives_single_keys() -> None:
    """A user can have keys to write and keys to read; what it may no longer do is taken away."""
    etcd = Etcd()
    user = {"name": "witness", "password": "w" * 16, "writes": ["/service/leader"], "reads": ["/service/config"]}
    ensure(etcd, users=[user])
    permissions = {base64.b64decode(one["key"]): one["permType"] for one in etcd.roles["witness"]}
    assert permissions == {b"/service/leader": "READWRITE", b"/service/config": "READ"}
    assert ensure(etcd, users=[user]) == []
    assert ensure(etcd, users=[user | {"writes": []}]) == ["revoke a permission of role witness"]


def test_etcd_removes_other_users_when_it_is_told_to() -> None:
    """User and role go, but for root; until then they can log in beside the listed ones."""
    etcd = Etcd()
    ensure(etcd)
    new = [{"name": "patroni-2", "password": "q" * 16, "prefix": "/service/"}]
    ensure(etcd, users=new)
    assert {"patroni", "patroni-2"} < etcd.passwords.keys()
    assert ensure(etcd, users=new, exclusive=True) == ["delete user patroni", "delete role patroni"]
    assert ensure(etcd, users=new, exclusive=True) == []
    assert etcd.passwords.keys() == {"root", "patroni-2"}
    assert etcd.roles.keys() == {"patroni-2"}


def test_etcd_gives_root_another_password() -> None:
    """With the former one, after which the session has to begin anew; that there is one still does no harm then."""
    etcd = Etcd()
    ensure(etcd)
    more = [*USERS, {"name": "witness", "password": "w" * 16, "prefix": "/witness/"}]
    assert ensure(etcd, root="s" * 16, former="r" * 16, users=more, check_mode=True)[0] == "set the password of root"
    assert etcd.passwords["root"] == "r" * 16
    assert ensure(etcd, root="s" * 16, former="r" * 16, users=more)[:2] == [
        "set the password of root",
        "add role witness",
    ]
    assert etcd.passwords["root"] == "s" * 16
    assert ensure(etcd, root="s" * 16, former="r" * 16, users=more) == []
    with pytest.raises(https_api.ApiError, match="authentication failed"):
        ensure(etcd, root="x" * 16, former="y" * 16)


def test_etcd_wrong_root_password_is_an_error() -> None:
    """A root password that does not fit is not guessed around."""
    etcd = Etcd()
    ensure(etcd)
    with pytest.raises(https_api.ApiError, match="authentication failed"):
        ensure(etcd, root="x" * 16)


@pytest.mark.parametrize(
    ("difference", "states", "expected"),
    [
        (([], [], []), {"gunicorn-8000": "RUNNING", "gunicorn-8001": "RUNNING"}, {}),
        ((["gunicorn-8001"], [], []), {"gunicorn-8000": "RUNNING"}, {"gunicorn-8001": "add"}),
        (
            ([], ["gunicorn-8000"], ["gunicorn-9000", "other"]),
            {"gunicorn-8000": "RUNNING", "gunicorn-8001": "FATAL"},
            {"gunicorn-9000": "remove", "gunicorn-8000": "restart", "gunicorn-8001": "start"},
        ),
    ],
)
def test_programs_get_what_they_need(
    difference: tuple[list[str], list[str], list[str]], states: dict[str, str], expected: dict[str, str]
) -> None:
    """New ones are added, changed ones restarted, stopped ones started; strangers are left alone."""
    wanted = ["gunicorn-8000", "gunicorn-8001"]
    assert supervisor_programs.plan(wanted, "gunicorn-", difference, states) == expected


def test_a_program_on_replaced_files_is_restarted() -> None:
    """And no other one, whatever it may be."""
    wanted, states = ["gunicorn-8000", "gunicorn-8001"], {"gunicorn-8000": "RUNNING", "gunicorn-8001": "RUNNING"}
    found = supervisor_programs.plan(wanted, "gunicorn-", ([], [], []), states, {"gunicorn-8001", "other"})
    assert found == {"gunicorn-8001": "restart"}


@pytest.mark.parametrize(
    ("line", "outdated"),
    [
        ("7f00-7f01 r-xp 00077000 00:63 5218764    /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)", True),
        ("7f00-7f01 r-xp 00077000 00:63 5218764    /usr/lib/x86_64-linux-gnu/libssl.so.3", False),
        # Its data alone, memory that never was a file, and what others put there.
        ("7f00-7f01 r--p 00000000 00:63 5218764    /usr/bin/python3.13 (deleted)", False),
        ("7f00-7f01 rw-s 00000000 00:01 1024    /memfd:pool (deleted)", False),
        ("7f00-7f01 r-xp 00000000 00:63 77    /tmp/generated.so (deleted)", False),
    ],
)
@pytest.mark.parametrize("pid", [40, 41])
def test_replaced_files_are_seen_in_a_process_and_its_children(
    tmp_path: Path, pid: int, line: str, *, outdated: bool
) -> None:
    """As the kernel shows them; 41 is a child of 40."""
    (tmp_path / "40/task/40").mkdir(parents=True)
    (tmp_path / "41").mkdir()
    (tmp_path / "40/task/40/children").write_text("41 ", encoding="ascii")
    for one in (40, 41):
        good = "55e0-55e1 r-xp 00000000 00:63 12    /usr/sbin/good\n"
        (tmp_path / f"{one}/maps").write_text(good + (line + "\n" if one == pid else ""), encoding="ascii")
    assert supervisor_programs.is_outdated(40, tmp_path) is outdated


def test_a_process_that_has_just_ended_is_not_outdated(tmp_path: Path) -> None:
    """Supervisord names it, and it is gone."""
    assert not supervisor_programs.is_outdated(40, tmp_path)


def test_program_without_definition_is_an_error() -> None:
    """A program that supervisord has not heard of cannot be started."""
    with pytest.raises(supervisor_programs.ProgramError, match="no definition of gunicorn-8000"):
        supervisor_programs.plan(["gunicorn-8000"], "gunicorn-", ([], [], []), {})


def test_release_depends_on_content_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Times, modes, caches and tests change nothing; a changed line does. Folders have modes, too."""
    source, cache = tmp_path / "app", tmp_path / "cache"
    (source / "polls").mkdir(parents=True)
    (source / "manage.py").write_text("one\n", encoding="utf-8")
    (source / "polls" / "views.py").write_text("two\n", encoding="utf-8")

    def version() -> str:
        pack.main(source, cache)
        return capsys.readouterr().out.strip()

    first = version()
    content = (cache / f"{first}.tar.gz").read_bytes()
    (cache / f"{first}.tar.gz").unlink()
    os.utime(source / "manage.py", (0, 0))
    (source / "tests").mkdir()
    (source / "tests" / "test_polls.py").touch()
    (source / "polls" / "views.pyc").touch()
    assert version() == first
    assert (cache / f"{first}.tar.gz").read_bytes() == content
    with tarfile.open(cache / f"{first}.tar.gz") as archive:
        assert {member.name: oct(member.mode) for member in archive} == {
            ".": "0o755",
            "manage.py": "0o644",
            "polls": "0o755",
            "polls/views.py": "0o644",
        }

    (source / "manage.py").write_text("three\n", encoding="utf-8")
    assert version() != first
