"""The labs that are measured: the one that runs, and bare hosts that are made and removed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import docker
from docker.errors import NotFound

ROOT = Path(__file__).resolve().parents[2]
LOG_LINES = 25


class BenchError(Exception):
    """Why nothing was measured, for the person who asked."""


@cache
def client() -> docker.DockerClient:
    """Return the one connection to the Docker daemon."""
    return docker.from_env()


def say(text: str) -> None:
    """Tell the progress, beside what is the program's output."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Lab:
    """One lab, by name."""

    name: str

    @property
    def directory(self) -> Path:
        """Where the lab keeps its secrets, and we the figures."""
        return ROOT / ".lab" / self.name

    @property
    def environment(self) -> dict[str, str]:
        """What Ansible is told."""
        plain = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        return os.environ | plain | {"LAB": self.name}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The hosts of the inventory's groups."""
        listing = subprocess.run(
            ["ansible-inventory", "--list"], cwd=ROOT, env=self.environment, check=True, capture_output=True
        )
        return {name: group["hosts"] for name, group in json.loads(listing.stdout).items() if "hosts" in group}

    @property
    def hosts(self) -> list[str]:
        """All hosts."""
        return sorted({host for hosts in self.groups.values() for host in hosts})

    def container(self, host: str) -> str:
        """Return the name of a host's container."""
        return f"{self.name}-{host}"

    def status(self, host: str) -> str:
        """Return how a host's container is, for instance "running", or nothing when there is none."""
        try:
            return str(client().containers.get(self.container(host)).status)
        except NotFound:
            return ""

    def address(self, host: str) -> str:
        """Return a host's address."""
        attributes = client().containers.get(self.container(host)).attrs
        return next(str(network["IPAddress"]) for network in attributes["NetworkSettings"]["Networks"].values())

    def cpu_seconds(self) -> float:
        """Return the processor time that the hosts have used, services and all."""
        usage = 0
        for host in self.hosts:
            stats: Any = client().api.stats(self.container(host), stream=False, one_shot=True)
            usage += stats["cpu_stats"]["cpu_usage"]["total_usage"]
        return usage / 1e9

    def exec(self, host: str, *command: str) -> list[str]:
        """Return the command that runs a command on a host."""
        return ["docker", "exec", "--interactive", self.container(host), *command]

    def run(self, host: str, *command: str, stdin: str = "") -> str:
        """Run a command on a host and return its output."""
        done = subprocess.run(self.exec(host, *command), input=stdin, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"{self.container(host)}: {' '.join(command)[:120]}: {done.stderr.strip()}")
        return done.stdout

    def playbook(self, log: Path, *arguments: str, **environment: str) -> None:
        """Run a playbook, its output in a file of its own."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as output:
            done = subprocess.run(
                ["ansible-playbook", *arguments],
                cwd=ROOT,
                env=self.environment | environment,
                check=False,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if done.returncode != 0:
            tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:])
            raise BenchError(f"{' '.join(arguments)} failed on the lab {self.name}; the end of {log}:\n{tail}")


def require_running(lab: Lab) -> None:
    """Refuse to measure a lab that does not run."""
    if down := [lab.container(host) for host in lab.hosts if lab.status(host) != "running"]:
        raise BenchError(f"no lab {lab.name} runs ({', '.join(down)} missing); make it: LAB={lab.name} make lab")


@contextmanager
def bare_hosts(lab: Lab, log_folder: Path, hosts: Sequence[str] = ()) -> Iterator[None]:
    """Make bare hosts, all or some, and remove them again, whatever happens in between."""
    if left := [lab.container(host) for host in lab.hosts if lab.status(host)]:
        raise BenchError(f"there is a lab named {lab.name} ({', '.join(left)}); remove it: LAB={lab.name} make destroy")
    limit = ["--limit", ",".join(hosts)] if hosts else []
    say(f"making bare hosts: {', '.join(hosts or lab.hosts)}")
    try:
        lab.playbook(log_folder / "lab-create.log", "playbooks/lab-create.yml", *limit)
        yield
    finally:
        say("removing them")
        lab.playbook(log_folder / "lab-destroy.log", "playbooks/lab-destroy.yml")
