"""What environment variables say of the lab comes into its inventory."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

INVENTORY = Path(__file__).resolve().parents[2] / "inventories" / "lab"


def run(command: list[str], count: str | None) -> subprocess.CompletedProcess[str]:
    """Run a command with LAB_APP_HOSTS set, or not."""
    environment = {key: value for key, value in os.environ.items() if key != "LAB_APP_HOSTS"}
    environment |= {"LAB_APP_HOSTS": count} if count is not None else {}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("count", "names"), [(None, ["main"]), ("", ["main"]), ("1", ["main"]), ("3", ["main", "main-2", "main-3"])]
)
def test_they_come_after_the_first_each_with_an_address(count: str | None, names: list[str]) -> None:
    """Where there are several, the site has a virtual address, too."""
    shown = "{{ groups.app | join(',') }} {{ host_address }} {{ site_virtual_address }}."
    ansible = ["ansible", "-i", str(INVENTORY), "app:postgres:elasticsearch", "-m", "ansible.builtin.debug", "-a"]
    result = run([*ansible, f"msg='{shown}'"], count)
    lines = [line.split() for line in re.findall("msg: (.*)[.]", result.stdout)]
    # In the inventory's order; what hosts say comes in any.
    assert {hosts for hosts, *_ in lines} == {",".join(names)}, result.stdout
    addresses = [address for _, address, *_ in lines]
    assert len(set(addresses)) == len(names) + 3
    virtual = {address for _, _, *rest in lines for address in rest}
    assert len(virtual) == (len(names) > 1)
    assert not virtual & set(addresses)


@pytest.mark.parametrize("count", ["0", "10", "two", "-1"])
def test_what_is_no_number_of_hosts_is_refused(count: str) -> None:
    """By its name, with what would be right."""
    result = run([str(INVENTORY / "lab.py")], count)
    assert result.returncode != 0
    assert result.stderr == f"LAB_APP_HOSTS is {count}; give the number of app hosts, 1 to 9\n"
