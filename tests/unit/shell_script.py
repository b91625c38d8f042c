"""Run a role's shell script with the programs that it calls played by small ones, and its files in another folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROLES = Path(__file__).parents[2] / "roles"


def run(
    script: str, *arguments: str, folder: Path, programs: Mapping[str, str], paths: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    """Run a script, named from the folder of roles, and return how it ended.

    programs: name to body, commands of a shell. paths: files of a host that it names, which are in the folder here.
    """
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    text = (ROLES / script).read_text(encoding="utf-8")
    for path in paths:
        assert path in text
        text = text.replace(path, str(folder / Path(path).name))
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["sh", "-c", text, script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
