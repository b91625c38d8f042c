"""What a run of site.yml costs, and the first one beside a plain shell script that does no more than it must."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bench.lab import BenchError, Lab, bare_hosts, say

CALLBACK = "sre.stack.run_cost"
PLAIN = Path(__file__).with_name("plain.sh")
# Where an administrator puts files; elsewhere they are the packages', or written by programs that run.
PLACES = ("etc", "opt", "srv", "usr/local")
APT = "etc/apt"
SELECTIONS = ("dpkg", "--get-selections")


def run_site(lab: Lab, log: Path) -> dict[str, Any]:
    """Run site.yml and return its cost."""
    cost = log.with_suffix(".json")
    used, hosts_used, begin = _cpu_seconds(), lab.cpu_seconds(), time.monotonic()
    lab.playbook(log, "site.yml", ANSIBLE_CALLBACKS_ENABLED=CALLBACK, SRE_STACK_RUN_COST_FILE=str(cost))
    figures: dict[str, Any] = {
        "seconds": time.monotonic() - begin,
        "control_cpu_seconds": _cpu_seconds() - used,
        "hosts_cpu_seconds": lab.cpu_seconds() - hosts_used,
    }
    figures |= json.loads(cost.read_text("utf-8"))
    cost.unlink()
    say(f"took {figures['seconds']:.0f} s; what each role cost: the end of {log}")
    return figures


def _cpu_seconds() -> float:
    """Return the processor time of all programs that we have started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def unchanged_run(lab: Lab, out: Path) -> dict[str, Any]:
    """Measure a run that has nothing to do."""
    say(f"running site.yml on the lab {lab.name}")
    figures = run_site(lab, out / "site.log")
    if figures["changed"]:
        say(f"that run changed {figures['changed']} things, so it was no unchanged run; measure again")
    return figures


def first_run(lab: Lab, out: Path) -> dict[str, Any]:
    """Measure the first run on bare hosts, then the plain script on hosts made anew."""
    bare = Lab(f"{lab.name}-bench")
    containers = [bare.container(host) for host in bare.hosts]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with bare_hosts(bare, out):
            had = {host: installed(bare.run(host, *SELECTIONS)) for host in bare.hosts}
            begin = time.time()
            say("running site.yml on them: the first run, with what the control node has built before")
            figures = run_site(bare, out / "first.log")
            counts = [_pack(bare, host, had[host], begin, folder) for host in bare.hosts]
        with bare_hosts(bare, out):
            say("installing the same packages and as many files by a plain shell script, on all hosts at once")
            begin = time.monotonic()
            done = subprocess.run([PLAIN, folder, *containers], check=False, capture_output=True, text=True)
            plain_seconds = time.monotonic() - begin
    (out / "plain.log").write_text(done.stdout + done.stderr, "utf-8")
    if done.returncode != 0:
        raise BenchError(f"the plain script failed: {done.stderr.strip()[-2000:]}")
    totals = [sum(column) for column in zip(*counts, strict=True)]
    return figures | {"plain_seconds": plain_seconds, "packages": totals[0], "files": totals[1]}


def installed(selections: str) -> set[str]:
    """Return the packages that `dpkg --get-selections` lists as installed."""
    rows = [line.split() for line in selections.splitlines()]
    return {row[0] for row in rows if row[1:] == ["install"]}


def local_repositories(sources: str) -> list[str]:
    """Return the folders that APT's sources name, without their first slash."""
    return sorted(set(re.findall(r"\bfile:/*([^\s/]\S*)", sources)))


def placed_files(new: str, modified: str, owned: str) -> list[str]:
    """Return the files that a run has put on a host, from lists of one path a line.

    Of all files that are ``new`` on the host these are those that no package owns, and those of packages that were
    written since (``modified``): what comes out of an archive keeps the time that it has there.
    """
    kept = set(modified.splitlines())
    kept |= set(new.splitlines()) - {path.lstrip("/") for path in owned.splitlines()}
    return sorted(kept)


def _pack(lab: Lab, host: str, had: set[str], begin: float, folder: Path) -> tuple[int, int]:
    """Write down for the plain script what a host has got since; return how many packages and files."""
    container = lab.container(host)

    def list_files(places: Sequence[str], *tests: str) -> str:
        return lab.run(host, "find", *places, "-xdev", "-type", "f", *tests) if places else ""

    def pack(kind: str, files: Sequence[str]) -> None:
        with (folder / f"{container}.{kind}.tar").open("wb") as archive:
            command = lab.exec(host, "tar", "--create", "--no-recursion", "--files-from=-")
            subprocess.run(command, input="\n".join(files).encode(), stdout=archive, check=True)

    owned = lab.run(host, "find", "/var/lib/dpkg/info", "-name", "*.list", "-exec", "cat", "{}", "+")
    new, modified = (list_files(PLACES, test, f"@{begin}") for test in ("-newerct", "-newermt"))
    placed = placed_files(new, modified, owned)
    # The script needs APT's sources before the packages, and must not have the other files before them.
    sources = lab.run(host, "find", APT, "-type", "f", "-name", "*sources*", "-exec", "cat", "{}", "+")
    apt = [file for file in placed if file.startswith(f"{APT}/")]
    pack("sources", [*apt, *list_files(local_repositories(sources)).splitlines()])
    pack("files", [file for file in placed if file not in apt])
    new_packages = installed(lab.run(host, *SELECTIONS)) - had
    (folder / f"{container}.packages").write_text("\n".join(sorted(new_packages)), "utf-8")
    return len(new_packages), len(placed)
