"""As much of Elasticsearch's search as the panels ask for, computed from events in memory.

It knows only queries and aggregations, and only those of their options, that both 6.8 and 8.19 document; anything else
is an error, so that a panel that asks for more fails its test.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
Event = dict[str, Any]

# Inner steps of auto_date_histogram up to a day, in milliseconds.
STEPS = [
    1000 * step
    for step in (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 43200, 86400, 604800)
]  # fmt: skip
GEOHASH = "0123456789bcdefghjkmnpqrstuvwxyz"


class BadRequestError(Exception):
    """The search is not one that both versions take."""


def options(given: Json, *, required: set[str], optional: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Refuse missing and unknown options."""
    if missing := required - given.keys():
        raise BadRequestError(f"missing {missing} in {given}")
    if unknown := given.keys() - required - optional:
        raise BadRequestError(f"unknown {unknown} in {given}")


def only(node: Json) -> tuple[str, Any]:
    """Return the one entry of an object."""
    if len(node) != 1:
        raise BadRequestError(f"more than one entry in {node}")
    return next(iter(node.items()))


def time_ms(value: Any) -> float:
    """Return a time as milliseconds since 1970."""
    if isinstance(value, int | float):
        return float(value)
    return datetime.fromisoformat(value).timestamp() * 1000


def words(text: Any) -> str:
    """Return a text as its terms with spaces around each."""
    return " " + " ".join(re.findall(r"\w+", str(text).lower())) + " "


def matches(query: Json, event: Event) -> bool:  # noqa: PLR0911 - one arm a kind of query
    """Return whether an event answers a query."""
    kind, body = only(query)
    match kind:
        case "term":
            return bool(event.get(only(body)[0]) == only(body)[1])
        case "terms":
            return event.get(only(body)[0]) in only(body)[1]
        case "exists":
            options(body, required={"field"})
            return event.get(body["field"]) is not None
        case "match_phrase":
            field, text = only(body)
            return words(text) in words(event.get(field, ""))
        case "range":
            field, limits = only(body)
            options(limits, required=set(), optional={"gte", "lte", "format"})
            if event.get(field) is None:
                return False
            low, high = limits.get("gte", -math.inf), limits.get("lte", math.inf)
            return time_ms(low) <= time_ms(event[field]) <= time_ms(high)
        case "bool":
            options(body, required=set(), optional={"must", "filter", "should", "must_not", "minimum_should_match"})
            needed = body.get("minimum_should_match", 0)
            return (
                all(matches(one, event) for one in [*body.get("must", []), *body.get("filter", [])])
                and not any(matches(one, event) for one in body.get("must_not", []))
                and sum(matches(one, event) for one in body.get("should", [])) >= needed
            )
    raise BadRequestError(f"unknown query {kind}")


def geohash(lat: float, lon: float, precision: int) -> str:
    """Return the geohash cell of a place."""
    low, high = [-90.0, -180.0], [90.0, 180.0]
    bits = 0
    for number in range(precision * 5):
        axis = (number + 1) % 2
        middle = (low[axis] + high[axis]) / 2
        upper = (lat, lon)[axis] >= middle
        (low if upper else high)[axis] = middle
        bits = bits * 2 + upper
    return "".join(GEOHASH[bits >> 5 * (precision - 1 - index) & 31] for index in range(precision))


def values(events: list[Event], field: str) -> list[Any]:
    """Return the values of a field where events have one."""
    return [event[field] for event in events if event.get(field) is not None]


def percentile(numbers: list[float], percent: float) -> float | None:
    """Return a percentile, or None of nothing."""
    if not numbers:
        return None
    place = (len(numbers) - 1) * percent / 100
    low = sorted(numbers)[math.floor(place)]
    return low + (sorted(numbers)[math.ceil(place)] - low) * (place % 1)


LEAVES = {"top_hits", "percentiles", "cardinality", "geo_centroid"}


def buckets(kind: str, body: Json, events: list[Event], inner: Json) -> Json:  # noqa: C901, PLR0911 - one arm a kind
    """Answer an aggregation that has others within."""

    def bucket(inside: list[Event], **head: Any) -> Json:
        return {**head, "doc_count": len(inside), **aggregate(inner, inside)}

    field = body.get("field", "")
    match kind:
        case "terms":
            options(body, required={"field"}, optional={"size"})
            counts = Counter(values(events, field)).most_common(body.get("size", 10))
            return {"buckets": [bucket([one for one in events if one.get(field) == key], key=key) for key, _ in counts]}
        case "auto_date_histogram":
            # Empty buckets between others are there.
            options(body, required={"field", "buckets"})
            times = [time_ms(value) for value in values(events, field)]
            if not times:
                return {"buckets": [], "interval": "1s"}
            step = next(step for step in STEPS if max(times) // step - min(times) // step < body["buckets"])
            found = [
                bucket([one for one in events if time_ms(one[field]) // step == key], key=key * step)
                for key in range(int(min(times) // step), int(max(times) // step) + 1)
            ]
            return {"buckets": found, "interval": f"{step // 1000}s"}
        case "geohash_grid":
            options(body, required={"field", "precision"}, optional={"size"})
            cells: dict[str, list[Event]] = {}
            for one in events:
                if place := one.get(field):
                    cells.setdefault(geohash(place["lat"], place["lon"], body["precision"]), []).append(one)
            ordered = sorted(cells.items(), key=lambda item: -len(item[1]))
            return {"buckets": [bucket(inside, key=key) for key, inside in ordered[: body.get("size", 10_000)]]}
        case "date_range":
            # Bounds are numbers.
            options(body, required={"field", "ranges"})
            ranges = [{name: float(limits[name]) for name in ("from", "to")} for limits in body["ranges"]]
            return {
                "buckets": [
                    bucket([one for one in events if limits["from"] <= time_ms(one[field]) < limits["to"]], **limits)
                    for limits in ranges
                ]
            }
        case "filters":
            options(body, required={"filters"})
            queries = body["filters"].items()
            return {
                "buckets": {name: bucket([one for one in events if matches(query, one)]) for name, query in queries}
            }
        case "filter":
            return bucket([one for one in events if matches(body, one)])
    raise BadRequestError(f"unknown aggregation {kind}")


def figures(kind: str, body: Json, events: list[Event]) -> Json:
    """Answer one of the aggregations that have none within."""
    found = values(events, body.get("field", ""))
    if kind == "top_hits":
        return top_hits(body, events)
    if kind == "percentiles":
        options(body, required={"field", "percents", "keyed"})
        return {"values": [{"key": float(one), "value": percentile(found, one)} for one in body["percents"]]}
    options(body, required={"field"})
    if kind == "cardinality":
        return {"value": len(set(found))}
    if not found:
        return {"count": 0}
    location = {axis: sum(place[axis] for place in found) / len(found) for axis in ("lat", "lon")}
    return {"location": location, "count": len(found)}


def top_hits(body: Json, events: list[Event]) -> Json:
    """Answer a top_hits aggregation."""
    options(body, required={"size", "sort", "_source"})
    if body["size"] > 100:
        raise BadRequestError("index.max_inner_result_window is 100")
    (field, order) = only(body["sort"][0])
    options(order, required={"order"}, optional={"unmapped_type"})
    ordered = sorted(events, key=lambda event: time_ms(event[field]), reverse=order["order"] == "desc")
    hits = []
    for event in ordered[: body["size"]]:
        source: Json = {}
        for name in body["_source"]:
            *path, last = [name] if name.startswith("@") else name.split(".")
            inner = source
            for part in path:
                inner = inner.setdefault(part, {})
            inner[last] = event.get(name)
        hits.append({"_source": source})
    return {"hits": {"hits": hits}}


def aggregate(aggs: Json, events: list[Event]) -> Json:
    """Return the answers to aggregations over events."""
    answers = {}
    for name, definition in aggs.items():
        inner = definition.get("aggs", {})
        kind, body = only({key: value for key, value in definition.items() if key != "aggs"})
        if kind in LEAVES and inner:
            raise BadRequestError(f"{kind} takes no aggregations within")
        answers[name] = figures(kind, body, events) if kind in LEAVES else buckets(kind, body, events, inner)
    return answers


def search(body: Json, events: list[Event]) -> Json:
    """Return the response to a search."""
    options(body, required={"size", "query", "aggs"})
    found = [event for event in events if matches(body["query"], event)]
    hits = {"total": {"value": len(found), "relation": "eq"}, "hits": []}
    shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
    return {
        "took": 1,
        "timed_out": False,
        "_shards": shards,
        "hits": hits,
        "aggregations": aggregate(body["aggs"], found),
    }


def iso(ms: float) -> str:
    """Return milliseconds since 1970 as Elasticsearch keeps a time."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
