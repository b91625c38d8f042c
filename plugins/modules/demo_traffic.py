#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Ansible module: send a bounded, repeatable stream of visitors to the polls site."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
import ssl
import time
import uuid
from collections import Counter
from typing import Any, NamedTuple

import httpx
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: demo_traffic
short_description: Send a bounded, repeatable stream of visitors to the polls site
description:
  - Sends requests on a fixed schedule, whether or not earlier ones have been answered. The same seed sends the same
    visitors to the same pages with the same choices; only the votes' tokens are new, so that each of them counts.
  - Each visitor has an address of its own, given in X-Forwarded-For. The site must trust the machine that runs this
    module.
  - Runs on the control node with the Python environment of this repository (httpx).
options:
  url:
    description: Address of the site, such as https://192.0.2.11.
    type: str
    required: true
  ca_file:
    description: Certificate authority that must have signed the site's certificate.
    type: path
    required: true
  requests:
    description: Number of requests to plan. A vote gets its form first, which is one request more.
    type: int
    required: true
  rate:
    description: Planned requests a second.
    type: float
    default: 20
  seed:
    description: What the choice of visitors and pages starts from.
    type: int
    default: 1
  visitors:
    description: Networks to take addresses from, each with a C(network) and a C(weight).
    type: list
    elements: dict
    required: true
  error_path:
    description: A path that the site answers with an error; left out of the mix when empty.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: A minute of visitors
  sre.stack.demo_traffic:
    url: https://192.0.2.11
    ca_file: ca.crt
    requests: 1200
    visitors: [{network: 192.0.2.0/24, weight: 1}]
  delegate_to: localhost
"""

RETURN = r"""
statuses:
  description: Number of answers by status code; C(error) counts requests that got none.
  type: dict
votes:
  description: Number of votes that the site acknowledged.
  type: int
addresses:
  description: Number of different visitors.
  type: int
"""

# What visitors do, by share. Questions 1 to 3 exist, the other pages do not.
PAGES = {
    "/polls/": 40,
    "/polls/1/": 8,
    "/polls/2/": 6,
    "/polls/3/": 6,
    "/polls/1/results/": 6,
    "/polls/3/results/": 4,
    "vote": 20,
    "/polls/99/": 3,
    "/wp-login.php": 3,
    "error": 2,
}
QUESTIONS = (1, 2, 3)
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
AGENTS = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/130.0.0.0 Safari/537.36",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} Version/17.6 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {WEBKIT} Chrome/130.0.0.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) {APPLE} Version/17.6 Mobile/15E148 Safari/604.1",
)
TIMEOUT_SECONDS = 30.0


class Visit(NamedTuple):
    """One planned request: who asks for what. A vote names its question and which of the choices it takes."""

    address: str
    agent: str
    page: str
    question: int = 0
    choice: int = 0


def plan(requests: int, seed: int, visitors: list[dict[str, Any]], error_path: str) -> list[Visit]:
    """Return the visits in the order in which they are sent; the same arguments give the same visits.

    Raises ValueError when a network is none.
    """
    # Repeatable on purpose, and no secret.
    chance = random.Random(seed)  # noqa: S311
    networks = [ipaddress.ip_network(visitor["network"]) for visitor in visitors]
    weights = [int(visitor["weight"]) for visitor in visitors]
    pages = {page: share for page, share in PAGES.items() if page != "error" or error_path}
    visits = []
    for _ in range(requests):
        network = chance.choices(networks, weights)[0]
        address = str(network[chance.randrange(1, network.num_addresses - 1)])
        page = chance.choices(list(pages), list(pages.values()))[0]
        agent = chance.choice(AGENTS)
        question, choice = chance.choice(QUESTIONS), chance.randrange(100)
        if page == "vote":
            visits.append(Visit(address, agent, page, question, choice))
        else:
            visits.append(Visit(address, agent, error_path if page == "error" else page))
    return visits


class Visitors:
    """The visitors at work: what they have been answered so far."""

    def __init__(self, url: str, ca_file: str) -> None:
        """Prepare for the site at `url`, whose certificate `ca_file` must have signed."""
        self.url = url.rstrip("/")
        self.trust = ssl.create_default_context(cafile=ca_file)
        self.statuses: Counter[str] = Counter()
        self.votes = 0

    async def send(self, visits: list[Visit], rate: float) -> None:
        """Send every visit at its time, `rate` a second, and wait for the last answer."""
        begin = time.monotonic()
        client = httpx.AsyncClient(verify=self.trust, timeout=TIMEOUT_SECONDS, base_url=self.url)
        async with client, asyncio.TaskGroup() as tasks:
            for number, visit in enumerate(visits):
                await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
                tasks.create_task(self._visit(client, visit))

    async def _visit(self, client: httpx.AsyncClient, visit: Visit) -> None:
        headers = {"X-Forwarded-For": visit.address, "User-Agent": visit.agent}
        try:
            if visit.page == "vote":
                await self._vote(client, visit, headers)
            else:
                self._note(await client.get(visit.page, headers=headers))
        except httpx.HTTPError:
            self.statuses["error"] += 1

    async def _vote(self, client: httpx.AsyncClient, visit: Visit, headers: dict[str, str]) -> None:
        page = f"/polls/{visit.question}/"
        form = await client.get(page, headers=headers)
        self._note(form)
        csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text)
        choices = re.findall(r'name="choice"[^>]* value="(\d+)"', form.text)
        if csrf is None or not choices:
            return
        cookies = "; ".join(f"{name}={value}" for name, value in form.cookies.items())
        answer = await client.post(
            f"{page}vote/",
            data={
                "csrfmiddlewaretoken": csrf[1],
                "token": str(uuid.uuid4()),
                "choice": choices[visit.choice % len(choices)],
            },
            headers=headers | {"Referer": f"{self.url}{page}", "Cookie": cookies},
        )
        self._note(answer)
        self.votes += answer.status_code == httpx.codes.FOUND

    def _note(self, answer: httpx.Response) -> None:
        self.statuses[str(answer.status_code)] += 1


def main() -> None:
    """Send the visitors and report what they were answered."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "ca_file": {"type": "path", "required": True},
            "requests": {"type": "int", "required": True},
            "rate": {"type": "float", "default": 20},
            "seed": {"type": "int", "default": 1},
            "visitors": {"type": "list", "elements": "dict", "required": True},
            "error_path": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        visits = plan(wanted["requests"], wanted["seed"], wanted["visitors"], wanted["error_path"])
    except ValueError as error:
        module.fail_json(msg=f"visitors: {error}")
        return
    crowd = Visitors(wanted["url"], wanted["ca_file"])
    if not module.check_mode:
        asyncio.run(crowd.send(visits, wanted["rate"]))
    module.exit_json(
        changed=crowd.votes > 0,
        statuses=dict(sorted(crowd.statuses.items())),
        votes=crowd.votes,
        addresses=len({visit.address for visit in visits}),
    )


if __name__ == "__main__":
    main()
