#!/usr/bin/env python3
"""Write the table of variables in each role's README, between two markers, from its argument specs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"
BEGIN, END = "<!-- variables -->", "<!-- /variables -->"
HEADER = ("Variable", "Type", "Default", "Description")


class ReadmeError(Exception):
    """A role's README has no place for the table; the message says which."""


def cell(text: object) -> str:
    """Return a text, which may be a list of paragraphs, on one line and with no end of a cell in it."""
    return " ".join(" ".join(map(str, text if isinstance(text, list) else [text])).split()).replace("|", r"\|")


def default(option: Mapping[str, Any]) -> str:
    """Return an option's default as code, `required`, or nothing."""
    if "default" not in option:
        return "required" if option.get("required") else ""
    value = option["default"]
    return f"`{cell(value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False))}`"


def rows(options: Mapping[str, Mapping[str, Any]], prefix: str = "") -> Iterator[tuple[str, ...]]:
    """Yield a row for each option, its own sub-options following it as `option.suboption`."""
    for name, option in options.items():
        kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
        description = cell(option.get("description", ""))
        if "choices" in option:
            description += f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
        yield f"`{prefix}{name}`", kind, default(option), description
        yield from rows(option.get("options", {}), f"{prefix}{name}{'[]' if kind.startswith('list') else ''}.")


def render(role: Path) -> tuple[str, str]:
    """Return a role's README as it is and as it should be, with the options of all its entry points."""
    current = (role / "README.md").read_text("utf-8")
    before, begin, rest = current.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ReadmeError(f"{role.name}: README.md needs {BEGIN} and {END}")
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text("utf-8"))["argument_specs"]
    found = [*rows({name: one for point in specs.values() for name, one in point.get("options", {}).items()})]
    lines = ["| " + " | ".join(line) + " |" for line in (HEADER, ("---",) * len(HEADER), *found)]
    table = "\n".join(lines) if found else "This role has no variables."
    return current, f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main() -> None:
    """Write every table that is not as it should be."""
    for role in sorted(ROLES.iterdir()):
        current, wanted = render(role)
        if current != wanted:
            (role / "README.md").write_text(wanted, "utf-8")
            print(f"{role.name}: README.md written")


if __name__ == "__main__":
    main()
