# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Filter: dashboards of Vega panels as Kibana's saved objects."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

# The model versions that these objects are written in. Kibana brings older ones up to its own and refuses newer ones,
# so these are old ones that have this shape.
CORE_VERSION = "8.8.0"
TYPE_VERSIONS = {"dashboard": "8.9.0", "index-pattern": "8.0.0", "tag": "8.0.0", "visualization": "8.5.0"}

NO_QUERY = {"query": {"query": "", "language": "kuery"}, "filter": []}
TAG = "managed-by-ansible"


def text(value: object) -> str:
    """Return ``value`` as JSON, as Kibana keeps objects within objects; the same value is always the same text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def readable(spec: Json) -> str:
    """Return a specification as Kibana's editor shows it: indented, but for lists of numbers, such as an outline."""
    lines = json.dumps(spec, indent=2, ensure_ascii=False)
    return re.sub(r"\[[-\d.,\s\[\]]+\]", lambda numbers: re.sub(r"\s+", "", numbers[0]), lines)


def saved_object(kind: str, identifier: str, attributes: Json, references: list[Json]) -> Json:
    """Return a saved object as Kibana exports one."""
    return {
        "type": kind,
        "id": identifier,
        "attributes": attributes,
        "references": references,
        "coreMigrationVersion": CORE_VERSION,
        "typeMigrationVersion": TYPE_VERSIONS[kind],
        "managed": False,
    }


def tag_reference() -> Json:
    """Return the reference that puts the tag on an object."""
    return {"type": "tag", "id": TAG, "name": f"tag-ref-{TAG}"}


def data_view(pattern: str) -> Json:
    """Return the data view of an index pattern; its id is the one that Filebeat's own dashboards use."""
    attributes = {"title": pattern, "name": pattern, "timeFieldName": "@timestamp"}
    return saved_object("index-pattern", pattern, attributes, [])


def visualization(dashboard: Json, panel: Json) -> Json:
    """Return a panel as a visualization."""
    state = {"title": panel["title"], "type": "vega", "aggs": [], "params": {"spec": readable(panel["spec"])}}
    attributes = {
        "title": f"{dashboard['title']}: {panel['title']}",
        "description": panel["description"],
        "visState": text(state),
        "uiStateJSON": "{}",
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": text(NO_QUERY)},
    }
    return saved_object("visualization", f"{dashboard['id']}-{panel['name']}", attributes, [tag_reference()])


def dashboard_object(dashboard: Json) -> Json:
    """Return a dashboard that refers to its panels."""
    panels, references = [], []
    for panel in dashboard["panels"]:
        name = panel["name"]
        panels.append(
            {
                "type": "visualization",
                "panelIndex": name,
                "panelRefName": f"panel_{name}",
                "gridData": {**{side: panel["grid"][side] for side in ("x", "y", "w", "h")}, "i": name},
                # The specification has a title of its own, with a line that says what is to be seen.
                "embeddableConfig": {"hidePanelTitles": True, "enhancements": {}},
            }
        )
        references.append({"type": "visualization", "id": f"{dashboard['id']}-{name}", "name": f"{name}:panel_{name}"})
    attributes = {
        "title": dashboard["title"],
        "description": dashboard["description"],
        "panelsJSON": text(panels),
        "optionsJSON": text(
            {
                "useMargins": True,
                "syncColors": False,
                "syncCursor": True,
                "syncTooltips": False,
                "hidePanelTitles": False,
            }
        ),
        "timeRestore": True,
        "timeFrom": dashboard["time_from"],
        "timeTo": dashboard["time_to"],
        "refreshInterval": {"pause": False, "value": 60000},
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": text(NO_QUERY)},
    }
    return saved_object("dashboard", dashboard["id"], attributes, [*references, tag_reference()])


def kibana_objects(dashboards: list[Json], data_views: list[str]) -> list[Json]:
    """Return the saved objects of dashboards and data views, ahead of them a tag that holds a checksum of them all."""
    objects = [data_view(pattern) for pattern in data_views]
    for dashboard in dashboards:
        objects += [visualization(dashboard, panel) for panel in dashboard["panels"]]
        objects.append(dashboard_object(dashboard))
    checksum = hashlib.sha256(text(objects).encode()).hexdigest()
    attributes = {
        "name": "managed by Ansible",
        "description": f"Kept as code by role kibana; the next import overwrites changes. sha256:{checksum}",
        "color": "#0072B2",
    }
    return [saved_object("tag", TAG, attributes, []), *objects]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"kibana_objects": kibana_objects}
