#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Ansible module: check that Filebeat can deliver, and set up in Elasticsearch what it needs there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: filebeat_setup
short_description: Check that Filebeat can deliver, and set up in Elasticsearch what it needs there
description:
  - Signs in as both of Filebeat's users with the certificate Filebeat will use; says in one line what does not fit.
  - Asks Elasticsearch for index template, place to write and ingest pipelines of this version of Filebeat.
  - Where one is missing or differs, runs C(filebeat setup) with a configuration of its own, then asks again.
options:
  hosts: {type: list, elements: str, required: true, description: "URLs of Elasticsearch, https only."}
  ca_file: {type: path, required: true, description: Authority that signed Elasticsearch's certificate.}
  cert_file: {type: path, required: true, description: Client certificate.}
  key_file: {type: path, required: true, description: Private key of the client certificate.}
  writer_user: {type: str, required: true, description: User that writes events.}
  writer_password: {type: str, required: true, description: Its password.}
  setup_user: {type: str, required: true, description: User that sets up.}
  setup_password: {type: str, required: true, description: Its password.}
  program: {type: path, required: true, description: The program Filebeat.}
  version: {type: str, required: true, description: "Its version, which names template, index and pipelines."}
  majors: {type: list, elements: int, required: true, description: Major versions of Elasticsearch that it works with.}
  data_stream: {type: bool, required: true, description: Whether it writes to a data stream instead of an alias.}
  modules: {type: dict, required: true, description: Filesets by module.}
  policy: {type: str, required: true, description: Lifecycle policy of the indices; must exist.}
  settings: {type: dict, required: true, description: Settings of the indices.}
  fields: {type: list, elements: dict, required: true, description: Fields besides Filebeat's own; name and type.}
author: ansible-sre-stack authors
"""

EXAMPLES = r"""
- name: Set up what nginx's events need
  sre.stack.filebeat_setup:
    hosts: ["https://192.0.2.14:9200"]
    ca_file: /etc/ssl/site/ca.crt
    cert_file: /etc/ssl/site/host.crt
    key_file: /etc/ssl/site/host.key
    writer_user: filebeat_writer
    writer_password: "{{ filebeat_writer_password }}"
    setup_user: filebeat_setup
    setup_password: "{{ filebeat_setup_password }}"
    program: /usr/share/filebeat/bin/filebeat
    version: 8.19.0
    majors: [8]
    data_stream: true
    modules: {nginx: [access, error]}
    policy: logs
    settings: {index.number_of_shards: 1, index.number_of_replicas: 0}
    fields: [{name: nginx.upstream.backend, type: keyword}]
"""

RETURN = r"""
actions:
  description: What was missing and has been set up, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

import json
import os
import subprocess
import tempfile
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sre.stack.plugins.module_utils.https_api import TLS_OPTIONS, Api, ApiError, basic

TIMEOUT_SECONDS = 15
SETUP_SECONDS = 300

Json = dict[str, Any]


class SetupError(Exception):
    """What does not fit, in one line that names the option."""


class Elasticsearch:
    """The first of the given servers that answers, as one user."""

    def __init__(self, options: Json, user: str, password: str, option: str) -> None:
        """Sign in as ``user``; ``option`` is the role's option with the password."""
        self.user = user
        self.option = option
        signed_in = basic(user, password)
        try:
            self.servers = [
                Api(url, options, headers=signed_in, timeout=TIMEOUT_SECONDS, where="filebeat_tls_dir")
                for url in options["hosts"]
            ]
        except ApiError as error:
            raise SetupError(str(error)) from error

    def ask(self, path: str, method: str = "GET", content: Json | None = None) -> Json | None:
        """Return what is at ``path``, or None where nothing is.

        Raises:
            SetupError: no server answered, or a certificate, the password or the user's role does not fit.
        """
        reasons = []
        for server in self.servers:
            try:
                return server.call(method, path, content)
            except ApiError as error:
                text = f"{error}."
                match error.status:
                    case HTTPStatus.NOT_FOUND:
                        return None
                    case HTTPStatus.UNAUTHORIZED:
                        text = f"{server.url} refuses user {self.user}: {self.option} is not the password it has there."
                    case HTTPStatus.FORBIDDEN:
                        text = f"user {self.user} may not read {path} (HTTP 403); give it the role for that."
                if error.status or error.tls:
                    raise SetupError(text) from error
                reasons.append(str(error))
        raise SetupError(f"filebeat_elasticsearch_hosts: {'; '.join(reasons)}.")


def flat(settings: Json, prefix: str = "") -> dict[str, str]:
    """Return nested settings as dotted names with text values, as Elasticsearch compares them."""
    result: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = str(value).lower() if isinstance(value, bool) else str(value)
    return result


def mapped(mappings: Json, name: str) -> str | None:
    """Return the type of the field ``name``, or None where it has none."""
    node: Any = mappings
    for part in name.split("."):
        node = node.get("properties", {}).get(part) if isinstance(node, dict) else None
    return str(node.get("type")) if isinstance(node, dict) else None


class Setup:
    """What this Filebeat needs in Elasticsearch."""

    def __init__(self, options: Json, elasticsearch: Elasticsearch) -> None:
        """Ask ``elasticsearch`` as the user that sets up."""
        self.options = options
        self.elasticsearch = elasticsearch
        self.name = f"filebeat-{options['version']}"

    def check_version(self) -> None:
        """Refuse an Elasticsearch that this Filebeat does not work with."""
        body = self.elasticsearch.ask("/") or {}
        version = str(body.get("version", {}).get("number", "unknown"))
        majors = self.options["majors"]
        if version.split(".", 1)[0] not in map(str, majors):
            wanted = " or ".join(map(str, majors))
            ours = f"Filebeat {self.options['version']} (filebeat_version)"
            raise SetupError(
                f"{ours} works with Elasticsearch {wanted}, and filebeat_elasticsearch_hosts has {version}."
            )

    def check_policy(self) -> None:
        """Refuse a lifecycle policy that is not there: indices without one would grow for ever."""
        policy = self.options["policy"]
        if self.elasticsearch.ask(f"/_ilm/policy/{policy}") is None:
            raise SetupError(f"filebeat_ilm_policy {policy} does not exist; run role elasticsearch first.")

    def template(self) -> Json | None:
        """Return settings and mappings of the index template, or None."""
        if self.options["data_stream"]:
            body = self.elasticsearch.ask(f"/_index_template/{self.name}")
            templates = (body or {}).get("index_templates") or []
            return templates[0]["index_template"]["template"] if templates else None
        body = self.elasticsearch.ask(f"/_template/{self.name}")
        return (body or {}).get(self.name)

    def template_is_right(self) -> bool:
        """Return whether the template carries our settings and fields."""
        template = self.template()
        if template is None:
            return False
        found = flat(template.get("settings", {}))
        wanted = flat(self.options["settings"]) | {"index.lifecycle.name": self.options["policy"]}
        if any(found.get(name) != value for name, value in wanted.items()):
            return False
        mappings = template.get("mappings", {})
        # Before version 7, mappings stand below the name of the document's type.
        if "properties" not in mappings and len(mappings) == 1:
            mappings = next(iter(mappings.values()))
        return all(mapped(mappings, field["name"]) == field["type"] for field in self.options["fields"])

    def indices(self) -> dict[str, bool]:
        """Return the indices behind the alias, each with whether it is the one that is written to."""
        body = self.elasticsearch.ask(f"/_alias/{self.name}") or {}
        return {index: bool(one["aliases"][self.name].get("is_write_index")) for index, one in body.items()}

    def missing(self) -> list[str]:
        """Return what has to be set up."""
        result = []
        if not self.template_is_right():
            result.append(f"index template {self.name}")
        if self.options["data_stream"]:
            if not self.elasticsearch.ask(f"/_data_stream/{self.name}"):
                result.append(f"data stream {self.name}")
        elif not any(self.indices().values()):
            result.append(f"alias {self.name}")
        result += [
            f"pipeline of {module}.{fileset}"
            for module, filesets in sorted(self.options["modules"].items())
            for fileset in filesets
            if not self.elasticsearch.ask(f"/_ingest/pipeline/{self.name}-{module}-{fileset}-*")
        ]
        return result

    def configuration(self) -> Json:
        """Return Filebeat's configuration for the set-up, which knows no password."""
        options = self.options
        modules = [
            {"module": module} | {fileset: {"enabled": True} for fileset in filesets}
            for module, filesets in options["modules"].items()
        ]
        return {
            "filebeat.modules": modules,
            "setup.ilm": {"enabled": True, "policy_name": options["policy"], "check_exists": True, "overwrite": False},
            "setup.template": {
                "enabled": True,
                "overwrite": True,
                "settings": options["settings"],
                "append_fields": options["fields"],
            },
            "output.elasticsearch": {
                "hosts": options["hosts"],
                "username": options["setup_user"],
                "password": "${FILEBEAT_SETUP_PASSWORD}",
                "ssl.certificate_authorities": [options["ca_file"]],
                "ssl.certificate": options["cert_file"],
                "ssl.key": options["key_file"],
                "ssl.verification_mode": "full",
            },
        }

    def run(self) -> None:
        """Run Filebeat's own set-up.

        Raises:
            SetupError: it failed; the text is its last line.
        """
        with tempfile.TemporaryDirectory(prefix="filebeat-setup-") as folder:
            # JSON is YAML.
            (Path(folder) / "filebeat.yml").write_text(json.dumps(self.configuration()), encoding="utf-8")
            home = Path(self.options["program"]).parent.parent
            command = [self.options["program"], "setup", "--index-management", "--pipelines"]
            command += ["-c", f"{folder}/filebeat.yml", "--path.home", str(home), "--path.config", folder]
            command += ["--path.data", f"{folder}/data", "--path.logs", f"{folder}/logs"]
            environment = os.environ | {"FILEBEAT_SETUP_PASSWORD": self.options["setup_password"]}
            try:
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=False, timeout=SETUP_SECONDS
                )
            except subprocess.TimeoutExpired as error:
                raise SetupError(f"filebeat setup did not end within {SETUP_SECONDS} s.") from error
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise SetupError(f"filebeat setup failed: {lines[-1]}")

    def make_write_index(self) -> None:
        """Create the next index where the one that was written to has been deleted and older ones keep the alias."""
        indices = {} if self.options["data_stream"] else self.indices()
        if indices and not any(indices.values()):
            number = max(int(index.rpartition("-")[2]) for index in indices) + 1
            path = quote(f"<{self.name}-{{now/d}}-{number:06}>", safe="")
            self.elasticsearch.ask(f"/{path}", "PUT", {"aliases": {self.name: {"is_write_index": True}}})

    def make_data_stream(self) -> None:
        """Create the data stream where the set-up of this version leaves that to the first event."""
        if self.options["data_stream"] and not self.elasticsearch.ask(f"/_data_stream/{self.name}"):
            self.elasticsearch.ask(f"/_data_stream/{self.name}", "PUT")


def ensure(options: Json, *, check_mode: bool) -> list[str]:
    """Check both users, set up what is missing, and return what that was."""
    Elasticsearch(options, options["writer_user"], options["writer_password"], "filebeat_writer_password").ask("/")
    elasticsearch = Elasticsearch(options, options["setup_user"], options["setup_password"], "filebeat_setup_password")
    setup = Setup(options, elasticsearch)
    setup.check_version()
    setup.check_policy()
    actions = setup.missing()
    if actions and not check_mode:
        setup.run()
        setup.make_write_index()
        setup.make_data_stream()
        left = setup.missing()
        if left:
            raise SetupError(f"filebeat setup ended well and left out: {', '.join(left)}.")
    return actions


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "hosts": {"type": "list", "elements": "str", "required": True},
            **TLS_OPTIONS,
            "writer_user": {"type": "str", "required": True},
            "writer_password": {"type": "str", "required": True, "no_log": True},
            "setup_user": {"type": "str", "required": True},
            "setup_password": {"type": "str", "required": True, "no_log": True},
            "program": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "majors": {"type": "list", "elements": "int", "required": True},
            "data_stream": {"type": "bool", "required": True},
            "modules": {"type": "dict", "required": True},
            "policy": {"type": "str", "required": True},
            "settings": {"type": "dict", "required": True},
            "fields": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        actions = ensure(module.params, check_mode=module.check_mode)
    except SetupError as error:
        module.fail_json(msg=f"filebeat: {error}")
    else:
        module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
