"""Search for events until all are found; runs on a host that may ask Elasticsearch, by its own Python.

Standard input: {"password": the reader's, "paths": of the requests, "seconds": how long at most}.
Standard output: each path as soon as its event is found, a line each.
"""

import base64
import http.client
import json
import ssl
import sys
import time

PAUSE_SECONDS = 0.05


def main() -> int:
    """Search, and return 0 when all were found."""
    wish = json.load(sys.stdin)
    context = ssl.create_default_context(cafile="/etc/ssl/site/ca.crt")
    context.load_cert_chain("/etc/ssl/site/host.crt", "/etc/ssl/site/host.key")
    connection = http.client.HTTPSConnection("127.0.0.1", 9200, context=context, timeout=30)
    pair = base64.b64encode(f"reader:{wish['password']}".encode()).decode()
    headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
    missing = set(wish["paths"])
    deadline = time.monotonic() + wish["seconds"]
    while missing and time.monotonic() < deadline:
        query = {
            "query": {"terms": {"url.original": sorted(missing)}},
            "size": len(missing),
            "_source": ["url.original"],
        }
        connection.request("POST", "/filebeat-*/_search", json.dumps(query), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != http.client.OK:
            print(text, file=sys.stderr)
            return 1
        for path in missing & {hit["_source"]["url"]["original"] for hit in json.loads(text)["hits"]["hits"]}:
            print(path, flush=True)
            missing.remove(path)
        time.sleep(PAUSE_SECONDS)
    return len(missing)


if __name__ == "__main__":
    sys.exit(main())
