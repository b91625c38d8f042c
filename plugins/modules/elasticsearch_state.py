#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Ansible module: wait for Elasticsearch and keep its passwords, roles, users and lifecycle policies."""

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch_state
short_description: Wait for Elasticsearch and keep its passwords, roles, users and lifecycle policies
description:
  - Speaks Elasticsearch's REST API over TLS with a client certificate, as the user C(elastic).
  - Reads first, compares, and writes only what differs. Passwords are compared by signing in with them.
  - Until C(elastic) has its password it is signed in with one that it had before, such as that of the keystore.
options:
  url: {type: str, required: true, description: "URL of a node, for instance https://192.0.2.1:9200."}
  ca_file: {type: path, required: true, description: Authority that signed the node's certificate.}
  cert_file: {type: path, required: true, description: Client certificate.}
  key_file: {type: path, required: true, description: Private key of the client certificate.}
  password: {type: str, required: true, description: Password of C(elastic).}
  password_option: {type: str, default: password, description: Name of the variable to blame for a wrong password.}
  former_passwords:
    type: list
    elements: str
    required: true
    description: Passwords that C(elastic) may still have, such as the bootstrap password of the keystore.
  wait_seconds: {type: int, default: 120, description: How long to wait until the cluster is at least yellow.}
  roles:
    type: dict
    default: {}
    description: "Roles, name to body with C(cluster) and C(indices)."
  users:
    type: list
    elements: dict
    default: []
    description: Users besides the built-in ones.
    suboptions:
      name: {type: str, required: true, description: Name of the user.}
      password: {type: str, required: true, description: Its password.}
      role: {type: str, required: true, description: Its only role.}
  ilm_policies:
    type: dict
    default: {}
    description: "Lifecycle policies, name to policy, with every field that the version fills in."
author: ansible-sre-stack authors
"""

EXAMPLES = r"""
- name: Let a report read the logs
  sre.stack.elasticsearch_state:
    url: https://192.0.2.1:9200
    ca_file: /etc/elasticsearch/certs/ca.crt
    cert_file: /etc/elasticsearch/certs/host.crt
    key_file: /etc/elasticsearch/certs/host.key
    password: "{{ elasticsearch_password }}"
    former_passwords: ["{{ elasticsearch_bootstrap_password }}"]
    roles:
      reader:
        indices: [{names: ["filebeat-*"], privileges: [read]}]
    users:
      - {name: reader, password: "{{ elasticsearch_reader_password }}", role: reader}
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
requests:
  description: Calls of the API, those that write counted apart.
  type: dict
  returned: always
status:
  description: Health of the cluster, green or yellow.
  type: str
  returned: success
waited_seconds:
  description: How long the cluster took to be at least yellow.
  type: float
  returned: success
"""

import json
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sre.stack.plugins.module_utils.https_api import TLS_OPTIONS, Api, ApiError, basic

# While the node reads the index of passwords it refuses right ones too; only then is a password wrong.
WRONG_AFTER_SECONDS = 20

Json = dict[str, Any]


class Client:
    """Elasticsearch's REST API, as ``elastic`` or another user."""

    def __init__(self, api: Api) -> None:
        """Speak through ``api``."""
        self.api = api
        self.password = ""
        self.reads = 0
        self.writes = 0

    def call(
        self, method: str, path: str, body: Json | None = None, *, user: str = "elastic", password: str = ""
    ) -> Json:
        """Call the API, as ``elastic`` unless ``user`` is given, and return the answer."""
        if method == "GET":
            self.reads += 1
        else:
            self.writes += 1
        return self.api.call(method, path, body, basic(user, password or self.password))

    def signs_in(self, user: str, password: str) -> bool:
        """Return whether ``user`` has ``password``."""
        try:
            self.call("GET", "/_security/_authenticate", user=user, password=password)
        except ApiError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
            return False
        return True


def wait(
    client: Client,
    passwords: list[str],
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Wait until the cluster is at least yellow, and return its status.

    The first of ``passwords`` that signs ``elastic`` in stays set at ``client``.

    Raises:
        PermissionError: no password signs in, although the node answers.
        ApiError: the time is up; the text is the last refusal.
    """
    begin = clock()
    refused_since: float | None = None
    while True:
        last = ApiError("no answer")
        for password in passwords:
            client.password = password
            try:
                return str(client.call("GET", "/_cluster/health?wait_for_status=yellow&timeout=5s")["status"])
            except ApiError as error:
                last = error
                if error.status != HTTPStatus.UNAUTHORIZED:
                    break
        now = clock()
        if last.status != HTTPStatus.UNAUTHORIZED:
            refused_since = None
        elif refused_since is None:
            refused_since = now
        elif now - refused_since >= WRONG_AFTER_SECONDS:
            raise PermissionError
        if now - begin >= seconds:
            raise ApiError(f"not ready after {seconds:.0f} s: {last}", status=last.status)
        sleep(0.5)


def plain_role(body: Json) -> Json:
    """Return a role in a form that compares: order does not matter, empty parts are the same as none."""
    indices = []
    for entry in body.get("indices", []):
        rest = {key: value for key, value in entry.items() if value and key not in {"names", "privileges"}}
        indices.append({"names": sorted(entry["names"]), "privileges": sorted(entry["privileges"]), **rest})
    plain = {key: value for key, value in body.items() if value and key != "transient_metadata"}
    plain.pop("indices", None)
    plain.pop("cluster", None)
    if body.get("cluster"):
        plain["cluster"] = sorted(body["cluster"])
    if indices:
        plain["indices"] = sorted(indices, key=lambda entry: json.dumps(entry, sort_keys=True))
    return plain


class State:
    """Brings Elasticsearch to the wanted state, noting each action and the difference it makes."""

    def __init__(self, client: Client, *, check_mode: bool) -> None:
        """Act through ``client``, or only note what would be done."""
        self.client = client
        self.check_mode = check_mode
        self.actions: list[str] = []
        self.before: Json = {}
        self.after: Json = {}

    def act(self, note: str, method: str, path: str, body: Json) -> None:
        """Note an action and, unless in check mode, do it."""
        self.actions.append(note)
        if not self.check_mode:
            self.client.call(method, path, body)

    def differs(self, name: str, before: object, after: object) -> bool:
        """Return whether two states differ, and keep them for the diff if so."""
        if before == after:
            return False
        self.before[name] = before
        self.after[name] = after
        return True

    def elastic(self, password: str) -> None:
        """Make ``elastic`` have its password where it still has one from before."""
        if self.client.password == password:
            return
        # A node that starts takes the keystore's password until it has read the index of passwords, and has by now.
        if not self.client.signs_in("elastic", password):
            self.act("set the password of elastic", "POST", "/_security/user/elastic/_password", {"password": password})
            self.differs("password of elastic", "a former one", "set")
            if self.check_mode:
                return
        self.client.password = password

    def roles(self, wanted: dict[str, Json]) -> None:
        """Make these roles exist exactly so."""
        known = self.client.call("GET", "/_security/role") if wanted else {}
        for name, body in wanted.items():
            current = plain_role(known[name]) if name in known else None
            if self.differs(f"role {name}", current, plain_role(body)):
                self.act(f"write role {name}", "PUT", f"/_security/role/{quote(name)}", body)

    def users(self, wanted: list[dict[str, str]]) -> None:
        """Make these users exist, enabled, with their password and only their role."""
        known = self.client.call("GET", "/_security/user") if wanted else {}
        for user in wanted:
            name, password, roles = user["name"], user["password"], [user["role"]]
            path = f"/_security/user/{quote(name)}"
            current = known.get(name)
            if current is None:
                self.differs(f"user {name}", None, {"roles": roles, "enabled": True})
                self.act(f"add user {name}", "PUT", path, {"password": password, "roles": roles})
                continue
            shown = {"roles": current["roles"], "enabled": current["enabled"]}
            if self.differs(f"user {name}", shown, {"roles": roles, "enabled": True}):
                self.act(f"write user {name}", "PUT", path, {"roles": roles, "enabled": True})
            # Who is disabled cannot sign in: the password is then compared in the next run, if not set here.
            if not current["enabled"] or not self.client.signs_in(name, password):
                self.differs(f"password of {name}", "another", "set")
                self.act(f"set the password of {name}", "POST", f"{path}/_password", {"password": password})

    def ilm_policies(self, wanted: dict[str, Json]) -> None:
        """Make these lifecycle policies exist exactly so."""
        known = self.client.call("GET", "/_ilm/policy") if wanted else {}
        for name, policy in wanted.items():
            current = known[name]["policy"]["phases"] if name in known else None
            if self.differs(f"lifecycle policy {name}", current, policy["phases"]):
                self.act(f"write lifecycle policy {name}", "PUT", f"/_ilm/policy/{quote(name)}", {"policy": policy})


def run(params: Json, client: Client, state: State) -> Json:
    """Do what the module's parameters ask and return its result.

    Raises:
        PermissionError: ``elastic`` has another password.
        ApiError: a call was refused or not answered.
    """
    begin = time.monotonic()
    status = wait(client, [params["password"], *params["former_passwords"]], params["wait_seconds"])
    waited = round(time.monotonic() - begin, 1)
    state.elastic(params["password"])
    state.roles(params["roles"])
    state.users(params["users"])
    state.ilm_policies(params["ilm_policies"])
    result: Json = {
        "changed": bool(state.actions),
        "actions": state.actions,
        "requests": {"reads": client.reads, "writes": client.writes},
        "status": status,
        "waited_seconds": waited,
    }
    if state.actions:
        before, after = (json.dumps(side, indent=2, sort_keys=True) + "\n" for side in (state.before, state.after))
        result["diff"] = {"before": before, "after": after}
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            **TLS_OPTIONS,
            "password": {"type": "str", "required": True, "no_log": True},
            "password_option": {"type": "str", "default": "password", "no_log": False},
            "former_passwords": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "wait_seconds": {"type": "int", "default": 120},
            "roles": {"type": "dict", "default": {}},
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "role": {"type": "str", "required": True},
                },
            },
            "ilm_policies": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params = module.params
    actions: list[str] = []
    try:
        client = Client(Api(params["url"], params))
        state = State(client, check_mode=module.check_mode)
        actions = state.actions
        result = run(params, client, state)
    except PermissionError:
        module.fail_json(
            msg=f"elasticsearch: {params['password_option']} is not the password of elastic at {params['url']}: "
            "somebody changed it there or here; give the one in use, or set it there through the API first."
        )
    except ApiError as error:
        module.fail_json(msg=f"elasticsearch: {error}", actions=actions)
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
