"""How the rows of a statement that comes again are found: by what no query vector changes.

`Finders` serve one statement on one snapshot: values of the WHERE that come again with it, and new
ones, which are bound and planned as always while all else of the statement is at hand. What was
settled for values holds on newer snapshots, too, as long as their largest part is the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hybridq.exec.bind import BoundTopK
from hybridq.exec.decide import decide
from hybridq.exec.executor import effort_of, positions_of, source_of
from hybridq.exec.host import named_values
from hybridq.exec.output import covered
from hybridq.exec.prepare import Finder
from hybridq.exec.result import Row
from hybridq.exec.where import Where, bind_tests, carried, tests_of
from hybridq.index.counters import Counters
from hybridq.index.hits import merge
from hybridq.index.ivf import Float32s, Int64s, Snapshot
from hybridq.index.programs import Program
from hybridq.index.repeated import RepeatedScan
from hybridq.index.scans import Effort
from hybridq.index.search import Search, gather_part, scan_parts
from hybridq.plan.cost import UnitCosts
from hybridq.plan.physical import Decision, Fused, Prefilter
from hybridq.settings import Settings

MOST_POSITIONS = 1 << 16
"""Positions, at most, that are kept for one WHERE."""

_FEW_ROWS = 256
_FEW_TO_FIND = 1024
"""So many rows, at most, whose positions are known are looked at one by one."""

_GROWN = 1.25
"""With so many times the rows, or a part of them, plans are chosen anew."""


class _Uncounted(Counters):
    """Counts nothing: no one asks."""

    __slots__ = ()

    def add(self, raw: Int64s) -> None:
        """Forget the counters of a kernel."""


_UNCOUNTED = _Uncounted()


@dataclass(slots=True)
class Settled:
    """What some values of a WHERE came to on a snapshot with the parts `uids`, and the plan.

    `positions` are those of passing rows that a plan asks for, per version of a part.
    """

    where: Where
    plan: Fused | Prefilter
    uids: tuple[int, ...]
    positions: dict[tuple[int, int], Int64s] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many positions are kept."""
        return sum(map(len, self.positions.values()))


class Finders:
    """Finds the rows of one statement, on one snapshot and with one setting."""

    def __init__(self, bound: BoundTopK, settings: Settings, unit: UnitCosts) -> None:
        self.snapshot = bound.snapshot
        self._prepared, self._conjuncts = bound.prepared, bound.conjuncts
        self._k, self._limit = bound.search.k, bound.limit
        self._settings, self._unit = settings, unit
        self._tests = tests_of(self.snapshot, self._conjuncts)
        self._rows = self.snapshot.live_rows
        self._once: tuple[RepeatedScan, Finder] | None = None

    def on(self, snapshot: Snapshot) -> Finders | None:
        """Return finders on a newer snapshot, None if its plans may be others."""
        old = self.snapshot
        same = snapshot.parts[0].uid == old.parts[0].uid and snapshot.generation is old.generation
        rows, planned = snapshot.live_rows, self._rows
        if (
            not same
            or not planned / _GROWN <= rows <= planned * _GROWN
            or any(part.unverified is not None for part in snapshot.parts)
        ):
            return None
        other = object.__new__(Finders)  # copy.copy takes several times as long
        other.__dict__.update(self.__dict__, snapshot=snapshot, _once=None)
        return other

    # -- values that came before --------------------------------------------------

    def are_few(self, decision: Decision) -> bool:
        """Tell whether so few rows pass that, once known, nothing is cheaper than their distances.

        To find them may have been dearer than the plan chosen.
        """
        plan = decision.plan
        if isinstance(plan, Prefilter):
            return plan.estimated_rows <= _FEW_TO_FIND
        chosen = isinstance(plan, Fused) and plan.nprobe is None and self._settings.plan == "auto"
        return chosen and decision.estimated_selectivity * self.snapshot.live_rows <= _FEW_ROWS

    def few(self, where: Where, decision: Decision) -> Settled | None:
        """Find the rows that pass, where a scan was chosen for few of them."""
        if not isinstance(decision.plan, Fused) or not self.are_few(decision):
            return None
        part, program = self.snapshot.parts[0], where.programs[0]
        plan = Prefilter(source=source_of(part, program), estimated_rows=_FEW_ROWS)
        found = self.settle(where, plan)
        self._chosen(found, plan)
        return found if found.count <= _FEW_TO_FIND else None

    def settle(self, where: Where, plan: Fused | Prefilter) -> Settled:
        """Keep what values came to, on this snapshot."""
        return Settled(where, plan, tuple(part.uid for part in self.snapshot.parts))

    def carried(self, settled: Settled, parameters: list[Any]) -> Settled | None:
        """Return what was settled on an older snapshot for this one; None if DuckDB is asked."""
        where = carried(
            settled.where,
            settled.uids,
            self.snapshot,
            self._conjuncts,
            named_values(parameters) if self._conjuncts else {},
            collated=self._prepared.table.collated,
        )
        if where is None:
            return None
        new = self.settle(where, settled.plan)
        new.positions = settled.positions
        return new

    def lasting(self, settled: Settled) -> Finder | None:
        """Return how to find the rows for values, from now on."""
        plan, programs = settled.plan, settled.where.programs
        if isinstance(plan, Prefilter):
            chosen = self._chosen(settled, plan)
            return None if chosen is None else self._gathers(chosen)
        if plan.target is None:
            return None  # threads may share it
        scan = RepeatedScan(self.snapshot, self._k, self._limit)
        if scan.aim(programs, effort_of(plan)):
            return self._scans(scan)
        return self._scans_all(programs, effort_of(plan))

    def _chosen(self, settled: Settled, plan: Prefilter) -> list[Int64s] | None:
        if plan.estimated_rows > MOST_POSITIONS:
            return None
        before, settled.positions = settled.positions, {}
        for part, program in zip(self.snapshot.parts, settled.where.programs, strict=True):
            version = part.uid, part.dead  # rows die, and none comes to life
            known = before.get(version)
            settled.positions[version] = (
                positions_of(part, program, plan.source) if known is None else known
            )
        return [*settled.positions.values()]

    # -- new values -----------------------------------------------------------------

    def bind(self, query: Float32s, parameters: list[Any]) -> tuple[BoundTopK, Decision] | None:
        """Bind to a vector and values, and choose a plan; None where DuckDB must be asked."""
        if self._tests is None:
            return None
        values = named_values(parameters)
        where = bind_tests(self.snapshot, self._tests, values)
        if where is None:
            return None
        bound = BoundTopK(
            self._prepared,
            self.snapshot,
            Search(query=query, k=self._k),
            self._limit,
            0,
            where,
            self._conjuncts,
            values,
        )
        return bound, decide(bound, self._settings, self._unit)

    def once(self, bound: BoundTopK, decision: Decision) -> Finder | None:
        """Return how to find the rows this once."""
        match decision.plan:
            case Fused(target=target) as plan if target is not None:
                if self._once is None:
                    scan = RepeatedScan(self.snapshot, self._k, self._limit)
                    self._once = scan, self._scans(scan)
                scan, find = self._once
                return find if scan.aim(bound.programs, effort_of(plan)) else None
            case Prefilter() as plan:
                chosen = self._chosen(self.settle(bound.where, plan), plan)
                return None if chosen is None else self._gathers(chosen)
            case _:
                return None

    # -- ways to find them ----------------------------------------------------------

    def _scans(self, scan: RepeatedScan) -> Finder:
        prepared, snapshot = self._prepared, self.snapshot

        def find(query: Float32s) -> list[Row] | None:
            hits = scan(query)
            return None if hits is None else covered(prepared, snapshot, hits)

        return find

    def _scans_all(self, programs: Sequence[Program], effort: Effort) -> Finder:
        parts, k = self.snapshot.parts, self._k

        def find(query: Float32s) -> list[Row] | None:
            search = Search(query=query, k=k)
            found = scan_parts(parts, programs, search, _UNCOUNTED, effort)
            return None if found is None else self._nearest(found)

        return find

    def _gathers(self, chosen: Sequence[Int64s]) -> Finder:
        parts, k = self.snapshot.parts, self._k
        every = all(part.n_vectors == part.rows for part in parts)

        def find(query: Float32s) -> list[Row] | None:
            search = Search(query=query, k=k)
            pairs = zip(parts, chosen, strict=True)
            found = [gather_part(part, rows, search, _UNCOUNTED) for part, rows in pairs]
            return self._nearest(found, every=every)

        return find

    def _nearest(
        self, found: Sequence[tuple[Float32s, Int64s]], *, every: bool = False
    ) -> list[Row] | None:
        """Return the answer; None for too few rows, unless they are `every` one there is."""
        hits = merge(self.snapshot, found, self._k)
        if len(hits) < self._limit and not every:
            return None
        return covered(self._prepared, self.snapshot, hits.cut(0, self._limit))
