"""Bitmaps: the rows that satisfy conditions only DuckDB can evaluate, kept while they are true.

A bitmap is of one version of an index. It costs a pass over the table, and nothing the next time
the same conditions come with another query vector.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hybridq.arrow import pa
from hybridq.index.codes import BLOCK
from hybridq.index.ivf import Int64s, Snapshot
from hybridq.index.verdicts import Rows, Verdict
from hybridq.kernels import places

_MAX_BYTES = 64 << 20
_COMPLETED = 4
_SAMPLED = 2048


@dataclass(slots=True, eq=False)
class Bitmap:
    """Rows by position, for each part of a snapshot.

    Of the base part there are `rows` live ones, `sample` being some of them. `completed` keeps
    what others made of the bitmap, and goes with it.
    """

    stamp: tuple[int, int]
    verdicts: tuple[Verdict, ...]
    rows: int
    sample: Int64s
    size_bytes: int
    completed: dict[int, Any] = field(default_factory=dict)

    def keep(self, key: int, value: Any) -> None:
        """Keep something made of this bitmap."""
        if len(self.completed) >= _COMPLETED:
            self.completed.clear()
        self.completed[key] = value


def bitmap_of_keys(snapshot: Snapshot, keys: Sequence[pa.Array]) -> Bitmap:
    """Return the bitmap of the live rows that have the given keys (an array per key column)."""
    positions: list[Int64s] = []
    rest = list(keys)
    for i, part in enumerate(snapshot.parts):
        found = part.find(rest)
        positions.append(found)
        if i + 1 < len(snapshot.parts):  # a key is alive in one part
            missing = pa.array(~part.is_live(found))
            rest = [column.filter(missing) for column in rest]
    return bitmap_of(snapshot, positions)


def bitmap_of(snapshot: Snapshot, positions: Sequence[Int64s]) -> Bitmap:
    """Return the bitmap of those of the given positions, per part, that are alive; -1 is none."""
    verdicts: list[Verdict] = []
    counts: list[int] = []
    for part, found in zip(snapshot.parts, positions, strict=True):
        words = np.zeros(-(-part.rows // BLOCK), np.uint64)
        counts.append(int(places.mark(found, part.alive, words)))
        verdicts.append(Rows(words) if counts[-1] else False)
    base = positions[0][:: max(1, len(positions[0]) // _SAMPLED)]
    sample = base[snapshot.parts[0].is_live(base)]
    size = sum(8 * -(-part.rows // BLOCK) for part in snapshot.parts)
    return Bitmap(snapshot.stamp, tuple(verdicts), counts[0], sample, size)


class Bitmaps:
    """The bitmaps of one index used last, up to a number of bytes."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Bitmap] = {}

    def get(self, key: Hashable, stamp: tuple[int, int]) -> Bitmap | None:
        """Return the bitmap kept under `key`, if it is of that version and layout."""
        found = self._kept.pop(key, None)
        if found is None or found.stamp != stamp:
            return None
        self._kept[key] = found  # the last one used is the last one to go
        return found

    def keep(self, key: Hashable, bitmap: Bitmap) -> None:
        """Keep a bitmap; other threads may do the same at the same time."""
        self._kept.pop(key, None)
        self._kept[key] = bitmap
        total = 0
        for other, kept in reversed(list(self._kept.items())):
            total += kept.size_bytes
            if kept.stamp != bitmap.stamp or total > _MAX_BYTES:
                self._kept.pop(other, None)
