"""Who holds APT's locks is seen and named."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "roles/common/files/apt_state.py"


def test_lists_and_holders(tmp_path: Path) -> None:
    """Nothing is said of a lock file that is there but not held."""

    def state() -> list[str]:
        return subprocess.run(
            [sys.executable, PROGRAM, tmp_path], capture_output=True, text=True, check=True
        ).stdout.splitlines()

    lists, dpkg = tmp_path / "var/lib/apt/lists", tmp_path / "var/lib/dpkg"
    lists.mkdir(parents=True)
    dpkg.mkdir()
    (dpkg / "lock").touch()
    assert state() == []
    (lists / "mirror.example.org_Packages.lz4").touch()
    with (dpkg / "lock-frontend").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        said = state()
    assert said[0] == "lists"
    assert said[1].startswith("held by ")
    assert said[1].endswith(f"(process {os.getpid()})")
    assert state() == ["lists"]
    policy = tmp_path / "usr/sbin/policy-rc.d"
    policy.parent.mkdir(parents=True)
    policy.write_text("#!/bin/sh\nexit 101\n")
    assert state() == ["lists", "foreign policy"]
    policy.write_text((PROGRAM.parents[1] / "templates/policy-rc.d.j2").read_text())
    assert state() == ["lists"]
