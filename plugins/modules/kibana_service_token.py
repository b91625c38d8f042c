#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Ansible module: keep a working service-account token in Kibana's keystore."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kibana_service_token
short_description: Keep a working service-account token in Kibana's keystore
description:
  - Asks Elasticsearch whether the token in the keystore still lets Kibana in. Only where there is none, or it does not,
    a new one takes the place of the old one of the same name.
  - The token goes from Elasticsearch's answer to the keystore's standard input, and nowhere else.
options:
  elasticsearch_url: {type: str, required: true, description: Address of Elasticsearch.}
  elasticsearch_password: {type: str, required: true, description: Password of the user C(elastic).}
  ca_file: {type: path, required: true, description: Authority that signed Elasticsearch's certificate.}
  cert_file: {type: path, required: true, description: Client certificate.}
  key_file: {type: path, required: true, description: Private key of the client certificate.}
  name: {type: str, required: true, description: "Name of the token: letters, digits, dashes and underscores."}
  config_dir: {type: path, default: /etc/kibana, description: Folder of the keystore.}
  program: {type: path, default: /usr/share/kibana/bin/kibana-keystore, description: The keystore's tool.}
  user: {type: str, default: kibana, description: User who owns the keystore; empty for whoever runs the module.}
author: ansible-sre-stack authors
"""

EXAMPLES = r"""
- name: Let Kibana in
  sre.stack.kibana_service_token:
    elasticsearch_url: https://192.0.2.14:9200
    elasticsearch_password: "{{ elasticsearch_password }}"
    ca_file: /etc/ssl/site/ca.crt
    cert_file: /etc/ssl/site/host.crt
    key_file: /etc/ssl/site/host.key
    name: ansible-monitoring
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

import json
from http import HTTPStatus
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sre.stack.plugins.module_utils.https_api import TLS_OPTIONS, Api, ApiError, basic, bearer

SETTING = "elasticsearch.serviceAccountToken"
ACCOUNT = "elastic/kibana"


class Keystore:
    """Kibana's own tool for its keystore."""

    def __init__(self, module: AnsibleModule) -> None:
        """Use the program, folder and user of the module's parameters."""
        self.module = module
        self.file = Path(module.params["config_dir"]) / "kibana.keystore"

    def run(self, *arguments: str, value: str | None = None) -> str:
        """Run the tool and return its output; ends the module where the tool fails."""
        user = self.module.params["user"]
        become = ["runuser", "-u", user, "--"] if user else []
        command = [*become, self.module.params["program"], *arguments]
        environment = {"KBN_PATH_CONF": str(self.file.parent)}
        code, output, errors = self.module.run_command(command, data=value, environ_update=environment)
        if code:
            # Not its output: that may be the token.
            self.module.fail_json(msg=f"kibana_service_token: {' '.join(command)}: exit code {code}: {errors.strip()}")
        return str(output)

    def read(self) -> str:
        """Return the token in the keystore, or nothing."""
        if not self.file.exists() or SETTING not in self.run("list").split():
            return ""
        # Ahead of what it was asked for, the tool may print notices, such as one about OpenSSL's legacy providers.
        return "".join(self.run("show", SETTING).split()[-1:])

    def write(self, token: str) -> None:
        """Put the token into the keystore, which is made where it is missing."""
        if not self.file.exists():
            self.run("create")
        # The tool takes what parses as JSON for JSON; quoted, a token is text whatever it looks like.
        self.run("add", SETTING, "--stdin", "--force", value=json.dumps(token))


class Tokens:
    """Elasticsearch's tokens of Kibana's service account."""

    def __init__(self, api: Api, name: str) -> None:
        """Manage the token ``name`` through ``api``."""
        self.api = api
        self.path = f"/_security/service/{ACCOUNT}/credential/token/{name}"

    def works(self, token: str) -> bool:
        """Return whether Elasticsearch takes ``token`` for Kibana's."""
        try:
            answer = self.api.call("GET", "/_security/_authenticate", headers=bearer(token))
        except ApiError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
            return False
        return bool(answer["username"] == ACCOUNT)

    def renew(self) -> str:
        """Return a new token in place of the old one of the same name."""
        try:
            self.api.call("DELETE", self.path)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        return str(self.api.call("POST", self.path)["token"]["value"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "elasticsearch_url": {"type": "str", "required": True},
            "elasticsearch_password": {"type": "str", "required": True, "no_log": True},
            **TLS_OPTIONS,
            "name": {"type": "str", "required": True},
            "config_dir": {"type": "path", "default": "/etc/kibana"},
            "program": {"type": "path", "default": "/usr/share/kibana/bin/kibana-keystore"},
            "user": {"type": "str", "default": "kibana"},
        },
        supports_check_mode=True,
    )
    params = module.params
    keystore = Keystore(module)
    actions = []
    try:
        signed_in = basic("elastic", params["elasticsearch_password"])
        tokens = Tokens(Api(params["elasticsearch_url"], params, headers=signed_in), params["name"])
        present = keystore.read()
        if not (present and tokens.works(present)):
            actions.append("replace the token" if present else "make a token")
            if not module.check_mode:
                keystore.write(tokens.renew())
    except ApiError as error:
        module.fail_json(msg=f"kibana_service_token: {error}", actions=actions)
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
