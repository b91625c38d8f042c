#!/usr/bin/env python3
"""Write the table of variables in each role's README from its argument specs.

The table stands between ``<!-- variables -->`` and ``<!-- /variables -->``. With ``--check``
nothing is written; the exit code is 1 when a README is not what this program would write.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"
BEGIN = "<!-- variables -->"
END = "<!-- /variables -->"
HEADER = ("Variable", "Type", "Default", "Description")


class ReadmeError(Exception):
    """A role's README or argument specs cannot be used; the message says which and why."""


def code(text: str) -> str:
    """Return ``text`` as inline code that survives inside a Markdown table."""
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", r"\|")


def prose(text: object) -> str:
    """Return a description, which may be a list of paragraphs, as the text of one table cell."""
    paragraphs = text if isinstance(text, list) else [text]
    return " ".join(" ".join(str(part).split()) for part in paragraphs if part).replace("|", r"\|")


def default_cell(option: Mapping[str, Any]) -> str:
    """Return the cell for an option's default: a value, ``required``, or nothing."""
    if "default" in option:
        value = option["default"]
        text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
        return code(" ".join(text.split()))
    return "required" if option.get("required") else ""


def type_cell(option: Mapping[str, Any]) -> str:
    """Return the cell for an option's type, with the type of a list's elements."""
    kind = str(option.get("type", "str"))
    elements = option.get("elements")
    return f"{kind} of {elements}" if elements else kind


def rows(options: Mapping[str, Mapping[str, Any]], prefix: str = "") -> Iterator[tuple[str, ...]]:
    """Yield a row for each option, its own sub-options following it as ``option.suboption``."""
    for name, option in options.items():
        full = f"{prefix}{name}"
        words = [prose(option.get("description", ""))]
        if choices := option.get("choices"):
            words.append("One of " + ", ".join(code(str(choice)) for choice in choices) + ".")
        description = " ".join(filter(None, words))
        yield code(full), type_cell(option), default_cell(option), description
        step = "[]." if option.get("type") == "list" else "."
        yield from rows(option.get("options") or {}, f"{full}{step}")


def table(options: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the Markdown table of ``options``, or a sentence when there are none."""
    if not options:
        return "This role has no variables."
    lines = [HEADER, tuple("---" for _ in HEADER), *rows(options)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def read_options(role: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return the options of all the role's entry points; most roles have one set of them."""
    path = role / "meta" / "argument_specs.yml"
    merged: dict[str, Mapping[str, Any]] = {}
    try:
        specs = yaml.safe_load(path.read_text(encoding="utf-8"))
        for point in specs["argument_specs"].values():
            merged |= point.get("options") or {}
    except FileNotFoundError:
        raise ReadmeError(f"{role.name}: meta/argument_specs.yml is missing") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ReadmeError(f"{role.name}: meta/argument_specs.yml: {error!r}") from None
    return merged


def render(role: Path) -> tuple[str, str]:
    """Return a role's README as it is and as it should be."""
    path = role / "README.md"
    try:
        current = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ReadmeError(f"{role.name}: README.md is missing") from None
    if current.count(BEGIN) != 1 or current.count(END) != 1:
        raise ReadmeError(f"{role.name}: README.md needs one {BEGIN} and one {END}")
    before, rest = current.split(BEGIN)
    if END not in rest:
        raise ReadmeError(f"{role.name}: README.md has {END} before {BEGIN}")
    after = rest.split(END)[1]
    return current, f"{before}{BEGIN}\n\n{table(read_options(role))}\n\n{END}{after}"


def role_directories(roles: Path, names: Sequence[str]) -> list[Path]:
    """Return the directories of the named roles, or of all of them."""
    found = sorted(path for path in roles.iterdir() if path.is_dir())
    if not names:
        return found
    if unknown := sorted(set(names) - {path.name for path in found}):
        raise ReadmeError(f"no such role: {', '.join(unknown)}")
    return [path for path in found if path.name in names]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("role", nargs="*", help="names of roles (all of them when none is given)")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    parser.add_argument("--roles", type=Path, default=ROLES, help="directory that holds the roles")
    options = parser.parse_args(arguments)

    problems: list[str] = []
    try:
        directories = role_directories(options.roles, options.role)
    except (ReadmeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for role in directories:
        try:
            current, wanted = render(role)
        except ReadmeError as error:
            problems.append(str(error))
            continue
        if current == wanted:
            continue
        if options.check:
            problems.append(f"{role.name}: README.md is outdated: run make docs")
        else:
            (role / "README.md").write_text(wanted, encoding="utf-8")
            print(f"{role.name}: README.md written")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
