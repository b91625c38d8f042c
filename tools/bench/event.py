"""How long it takes from a request to its searchable event."""

from __future__ import annotations

import json
import random
import ssl
import time
import uuid

import httpx

from tools.bench.lab import Lab, say

# Apart by no fixed time, so that requests do not keep step with what comes round at fixed times on their way.
PAUSE_SECONDS = (1.0, 3.0)
LONGEST_SECONDS = 60
# Searches on a host that may ask Elasticsearch, as the reader, until the event is there. Standard input is curl's
# configuration, with the password in it.
SEARCH = """
config=$(cat)
while answer=$(printf '%s' "$config" | curl --silent --show-error --fail-with-body --config -); do
    case $answer in *'"count":0,'*) sleep 0.05 ;; *) exit ;; esac
done
echo "$answer" >&2
exit 1
"""


def requests_to_events(lab: Lab, count: int) -> dict[str, list[float]]:
    """Send requests with paths of their own and search for each as the reader does; return the seconds that it took."""
    say(f"sending {count} requests and searching for their events")
    password = (lab.directory / "secrets" / "elasticsearch_reader_password").read_text("utf-8").strip()
    searcher = lab.groups["elasticsearch"][0]
    trust = ssl.create_default_context(cafile=lab.directory / "ca" / "ca.crt")
    seconds = []
    with httpx.Client(base_url=f"https://{lab.address(lab.groups['app'][0])}", verify=trust) as client:
        for _ in range(count):
            path = f"/bench/{uuid.uuid4()}"
            config = {
                "url": "https://127.0.0.1:9200/filebeat-*/_count",
                "user": f"reader:{password}",
                "cacert": "/etc/ssl/site/ca.crt",
                "cert": "/etc/ssl/site/host.crt",
                "key": "/etc/ssl/site/host.key",
                "header": "Content-Type: application/json",
                "data": json.dumps({"query": {"term": {"url.original": path}}}),
            }
            stdin = "".join(f"{name} = {json.dumps(value)}\n" for name, value in config.items())
            time.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311 - no secret
            begin = time.monotonic()
            client.get(path)
            lab.run(searcher, "timeout", f"{LONGEST_SECONDS}", "sh", "-c", SEARCH, stdin=stdin)
            seconds.append(time.monotonic() - begin)
    return {"seconds": seconds}
