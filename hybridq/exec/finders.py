"""How the rows of a statement that comes again are found: by what no query vector changes.

`lasting` serves values of the WHERE that come again with it, `Afresh` values that are new: they are
bound and planned as always, and all else of the statement is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybridq.exec.bind import BoundTopK
from hybridq.exec.decide import decide
from hybridq.exec.executor import effort_of, positions_of
from hybridq.exec.host import named_values
from hybridq.exec.output import covered
from hybridq.exec.prepare import Finder, Prepared
from hybridq.exec.result import Row
from hybridq.exec.where import bind_tests, tests_of
from hybridq.index.counters import Counters
from hybridq.index.hits import Hits, merge
from hybridq.index.ivf import Float32s, Int64s, Snapshot
from hybridq.index.repeated import RepeatedScan
from hybridq.index.search import Search, gather_part, scan_parts
from hybridq.plan.cost import UnitCosts
from hybridq.plan.physical import Decision, Fused, Prefilter
from hybridq.settings import Settings

MOST_POSITIONS = 1 << 16
"""Positions, at most, that are kept for one WHERE."""


class _Uncounted(Counters):
    """Counts nothing: no one asks."""

    __slots__ = ()

    def add(self, raw: Int64s) -> None:
        """Forget the counters of a kernel."""


_UNCOUNTED = _Uncounted()


def lasting(bound: BoundTopK, plan: Fused | Prefilter) -> tuple[Finder | None, int]:
    """Return how to find the rows for these values, and how many positions that keeps."""
    snapshot, programs, k, limit = bound.snapshot, bound.programs, bound.search.k, bound.limit
    if isinstance(plan, Prefilter):
        chosen = _positions(bound, plan)
        kept = 0 if chosen is None else sum(map(len, chosen))
        return None if chosen is None else _gathers(bound, chosen), kept
    if plan.target is None:
        return None, 0  # threads may share it
    effort = effort_of(plan)
    scan = RepeatedScan(snapshot, k, limit)
    if scan.aim(programs, effort):
        return _scans(bound.prepared, snapshot, scan), 0

    def scan_all(query: Float32s) -> list[Row] | None:
        search = Search(query=query, k=k)
        found = scan_parts(snapshot.parts, programs, search, _UNCOUNTED, effort)
        hits = None if found is None else merge(snapshot, found, k)
        return None if hits is None else _rows(bound.prepared, snapshot, hits, limit)

    return scan_all, 0


def _positions(bound: BoundTopK, plan: Prefilter) -> list[Int64s] | None:
    if plan.estimated_rows > MOST_POSITIONS:
        return None
    pairs = zip(bound.snapshot.parts, bound.programs, strict=True)
    return [positions_of(part, program, plan.source) for part, program in pairs]


def _rows(prepared: Prepared, snapshot: Snapshot, hits: Hits, limit: int) -> list[Row] | None:
    return None if len(hits) < limit else covered(prepared, snapshot, hits.cut(0, limit))


def _gathers(bound: BoundTopK, chosen: Sequence[Int64s]) -> Finder:
    prepared, snapshot, k, limit = bound.prepared, bound.snapshot, bound.search.k, bound.limit

    def find(query: Float32s) -> list[Row] | None:
        search = Search(query=query, k=k)
        pairs = zip(snapshot.parts, chosen, strict=True)
        found = [gather_part(part, here, search, _UNCOUNTED) for part, here in pairs]
        return _rows(prepared, snapshot, merge(snapshot, found, k), limit)

    return find


def _scans(prepared: Prepared, snapshot: Snapshot, scan: RepeatedScan) -> Finder:
    def find(query: Float32s) -> list[Row] | None:
        hits = scan(query)
        return None if hits is None else covered(prepared, snapshot, hits)

    return find


class Afresh:
    """Binds and plans one statement, on one snapshot and with one setting, for new values."""

    def __init__(self, bound: BoundTopK, settings: Settings, unit: UnitCosts) -> None:
        self._prepared, self._snapshot = bound.prepared, bound.snapshot
        self._k, self._limit, self._conjuncts = bound.search.k, bound.limit, bound.conjuncts
        self._settings, self._unit = settings, unit
        self._tests = tests_of(self._snapshot, self._conjuncts)
        self._scan = RepeatedScan(self._snapshot, self._k, self._limit)
        self._find = _scans(self._prepared, self._snapshot, self._scan)

    def bind(self, query: Float32s, parameters: list[Any]) -> tuple[BoundTopK, Decision] | None:
        """Bind to a vector and values, and choose a plan; None where DuckDB must be asked."""
        if self._tests is None:
            return None
        values = named_values(parameters)
        where = bind_tests(self._snapshot, self._tests, values)
        if where is None:
            return None
        bound = BoundTopK(
            self._prepared,
            self._snapshot,
            Search(query=query, k=self._k),
            self._limit,
            0,
            where,
            self._conjuncts,
            values,
        )
        return bound, decide(bound, self._settings, self._unit)

    def finder(self, bound: BoundTopK, decision: Decision) -> Finder | None:
        """Return how to find the rows this once."""
        match decision.plan:
            case Fused(target=target) as plan if target is not None:
                return self._find if self._scan.aim(bound.programs, effort_of(plan)) else None
            case Prefilter() as plan:
                chosen = _positions(bound, plan)
                return None if chosen is None else _gathers(bound, chosen)
            case _:
                return None
