"""A scan that is asked for again and again, with another vector each time.

It finds what `search.scan_parts` finds; what no vector changes (tables, stopping rule, arrays for
the rows found) is made once, which saves as much work as it is to scan a few lists. Coded parts of
one generation that follow each other are scanned in one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from hybridq.index.hits import Hits, merge
from hybridq.index.ivf import Float32s, Part, Snapshot
from hybridq.index.programs import Program
from hybridq.index.scans import Effort, Order, addresses_of, rule_of, stopping
from hybridq.kernels import addressed, coded, merging, scan

_NO_LADDER = np.empty(0, np.float64)
_INFINITE = float("inf")


class _Found:
    """Rows found in all parts: those of part i from i * k on, and the k nearest distances."""

    __slots__ = ("counters", "distance", "near", "position", "runs", "tie")

    def __init__(self, parts: int, k: int) -> None:
        self.distance = np.empty(parts * k, np.float32)
        self.position = np.empty(parts * k, np.int64)
        starts = [i * k for i in range(parts)]
        self.runs = np.array((starts, starts), np.int64)
        self.near, self.tie = np.empty(k, np.float32), np.empty(k, np.int64)
        self.counters = np.zeros(scan.COUNTERS, np.int64)


class _Coded:
    """The scan of coded parts of one generation, the later ones in the lists of the first.

    If it `begins` its generation, lists are chosen anew for each query.
    """

    __slots__ = (
        *("_arrays", "_begins", "_k", "_lists", "_metric"),
        *("_parts", "_programs", "_stopping", "_table"),
    )

    def __init__(
        self,
        parts: Sequence[tuple[int, Part]],
        k: int,
        order: Order,
        found: _Found,
        *,
        begins: bool,
    ) -> None:
        self._parts, self._k, self._begins = parts, k, begins
        self._metric = int(parts[0][1].spec.metric)
        self._table = np.array([addresses_of(part) for _, part in parts])
        for row, (i, _) in enumerate(parts):
            self._table[row, addressed.PLACE, :2] = i, i * k
        self._lists = order.lists
        arrays = found.distance, found.position, found.runs, found.near, found.counters
        self._arrays = (*order.arrays, *arrays)

    def aim(self, programs: Sequence[Program], effort: Effort) -> bool:
        first = self._parts[0][1]
        rule = rule_of(first, min(self._k, first.n_vectors), effort)
        self._stopping = stopping(rule)
        self._programs = programs  # the table has no more than their addresses
        for row, (i, part) in enumerate(self._parts):
            addressed.place_program(self._table, row, part.alive, *programs[i].arrays)
        return rule.minimum < first.nlist

    def __call__(self, query: Float32s, filled: int) -> int:
        if self._begins:
            self._lists[-1] = 0
        rest = (*self._stopping, self._k, filled, *self._arrays)
        return coded.probe_coded(self._metric, query, self._table, _INFINITE, False, *rest)


class _Flat:
    """The scan of a part of one list, without codes."""

    __slots__ = (
        "_found",
        "_k",
        "_last",
        "_metric",
        "_number",
        "_part",
        "_rest",
        "_start",
        "_tables",
    )

    _ORDER, _LOWER = np.zeros(1, np.int64), np.full(1, -np.inf, np.float32)

    def __init__(self, number: int, part: Part, k: int, found: _Found, *, last: bool) -> None:
        self._number, self._part, self._k, self._found, self._last = number, part, k, found, last
        self._metric, self._start, most = int(part.spec.metric), number * k, min(k, part.n_vectors)
        here = slice(self._start, self._start + most)
        out = found.distance[here], found.tie[:most], found.position[here], found.counters
        self._rest = (_NO_LADDER, _NO_LADDER, 0.0, 1.0, 1, most, *out)

    def aim(self, programs: Sequence[Program], effort: Effort) -> bool:
        part = self._part
        self._tables = (
            part.vectors,
            part.list_offsets,
            self._ORDER,
            self._LOWER,
            part.keys,
            part.zones,
            part.alive,
            *programs[self._number].arrays,
            part.buckets,
            part.bucket_bounds,
            part.tie,
        )
        return part.nlist == 1

    def __call__(self, query: Float32s, filled: int) -> int:
        found, start, inclusive = self._found, self._start, filled == self._k
        radius = found.near.item(filled - 1) if inclusive else _INFINITE
        within = (*self._tables, radius, inclusive)
        stop = start + scan.probe(self._metric, query, *within, *self._rest)
        found.runs[:, self._number] = start, stop
        if stop > start and not self._last:
            near = np.concatenate([found.near[:filled], found.distance[start:stop]])
            near.sort()
            nearest = near[: self._k]
            found.near[: len(nearest)] = nearest
        return stop - start


class RepeatedScan:
    """The scan of a snapshot for k rows, for one query after the other, by what `aim` gave it.

    A call returns the `limit` nearest of the k rows, until the next call; None where this scan is
    not the way to the answer. Not for two threads at once.
    """

    def __init__(self, snapshot: Snapshot, k: int, limit: int) -> None:
        parts = snapshot.parts
        self._snapshot, self._k, self._limit = snapshot, k, limit
        self._found = _Found(len(parts), k)
        self._steps = [*self._scans(k)]
        if len(parts) == 1:
            near, where = self._found.distance[:limit], self._found.position[:limit]
        else:
            near, where = np.empty(limit, np.float32), np.empty(limit, np.int64)
        self._hits = Hits(near, np.zeros(limit, np.int64), where)

    def _scans(self, k: int) -> Iterator[_Coded | _Flat]:
        """Return the scans of the parts that have vectors, in order."""
        found, orders = self._found, dict[str, Order]()
        parts = [(i, part) for i, part in enumerate(self._snapshot.parts) if part.n_vectors]
        for generation, run in groupby(parts, key=_generation):
            group = [*run]
            if generation is None:
                for i, part in group:
                    yield _Flat(i, part, k, found, last=i == parts[-1][0])
                continue
            begins = generation not in orders
            if begins:
                orders[generation] = Order(group[0][1])
            yield _Coded(group, k, orders[generation], found, begins=begins)

    def aim(self, programs: Sequence[Program], effort: Effort) -> bool:
        """Scan by these from now on; False if that is no scan of this kind."""
        first = self._snapshot.parts[0]
        if first.codes is None or self._k > first.n_vectors:
            return False
        return all(step.aim(programs, effort) for step in self._steps)

    def __call__(self, query: Float32s) -> Hits | None:
        """Search for the rows nearest to `query` (d,)."""
        k, total = self._k, 0
        for step in self._steps:
            filled = step(query, min(total, k))
            if filled < 0:
                return None
            total += filled
        if total < k:
            return None
        return self._hits if len(self._snapshot.parts) == 1 else self._merged()

    def _merged(self) -> Hits:
        hits, found = self._hits, self._found
        out = hits.distance, hits.part, hits.position
        if not merging.merge_sorted(found.distance, found.position, found.runs, self._limit, *out):
            return hits
        found.runs[0] = np.arange(found.runs.shape[1]) * self._k
        runs = [slice(*run) for run in found.runs.T.tolist()]
        each = [(found.distance[run], found.position[run]) for run in runs]
        return merge(self._snapshot, each, self._k).cut(0, self._limit)


def _generation(numbered: tuple[int, Part]) -> str | None:
    part = numbered[1]
    return None if part.codes is None else part.generation
