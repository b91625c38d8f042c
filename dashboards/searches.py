"""The searches of a dashboard's panels, for a time range.

A panel is a Vega or Vega-Lite specification as Kibana takes it: an object in place of a data source's URL is a search,
with Kibana's placeholders in it. Those that the panels use are resolved here as Kibana does; others are refused.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from plugins.filter.read_dashboard import DashboardError, data_sources

TIMEFILTER = "%timefilter%"
SEARCH_KEYS = {"%context%", "%timefield%", "index", "body"}

UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}

Json = dict[str, Any]


class Range:
    """The chosen time range."""

    def __init__(self, time_from: str, time_to: str, now: datetime) -> None:
        """Take two times as Kibana's time picker writes them, such as ``now-1h`` or ``2026-01-31T12:00:00Z``.

        Raises:
            DashboardError: one of them is no such time, or they are the wrong way round.
        """
        self.bounds = {"min": moment(time_from, now), "max": moment(time_to, now)}
        if self.bounds["min"] >= self.bounds["max"]:
            raise DashboardError(f"the time range from {time_from} to {time_to} is empty; give an earlier beginning.")

    def __str__(self) -> str:
        """Return the time range as a person reads it, in UTC."""
        first, last = (f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" for time in (self.bounds["min"], self.bounds["max"]))
        return f"{first} to {last[11:] if last[:10] == first[:10] else last} UTC"


def moment(text: str, now: datetime) -> datetime:
    """Return the time that ``text`` means: ``now``, ``now-15m``, ``now-1d/d`` or a time of ISO 8601 (UTC)."""
    if found := re.fullmatch(r"now(?:([+-])(\d+)([smhdw]))?(?:/([smhd]))?", text.strip()):
        sign, number, unit, rounded = found.groups()
        if unit:
            now += (-1 if sign == "-" else 1) * int(number) * UNITS[unit]
        if rounded:
            now -= (now - datetime(1970, 1, 1, tzinfo=UTC)) % UNITS[rounded]
        return now
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise DashboardError(
            f"{text!r} is no time; write for instance now, now-15m, now-7d or 2026-01-31T12:00:00Z."
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def milliseconds(time: datetime) -> int:
    """Return a time as milliseconds since 1970."""
    return round(time.timestamp() * 1000)


def iso(time: datetime) -> str:
    """Return a time as Kibana writes it."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def resolve_search(url: Json, times: Range) -> Json:
    """Return the index and the body of the search that Kibana would send, with no dashboard filters set.

    Raises:
        DashboardError: the search is not by context and time, or has a placeholder that is not resolved here.
    """
    if url.keys() != SEARCH_KEYS or url["%context%"] is not True or "query" in url["body"]:
        raise DashboardError(
            f"a search has {', '.join(sorted(url))}; it must have {', '.join(sorted(SEARCH_KEYS))}, its %context% be "
            "true, and its body be without a query, which %context% makes."
        )
    limits = {
        "gte": iso(times.bounds["min"]),
        "lte": iso(times.bounds["max"]),
        "format": "strict_date_optional_time",
    }
    # As Kibana builds it of an empty search bar and no filters.
    query = {"bool": {"must": [{"range": {url["%timefield%"]: limits}}], "filter": [], "should": [], "must_not": []}}
    return {"index": url["index"], "body": {**fill(url["body"], times), "query": query}}


def fill(node: Any, times: Range) -> Any:  # noqa: ANN401 - JSON
    """Return ``node`` with the bounds of the time range, in milliseconds, in place of the placeholders for them."""
    if isinstance(node, list):
        return [fill(item, times) for item in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {TIMEFILTER} and node[TIMEFILTER] in ("min", "max"):
        return milliseconds(times.bounds[node[TIMEFILTER]])
    if unknown := [key for key in node if key.startswith("%")]:
        raise DashboardError(f'{unknown[0]} is in {node}; known are {{"{TIMEFILTER}": "min"}} and "max" alone.')
    return {key: fill(value, times) for key, value in node.items()}


def dashboard_searches(dashboard: Json, times: Range) -> list[Json]:
    """Return the searches of all panels, in their order, each with its ``index`` and ``body``."""
    return [
        resolve_search(data["url"], times)
        for panel in dashboard["panels"]
        for data in data_sources(panel["spec"])
        if isinstance(data.get("url"), dict)
    ]


def msearch(searches: list[Json]) -> str:
    """Return searches as the body of Elasticsearch's _msearch. Indices that are not there have no events."""
    lines = [line for one in searches for line in ({"index": one["index"], "ignore_unavailable": True}, one["body"])]
    return "".join(f"{json.dumps(line)}\n" for line in lines)
