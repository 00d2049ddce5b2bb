"""Sets of keys as sorted, disjoint, closed intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

from hybridq.index.attributes import MAX_KEY, NULL_KEY

Interval: TypeAlias = tuple[int, int]

MIN_KEY = NULL_KEY + 1
ALL: list[Interval] = [(MIN_KEY, MAX_KEY)]
"""Every key but that of NULL."""


def union(parts: Sequence[Interval]) -> list[Interval]:
    """Merge intervals into ascending disjoint ones."""
    merged: list[Interval] = []
    for low, high in sorted(parts):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def intersect(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """Return the common part of two interval lists."""
    return union(
        [(max(a, c), min(b, d)) for a, b in left for c, d in right if max(a, c) <= min(b, d)]
    )


def complement(parts: Sequence[Interval]) -> list[Interval]:
    """Return every key, that of NULL included, that is in none of the intervals."""
    found: list[Interval] = []
    at = NULL_KEY
    for low, high in union(parts):
        if at < low:
            found.append((at, low - 1))
        at = high + 1
    if at <= MAX_KEY:
        found.append((at, MAX_KEY))
    return found


def _clip(low: int, high: int) -> list[Interval]:
    low, high = max(low, MIN_KEY), min(high, MAX_KEY)
    return [(low, high)] if low <= high else []


def from_points(op: str, first: int, last: int) -> list[Interval]:
    """Intervals of `op` where the keys first…last (possibly none: last = first - 1) are equal."""
    match op:
        case "=":
            return _clip(first, last)
        case "<>":
            return _clip(MIN_KEY, first - 1) + _clip(last + 1, MAX_KEY)
        case "<":
            return _clip(MIN_KEY, first - 1)
        case "<=":
            return _clip(MIN_KEY, last)
        case ">":
            return _clip(last + 1, MAX_KEY)
        case _:
            return _clip(first, MAX_KEY)


def around(op: str, exact: Fraction) -> list[Interval]:
    """Intervals over integers for a comparison with a possibly fractional value."""
    floor = math.floor(exact)
    return from_points(op, math.ceil(exact), floor)
