"""Reading and writing files, with errors that say which file and line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class InputError(Exception):
    """Something cannot be used; the message names the file and says what is wrong with it."""


def read_text(path: Path) -> str:
    """Return a file's text; raise InputError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise InputError(f"{path}: {reason}") from error


def _parse(text: str, where: str) -> dict[str, Any]:
    """Return an object from JSON; raise InputError with its place for anything else."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{where}: is not an object")
    return found


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a file of JSON lines, each with its place ("file:line").

    A last line without its end is left out: its writer was killed. Any other line that is no
    object raises InputError.
    """
    for number, line in enumerate(read_text(path).split("\n")[:-1], 1):
        where = f"{path}:{number}"
        yield where, _parse(line, where)


def read_object(path: Path) -> dict[str, Any]:
    """Return the one object of a JSON file; raise InputError when it holds something else."""
    return _parse(read_text(path), str(path))


def write_text(path: Path, text: str) -> None:
    """Replace a file at once: who reads it finds the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def compact(value: object) -> str:
    """Return a value as one line of JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
