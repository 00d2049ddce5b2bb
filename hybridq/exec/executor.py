"""Run a plan over a snapshot: one line per physical plan, then one way to finish.

plan -> hits of each part -> merged by (distance, sort keys, key)
     -> rows without a distance appended while LIMIT is not filled -> OFFSET cut
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, assert_never

import numpy as np
import numpy.typing as npt

from hybridq.exec.bind import BoundTopK
from hybridq.exec.pages import extended
from hybridq.exec.where import Completed
from hybridq.index.bitmaps import bitmap_of
from hybridq.index.counters import Counters
from hybridq.index.hits import Hits, in_order, joined, merge, sort_ties, verify
from hybridq.index.ivf import Float32s, Int64s, Part
from hybridq.index.programs import Program, assemble
from hybridq.index.scans import Effort
from hybridq.index.search import (
    Search,
    gather_part,
    positions_by_mask,
    positions_by_permutation,
    scan_parts,
    without_distance,
)
from hybridq.index.selectivity import narrowest
from hybridq.kernels import select
from hybridq.plan.physical import Bitmap, Exact, Fused, PhysicalPlan, Postfilter, Prefilter

_KEPT_POSITIONS = 1 << 16
_NARROW = 64
"""Of one row in so many, a permutation gives the positions faster than a pass over all rows."""

Found = list[tuple[Float32s, Int64s]]


class Table(Protocol):
    """DuckDB, for the conjuncts that do not compile; see exec.opaque."""

    def completed(self) -> Completed:
        """Return programs for all of the WHERE, and the share that passes."""

    def passing(self, part: int, positions: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which rows of a part satisfy the conjuncts that do not compile."""


@dataclass(slots=True)
class Run:
    """What happened when a plan ran; `switched` if another one took over."""

    counters: Counters = field(default_factory=Counters)
    rows: int = 0
    seconds: float = 0.0
    switched: bool = False


def execute(
    plan: PhysicalPlan,
    bound: BoundTopK,
    table: Table,
    run: Run,
    *,
    before: Sequence[tuple[int, PhysicalPlan]] = (),
) -> Hits:
    """Return the hits of the query in their final order, OFFSET and LIMIT applied.

    `before` are (depth, plan) of the shallower searches that a page of rows is cut from, too.
    """
    start = time.perf_counter()
    execution = _Execution(bound, table, run)
    if before:
        hits = execution.in_steps([*before, (bound.search.k, plan)])
    else:
        hits = execution.in_order(plan, bound.search.k)
    if len(hits) < bound.wanted:
        bounded = bound.search.radius != math.inf or bound.search.radius_inclusive
        if not bounded:
            hits = execution.append_without_distance(hits)
    hits = hits.cut(bound.offset, bound.wanted)
    if before:
        hits = in_order(bound.snapshot, hits, bound.sort_columns)
    verify(bound.snapshot, hits)
    run.rows = len(hits)
    run.seconds = time.perf_counter() - start
    return hits


class _Execution:
    """One query while it runs."""

    __slots__ = ("_bitmaps", "_bound", "_checked", "_run", "_table")

    def __init__(self, bound: BoundTopK, table: Table, run: Run) -> None:
        self._bound = bound
        self._table = table
        self._run = run
        self._bitmaps: tuple[Program, ...] | None = None
        self._checked: list[npt.NDArray[np.uint8]] | None = None

    def in_steps(self, steps: Sequence[tuple[int, PhysicalPlan]]) -> Hits:
        """Search to one depth after the other; none moves what those before it found."""
        snapshot = self._bound.snapshot
        order = self.in_order(steps[0][1], steps[0][0])
        for depth, plan in steps[1:]:
            order = extended(snapshot, order, self.in_order(plan, depth), depth)
        return order

    def in_order(self, plan: PhysicalPlan, k: int) -> Hits:
        """Search, and where further sort keys matter, on past a tie at the k-th distance."""
        bound, search = self._bound, self._bound.search
        if not bound.sort_columns:
            return self._search(plan, search if k == search.k else replace(search, k=k))
        wanted = k
        while True:
            hits = self._search(plan, replace(search, k=wanted + 1))
            complete = len(hits) <= wanted or hits.distance[-1] > hits.distance[k - 1]
            if complete:
                return sort_ties(bound.snapshot, hits, bound.sort_columns).cut(0, k)
            wanted = 2 * wanted + 64

    def _search(self, plan: PhysicalPlan, search: Search) -> Hits:
        match plan:
            case Exact():
                found = self._scan(
                    self._bound.programs, search, share=1.0, target=None, nprobe=None, bounds=False
                )
            case Prefilter(source=source):
                found = self._gather(source, search)
            case Fused():
                found = self._fused(plan, search)
            case Bitmap():
                found = self._bitmap(plan, search)
            case Postfilter():
                return self._postfilter(plan, search)
            case _:
                assert_never(plan)
        return merge(self._bound.snapshot, found, search.k)

    # -- scans ------------------------------------------------------------------

    def _scan(
        self,
        programs: Sequence[Program],
        search: Search,
        *,
        share: float,
        target: float | None,
        nprobe: int | None,
        bounds: bool = True,
    ) -> Found:
        effort = Effort(share=share, target=target, nprobe=nprobe, use_bounds=bounds)
        found = scan_parts(self._bound.snapshot.parts, programs, search, self._run.counters, effort)
        assert found is not None, "every list is allowed"
        return found

    def _fused(self, plan: Fused, search: Search) -> Found:
        bound = self._bound
        assert bound.compiled
        counters = self._run.counters
        found = scan_parts(bound.snapshot.parts, bound.programs, search, counters, effort_of(plan))
        if found is None:
            assert plan.otherwise is not None, "only then a scan may be given up"
            self._run.switched = True
            return self._gather(plan.otherwise.source, search)
        return found

    def _bitmap(self, plan: Bitmap, search: Search) -> Found:
        if self._bound.compiled:
            programs, share = self._as_bitmaps(), plan.estimated_share
        else:
            completed = self._table.completed()
            programs, share = completed.programs, completed.share
            if share * self._bound.snapshot.live_rows <= plan.gather_rows:
                self._run.switched |= not plan.kept
                return self._gather("duckdb", search)
        return self._scan(
            programs, search, share=max(share, 1e-9), target=plan.target, nprobe=plan.nprobe
        )

    def _as_bitmaps(self) -> tuple[Program, ...]:
        """Return programs that ask for the positions which those of the WHERE let pass."""
        if self._bitmaps is None:
            snapshot = self._bound.snapshot
            positions = [
                positions_by_mask(part, program, 0, part.rows)
                for part, program in zip(snapshot.parts, self._bound.programs, strict=True)
            ]
            verdicts = bitmap_of(snapshot, positions).verdicts
            self._bitmaps = tuple(assemble(verdict) for verdict in verdicts)
        return self._bitmaps

    # -- distances by position ----------------------------------------------------

    def _gather(self, source: str, search: Search) -> Found:
        counters = self._run.counters
        return [
            gather_part(part, positions, search, counters)
            for part, positions in zip(
                self._bound.snapshot.parts, self._positions(source), strict=True
            )
        ]

    def _positions(self, source: str) -> Sequence[Int64s]:
        """Return the positions that pass all of the WHERE, per part."""
        parts = self._bound.snapshot.parts
        if self._bound.compiled:
            programs = self._bound.programs
            return [positions_of(p, q, source) for p, q in zip(parts, programs, strict=True)]
        completed = self._table.completed()
        found = completed.positions
        if found is None:
            programs = completed.programs
            found = [_positions(p, q, narrow=None) for p, q in zip(parts, programs, strict=True)]
            if sum(map(len, found)) <= _KEPT_POSITIONS:
                completed.positions = found
        return found

    def _complete(self) -> tuple[Program, ...]:
        """Return programs for all of the WHERE."""
        return self._bound.programs if self._bound.compiled else self._table.completed().programs

    # -- candidates, checked afterwards ---------------------------------------------

    def _postfilter(self, plan: Postfilter, search: Search) -> Hits:
        """Check candidates, nearest first, until enough pass; or let the bitmap take over."""
        bound = self._bound
        every = assemble(True)
        programs = [every] * len(bound.programs) if bound.compiled else bound.programs
        count = max(search.k, plan.first)
        while True:
            found = self._scan(
                programs,
                replace(search, k=count),
                share=max(plan.estimated_share, 1e-9),
                target=plan.target,
                nprobe=plan.nprobe,
            )
            candidates = merge(bound.snapshot, found, count)
            passing = candidates.take(np.flatnonzero(self._passing(candidates)))
            bound.where.checked = len(passing), len(candidates)
            if len(passing) >= search.k or len(candidates) < count:
                return passing.cut(0, search.k)
            needed = 1.5 * count * (search.k + 1) / (len(passing) + 1)
            if needed > max(plan.most, search.k):
                self._run.switched = True
                return self._search(plan.otherwise, search)
            count = min(max(2 * count, math.ceil(needed)), bound.snapshot.live_rows + 1)

    def _passing(self, hits: Hits) -> npt.NDArray[np.bool_]:
        """Tell which hits satisfy what their scan did not ask for; none is checked twice."""
        parts = self._bound.snapshot.parts
        if self._checked is None:
            self._checked = [np.zeros(part.rows, np.uint8) for part in parts]
        passing = np.zeros(len(hits), np.bool_)
        for i, checked in enumerate(self._checked):
            here = np.flatnonzero(hits.part == i)
            positions = hits.position[here]
            fresh = positions[checked[positions] == 0]
            if len(fresh):
                checked[fresh] = 1 + self._check(i, fresh)
            passing[here] = checked[positions] == 2
        return passing

    def _check(self, i: int, positions: Int64s) -> npt.NDArray[np.bool_]:
        bound = self._bound
        if not bound.compiled:
            return self._table.passing(i, positions)
        out = np.empty(len(positions), np.int64)
        count = select.filter_positions(
            bound.snapshot.parts[i].keys, positions, *bound.programs[i].arrays, out
        )
        return np.isin(positions, out[:count])

    # -- rows without a distance ----------------------------------------------------

    def append_without_distance(self, hits: Hits) -> Hits:
        """NULL vectors come last, when all others that match are not enough."""
        bound = self._bound
        if all(p.n_vectors == p.rows for p in bound.snapshot.parts):
            return hits
        missing = bound.wanted - len(hits)
        extra = without_distance(bound.snapshot, self._complete(), missing, bound.sort_columns)
        return joined(hits, extra)


def effort_of(plan: Fused) -> Effort:
    """Return how far the scan of a plan goes."""
    return Effort(
        share=max(plan.estimated_share, 1e-9),
        target=plan.target,
        nprobe=plan.nprobe,
        max_lists=plan.max_lists,
    )


def source_of(part: Part, program: Program) -> str:
    """Return how the positions that pass are found fastest."""
    best = narrowest(part, program)
    return "permutation" if best is not None and best[1] * _NARROW <= part.rows else "mask"


def positions_of(part: Part, program: Program, source: str) -> Int64s:
    """Return the positions that pass, found as a prefilter plan's `source` says."""
    return _positions(part, program, narrow=source == "permutation")


def _positions(part: Part, program: Program, *, narrow: bool | None) -> Int64s:
    """Return the positions that pass, by a permutation if `narrow`; None leaves that open."""
    best = narrowest(part, program) if narrow is not False else None
    if best is not None and (narrow or best[1] * _NARROW <= part.rows):
        return positions_by_permutation(part, program, best[0])
    return positions_by_mask(part, program, 0, part.n_vectors)
