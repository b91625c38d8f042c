#!/usr/bin/python
"""Ansible module: run searches on Elasticsearch and return its responses."""

from __future__ import annotations

import base64
import json
import ssl
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: search_elasticsearch
short_description: Run searches on Elasticsearch and return its responses
description:
  - Sends each search as it is; changes nothing.
  - A search that reaches only some of its shards fails, because its figures would be wrong.
options:
  url: {type: str, required: true, description: "Address of Elasticsearch, such as https://127.0.0.1:9200."}
  ca_file: {type: path, required: true, description: Authority that must have signed Elasticsearch's certificate.}
  cert_file: {type: path, required: true, description: Client certificate.}
  key_file: {type: path, required: true, description: Private key of the client certificate.}
  user: {type: str, required: true, description: User who may read the indices.}
  password: {type: str, required: true, description: The user's password.}
  searches:
    type: list
    elements: dict
    required: true
    description: Searches, each with an C(index) (a pattern) and a C(body).
"""

EXAMPLES = r"""
- name: Count the events
  sre.stack.search_elasticsearch:
    url: https://127.0.0.1:9200
    ca_file: /etc/ssl/site/ca.crt
    cert_file: /etc/ssl/site/host.crt
    key_file: /etc/ssl/site/host.key
    user: reader
    password: "{{ elasticsearch_reader_password }}"
    searches:
      - {index: filebeat-*, body: {size: 0}}
"""

RETURN = r"""
responses:
  description: Elasticsearch's responses, in the order of the searches.
  type: list
found:
  description: Whether any search found an event.
  type: bool
"""

TIMEOUT_SECONDS = 60


class SearchError(Exception):
    """Elasticsearch did not answer with a whole result; the text says why, in a line."""


def reason_of(body: bytes) -> str:
    """Return the reason in an error response of Elasticsearch, the innermost if it names several."""
    try:
        error = json.loads(body)["error"]
        causes = error.get("root_cause") or [error]
        return f"{causes[0]['type']}: {causes[0]['reason']}"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return body.decode(errors="replace")[:300] or "no reason given"


class Client:
    """Elasticsearch, asked as one user over verified TLS."""

    def __init__(self, url: str, context: ssl.SSLContext, user: str, password: str) -> None:
        """Ask ``url`` with the client certificate in ``context``."""
        self.url = url
        self.context = context
        self.user = user
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def search(self, index: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the response to one search.

        Raises:
            SearchError: Elasticsearch refuses, does not answer, or has only a part of the answer.
        """
        where = f"{self.url}/{quote(index, safe='*,-')}/_search?ignore_unavailable=true"
        request = Request(where, data=json.dumps(body).encode(), headers=self.headers, method="POST")  # noqa: S310
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS, context=self.context) as answer:  # noqa: S310
                response: dict[str, Any] = json.load(answer)
        except HTTPError as error:
            hint = {
                401: f" (user {self.user}: wrong password?)",
                403: f" (user {self.user} may not read {index})",
            }
            raise SearchError(f"{error.code}{hint.get(error.code, '')} {reason_of(error.read())}") from error
        except (URLError, OSError, HTTPException) as error:
            raise SearchError(f"{self.url} did not answer: {getattr(error, 'reason', error)}") from error
        shards = response["_shards"]
        if shards["failed"] or response.get("timed_out"):
            failure = (shards.get("failures") or [{}])[0].get("reason", {}).get("reason", "timed out")
            raise SearchError(f"{shards['failed']} of {shards['total']} shards failed: {failure}")
        return response


def found(response: dict[str, Any]) -> bool:
    """Return whether a search found anything; its total is a number in 6.8 and an object since 7."""
    total = response["hits"]["total"]
    return bool(total["value"] if isinstance(total, dict) else total)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "ca_file": {"type": "path", "required": True},
            "cert_file": {"type": "path", "required": True},
            "key_file": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "searches": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not params["url"].startswith("https://"):
        module.fail_json(
            msg="search_elasticsearch: url must start with https://, so that no password travels in clear."
        )
    responses: list[dict[str, Any]] = []
    try:
        context = ssl.create_default_context(cafile=params["ca_file"])
        context.load_cert_chain(params["cert_file"], params["key_file"])
        client = Client(params["url"], context, params["user"], params["password"])
        responses += [client.search(one["index"], one["body"]) for one in params["searches"]]
    except SearchError as error:
        module.fail_json(msg=f"Elasticsearch: {error}")
    except OSError as error:
        module.fail_json(msg=f"search_elasticsearch: {params['ca_file']}, {params['cert_file']}: {error}")
    # Without any index there are no aggregations either.
    module.exit_json(changed=False, responses=responses, found=any(map(found, responses)))


if __name__ == "__main__":
    main()
