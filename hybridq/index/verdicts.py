"""Verdicts: sets of rows of one part, and how they join.

A verdict is intervals of one column's keys, a set of one column's codes, a set of positions, or
several of these joined. Those over the same column are merged as they are joined, so that
`a > 1 AND a < 9` is one leaf, and `a = 1 OR a = 2` another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.index.attributes import NULL_KEY
from hybridq.index.intervals import Interval, intersect, union

Uint64s: TypeAlias = npt.NDArray[np.uint64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_FEW = 16
"""A set of codes in up to this many runs is kept as intervals, which have sorted permutations."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Rows whose key of a column lies in one of the intervals."""

    column: int
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """Rows whose code of a column is in a set: a flag per code, that of NULL before them.

    `words` are the flags as the kernels take them.
    """

    column: int
    flags: Flags
    words: Uint64s


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows by position: bit r % 64 of word r // 64."""

    words: Uint64s


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Rows that every part has, or that at least one has; `depth` words are needed for it."""

    every: bool
    parts: tuple[Verdict, ...]
    depth: int


Verdict: TypeAlias = bool | Ranges | Codes | Rows | Joined
"""Which rows pass; True for all, False for none."""


def of_ranges(column: int, found: Sequence[Interval]) -> Verdict:
    """Return a set of keys."""
    return Ranges(column, tuple(found)) if found else False


def of_codes(column: int, flags: Flags) -> Verdict:
    """Return a set of codes, as intervals where it has few runs."""
    steps = np.flatnonzero(np.diff(flags[1:].view(np.int8), prepend=0, append=0))
    if len(steps) > 2 * _FEW:
        return Codes(column, flags, packed(flags))
    runs = [(a, b - 1) for a, b in steps.reshape(-1, 2).tolist()]
    return of_ranges(column, [(NULL_KEY, NULL_KEY), *runs] if flags[0] else runs)


def packed(flags: Flags) -> Uint64s:
    """Return flags as words, the first in the lowest bit of the first word."""
    padded = np.zeros(-(-len(flags) // 64) * 64, np.bool_)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little").view(np.uint64)


def _as_flags(verdict: Ranges | Codes, count: int) -> Flags:
    if isinstance(verdict, Codes):
        return verdict.flags
    flags = np.zeros(count, np.bool_)
    for low, high in verdict.intervals:
        flags[0] |= low == NULL_KEY
        flags[max(low, 0) + 1 : min(high, count - 2) + 2] = True
    return flags


def depth(verdict: Verdict) -> int:
    """Return how many words a verdict's instructions need at once."""
    return verdict.depth if isinstance(verdict, Joined) else 1


def _cost(verdict: Verdict) -> int:
    """Order parts: what is cheap goes first, and spares the rest where it decides."""
    match verdict:
        case Rows():
            return 0
        case Ranges(intervals=found):
            return 1 if len(found) <= 4 else 3
        case Codes():
            return 2
        case Joined(parts=parts):
            return 4 + sum(_cost(p) for p in parts)
        case _:
            return 0


def join(every: bool, verdicts: Sequence[Verdict]) -> Verdict:
    """Return the rows of all verdicts, or of any of them."""
    if len(verdicts) == 1:
        return verdicts[0]
    flat: list[Verdict] = []
    for verdict in verdicts:
        if isinstance(verdict, Joined) and verdict.every == every:
            flat.extend(verdict.parts)
        else:
            flat.append(verdict)
    if (not every) in flat:  # one part decides
        return not every
    by_column: dict[int, list[Ranges | Codes]] = {}
    others: list[Verdict] = []
    for verdict in flat:
        if isinstance(verdict, Ranges | Codes):
            by_column.setdefault(verdict.column, []).append(verdict)
        elif not isinstance(verdict, bool):
            others.append(verdict)
    merged = [_merged(every, column, same) for column, same in by_column.items()]
    if (not every) in merged:
        return not every
    parts = sorted([*(m for m in merged if not isinstance(m, bool)), *others], key=_cost)
    if len(parts) <= 1:
        return parts[0] if parts else every
    needed = max(depth(p) + (i > 0) for i, p in enumerate(parts))
    return Joined(every, tuple(parts), needed)


def _merged(every: bool, column: int, same: Sequence[Ranges | Codes]) -> Verdict:
    if len(same) == 1:
        return same[0]
    sizes = [len(v.flags) for v in same if isinstance(v, Codes)]
    if sizes:
        joined = np.logical_and if every else np.logical_or
        return of_codes(column, joined.reduce([_as_flags(v, sizes[0]) for v in same]))
    found = [v.intervals for v in same if isinstance(v, Ranges)]
    if not every:
        return of_ranges(column, union([i for one in found for i in one]))
    common: Sequence[Interval] = found[0]
    for one in found[1:]:
        common = intersect(common, one)
    return of_ranges(column, common)
