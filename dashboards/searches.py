"""The searches of a dashboard's panels, for a time range.

A panel is a Vega or Vega-Lite specification as Kibana takes it: an object in place of a data source's URL is a search,
with Kibana's placeholders in it. They are resolved here as Kibana does, so that a panel shows the same outside it.
"""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from plugins.filter.read_dashboard import DashboardError, data_sources

TIMEFILTER = "%timefilter%"
AUTOINTERVAL = "%autointerval%"
CONTEXT_CLAUSES = {
    "%dashboard_context-must_clause%": "must",
    "%dashboard_context-must_not_clause%": "must_not",
    "%dashboard_context-filter_clause%": "filter",
}
# What Kibana knows of a search; everything else of its extensions is not resolved here and is refused.
SEARCH_KEYS = {"%type%", "%context%", "%timefield%", "index", "body"}

UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
SHIFT_UNITS = {
    **UNITS,
    "second": UNITS["s"],
    "minute": UNITS["m"],
    "hour": UNITS["h"],
    "day": UNITS["d"],
    "week": UNITS["w"],
}

# Kibana's ladder of automatic intervals: the longest wanted one, in milliseconds, and what it becomes.
INTERVALS = (
    (500, "100ms"),
    (5_000, "1s"),
    (7_500, "5s"),
    (15_000, "10s"),
    (45_000, "30s"),
    (180_000, "1m"),
    (450_000, "5m"),
    (1_200_000, "10m"),
    (2_700_000, "30m"),
    (7_200_000, "1h"),
    (21_600_000, "3h"),
    (86_400_000, "12h"),
    (604_800_000, "24h"),
    (1_814_400_000, "1w"),
    (3_628_799_999, "30d"),
)

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

    def bound(self, options: Json, which: str) -> int:
        """Return a bound in milliseconds since 1970, shifted as ``options`` say."""
        shift = options.get("shift") or 0
        if isinstance(shift, bool) or not isinstance(shift, int | float):
            raise DashboardError(f"shift is {shift!r}; it must be a number.")
        unit = options.get("unit") or "d"
        if unit not in SHIFT_UNITS:
            raise DashboardError(f"unit is {unit!r}; it must be one of {', '.join(SHIFT_UNITS)}.")
        return milliseconds(self.bounds[which]) + round(shift * SHIFT_UNITS[unit] / timedelta(milliseconds=1))

    def filter(self, options: Json) -> Json:
        """Return the body of a range query; what ``options`` have besides the placeholder stays."""
        rest = {key: value for key, value in options.items() if key not in {TIMEFILTER, "shift", "unit"}}
        return {
            **rest,
            "gte": iso(self.bound(options, "min")),
            "lte": iso(self.bound(options, "max")),
            "format": "strict_date_optional_time",
        }

    def interval(self, buckets: object) -> str:
        """Return the interval that makes about as many buckets (``True``: 50) of the range."""
        size = 50 if buckets is True else buckets
        if not isinstance(size, int | float) or size <= 0:
            raise DashboardError(f"{AUTOINTERVAL} is {buckets!r}; it must be true or a number.")
        wanted = (milliseconds(self.bounds["max"]) - milliseconds(self.bounds["min"])) / size
        return next((name for longest, name in INTERVALS if wanted <= longest), "1y")


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


def iso(ms: int) -> str:
    """Return milliseconds since 1970 as Kibana writes a time."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def resolve_search(url: Json, times: Range) -> Json:
    """Return the index and the body of the search that Kibana would send, with no dashboard filters set.

    Raises:
        DashboardError: the search uses something that Kibana would refuse too, or that is not resolved here.
    """
    if unknown := url.keys() - SEARCH_KEYS:
        raise DashboardError(f"a search has {', '.join(sorted(unknown))}, which is not known here.")
    if url.get("%type%", "elasticsearch") != "elasticsearch":
        raise DashboardError(f"a data source has the type {url['%type%']}; only elasticsearch is known here.")
    body = copy.deepcopy(url.get("body") or {})
    context, field = url.get("%context%"), url.get("%timefield%")
    # As Kibana builds them of an empty search bar and no filters.
    clauses: dict[str, list[Json]] = {"must": [], "filter": [], "should": [], "must_not": []}
    if "query" in body:
        if context is not None or field is not None:
            raise DashboardError(
                "a search has a query of its own besides %context% or %timefield%; Kibana refuses both."
            )
        body["query"] = fill(body["query"], times, clauses)
    else:
        limits = {"range": {field: times.filter({TIMEFILTER: True})}} if field else None
        if context:
            body["query"] = {"bool": {**clauses, "must": [limits] if limits else []}}
        elif limits:
            body["query"] = limits
    if "aggs" in body:
        body["aggs"] = fill(body["aggs"], times, None)
    return {"index": url.get("index", "_all"), "body": body}


def fill(node: Any, times: Range, clauses: dict[str, list[Json]] | None, parent: str = "") -> Any:  # noqa: ANN401
    """Return ``node`` with its placeholders resolved; ``clauses`` are those of the dashboard, in queries only."""
    if isinstance(node, list):
        filled: list[Any] = []
        for item in node:
            if clauses is not None and isinstance(item, str) and item in CONTEXT_CLAUSES:
                filled += clauses[CONTEXT_CLAUSES[item]]
            else:
                filled.append(fill(item, times, clauses))
        return filled
    if not isinstance(node, dict):
        return node
    result: Json = {}
    for key, value in node.items():
        if key == "interval" and parent == "date_histogram":
            result.update(histogram_interval(value, times))
        elif isinstance(value, dict) and TIMEFILTER in value:
            result[key] = time_value(value, times)
        else:
            result[key] = fill(value, times, clauses, key)
    return result


def time_value(options: Json, times: Range) -> int | Json:
    """Return what stands for an object with ``%timefilter%``: a bound, or the body of a range query."""
    which = options[TIMEFILTER]
    if which is True:
        return times.filter(options)
    if which in {"min", "max"}:
        return times.bound(options, which)
    raise DashboardError(f"{TIMEFILTER} is {which!r}; it must be true, min or max.")


def histogram_interval(value: object, times: Range) -> Json:
    """Return the fixed or calendar interval that Kibana puts for a histogram's ``interval``."""
    if isinstance(value, dict) and AUTOINTERVAL in value:
        value = times.interval(value[AUTOINTERVAL])
    text = str(value)
    calendar = re.fullmatch(r"1?(m|h|d|w|M|q|y)", text) is not None
    return {"calendar_interval" if calendar else "fixed_interval": text}


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
