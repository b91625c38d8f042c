"""The repository as the policy rules see it: its files, its roles, its YAML."""

from __future__ import annotations

import subprocess
from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

GENERATED = {".venv", ".lab", ".git", "__pycache__"}


class Loader(yaml.SafeLoader):
    """YAML with Ansible's own tags, whose values are taken as they are written."""


def _as_text(_loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> str:
    """Return the value of a tagged node (``!vault``, ``!unsafe``) as text."""
    return str(node.value)


Loader.add_multi_constructor("!", _as_text)


@dataclass(frozen=True)
class Role:
    """One role's directory."""

    path: Path
    load: Callable[[Path], Any]

    @property
    def name(self) -> str:
        """Return the role's name."""
        return self.path.name

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the variables of defaults/main.yml."""
        return self.load(self.path / "defaults" / "main.yml") or {}

    @property
    def entry_points(self) -> dict[str, dict[str, Any]]:
        """Return the options of each entry point in the argument specs."""
        points = (self.load(self.path / "meta" / "argument_specs.yml") or {}).get("argument_specs") or {}
        return {name: (point or {}).get("options") or {} for name, point in points.items()}

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """Return every option of any entry point."""
        return dict(ChainMap(*self.entry_points.values()))


class Repository:
    """The files under one root that belong to the repository."""

    def __init__(self, root: Path) -> None:
        """Take the directory that holds the repository."""
        self.root = root
        self._yaml: dict[Path, Any] = {}

    @cached_property
    def files(self) -> list[Path]:
        """Return the files that git tracks or would track; all of them where there is no git."""
        if (self.root / ".git").exists():
            command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
            output = subprocess.run(command, cwd=self.root, check=True, capture_output=True).stdout
            names = {name for name in output.decode().split("\0") if name}
            found = (self.root / name for name in names)
        else:
            found = (path for path in self.root.rglob("*") if not GENERATED & set(path.relative_to(self.root).parts))
        return sorted(path for path in found if path.is_file() and not path.is_symlink())

    @cached_property
    def _known(self) -> set[Path]:
        """Return the files, for quick look-ups."""
        return set(self.files)

    def under(self, *patterns: str) -> list[Path]:
        """Return the files whose path from the root matches one of these glob patterns."""
        return sorted(self._known.intersection(path for pattern in patterns for path in self.root.glob(pattern)))

    def name(self, path: Path) -> str:
        """Return a path as seen from the root."""
        return path.relative_to(self.root).as_posix()

    def load(self, path: Path) -> Any:
        """Return the content of a YAML file, None when there is no such file."""
        if path not in self._yaml:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            self._yaml[path] = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
        return self._yaml[path]

    @cached_property
    def texts(self) -> dict[Path, str]:
        """Return the content of every file that is text."""
        texts = {}
        for path in self.files:
            try:
                texts[path] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
        return texts

    @cached_property
    def roles(self) -> list[Role]:
        """Return the roles."""
        directories = (path for path in (self.root / "roles").glob("*") if path.is_dir())
        tracked = {path.relative_to(self.root).parts[1] for path in self.under("roles/*/**/*")}
        return [Role(path, self.load) for path in sorted(directories) if path.name in tracked]

    @cached_property
    def markdown(self) -> dict[Path, str]:
        """Return the Markdown files."""
        return {path: text for path, text in self.texts.items() if path.suffix == ".md"}
