"""Filter: a dashboard as code, read from its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]

Json = dict[str, Any]


class DashboardError(Exception):
    """A dashboard, or what is asked of one, makes no sense; the text says what and why."""


def read_dashboard(path: str) -> Json:
    """Return the dashboard at ``path`` with its panels' specifications, theme, parts and files put in.

    A relative path begins at the repository, wherever the playbook was started.

    Each panel has ``name``, ``title``, ``description``, ``grid``, ``table`` (or None) and ``spec``, a specification
    that needs nothing beside it.

    Raises:
        DashboardError: a file is missing or is not what it should be.
    """
    source = REPOSITORY / path
    try:
        dashboard: Json = yaml.safe_load(source.read_text("utf-8"))
        panels = [read_panel(source.parent, panel) for panel in dashboard["panels"]]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DashboardError(f"dashboard {path}: {error!r}") from error
    return {**dashboard, "panels": panels}


def read_panel(folder: Path, panel: Json) -> Json:
    """Return a panel of the dashboard's file with its specification read."""
    files = (folder / name for name in ("theme.yml", "parts.yml", panel["spec"]))
    theme, parts, own = (yaml.safe_load(file.read_text("utf-8")) for file in files)
    spec = merge(theme, put_in(own, parts | own.pop("parts", {})))
    for data in data_sources(spec):
        # A file beside the dashboard is put into it: Kibana loads nothing from elsewhere.
        if isinstance(data.get("url"), str):
            data["values"] = json.loads((folder / data.pop("url")).read_text("utf-8"))
    return {
        "name": Path(panel["spec"]).stem,
        "title": spec["title"]["text"],
        "description": spec["title"].get("subtitle", ""),
        "grid": panel["grid"],
        "table": panel.get("table"),
        "spec": spec,
    }


def put_in(node: Any, parts: Json) -> Any:  # noqa: ANN401 - JSON
    """Return ``node`` with the parts that it names put in: an object lies over its part, a list joins the outer one."""
    if isinstance(node, list):
        filled = []
        for item in node:
            value = put_in(item, parts)
            filled += value if isinstance(item, dict) and isinstance(value, list) else [value]
        return filled
    if not isinstance(node, dict):
        return node
    own = {key: put_in(value, parts) for key, value in node.items() if key != "part"}
    if "part" not in node:
        return own
    part = put_in(parts[node["part"]], parts)
    return merge(part, own) if own else part


def merge(base: Json, over: Json) -> Json:
    """Return ``base`` with ``over`` laid over it, objects within objects likewise."""
    merged = {**base, **over}
    for key in base.keys() & over.keys():
        if isinstance(base[key], dict) and isinstance(over[key], dict):
            merged[key] = merge(base[key], over[key])
    return merged


def data_sources(node: object) -> Iterator[Json]:
    """Yield every data source of a specification, wherever in it."""
    if isinstance(node, dict):
        data = node.get("data")
        yield from (one for one in (data if isinstance(data, list) else [data]) if isinstance(one, dict))
        node = [value for key, value in node.items() if key not in {"values", "url"}]
    if isinstance(node, list):
        for value in node:
            yield from data_sources(value)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"read_dashboard": read_dashboard}
