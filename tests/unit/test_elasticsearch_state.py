"""The module elasticsearch_state, against a server that answers as Elasticsearch documents and records every call."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit import fake_server
from tests.unit.elasticsearch_role import value
from tests.unit.load import load

REAL, FORMER, BOOTSTRAP = "real.3141592653", "former.1414213562", "bootstrap.2718281828"
USERS = [
    {"name": "filebeat_writer", "password": "writer's password", "role": "filebeat_writer"},
    {"name": "disk_guard", "password": "guard's password", "role": "disk_guard"},
]


# Reading the role's variables takes longer than a test.
data = functools.cache(value)
https_api = load("plugins/module_utils/https_api.py")
elasticsearch_state = load("plugins/modules/elasticsearch_state.py")
elasticsearch_keystore = load("plugins/modules/elasticsearch_keystore.py")


class Elasticsearch:
    """As much of Elasticsearch as the module calls, with its own way to show what it was given."""

    def __init__(self, major: str) -> None:
        """Begin as a new cluster: only ``elastic`` can sign in, with the password of the keystore."""
        self.major = major
        self.passwords = {"elastic": BOOTSTRAP}
        self.users: dict[str, dict[str, Any]] = {
            "elastic": {"username": "elastic", "roles": ["superuser"], "enabled": True, "metadata": {"_reserved": True}}
        }
        self.roles: dict[str, dict[str, Any]] = {"superuser": {"cluster": ["all"], "indices": []}}
        self.policies: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str, Any]] = []
        self.server: fake_server.Server
        # Answers of the health check before it is well: a status of HTTP each.
        self.unwell: list[int] = []
        # The password of elastic that a node that starts has read once it is well.
        self.read = ""

    @property
    def writes(self) -> list[tuple[str, str, Any]]:
        """Calls that write."""
        return [call for call in self.calls if call[0] != "GET"]

    def handle(self, request: fake_server.Request) -> fake_server.Answer:
        """Answer a request, after asking who is there."""
        path = f"{request.path}?{request.query}" if request.query else request.path
        body = json.loads(request.body) if request.body else None
        scheme, _, login = request.headers["authorization"].partition(" ")
        assert scheme == "Basic"
        user, _, password = base64.b64decode(login).decode().partition(":")
        if not (self.users.get(user, {}).get("enabled") and self.passwords.get(user) == password):
            return 401, json.dumps({"error": {"reason": f"failed to authenticate user [{user}]"}}).encode()
        self.calls.append((request.method, path, body))
        status, answer = self.answer(user, request.method, path, body)
        return status, json.dumps(answer).encode()

    def answer(self, user: str, method: str, path: str, body: Any) -> tuple[int, Any]:  # noqa: C901, PLR0911
        """Carry out one call and return its status and body."""
        parts = path.partition("?")[0].strip("/").split("/")
        match (method, parts):
            case ("GET", ["_cluster", "health"]):
                self.passwords["elastic"] = self.read or self.passwords["elastic"]
                return (self.unwell.pop(0), {"error": "unwell"}) if self.unwell else (200, {"status": "yellow"})
            case ("GET", ["_security", "_authenticate"]):
                return 200, {"username": user}
            case ("GET", ["_security", "role"]):
                return 200, {name: self.shown(role) for name, role in self.roles.items()}
            case ("GET", ["_security", "user"]):
                return 200, self.users
            case ("GET", ["_ilm", "policy"]):
                return 200, {name: {"version": 1, "policy": policy} for name, policy in self.policies.items()}
            case ("PUT", ["_security", "role", name]):
                self.roles[name] = body
                return 200, {"role": {"created": True}}
            case ("PUT", ["_security", "user", name]):
                if "password" in body:
                    self.passwords[name] = body["password"]
                assert name in self.passwords, "a new user needs a password"
                self.users[name] = {"username": name, "roles": body["roles"], "enabled": body.get("enabled", True)}
                return 200, {"created": True}
            case ("POST", ["_security", "user", name, "_password"]):
                self.passwords[name] = body["password"]
                return 200, {}
            case ("PUT", ["_ilm", "policy", name]):
                self.policies[name] = body["policy"]
                return 200, {"acknowledged": True}
        return 404, {"error": {"reason": f"{method} {path} is no call"}}

    def shown(self, role: dict[str, Any]) -> dict[str, Any]:
        """Return a role with what the version fills in."""
        indices = [{**entry, "allow_restricted_indices": False} for entry in role["indices"]]
        filled_in = {"applications": [], "run_as": [], "metadata": {}, "transient_metadata": {"enabled": True}}
        return {**filled_in, **role, "indices": indices}


@pytest.fixture(params=["6", "8"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Elasticsearch]:
    """Run a new cluster of each version."""
    cluster = Elasticsearch(request.param)
    with fake_server.serve(tmp_path, cluster.handle, client_certificate=True) as cluster.server:
        yield cluster


def converge(server: Elasticsearch, *, check_mode: bool = False) -> Any:
    """Do what the module does with the role's data, and return its result."""
    params = {
        "password": REAL,
        "former_passwords": [FORMER, BOOTSTRAP],
        "wait_seconds": 5,
        "roles": data(server.major, "__elasticsearch_roles"),
        "users": USERS,
        "ilm_policies": data(server.major, "__elasticsearch_ilm"),
    }
    client = connect(server)
    return elasticsearch_state.run(params, client, elasticsearch_state.State(client, check_mode=check_mode))


def connect(server: Elasticsearch) -> Any:
    """Return the module's client."""
    return elasticsearch_state.Client(https_api.Api(server.server.url, server.server.files))


def test_first_run_makes_the_documented_calls(server: Elasticsearch) -> None:
    """Each call has the method, path and body of the reference.

    https://www.elastic.co/guide/en/elasticsearch/reference/8.19/security-api-change-password.html,
    security-api-put-role.html, security-api-put-user.html and ilm-put-lifecycle.html there.
    """
    converge(server)
    roles = data(server.major, "__elasticsearch_roles")
    policy = data(server.major, "__elasticsearch_ilm")["logs"]
    assert server.writes == [
        ("POST", "/_security/user/elastic/_password", {"password": REAL}),
        *(("PUT", f"/_security/role/{name}", body) for name, body in roles.items()),
        *(
            ("PUT", f"/_security/user/{user['name']}", {"password": user["password"], "roles": [user["role"]]})
            for user in USERS
        ),
        ("PUT", "/_ilm/policy/logs", {"policy": policy}),
    ]
    for body in roles.values():
        assert body.keys() <= {"cluster", "indices", "applications", "run_as", "metadata", "global", "description"}
    size = "max_size" if server.major == "6" else "max_primary_shard_size"
    assert policy["phases"]["hot"]["actions"]["rollover"] == {size: "512mb", "max_age": "1d"}


def test_second_run_writes_nothing(server: Elasticsearch) -> None:
    """Reading and signing in is all that happens."""
    converge(server)
    server.calls.clear()
    result = converge(server)
    assert (result["changed"], result["actions"], result.get("diff")) == (False, [], None)
    assert result["requests"] == {"reads": len(server.calls), "writes": 0}
    assert result["status"] == "yellow"
    assert [path.split("?")[0] for _, path, _ in server.calls] == [
        "/_cluster/health",
        "/_security/role",
        "/_security/user",
        *["/_security/_authenticate"] * len(USERS),
        "/_ilm/policy",
    ]


def test_check_mode_tells_the_same_and_writes_nothing(server: Elasticsearch) -> None:
    """Also on a new cluster, where nobody of the wanted is there yet."""
    wanted = converge(server, check_mode=True)
    assert server.writes == []
    result = converge(server)
    assert {**result, "requests": None, "waited_seconds": 0} == {**wanted, "requests": None, "waited_seconds": 0}
    assert result["requests"]["writes"] == len(server.writes)
    for secret in (REAL, BOOTSTRAP, *(user["password"] for user in USERS)):
        assert secret not in str(result)


@pytest.mark.parametrize(
    ("damage", "mended"),
    [
        (lambda server: server.roles["disk_guard"].update(cluster=["all"]), ["write role disk_guard"]),
        (lambda server: server.roles["disk_guard"].update(run_as=["elastic"]), ["write role disk_guard"]),
        (
            lambda server: server.roles["filebeat_writer"]["indices"].append({"names": ["x"], "privileges": ["read"]}),
            ["write role filebeat_writer"],
        ),
        (lambda server: server.users["disk_guard"].update(roles=["superuser"]), ["write user disk_guard"]),
        (lambda server: server.passwords.update(disk_guard="other"), ["set the password of disk_guard"]),
        # Whether the password of a disabled user fits cannot be asked, so it is set.
        (
            lambda server: server.users["disk_guard"].update(enabled=False),
            ["write user disk_guard", "set the password of disk_guard"],
        ),
        (lambda server: server.policies["logs"]["phases"].pop("delete"), ["write lifecycle policy logs"]),
        (lambda server: server.users.pop("filebeat_writer"), ["add user filebeat_writer"]),
    ],
)
def test_what_somebody_changed_is_put_right(server: Elasticsearch, damage: Any, mended: list[str]) -> None:
    """With these writes alone, and the run after them has nothing to do."""
    converge(server)
    damage(server)
    assert converge(server)["actions"] == mended
    assert converge(server)["actions"] == []


def test_elastic_gets_another_password(server: Elasticsearch) -> None:
    """Where it still has the former one."""
    converge(server)
    server.passwords["elastic"] = FORMER
    assert converge(server)["actions"] == ["set the password of elastic"]
    assert server.passwords["elastic"] == REAL
    assert converge(server)["actions"] == []


def test_a_wrong_password_of_elastic_is_told_apart_from_a_slow_start(server: Elasticsearch) -> None:
    """It is refused only after a while, because a starting node refuses the right one, too."""
    server.passwords["elastic"] = "what somebody else chose"
    client = connect(server)
    now = iter(range(1000))
    with pytest.raises(PermissionError):
        elasticsearch_state.wait(client, [REAL, BOOTSTRAP], 120, clock=lambda: next(now), sleep=lambda _: None)
    assert next(now) > elasticsearch_state.WRONG_AFTER_SECONDS
    assert server.calls == []


def test_a_password_is_not_set_again_because_a_node_has_just_started(server: Elasticsearch) -> None:
    """Until it has read the index of passwords, it takes the keystore's and refuses the right one."""
    converge(server)
    server.passwords["elastic"], server.read = BOOTSTRAP, REAL
    assert converge(server)["actions"] == []


def test_waits_for_a_cluster_that_is_not_ready(server: Elasticsearch) -> None:
    """A red cluster answers 408 in time; without a master it is 503."""
    server.unwell = [503, 408, 408]
    client = connect(server)
    slept: list[float] = []
    assert elasticsearch_state.wait(client, [REAL, BOOTSTRAP], 60, sleep=slept.append) == "yellow"
    assert len(slept) == 3
    assert client.password == BOOTSTRAP


def test_says_at_the_end_of_the_wait_what_was_answered(server: Elasticsearch) -> None:
    """Not merely that the time is up."""
    server.unwell = [503] * 100
    client = connect(server)
    now = iter(range(1000))
    with pytest.raises(https_api.ApiError, match=r"not ready after 10 s: GET .*503"):
        elasticsearch_state.wait(client, [BOOTSTRAP], 10, clock=lambda: next(now), sleep=lambda _: None)


@pytest.mark.parametrize(
    ("entries", "actions"),
    [
        (None, ["create the keystore", "add bootstrap.password"]),
        (["keystore.seed"], ["add bootstrap.password"]),
        (["keystore.seed", "bootstrap.password"], []),
        (
            ["autoconfiguration.password_hash", "keystore.seed"],
            ["remove autoconfiguration.password_hash", "add bootstrap.password"],
        ),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_keystore(tmp_path: Path, entries: list[str] | None, actions: list[str], *, check_mode: bool) -> None:
    """The password is added where it is missing, by standard input, and what the package left is taken out."""
    ran: list[tuple[list[str], str | None]] = []

    def run_command(command: list[str], *, data: str | None, **more: Any) -> tuple[int, str, str]:
        assert more == {"check_rc": True, "environ_update": {"ES_PATH_CONF": str(tmp_path)}}
        ran.append((command, data))
        return 0, "\n".join(entries or []) + "\n", ""

    if entries is not None:
        (tmp_path / "elasticsearch.keystore").touch()
    params = {"program": "tool", "config_dir": str(tmp_path)}
    keystore = elasticsearch_keystore.Keystore(
        SimpleNamespace(params=params, check_mode=check_mode, run_command=run_command)
    )
    keystore.ensure(BOOTSTRAP, data("8", "__elasticsearch_keystore_unwanted"))
    assert keystore.actions == actions
    commands = {
        "create the keystore": (["tool", "create"], None),
        "remove autoconfiguration.password_hash": (["tool", "remove", "autoconfiguration.password_hash"], None),
        "add bootstrap.password": (["tool", "add", "--stdin", "bootstrap.password"], BOOTSTRAP),
    }
    listed = [] if entries is None else [(["tool", "list"], None)]
    assert ran == listed + ([] if check_mode else [commands[action] for action in actions])
