"""Visitors from around the world, for a lab: pages, votes, pages that do not exist, errors.

The same seed sends the same visitors to the same pages with the same choices; only the votes' tokens are new, so that
each of them counts. Each visitor's address is in X-Forwarded-For, and the site must trust whoever sends it.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from chaoslab import voter
from chaoslab.files import InputError
from chaoslab.voter import FAIL, OK, Answer, Form, Stream

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
# The network's own address, and the one for all of it.
NO_VISITORS = 2


class Crowd(NamedTuple):
    """A network to take addresses from, and its share among all weights."""

    network: IPv4Network | IPv6Network
    weight: int


class Visit(NamedTuple):
    """One planned visit: who asks for what. A vote names its question and which of the choices it takes."""

    address: str
    agent: str
    page: str
    question: int = 0
    choice: int = 0


def crowd(text: str) -> Crowd:
    """Parse NETWORK=WEIGHT; raise ArgumentTypeError for anything else."""
    network, _, weight = text.partition("=")
    try:
        found = Crowd(ip_network(network), int(weight))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not NETWORK=WEIGHT: {error}") from error
    if found.network.num_addresses <= NO_VISITORS or found.weight < 1:
        raise argparse.ArgumentTypeError(f"{text!r} has no visitors")
    return found


def plan(visits: int, seed: int, crowds: Sequence[Crowd], error_path: str) -> list[Visit]:
    """Return visits in the order in which they are sent; the same arguments give the same visits."""
    # Repeatable on purpose, and no secret.
    chance = random.Random(seed)  # noqa: S311
    weights = [crowd.weight for crowd in crowds]
    pages = {page: share for page, share in PAGES.items() if page != "error" or error_path}
    planned = []
    for _ in range(visits):
        network = chance.choices(crowds, weights)[0].network
        address = str(network[chance.randrange(1, network.num_addresses - 1)])
        page = chance.choices(list(pages), list(pages.values()))[0]
        agent = chance.choice(AGENTS)
        question, choice = chance.choice(QUESTIONS), chance.randrange(100)
        if page == "vote":
            planned.append(Visit(address, agent, page, question, choice))
        else:
            planned.append(Visit(address, agent, error_path if page == "error" else page))
    return planned


class Visitors:
    """Visitors at work, and what they were answered."""

    def __init__(self, visits: Sequence[Visit]) -> None:
        """Take what they do."""
        self.visits = visits
        self.statuses: Counter[str] = Counter()
        self.votes = 0

    async def send(self, url: str, ca_file: Path | None, rate: float) -> None:
        """Send every visit at its time, `rate` a second, and wait for the last answer."""
        async with voter.client(url, ca_file) as client:
            stream = Stream(lambda number: self._visit(client, self.visits[number]), rate)
            await stream.run(len(self.visits))

    def report(self) -> dict[str, Any]:
        """Return the answers by status (`error`: none came), the votes confirmed, and the different addresses."""
        addresses = {visit.address for visit in self.visits}
        return {"statuses": dict(sorted(self.statuses.items())), "votes": self.votes, "addresses": len(addresses)}

    async def _visit(self, client: httpx.AsyncClient, visit: Visit) -> Answer:
        headers = {"X-Forwarded-For": visit.address, "User-Agent": visit.agent}
        path = f"/polls/{visit.question}/" if visit.question else visit.page
        try:
            page = self._noted(await client.get(path, headers=headers))
            if not visit.question:
                return voter.read_outcome(page)
            form = Form.read(page)
            request = form.request(client, form.token, form.choice(visit.choice), headers)
            answer = voter.vote_outcome(self._noted(await client.send(request)))
        except InputError as error:
            return Answer(0, FAIL, str(error))
        except httpx.HTTPError as error:
            self.statuses["error"] += 1
            return voter.error_outcome(error)
        self.votes += answer.outcome == OK
        return answer

    def _noted(self, response: httpx.Response) -> httpx.Response:
        self.statuses[str(response.status_code)] += 1
        return response
