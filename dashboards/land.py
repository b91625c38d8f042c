#!/usr/bin/env python3
"""Make land.geojson, the map's land outline, from land-110m.json of the npm package world-atlas.

Usage: ./land.py package/land-110m.json > land.geojson

The result is in degrees, one polygon a line. Antarctica is left out, because it would take a fifth of the map and has
no visitors; points nearer than TOLERANCE to the line without them are left out, too.
"""

from __future__ import annotations

import json
import sys
from itertools import accumulate
from pathlib import Path

TOLERANCE = 0.25  # degrees; less than a pixel on a map 1000 pixels wide
DIGITS = 1
ANTARCTICA = -60.0  # degrees of latitude

Point = tuple[float, float]


def distance(point: Point, start: Point, end: Point) -> float:
    """Return how far ``point`` is from the line between ``start`` and ``end``, in degrees."""
    along = (end[0] - start[0], end[1] - start[1])
    square = along[0] ** 2 + along[1] ** 2
    share = 0.0
    if square:
        share = ((point[0] - start[0]) * along[0] + (point[1] - start[1]) * along[1]) / square
        share = min(1.0, max(0.0, share))
    return float(((point[0] - start[0] - share * along[0]) ** 2 + (point[1] - start[1] - share * along[1]) ** 2) ** 0.5)


def simplify(line: list[Point]) -> list[Point]:
    """Return ``line`` without the points that it hardly bends at (Douglas and Peucker)."""
    if len(line) < 3:  # noqa: PLR2004 - nothing between the ends
        return line
    far = max(range(1, len(line) - 1), key=lambda index: distance(line[index], line[0], line[-1]))
    if distance(line[far], line[0], line[-1]) <= TOLERANCE:
        return [line[0], line[-1]]
    return simplify(line[: far + 1])[:-1] + simplify(line[far:])


def main() -> None:
    """Write the outline to standard output."""
    topology = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    scale, translate = topology["transform"]["scale"], topology["transform"]["translate"]

    def arc(index: int) -> list[Point]:
        """Return an arc in degrees; a negative index is an arc in the other direction."""
        steps = topology["arcs"][index if index >= 0 else ~index]
        places = accumulate(steps, lambda left, right: [left[0] + right[0], left[1] + right[1]])
        line = [(x * scale[0] + translate[0], y * scale[1] + translate[1]) for x, y in places]
        return line if index >= 0 else line[::-1]

    def ring(indices: list[int]) -> list[Point]:
        """Return a closed ring, rounded, in the order in which it is stored."""
        line = [point for index in indices for point in arc(index)[:-1]]
        half = len(line) // 2
        line = simplify(line[: half + 1])[:-1] + simplify([*line[half:], line[0]])
        return [(round(x, DIGITS), round(y, DIGITS)) for x, y in line]

    lines = []
    for shape in topology["objects"]["land"]["geometries"]:
        for polygon in shape["arcs"] if shape["type"] == "MultiPolygon" else [shape["arcs"]]:
            rings = [part for part in map(ring, polygon) if len(part) > 3]  # noqa: PLR2004 - a triangle, closed
            if rings and max(y for _, y in rings[0]) > ANTARCTICA:
                geometry = {"type": "Polygon", "coordinates": rings}
                feature = {"type": "Feature", "properties": {}, "geometry": geometry}
                lines.append(json.dumps(feature, separators=(",", ":")))
    print('{"type":"FeatureCollection","features":[\n' + ",\n".join(lines) + "\n]}")


if __name__ == "__main__":
    main()
