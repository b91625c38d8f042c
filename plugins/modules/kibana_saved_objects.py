#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Ansible module: wait for Kibana and keep saved objects in it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kibana_saved_objects
short_description: Wait for Kibana and keep saved objects in it
description:
  - Waits until Kibana serves, whole or degraded, then imports the objects, unless they are all there and the first of
    them, a tag, has the same description. That holds a checksum of them all, so that Kibana itself remembers what it
    was given.
options:
  url: {type: str, required: true, description: Address of Kibana.}
  ca_file: {type: path, required: true, description: Authority that signed Kibana's certificate.}
  password: {type: str, required: true, description: Password of the user C(elastic).}
  objects:
    type: list
    elements: dict
    required: true
    description: Saved objects as Kibana exports them, the tag first.
  timeout: {type: int, default: 300, description: "How long Kibana may take until it serves, in seconds."}
author: ansible-sre-stack authors
"""

EXAMPLES = r"""
- name: Import the dashboards
  sre.stack.kibana_saved_objects:
    url: https://192.0.2.14:5601
    ca_file: /etc/ssl/site/ca.crt
    password: "{{ elasticsearch_password }}"
    objects: "{{ kibana_dashboards | sre.stack.kibana_objects(['filebeat-*']) }}"
"""

RETURN = r"""
reason:
  description: Why the objects were imported, or would be in check mode; empty where they were not.
  type: str
  returned: always
"""

import json
import time
import uuid
from http import HTTPStatus
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sre.stack.plugins.module_utils.https_api import CA_OPTIONS, Api, ApiError, basic

# The levels at which Kibana serves everything; degraded, some task of its own is late.
SERVING = {"available", "degraded"}
POLL_SECONDS = 2.0
# An import takes a while.
TIMEOUT_SECONDS = 60

Object = dict[str, Any]


def multipart(name: str, filename: str, content: bytes) -> tuple[str, bytes]:
    """Return the content type and the body of a form with one file."""
    boundary = uuid.uuid4().hex
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        "Content-Type: application/x-ndjson\r\n\r\n"
    )
    return f"multipart/form-data; boundary={boundary}", head.encode() + content + f"\r\n--{boundary}--\r\n".encode()


class Kibana:
    """Kibana's API."""

    def __init__(self, api: Api) -> None:
        """Speak through ``api``."""
        self.api = api

    def wait(self, timeout: float) -> None:
        """Wait until Kibana serves.

        Raises:
            ApiError: it does not within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                state = str(self.api.call("GET", "/api/status")["status"]["overall"]["level"])
            except (KeyError, TypeError):
                state = "it has not said its status yet"
            except ApiError as error:
                state = str(error)
            if state in SERVING:
                return
            if time.monotonic() >= deadline:
                raise ApiError(f"Kibana is not available after {timeout:.0f} s: {state}")
            time.sleep(POLL_SECONDS)

    def difference(self, objects: list[Object]) -> str:
        """Return why Kibana does not have ``objects`` as they are, or nothing where it does."""
        wanted = {
            "objects": [{"type": one["type"], "id": one["id"]} for one in objects],
            "excludeExportDetails": True,
        }
        content, headers = json.dumps(wanted).encode(), {"Content-Type": "application/json"}
        try:
            lines = self.api.send("POST", "/api/saved_objects/_export", content, headers).splitlines()
        except ApiError as error:
            if error.status == HTTPStatus.BAD_REQUEST:
                # Kibana names the objects that it does not have.
                missing = json.loads(error.body).get("attributes", {}).get("objects", [])
                if missing and all(one.get("error", {}).get("statusCode") == HTTPStatus.NOT_FOUND for one in missing):
                    return f"missing: {', '.join(one['id'] for one in missing)}"
            raise
        tag = objects[0]
        stored = [json.loads(line) for line in lines if line.strip()]
        found = next((one for one in stored if (one["type"], one["id"]) == (tag["type"], tag["id"])), None)
        if found is None or found["attributes"].get("description") != tag["attributes"]["description"]:
            return "changed"
        return ""

    def load(self, objects: list[Object]) -> None:
        """Import ``objects`` over what is there."""
        lines = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in objects)
        kind, body = multipart("file", "objects.ndjson", lines)
        path = "/api/saved_objects/_import?overwrite=true"
        result = json.loads(self.api.send("POST", path, body, {"Content-Type": kind}))
        if not result["success"] or result["successCount"] != len(objects):
            errors = result.get("errors") or [{"id": "?", "type": "?", "error": {"type": "unknown"}}]
            first = errors[0]
            raise ApiError(
                f"Kibana imported {result['successCount']} of {len(objects)} objects; {first['type']} {first['id']}: "
                f"{first['error'].get('message') or first['error']['type']}"
            )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            **CA_OPTIONS,
            "password": {"type": "str", "required": True, "no_log": True},
            "objects": {"type": "list", "elements": "dict", "required": True},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    params = module.params
    # Kibana refuses writes without the second header, so that no other site can send them from somebody's browser.
    headers = basic("elastic", params["password"]) | {"kbn-xsrf": "ansible"}
    reason = ""
    try:
        kibana = Kibana(Api(params["url"], params, headers=headers, timeout=TIMEOUT_SECONDS))
        kibana.wait(params["timeout"])
        reason = kibana.difference(params["objects"])
        if reason and not module.check_mode:
            kibana.load(params["objects"])
    except ApiError as error:
        # While Kibana starts this is not seen: it tells its status to anybody.
        refused = error.status == HTTPStatus.UNAUTHORIZED
        why = "Kibana refuses the password of user elastic" if refused else error
        module.fail_json(msg=f"kibana_saved_objects: {why}", reason=reason)
    module.exit_json(changed=bool(reason), reason=reason)


if __name__ == "__main__":
    main()
