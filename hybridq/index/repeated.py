"""A scan that is asked for again and again, with another vector each time.

It finds what `search.scan_parts` finds; what no vector changes (tables, stopping rule, arrays for
the rows found) is made once, which saves as much work as it is to scan a few lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from hybridq.index.hits import Hits, merge
from hybridq.index.ivf import Float32s, Int64s, Part, Snapshot
from hybridq.index.programs import Program
from hybridq.index.scans import Effort, Order, Rule, rule_of, stopping, tables_of
from hybridq.kernels import coded, merging, scan

_Arrays: TypeAlias = tuple[Float32s, Int64s, Int64s, Int64s]
"""What a kernel writes: distance, tie and position (k,), and its counters."""

_NO_LADDER = np.empty(0, np.float64)
_INFINITE = float("inf")


class _Coded:
    """The scan of a coded part: by its own rule, or in the lists that those before it were."""

    __slots__ = (
        *(
            "_counters",
            "_following",
            "_found",
            "_k",
            "_metric",
            "_nlist",
            "_order",
            "_own",
            "_part",
        ),
        "_tables",
    )

    def __init__(self, part: Part, k: int, order: Order, out: _Arrays) -> None:
        self._part, self._k, self._order = part, k, order
        self._metric, self._nlist, self._counters = int(part.spec.metric), part.nlist, out[3]
        self._found = (*order.arrays, *out)

    def aim(self, program: Program, effort: Effort) -> bool:
        rule = rule_of(self._part, self._k, effort)
        self._tables = tables_of(self._part, program)
        self._own = (*stopping(rule), self._k, 0, *self._found)
        # A part that follows another visits the lists that one did, all of them.
        self._following = stopping(
            Rule(minimum=self._nlist, maximum=self._nlist, epsilon=rule.epsilon)
        )
        return rule.minimum < self._nlist

    def __call__(self, query: Float32s, radius: float, inclusive: bool) -> int:
        order, lists = self._order, self._order.count
        within = (*self._tables, radius, inclusive)
        if lists:
            rest = (*self._following, self._k, lists, *self._found)
            return coded.probe_coded(self._metric, query, *within, *rest)
        self._counters[scan.LISTS_VISITED] = 0
        filled = coded.probe_coded(self._metric, query, *within, *self._own)
        if filled >= 0 and not order.lists[self._nlist]:
            order.count = self._counters.item(scan.LISTS_VISITED)
        return filled


class _Flat:
    """The scan of a part of one list, without codes."""

    __slots__ = ("_metric", "_part", "_rest", "_tables")

    _ORDER, _LOWER = np.zeros(1, np.int64), np.full(1, -np.inf, np.float32)

    def __init__(self, part: Part, k: int, out: _Arrays) -> None:
        self._part, self._metric = part, int(part.spec.metric)
        self._rest = (_NO_LADDER, _NO_LADDER, 0.0, 1.0, 1, k, *out)

    def aim(self, program: Program, effort: Effort) -> bool:
        part = self._part
        self._tables = (
            part.vectors,
            part.list_offsets,
            self._ORDER,
            self._LOWER,
            part.keys,
            part.zones,
            part.alive,
            *program.arrays,
            part.buckets,
            part.bucket_bounds,
            part.tie,
        )
        return part.nlist == 1

    def __call__(self, query: Float32s, radius: float, inclusive: bool) -> int:
        return scan.probe(self._metric, query, *self._tables, radius, inclusive, *self._rest)


class RepeatedScan:
    """The scan of a snapshot for k rows, for one query after the other, by what `aim` gave it.

    A call returns the `limit` nearest of the k rows, until the next call; None where this scan is
    not the way to the answer. Not for two threads at once.
    """

    def __init__(self, snapshot: Snapshot, k: int, limit: int) -> None:
        parts = snapshot.parts
        self._snapshot, self._k, self._limit = snapshot, k, limit
        self._distance = np.empty(len(parts) * k, np.float32)
        self._position = np.empty(len(parts) * k, np.int64)
        self._starts = np.arange(len(parts)) * k
        self._runs = np.empty((2, len(parts)), np.int64)
        tie, counters = np.empty(k, np.int64), np.zeros(scan.COUNTERS, np.int64)
        orders: dict[str, Order] = {}
        self._scans: list[tuple[int, _Coded | _Flat]] = []
        for i, part in enumerate(parts):
            most = min(k, part.n_vectors)
            run = slice(i * k, i * k + most)
            out = self._distance[run], tie[:most], self._position[run], counters
            if part.codes is not None:
                if part.generation not in orders:
                    orders[part.generation] = Order(part)
                order = orders[part.generation]
                self._scans.append((i, _Coded(part, most, order, out)))
            elif most:
                self._scans.append((i, _Flat(part, most, out)))
        self._orders = tuple(orders.values())
        self._alone = len(parts) == 1
        if self._alone:
            near, where = self._distance[:limit], self._position[:limit]
        else:
            near, where = np.empty(limit, np.float32), np.empty(limit, np.int64)
        self._hits = Hits(near, np.zeros(limit, np.int64), where)

    def aim(self, programs: Sequence[Program], effort: Effort) -> bool:
        """Scan by these from now on; False if that is no scan of this kind."""
        first = self._snapshot.parts[0]
        if first.codes is None or self._k > first.n_vectors:
            return False
        return all(one.aim(programs[i], effort) for i, one in self._scans)

    def __call__(self, query: Float32s) -> Hits | None:
        """Search for the rows nearest to `query` (d,)."""
        for order in self._orders:
            order.count = 0
        k, runs, found = self._k, self._runs, 0
        if self._alone:
            return self._hits if self._scans[0][1](query, _INFINITE, False) == k else None
        runs[:] = self._starts
        for i, scan_part in self._scans:
            if found < k:
                filled = scan_part(query, _INFINITE, False)
            else:
                filled = scan_part(query, self._farthest(i), True)
            if filled < 0:
                return None
            runs[1, i] += filled
            found += filled
        return self._merged() if found >= k else None

    def _farthest(self, parts: int) -> float:
        """Return the k-th distance in the first `parts` parts, which have as many rows."""
        if parts == 1:
            return self._distance.item(self._k - 1)
        near = np.concatenate([near for near, _ in self._runs_of(parts)])
        near.partition(self._k - 1)
        return float(near[self._k - 1])

    def _runs_of(self, parts: int) -> list[tuple[Float32s, Int64s]]:
        bounds = self._runs[:, :parts].T.tolist()
        return [(self._distance[a:b], self._position[a:b]) for a, b in bounds]

    def _merged(self) -> Hits:
        hits, runs = self._hits, self._runs
        out = hits.distance, hits.part, hits.position
        if not merging.merge_sorted(self._distance, self._position, runs, self._limit, *out):
            return hits
        runs[0] = self._starts
        found = self._runs_of(runs.shape[1])
        return merge(self._snapshot, found, self._k).cut(0, self._limit)
