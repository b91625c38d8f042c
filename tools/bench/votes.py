"""Votes through the whole stack beside one gunicorn in front of one PostgreSQL that nobody replicates."""

from __future__ import annotations

import asyncio
import configparser
import itertools
import json
import posixpath
import re
import secrets
import shlex
import subprocess
import time
import tomllib
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from chaoslab import voter
from chaoslab.figures import quantiles
from tools.bench.lab import BenchError, Lab, bare_hosts, say

PROGRAM = "/etc/supervisor/conf.d/gunicorn-8000.conf"
PORT = 8000
START_SECONDS = 30.0
# In ever longer steps, half a minute in all.
START_RETRIES = 7
# Votes for one choice are counted one after the other; eight are all that the site has.
CHOICES = (1, 8)
AT_A_TIME = (1, 8)
RATES = (20, 100)
WARM_UP_SECONDS = 1.0

Target = tuple[str, Path | None]
Ballot = tuple[voter.Form, int]


def compare_votes(lab: Lab, out: Path, seconds: float) -> list[dict[str, Any]]:
    """Measure the stack and the baseline in turn, one case after the other."""
    app = lab.groups["app"][0]
    bare = Lab(f"{lab.name}-bench")
    with bare_hosts(bare, out, [app]):
        say("installing one PostgreSQL and one gunicorn with the site's release on it")
        targets = {
            "stack": (f"https://{lab.address(app)}", lab.directory / "ca" / "ca.crt"),
            "baseline": (install_baseline(lab, bare, app), None),
        }
        return list(_cases(targets, seconds))


def _cases(targets: Mapping[str, Target], seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the figures of each case, of both targets."""

    def both(measure: Callable[[Target], Coroutine[Any, Any, dict[str, float]]]) -> dict[str, Any]:
        return {name: asyncio.run(measure(target)) for name, target in targets.items()}

    for choices in CHOICES:
        for at_a_time in AT_A_TIME:
            say(f"voting for {choices} of the choices, {at_a_time} at a time")
            measure = partial(as_fast_as_it_goes, choices=choices, at_a_time=at_a_time, seconds=seconds)
            yield {"choices": choices, "at_a_time": at_a_time} | both(measure)
        for rate in RATES:
            say(f"voting for {choices} of the choices, {rate} times a second")
            measure = partial(at_a_fixed_rate, choices=choices, rate=rate, seconds=seconds)
            yield {"choices": choices, "rate": rate} | both(measure)


async def _ballots(client: httpx.AsyncClient, choices: int) -> list[Ballot]:
    """Take forms until there are so many choices to vote for."""
    found: list[Ballot] = []
    for question in itertools.count(1):
        form = await voter.take_form(client, question)
        found += [(form, choice) for choice in form.choices]
        if len(found) >= choices:
            break
    return found[:choices]


async def as_fast_as_it_goes(target: Target, choices: int, at_a_time: int, seconds: float) -> dict[str, float]:
    """Let some voters vote, each again as soon as it has its answer."""
    numbers = itertools.count()
    async with voter.client(*target) as client:
        ballots = await _ballots(client, choices)

        async def vote_until(end: float) -> int:
            votes = 0
            while time.monotonic() < end:
                _insist(await _vote(client, ballots[next(numbers) % choices]))
                votes += 1
            return votes

        async def vote(seconds: float) -> tuple[int, float]:
            begin = time.monotonic()
            votes = await asyncio.gather(*(vote_until(begin + seconds) for _ in range(at_a_time)))
            return sum(votes), time.monotonic() - begin

        await vote(WARM_UP_SECONDS)
        used = time.process_time()
        votes, passed = await vote(seconds)
    return {"votes_per_second": votes / passed, "voter_cpu": (time.process_time() - used) / passed}


async def at_a_fixed_rate(target: Target, choices: int, rate: int, seconds: float) -> dict[str, float]:
    """Send votes when they are due, and return how long after that they were confirmed."""
    votes: list[voter.Sent] = []
    warm_up = int(rate * WARM_UP_SECONDS)
    async with voter.client(*target) as client:
        ballots = await _ballots(client, choices)

        async def vote(number: int) -> voter.Answer:
            return await _vote(client, ballots[number % choices])

        await voter.Stream(vote, rate, votes.append).run(warm_up + int(rate * seconds))
    for sent in votes:
        _insist(sent.answer)
    return quantiles(sent.done - sent.intended for sent in votes if sent.number >= warm_up)


async def _vote(client: httpx.AsyncClient, ballot: Ballot) -> voter.Answer:
    form, choice = ballot
    return await voter.vote(client, form, str(uuid.uuid4()), choice)


def _insist(answer: voter.Answer) -> None:
    """Refuse to measure what does not work."""
    if answer.outcome != voter.OK:
        raise BenchError(f"a vote was not confirmed: {answer.error}")


def install_baseline(lab: Lab, bare: Lab, host: str) -> str:
    """Copy the site's release to a bare host, give it a PostgreSQL of Debian's and one gunicorn; return its address.

    The program is the one that supervisord runs on the app host, with the same options, but for the address.
    """
    program = read_program(lab.run(host, "cat", PROGRAM))
    release, user = posixpath.dirname(program["directory"]), program["user"]
    config = tomllib.loads(lab.run(host, "cat", program["config"]))
    command = shlex.split(program["command"])
    options = command[command.index("--config") + 1]

    bare.run(host, "apt-get", "update", "--quiet=2")
    install = ["apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends", "postgresql"]
    bare.run(host, "env", "DEBIAN_FRONTEND=noninteractive", *install)
    bare.run(host, "useradd", "--system", "--user-group", user)
    _copy(lab, bare, host, [release, options, config["static_root"]])
    address = bare.address(host)
    bare.run(host, "tee", program["config"], stdin=to_toml(baseline_config(config, address)))
    bare.run(host, "runuser", "-u", "postgres", "--", "createuser", user)
    bare.run(host, "runuser", "-u", "postgres", "--", "createdb", f"--owner={user}", user)
    environment = f"POLLS_CONFIG={program['config']}"
    for step in (["migrate", "--noinput"], ["seed"]):
        manage = [f"{release}/venv/bin/python", "manage.py", *step]
        bare.run(host, "runuser", "-u", user, "--", "env", f"--chdir={program['directory']}", environment, *manage)
    command[command.index("--bind") + 1] = f"{address}:{PORT}"
    unit = ["--unit=bench-gunicorn", f"--uid={user}", f"--working-directory={program['directory']}"]
    bare.run(host, "systemd-run", "--quiet", *unit, f"--setenv={environment}", *command)
    url = f"http://{address}:{PORT}"
    _wait_for(f"{url}/healthz")
    return url


def read_program(definition: str) -> dict[str, str]:
    """Return command, directory, user and configuration file of the app that supervisord's definition names."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(definition)
    program = parser[parser.sections()[0]]
    config = re.search(r'POLLS_CONFIG="([^"]+)"', program["environment"])
    if config is None:
        raise BenchError(f"{PROGRAM}: no POLLS_CONFIG in it")
    return {name: program[name] for name in ("command", "directory", "user")} | {"config": config[1]}


def baseline_config(config: Mapping[str, Any], address: str) -> dict[str, Any]:
    """Return the app's configuration with one database behind a local socket, where the user's name is enough."""
    database = {"name": "polls", "user": "polls", "password": "unused", "host": "/run/postgresql", "port": 5432}
    return {
        **config,
        "secret_key": secrets.token_hex(32),
        "allowed_hosts": [address],
        "databases": {
            alias: database | {"idle_seconds": found["idle_seconds"]} for alias, found in config["databases"].items()
        },
    }


def to_toml(config: Mapping[str, Any]) -> str:
    """Return the app's configuration as the file that it reads."""

    def lines(table: Mapping[str, Any]) -> list[str]:
        return [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]

    text = lines(config)
    for alias, database in config["databases"].items():
        text += [f"[databases.{alias}]", *lines(database)]
    return "\n".join(text) + "\n"


def _copy(source: Lab, target: Lab, host: str, paths: list[str]) -> None:
    """Copy files and folders from a host of one lab to the same place in another."""
    pack = source.exec(host, "tar", "--create", "--directory=/", *(path.lstrip("/") for path in paths))
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
        subprocess.run(target.exec(host, "tar", "--extract", "--directory=/"), stdin=packed.stdout, check=True)


def _wait_for(url: str) -> None:
    """Wait until an address answers."""
    transport = httpx.HTTPTransport(retries=START_RETRIES)
    try:
        with httpx.Client(transport=transport, timeout=START_SECONDS, trust_env=False) as client:
            client.get(url).raise_for_status()
    except httpx.HTTPError as error:
        raise BenchError(f"{url} did not answer within {START_SECONDS:.0f} s: {error}") from None
