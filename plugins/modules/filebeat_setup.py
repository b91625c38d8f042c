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

import base64
import http.client
import json
import os
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

TIMEOUT_SECONDS = 15
SETUP_SECONDS = 300
# Fragments of OpenSSL's reasons for which the other side turned our certificate down.
OUR_CERTIFICATE = ("alert", "certificate required")

Json = dict[str, Any]


class SetupError(Exception):
    """What does not fit, in one line that names the option."""


class Elasticsearch:
    """The first of the given servers that answers, as one user."""

    def __init__(self, options: Json, user: str, password: str, option: str) -> None:
        """Sign in as ``user``; ``option`` is the role's option with the password."""
        self.options = options
        self.user = user
        self.option = option
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {token}"}
        try:
            self.context = ssl.create_default_context(cafile=options["ca_file"])
        except (OSError, ssl.SSLError) as error:
            raise SetupError(f"filebeat_tls_ca_file {options['ca_file']} cannot be used: {error}") from error
        try:
            self.context.load_cert_chain(options["cert_file"], options["key_file"])
        except (OSError, ssl.SSLError) as error:
            files = f"filebeat_tls_cert_file {options['cert_file']} and filebeat_tls_key_file {options['key_file']}"
            raise SetupError(f"{files} cannot be used together: {error}") from error

    def ask(self, path: str, method: str = "GET") -> tuple[int, Json]:
        """Return status and body of an answer.

        Raises:
            SetupError: no server answered, or a certificate or the password does not fit.
        """
        reasons = []
        for url in self.options["hosts"]:
            try:
                status, body = self.request(url, path, method)
            except ssl.SSLCertVerificationError as error:
                authority = f"filebeat_tls_ca_file {self.options['ca_file']}"
                raise SetupError(
                    f"the certificate of {url} is refused ({error.verify_message}) by {authority}."
                ) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, ssl.SSLError) and any(word in str(error).lower() for word in OUR_CERTIFICATE):
                    ours = f"filebeat_tls_cert_file {self.options['cert_file']}"
                    why = f"expired, or of an authority that it does not know? {error.reason}"
                    raise SetupError(f"{url} refuses our certificate, {ours} ({why}).") from error
                reasons.append(f"{url} does not answer ({str(error) or type(error).__name__})")
                continue
            if status == http.client.UNAUTHORIZED:
                raise SetupError(f"{url} refuses user {self.user}: {self.option} is not the password it has there.")
            return status, body
        raise SetupError(f"filebeat_elasticsearch_hosts: {'; '.join(reasons)}.")

    def request(self, url: str, path: str, method: str) -> tuple[int, Json]:
        """Send one request to ``url``."""
        address = urlsplit(url)
        connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, timeout=TIMEOUT_SECONDS, context=self.context
        )
        try:
            connection.request(method, path, headers=self.headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        body = json.loads(content) if content else {}
        return answer.status, body if isinstance(body, dict) else {}

    def get(self, path: str) -> Json | None:
        """Return what is at ``path``, or None where nothing is."""
        status, body = self.ask(path)
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise SetupError(f"user {self.user} may not read {path} (HTTP {status}); give it the role for that.")
        return body


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
        body = self.elasticsearch.get("/") or {}
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
        if self.elasticsearch.get(f"/_ilm/policy/{policy}") is None:
            raise SetupError(f"filebeat_ilm_policy {policy} does not exist; run role elasticsearch first.")

    def template(self) -> Json | None:
        """Return settings and mappings of the index template, or None."""
        if self.options["data_stream"]:
            body = self.elasticsearch.get(f"/_index_template/{self.name}")
            templates = (body or {}).get("index_templates") or []
            return templates[0]["index_template"]["template"] if templates else None
        body = self.elasticsearch.get(f"/_template/{self.name}")
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

    def has_pipeline(self, module: str, fileset: str) -> bool:
        """Return whether a pipeline of the fileset is there."""
        return bool(self.elasticsearch.get(f"/_ingest/pipeline/{self.name}-{module}-{fileset}-*"))

    def missing(self) -> list[str]:
        """Return what has to be set up."""
        result = []
        if not self.template_is_right():
            result.append(f"index template {self.name}")
        kind = "_data_stream" if self.options["data_stream"] else "_alias"
        if not self.elasticsearch.get(f"/{kind}/{self.name}"):
            result.append(f"{'data stream' if self.options['data_stream'] else 'alias'} {self.name}")
        for module, filesets in sorted(self.options["modules"].items()):
            result += [f"pipeline of {module}.{name}" for name in filesets if not self.has_pipeline(module, name)]
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

    def make_data_stream(self) -> None:
        """Create the data stream where the set-up of this version leaves that to the first event."""
        if self.options["data_stream"] and not self.elasticsearch.get(f"/_data_stream/{self.name}"):
            self.elasticsearch.ask(f"/_data_stream/{self.name}", "PUT")


def ensure(options: Json, *, check_mode: bool) -> list[str]:
    """Check both users, set up what is missing, and return what that was."""
    Elasticsearch(options, options["writer_user"], options["writer_password"], "filebeat_writer_password").get("/")
    elasticsearch = Elasticsearch(options, options["setup_user"], options["setup_password"], "filebeat_setup_password")
    setup = Setup(options, elasticsearch)
    setup.check_version()
    setup.check_policy()
    actions = setup.missing()
    if actions and not check_mode:
        setup.run()
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
            "ca_file": {"type": "path", "required": True},
            "cert_file": {"type": "path", "required": True},
            "key_file": {"type": "path", "required": True},
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
