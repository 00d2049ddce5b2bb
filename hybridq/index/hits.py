"""Hits of a search: merged over parts, ordered by (distance, sort keys, key), read as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.index.attributes import NULL_KEY, Kind, decode
from hybridq.index.ivf import Float32s, Int64s, Snapshot
from hybridq.kernels import merging

_FEW = 32
"""So many values are read one by one as fast as all at once."""


@dataclass(slots=True)
class Hits:
    """Rows found, nearest first: distance (m,) float32 (NaN: none), part and position (m,)."""

    distance: Float32s
    part: Int64s
    position: Int64s

    def __len__(self) -> int:
        return int(self.distance.shape[0])

    def cut(self, start: int, stop: int) -> Hits:
        """Return hits start … stop - 1."""
        if start == 0 and stop >= len(self):
            return self
        return Hits(self.distance[start:stop], self.part[start:stop], self.position[start:stop])

    def take(self, order: Int64s) -> Hits:
        """Return hits in another order."""
        return Hits(self.distance[order], self.part[order], self.position[order])


def merge(snapshot: Snapshot, found: Sequence[tuple[Float32s, Int64s]], k: int) -> Hits:
    """Merge the hits of all parts (each sorted by distance and key) and keep the first k."""
    if len(found) == 1:
        distance, position = found[0]
        return Hits(distance, np.zeros(len(distance), np.int64), position).cut(0, k)
    heads, ends, total = [], [], 0
    for near, _ in found:
        heads.append(total)
        total += len(near)
        ends.append(total)
    distance = np.concatenate([near for near, _ in found])
    position = np.concatenate([at for _, at in found])
    hits = _merged(np.array([heads, ends], np.int64), distance, position, min(k, total))
    if hits is not None:
        return hits
    parts = np.arange(len(found)).repeat([len(near) for near, _ in found])
    order = distance.argsort(kind="stable")
    if len(order) > k > 0 and distance[order[k - 1]] < distance[order[k]]:
        order = order[:k]  # no tie goes across the end
    hits = Hits(distance, parts, position).take(order)
    return sort_ties(snapshot, hits, ()).cut(0, k)


def _merged(runs: Int64s, distance: Float32s, position: Int64s, count: int) -> Hits | None:
    """Return the first `count` hits, None if a tie leaves their order open."""
    near = np.empty(count, np.float32)
    parts, positions = np.empty(count, np.int64), np.empty(count, np.int64)
    if merging.merge_sorted(distance, position, runs, count, near, parts, positions):
        return None
    return Hits(near, parts, positions)


def joined(first: Hits, second: Hits) -> Hits:
    """Return the hits of both, those of the second last."""
    return Hits(
        np.concatenate([first.distance, second.distance]),
        np.concatenate([first.part, second.part]),
        np.concatenate([first.position, second.position]),
    )


def verify(snapshot: Snapshot, hits: Hits) -> None:
    """Raise OperationalError if the vector of a hit is not as it was written."""
    for i, part in enumerate(snapshot.parts):
        if part.unverified is not None:
            positions = hits.position[(hits.part == i) & (hits.position < part.n_vectors)]
            part.unverified.check(np.ascontiguousarray(positions))


SortColumn = tuple[int, bool, bool]
"""(column of the index, descending, nulls first)."""


def sort_ties(snapshot: Snapshot, hits: Hits, columns: Sequence[SortColumn]) -> Hits:
    """Order hits of equal distance by the given columns, then by key; distances must be sorted."""
    if len(hits) < 2:
        return hits
    raw = hits.distance
    same = raw[1:] == raw[:-1]
    if raw[-1] != raw[-1]:  # NaN, which comes last
        same |= np.isnan(raw[:-1])
    if not same.any():
        return hits
    order = np.arange(len(hits))
    edges = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if stop - start > 1:
            order[start:stop] = start + _tie_order(snapshot, hits.cut(start, stop), columns)
    return hits.take(order)


def in_order(snapshot: Snapshot, hits: Hits, columns: Sequence[SortColumn]) -> Hits:
    """Order hits by distance (none: last), the given columns and key."""
    return sort_ties(snapshot, hits.take(hits.distance.argsort(kind="stable")), columns)


def _tie_order(
    snapshot: Snapshot, hits: Hits, columns: Sequence[SortColumn]
) -> npt.NDArray[np.int64]:
    indexes = list(range(len(hits)))
    keys = _sortable(snapshot, hits, None)
    indexes.sort(key=keys.__getitem__)
    for column, descending, nulls_first in reversed(columns):
        values = _sortable(snapshot, hits, column)
        present = [i for i in indexes if values[i][0] is not None]
        absent = [i for i in indexes if values[i][0] is None]
        # A reversed sort is stable in Python too: equal values keep their order.
        present.sort(key=values.__getitem__, reverse=descending)
        indexes = absent + present if nulls_first else present + absent
    return np.array(indexes, np.int64)


def _sortable(snapshot: Snapshot, hits: Hits, column: int | None) -> list[tuple[Any, ...]]:
    """Return comparable values per hit: the key, or one column (None for NULL)."""
    out: list[tuple[Any, ...]] = [()] * len(hits)
    for p in set(hits.part.tolist()):
        where = np.flatnonzero(hits.part == p)
        part = snapshot.parts[p]
        positions = hits.position[where]
        if column is None:
            rows = part.key_values(positions)
        elif part.dictionaries[column] is not None:
            rows = [(v,) for v in part.values(column, positions)]
        else:
            nulls = part.values(column, positions)
            keys = part.keys[column, positions]
            if part.spec.columns[column].type.kind in (Kind.FLOAT, Kind.DOUBLE):
                # -0.0 equals 0.0 in an ORDER BY.
                keys = np.where(keys == -1, 0, keys)
            raw = keys.tolist()
            rows = [(None if n is None else k,) for n, k in zip(nulls, raw, strict=True)]
        for i, row in zip(where.tolist(), rows, strict=True):
            out[i] = row
    return out


def column_values(snapshot: Snapshot, hits: Hits, column: int) -> list[Any]:
    """Return the Python values of one index column for each hit."""
    if len(snapshot.parts) == 1:
        return snapshot.parts[0].values(column, hits.position)
    kind, parts = snapshot.spec.columns[column].type, snapshot.parts
    if len(hits) <= _FEW and not kind.has_dictionary:
        places = zip(hits.part.tolist(), hits.position.tolist(), strict=True)
        keys = [parts[p].keys.item(column, at) for p, at in places]
        if kind.kind is Kind.INTEGER and NULL_KEY not in keys:
            return keys
        return decode(np.array(keys, np.int64), kind, None)
    out: list[Any] = [None] * len(hits)
    for p in set(hits.part.tolist()):
        where = np.flatnonzero(hits.part == p)
        values = parts[p].values(column, hits.position[where])
        for i, value in zip(where.tolist(), values, strict=True):
            out[i] = value
    return out
