#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Ansible module: switch etcd's authentication on and keep its users and roles."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_auth
short_description: Switch etcd's authentication on and keep its users and roles
description:
  - Speaks etcd's v3 API through its JSON gateway with a client certificate.
  - Each user has a role of the same name with the permissions listed, and no others.
  - The user C(root), which etcd requires, has the role C(root).
options:
  endpoint: {type: str, required: true, description: "URL of a member, for instance https://192.0.2.1:2379."}
  ca_file: {type: path, required: true, description: Authority that signed the member's certificate.}
  cert_file: {type: path, required: true, description: Client certificate.}
  key_file: {type: path, required: true, description: Private key of the client certificate.}
  root_password: {type: str, required: true, description: Password of C(root).}
  root_password_former: {type: str, default: "", description: "Password that C(root) had before, and gets replaced."}
  users:
    type: list
    elements: dict
    default: []
    description: Users besides C(root).
    suboptions:
      name: {type: str, required: true, description: Name of the user and of its role.}
      password: {type: str, required: true, description: Its password.}
      prefix: {type: str, description: Keys with this prefix are the user's.}
      writes: {type: list, elements: str, default: [], description: Single keys that it may read and write.}
      reads: {type: list, elements: str, default: [], description: Single keys that it may read.}
  exclusive: {type: bool, default: false, description: Whether users and roles that are not listed are removed.}
author: ansible-sre-stack authors
"""

EXAMPLES = r"""
- name: Let Patroni use its own keys only
  sre.stack.etcd_auth:
    endpoint: https://192.0.2.1:2379
    ca_file: /etc/ssl/site/ca.crt
    cert_file: /etc/ssl/site/host.crt
    key_file: /etc/ssl/site/host.key
    root_password: "{{ etcd_root_password }}"
    users:
      - {name: patroni, password: "{{ patroni_etcd_password }}", prefix: /service/}
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
others:
  description: Users and roles that are not listed and were not removed, by name.
  type: list
  elements: str
  returned: success
"""

import base64
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sre.stack.plugins.module_utils.https_api import TLS_OPTIONS, Api, ApiError

TIMEOUT_SECONDS = 10
# Texts of etcd's errors (api/v3rpc/rpctypes), which its gateway hands through.
NOT_ENABLED = "authentication is not enabled"
WRONG_PASSWORD = "authentication failed, invalid user ID or password"  # noqa: S105 - a message, no password


def encode(text: str) -> str:
    """Return a key as the gateway wants it."""
    return base64.b64encode(text.encode()).decode()


def prefix_end(prefix: str) -> str:
    """Return the first key behind all keys that start with ``prefix`` (etcd's range end of a prefix)."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def permissions(user: dict[str, Any]) -> list[dict[str, str]]:
    """Return what a user may do, in etcd's words."""
    wanted = []
    if prefix := user.get("prefix"):
        wanted.append({"permType": "READWRITE", "key": encode(prefix), "range_end": encode(prefix_end(prefix))})
    wanted += [{"permType": "READWRITE", "key": encode(key)} for key in user.get("writes") or []]
    return wanted + [{"permType": "READ", "key": encode(key)} for key in user.get("reads") or []]


class Gateway:
    """etcd's JSON gateway, one call a method of its auth service."""

    def __init__(self, api: Api) -> None:
        """Speak to a member through ``api``, without a token at first."""
        self.api = api
        self.token = ""

    def call(self, path: str, **body: Any) -> dict[str, Any]:
        """POST ``body`` to ``/v3/<path>`` and return the answer."""
        headers = {"Authorization": self.token} if self.token else None
        return self.api.call("POST", f"/v3/{path}", body, headers)

    def log_in(self, name: str, password: str) -> str:
        """Return a token for ``name``; raises ApiError with NOT_ENABLED or WRONG_PASSWORD."""
        return str(self.call("auth/authenticate", name=name, password=password)["token"])


class Auth:
    """Brings users, roles and the switch itself to the wanted state, noting each action."""

    def __init__(self, gateway: Gateway, *, check_mode: bool) -> None:
        """Act through ``gateway``, or only note what would be done."""
        self.gateway = gateway
        self.check_mode = check_mode
        self.actions: list[str] = []

    def act(self, note: str, path: str, **body: Any) -> None:
        """Note an action and, unless in check mode, do it."""
        self.actions.append(note)
        if not self.check_mode:
            self.gateway.call(path, **body)

    def sign_in(self, passwords: list[str]) -> bool:
        """Sign ``root`` in with the first password that fits; return whether authentication is on at all."""
        for password in passwords:
            try:
                self.gateway.token = self.gateway.log_in("root", password)
            except ApiError as error:
                if NOT_ENABLED in str(error):
                    return False
                if WRONG_PASSWORD not in str(error) or password == passwords[-1]:
                    raise
            else:
                break
        return True

    def ensure(
        self, root_password: str, users: list[dict[str, Any]], *, exclusive: bool, former: str = ""
    ) -> list[str]:
        """Make ``root`` and ``users`` be as wanted, switch authentication on, and return the others there are."""
        enabled = self.sign_in([root_password, former] if former else [root_password])
        known_users = self.gateway.call("auth/user/list").get("users", [])
        known_roles = self.gateway.call("auth/role/list").get("roles", [])
        self.user("root", root_password, "root", known_users, enabled=enabled)
        # Whose password changes is signed out.
        if enabled and self.actions and not self.check_mode:
            self.sign_in([root_password])
        for user in users:
            self.role(user["name"], permissions(user), known_roles)
            self.user(user["name"], user["password"], user["name"], known_users, enabled=enabled)
        others = sorted({*known_users, *known_roles} - {"root", *(user["name"] for user in users)})
        while exclusive and others:
            self.remove(others.pop(), known_users, known_roles)
        if not enabled:
            self.act("switch authentication on", "auth/enable")
        return others

    def remove(self, name: str, known_users: list[str], known_roles: list[str]) -> None:
        """Make there be no user and no role ``name``."""
        if name in known_users:
            self.act(f"delete user {name}", "auth/user/delete", name=name)
        if name in known_roles:
            self.act(f"delete role {name}", "auth/role/delete", role=name)

    def role(self, name: str, wanted: list[dict[str, str]], known: list[str]) -> None:
        """Make role ``name`` allow what is wanted and nothing else."""
        current: list[dict[str, str]] = []
        if name in known:
            # The gateway leaves out what is its default.
            found = self.gateway.call("auth/role/get", role=name).get("perm", [])
            current = [{"permType": "READ"} | permission for permission in found]
        else:
            self.act(f"add role {name}", "auth/role/add", name=name)
        for permission in current:
            if permission not in wanted:
                self.act(
                    f"revoke a permission of role {name}",
                    "auth/role/revoke",
                    role=name,
                    key=permission.get("key", ""),
                    range_end=permission.get("range_end", ""),
                )
        for permission in wanted:
            if permission not in current:
                key = base64.b64decode(permission["key"]).decode()
                self.act(f"let role {name} use {key}", "auth/role/grant", name=name, perm=permission)

    def user(self, name: str, password: str, role: str, known: list[str], *, enabled: bool) -> None:
        """Make user ``name`` have ``password`` and ``role``."""
        roles: list[str] = []
        if name not in known:
            self.act(f"add user {name}", "auth/user/add", name=name, password=password)
        else:
            roles = self.gateway.call("auth/user/get", name=name).get("roles", [])
            # Whether a password fits can only be asked while authentication is on; before, it is set again.
            if not enabled or not self.fits(name, password):
                self.act(f"set the password of {name}", "auth/user/changepw", name=name, password=password)
        if role not in roles:
            self.act(f"give user {name} role {role}", "auth/user/grant", user=name, role=role)

    def fits(self, name: str, password: str) -> bool:
        """Return whether ``name`` can log in with ``password``."""
        try:
            self.gateway.log_in(name, password)
        except ApiError as error:
            if WRONG_PASSWORD not in str(error):
                raise
            return False
        return True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "endpoint": {"type": "str", "required": True},
            **TLS_OPTIONS,
            "root_password": {"type": "str", "required": True, "no_log": True},
            "root_password_former": {"type": "str", "default": "", "no_log": True},
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "prefix": {"type": "str"},
                    "writes": {"type": "list", "elements": "str", "default": []},
                    "reads": {"type": "list", "elements": "str", "default": []},
                },
            },
            "exclusive": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    actions: list[str] = []
    others: list[str] = []
    try:
        gateway = Gateway(Api(params["endpoint"], params, timeout=TIMEOUT_SECONDS))
        auth = Auth(gateway, check_mode=module.check_mode)
        actions = auth.actions
        others = auth.ensure(
            params["root_password"],
            params["users"],
            exclusive=params["exclusive"],
            former=params["root_password_former"],
        )
    except ApiError as error:
        module.fail_json(msg=f"etcd_auth: {error}", actions=actions)
    module.exit_json(changed=bool(actions), actions=actions, others=others)


if __name__ == "__main__":
    main()
