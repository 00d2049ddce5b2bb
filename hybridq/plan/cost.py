"""What plans cost, in seconds, from unit costs measured on the host.

    exact       rows · (mask · leaves + share · scan · d)
    prefilter   positions + passing rows · gather · d
    fused       call + nlist · list + lists · (blocks · (mask + code) + few rows · fine) + k · d
    bitmap      DuckDB's pass + keys · place + fused with the bitmap for a leaf
    postfilter  fused for the candidates + check · candidates
    duckdb      fixed + rows · (predicate + share · distance · d)

AnalyticDB-V (PVLDB 13(12), section 5.2, equations 1-4) prices the scans; the coarse step, finding
positions, the bitmap, correlation and DuckDB's fixed cost are terms its equations lack.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from hybridq.plan.physical import Bitmap, Exact, Fused, PhysicalPlan, Postfilter, Prefilter

_BLOCK = 64
_CLOSED = 0.4
"""What a block costs that its zones rule out, of one that they do not."""

_MIXED = 1.5
"""What it costs to tell rows apart that pass and others, to where none pass."""

_AMONG = 0.25
"""What it costs to take a row among the nearest so far, of what a row of the answer does."""

_SPARSE = 0.3
_IN_RUNS = 0.3
_SCATTERED = 2.0

_CACHED_VALUES = 1 << 20
"""Components of vectors that stay in a cache from query to query."""

_USES = 8
"""Queries that are taken to share a bitmap, where it can be kept: filters come again."""

_FEW = 5  # rows of a block, at most, that are looked at without its sign bits


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCosts:
    """Unit costs in seconds; per_dim ones are per dimension of a row, or of a block of 64 rows."""

    call: float = 6.0e-6
    coded_call: float = 1.5e-5
    list_coarse: float = 4.0e-9
    list_visit: float = 1.8e-7
    block_visit: float = 2.3e-8
    mask_row: float = 3.5e-10
    code_block_per_dim: float = 1.1e-9
    fine_per_dim: float = 3.6e-10
    result_per_dim: float = 6.5e-9
    scan_per_dim: float = 3.5e-10
    gather_per_dim: float = 2.8e-10
    gather_cold_per_dim: float = 6.0e-10
    permutation_row: float = 6.0e-9
    filter_row: float = 1.2e-8
    position_row: float = 5.0e-10
    duckdb_call: float = 6.0e-4
    duckdb_row: float = 3.0e-9
    duckdb_distance_per_dim: float = 3.0e-9
    function_row: float = 1.0e-4
    place_row: float = 8.0e-9
    check_row: float = 1.5e-5
    join_row: float = 3.0e-9
    near: float = 5.0e-5


REFERENCE = UnitCosts()

Lists: TypeAlias = Callable[[int, float, float], int | None]
"""Lists that reach the target for k rows when a share passes in all, and another near the query.

None: every list.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What does not compile: the share of the other rows that satisfies it.

    It is a guess unless `kept` tells that a bitmap is at hand. `cheap` tells that it calls nothing
    but DuckDB's own functions, `lasting` that a bitmap of it can be kept.
    """

    share: float
    kept: bool = False
    cheap: bool = True
    lasting: bool = True


@dataclass(slots=True, kw_only=True)
class Statistics:
    """What the planner knows of one bound query over one snapshot.

    Made for each query, so not frozen, which would double what it costs; nothing writes to it.

    `share` is the estimated share of rows that pass the compiled leaves, `near` that among the rows
    of the lists nearest to the query, if it was asked for; `narrowest_rows` the exact number of
    rows of the narrowest leaf, None without permutations, which lie in `runs` where many have the
    same value. `open_lists` and `open_blocks` are the
    shares of lists and of blocks that their zones do not rule out.
    """

    rows: int
    delta_rows: int
    dim: int
    nlist: int
    leaves: int
    share: float
    narrowest_rows: int | None
    lists: Lists
    k: int
    rest: Rest | None = None
    near: float | None = None
    runs: bool = False
    open_lists: float = 1.0
    open_blocks: float = 1.0

    @property
    def passing(self) -> float:
        """The estimated share of rows that pass all of the WHERE."""
        return self.share * (self.rest.share if self.rest is not None else 1.0)


def cost_of(plan: PhysicalPlan, s: Statistics, unit: UnitCosts) -> float:
    """Return the estimated seconds of a plan."""
    match plan:
        case Exact(by_duckdb=True):
            distances = s.rows * s.passing * unit.duckdb_distance_per_dim * s.dim
            return unit.duckdb_call + _evaluated(s, unit) + distances
        case Exact():
            return scan_cost(s, unit, s.nlist, s.k, coded=False)
        case Prefilter():
            return prefilter_cost(s, unit, plan.source, plan.estimated_rows)
        case Fused():
            lists = s.nlist if plan.target is None else plan.estimated_lists
            return scan_cost(s, unit, lists, s.k, coded=plan.target is not None)
        case Bitmap():
            return _bitmap(plan, s, unit)
        case Postfilter():
            return _postfilter(plan, s, unit)
        case _:
            assert_never(plan)


def _float_scan(s: Statistics, unit: UnitCosts, rows: float) -> float:
    """Return the cost of the distances of the rows that pass, of `rows` one after the other."""
    # Rows far apart are not read ahead.
    per_dim = unit.scan_per_dim if s.share > _SPARSE else unit.gather_cold_per_dim
    passing = rows * s.share
    masks = rows * _MIXED * unit.mask_row * s.leaves
    return masks + passing * per_dim * s.dim + _taken(s, unit, passing)


def _taken(s: Statistics, unit: UnitCosts, rows: float) -> float:
    """Return what it costs to keep the k nearest of `rows`."""
    # In no order, the j-th row is among the k nearest so far with a chance of k / j.
    among = min(rows, s.k * (1.0 + math.log(max(1.0, rows / s.k))))
    return among * _AMONG * unit.result_per_dim * s.dim


def scan_cost(s: Statistics, unit: UnitCosts, lists: float, k: int, *, coded: bool) -> float:
    """Return the cost of a scan of `lists`, nearest first, for k rows; and of the delta parts."""
    if coded:
        return CodedScan(s, unit).cost(lists, k)
    scanned = (s.rows - s.delta_rows) * min(1.0, lists / max(1, s.nlist))
    fixed = unit.call + lists * unit.list_visit
    return fixed + _float_scan(s, unit, scanned) + _delta(s, unit)


def _delta(s: Statistics, unit: UnitCosts) -> float:
    return _float_scan(s, unit, s.delta_rows) if s.delta_rows else 0.0


class CodedScan:
    """A scan by codes, to be priced for several numbers of lists."""

    __slots__ = ("_base", "_fixed", "_nlist", "_open", "_per_block", "_per_list", "_per_result")

    def __init__(self, s: Statistics, unit: UnitCosts) -> None:
        within = min(1.0, s.open_blocks / max(s.open_lists, 1e-9)) if s.leaves else 1.0
        mean = min(1.0, s.share / max(1e-9, s.open_blocks)) * _BLOCK
        none_or_few, few_rows = _few(mean)
        codes = (1.0 - none_or_few) * unit.code_block_per_dim + few_rows * unit.fine_per_dim
        # To look at zones takes as long as to look at the keys: both are read from memory.
        masks = unit.block_visit + _MIXED * unit.mask_row * _BLOCK * s.leaves
        self._per_block = masks + within * codes * s.dim
        self._per_list = unit.list_visit
        self._per_result = unit.result_per_dim * s.dim
        self._fixed = unit.coded_call + s.nlist * unit.list_coarse + _delta(s, unit)
        self._base, self._nlist = s.rows - s.delta_rows, s.nlist
        self._open = s.open_lists * s.nlist if s.leaves else math.inf

    def cost(self, lists: float, k: int) -> float:
        """Return the cost of a scan of `lists`, nearest first, for k rows; and of delta parts."""
        scanned = self._base * min(1.0, lists / max(1, self._nlist))
        # Near lists may all be open; of all of them, only so many are.
        opened = min(lists, self._open)
        blocks = (scanned / _BLOCK + 0.5 * lists) * (opened / max(1, lists))
        found = k * self._per_result
        return self._fixed + opened * self._per_list + blocks * self._per_block + found


def _few(mean: float) -> tuple[float, float]:
    """Return how likely a block has no more than _FEW of `mean` rows, and how many it has then."""
    if mean > 40.0:
        return 0.0, 0.0
    term = math.exp(-mean)
    likely = rows = 0.0
    for count in range(_FEW + 1):
        likely += term
        rows += term * count
        term *= mean / (count + 1)
    return likely, rows


def gather_cost(s: Statistics, unit: UnitCosts, rows: float) -> float:
    """Return the cost of the distances of `rows` by their positions."""
    near = min(rows, _CACHED_VALUES / s.dim)
    far = rows - near
    per_dim = near * unit.gather_per_dim + far * unit.gather_cold_per_dim
    return unit.call + per_dim * s.dim + _taken(s, unit, rows)


def prefilter_cost(s: Statistics, unit: UnitCosts, source: str, passing: float) -> float:
    """Return the cost of a prefilter that finds `passing` rows by `source`."""
    gathered = gather_cost(s, unit, passing)
    match source:
        case "permutation":
            delta = s.delta_rows * unit.mask_row * s.leaves
            found = unit.permutation_row
            if s.leaves > 1:  # others look at a row's key here and there, or one after the other
                found += unit.filter_row * (_IN_RUNS if s.runs else _SCATTERED)
            return unit.call + (s.narrowest_rows or 0) * found + delta + gathered
        case "mask":
            return _mask_pass(s, unit, passing) + gathered
        case _:
            return _made(s, unit) + _mask_pass(s, unit, passing) + gathered


def _mask_pass(s: Statistics, unit: UnitCosts, passing: float) -> float:
    # Of a block that is ruled out, the zones are looked at.
    looked_at = s.rows * (_CLOSED + (1.0 - _CLOSED) * s.open_blocks)
    per_row = unit.mask_row * max(0.3, _MIXED * s.leaves)
    return unit.call + looked_at * per_row + passing * unit.position_row


def _made(s: Statistics, unit: UnitCosts) -> float:
    """Return the cost of the bitmap that DuckDB makes, or its part in that of a lasting one."""
    rest = s.rest
    if rest is None:
        return _mask_pass(s, unit, s.rows * s.share) + s.rows * unit.position_row
    if rest.kept:
        return 0.0
    # What costs much is not asked of rows that the rest of the WHERE keeps out.
    found = s.rows * rest.share * (1.0 if rest.cheap else s.share)
    made = unit.duckdb_call + _evaluated(s, unit) + found * unit.place_row
    return made / _USES if rest.lasting else made


def _evaluated(s: Statistics, unit: UnitCosts) -> float:
    """Return what it costs DuckDB to evaluate the WHERE over the table."""
    cheap = s.rest is None or s.rest.cheap
    return s.rows * (unit.duckdb_row + (0.0 if cheap else s.share * unit.function_row))


def with_bitmap(s: Statistics, share: float) -> Statistics:
    """Return the statistics of the scan in which the bitmap is a leaf, and `share` passes."""
    leaves = s.leaves + 1 if s.rest is not None else 1
    return replace(s, share=share, leaves=leaves, rest=None, near=None)


def _bitmap(plan: Bitmap, s: Statistics, unit: UnitCosts) -> float:
    passing = s.rows * s.passing
    if passing <= plan.gather_rows:
        found = _mask_pass(s, unit, passing) + gather_cost(s, unit, passing)
        return _made(s, unit) + found
    lists = s.nlist if plan.target is None else plan.estimated_lists
    coded = plan.target is not None
    scan = scan_cost(with_bitmap(s, s.passing), unit, lists, s.k, coded=coded)
    return _made(s, unit) + scan


def _postfilter(plan: Postfilter, s: Statistics, unit: UnitCosts) -> float:
    coded = plan.target is not None
    lists = plan.estimated_lists if coded else s.nlist
    unfiltered = s if s.rest is not None else replace(s, share=1.0, leaves=0)
    scan = scan_cost(unfiltered, unit, lists, plan.first, coded=coded)
    return scan + check_cost(s, unit, plan.first)


def check_cost(s: Statistics, unit: UnitCosts, rows: int) -> float:
    """Return the cost of checking `rows` candidates."""
    if s.rest is None:
        return unit.call + rows * 4e-8
    by_key = rows * unit.check_row
    joined = 2 * unit.duckdb_call + s.rows * unit.join_row
    called = 0.0 if s.rest.cheap else rows * unit.function_row
    return unit.duckdb_call + min(by_key, joined) + called
