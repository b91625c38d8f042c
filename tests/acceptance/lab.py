"""The lab as a user of it sees it: hosts, addresses, commands in them, the state of the cluster."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import testinfra
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAME = os.environ.get("LAB", "lab")
DIRECTORY = ROOT / ".lab" / NAME
CA_FILE = DIRECTORY / "ca" / "ca.crt"

# The votes that the reference had; everything beyond them must be in the ledger.
OPENING_VOTES = {1: 16, 2: 8, 3: 23, 4: 9, 5: 4, 6: 12, 7: 3, 8: 2}

# Longer than a witness's hold-off after the last relief and the time that a new leader has to have led.
READY_SECONDS = 120


@cache
def inventory() -> dict[str, Any]:
    """Return the inventory, by group."""
    command = ["ansible-inventory", "--list"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(listing.stdout)
    return found


def group(name: str) -> list[str]:
    """Return the hosts of a group."""
    members: list[str] = inventory()[name]["hosts"]
    return members


def changed_inventory(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Return an inventory in a folder that is the lab's, with its groups changed."""
    copy = folder / "lab"
    copy.mkdir()
    for file in (ROOT / "inventories" / "lab").iterdir():
        (copy / file.name).symlink_to(file)
    tree = yaml.safe_load((copy / "hosts.yml").read_text(encoding="utf-8"))
    change(tree["all"]["children"])
    (copy / "hosts.yml").unlink()
    (copy / "hosts.yml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return copy


def hosts() -> list[str]:
    """Return all hosts."""
    return list(inventory()["_meta"]["hostvars"])


@cache
def address(host: str) -> str:
    """Return a host's address."""
    command = ["docker", "inspect", "--format"]
    command += ["{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{NAME}-{host}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@cache
def on(host: str) -> Any:
    """Return testinfra's handle of a host."""
    return testinfra.get_host(f"docker://{NAME}-{host}")


def run(
    host: str,
    *command: str,
    user: str = "root",
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a command on a host with something on its standard input; never raises."""
    docker = ["docker", "exec", "--interactive", "--user", user, f"{NAME}-{host}", *command]
    # The journal's export has bytes between its texts that are none.
    return subprocess.run(docker, input=stdin, check=False, capture_output=True, text=True, errors="replace")


@contextmanager
def switched_off(host: str) -> Iterator[None]:
    """Take a VM's power away, and give it back."""
    subprocess.run(["docker", "kill", f"{NAME}-{host}"], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "start", f"{NAME}-{host}"], check=True, capture_output=True)


def sql(host: str, statement: str) -> str:
    """Run SQL as the superuser over the host's own socket, and return bare rows."""
    psql = ["psql", "--no-psqlrc", "--username=postgres", "--dbname=polls", "--no-align"]
    result = run(host, *psql, "--tuples-only", stdin=statement)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def environment() -> dict[str, str]:
    """Return the environment in which a user runs Ansible against the lab."""
    # Molecule asks for colours, which would come between us and the counters.
    plain = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    return os.environ | plain | {"LAB": NAME, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}


def playbook(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook as a user would; never raises."""
    command = ["ansible-playbook", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False, capture_output=True, text=True)


def cut_off(heading: str, *arguments: str) -> None:
    """Run ansible-playbook until a play or a task begins, and press Ctrl-C a second later."""
    # Where pytest runs in the background, its children would ignore the signal.
    command = ["env", "--default-signal=INT", "ansible-playbook", *arguments]
    with tempfile.NamedTemporaryFile() as output:
        said = Path(output.name).read_text
        run = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=output, stderr=output, start_new_session=True
        )
        wait_until(heading, lambda: heading in said() or run.poll() is not None, 900)
        time.sleep(1)
        assert run.poll() is None, said()
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(60) != 0, said()


def put_a_bare_vm_in_place_of(host: str) -> None:
    """Remove a VM with all that it holds, and make a bare one under its name."""
    subprocess.run(["docker", "rm", "--force", "--volumes", f"{NAME}-{host}"], check=True, capture_output=True)
    run = playbook("playbooks/lab-create.yml", "--limit", host)
    assert run.returncode == 0, run.stdout + run.stderr


def trust() -> ssl.SSLContext:
    """Return a TLS context that trusts the site's own CA and nobody else."""
    return ssl.create_default_context(cafile=CA_FILE)


def url(path: str = "/", app: int = 0) -> str:
    """Return an address of the site, at one of its app hosts."""
    return f"https://{address(group('app')[app])}{path}"


def wait_until(what: str, condition: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition and return how long it took; fail with its name."""
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        assert waited < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - begin


def members(ask: str | None = None) -> list[dict[str, Any]]:
    """Return the cluster's members as Patroni lists them."""
    host = ask or group("postgres")[0]
    command = ["/opt/patroni/bin/patronictl", "-c", "/etc/patroni/patroni.yml"]
    result = run(host, *command, "list", "--format", "json")
    assert result.returncode == 0, result.stderr
    listing: list[dict[str, Any]] = json.loads(result.stdout)
    return listing


def is_whole(ask: str | None = None) -> bool:
    """Say whether one primary runs and all others stream from it, one of them synchronously."""
    listing = members(ask)
    state = {(member["Role"], member["State"]) for member in listing}
    return len(listing) == len(group("postgres")) and state == {
        ("Leader", "running"),
        ("Sync Standby", "streaming"),
    }


def primary(among: Sequence[str] = ()) -> str:
    """Return the host that is primary, of the site's cluster or of another one's hosts."""
    return next(host for host in among or group("postgres") if sql(host, "select pg_is_in_recovery()") == "f")


def major(host: str) -> int:
    """Return the major version of the PostgreSQL that runs on a host."""
    return int(sql(host, "show server_version_num")) // 10000


def standby() -> str:
    """Return a host that is standby."""
    return next(host for host in group("postgres") if host != primary())


def witness(host: str) -> dict[str, Any]:
    """Return what a witness says about itself."""
    found: dict[str, Any] = json.loads(on(host).check_output("cat /run/patroni-witness/status.json"))
    return found


def witness_is_ready() -> bool:
    """Say whether every witness would act now."""
    return all(witness(host)["ready"] for host in group("witness"))


def relieved(begun: float) -> list[str]:
    """Return what the witnesses have written about relieving a leader since ``begun`` (seconds of the epoch)."""
    lines: list[str] = []
    for host in group("witness"):
        said = run(host, "journalctl", "--unit=patroni-witness", f"--since=@{int(begun)}", "--output=cat").stdout
        lines += [line for line in said.splitlines() if line.startswith("relieving ")]
    return lines


def choices(host: str) -> str:
    """Return the table of choices, as the reference showed it."""
    return sql(host, "select id, choice_text, votes, question_id from polls_choice order by id")


def same_everywhere() -> bool:
    """Say whether every database shows the same choices."""
    return len({choices(host) for host in group("postgres")}) == 1


def ledger(host: str) -> set[str]:
    """Return the tokens of all votes that a database has."""
    return set(sql(host, "select token from polls_vote").split())


def has_vote(host: str, token: str) -> bool:
    """Say whether a database has a vote."""
    return token in ledger(host)


def assert_explained(host: str) -> None:
    """Check that the tally of every choice is its opening count and its votes in the ledger."""
    rows = sql(
        host,
        "select id, votes, (select count(*) from polls_vote where choice_id = polls_choice.id)"
        " from polls_choice order by id",
    )
    found = [tuple(int(value) for value in row.split("|")) for row in rows.splitlines()]
    assert [(choice, votes - cast) for choice, votes, cast in found] == list(OPENING_VOTES.items())
