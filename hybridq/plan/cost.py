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
    filter_row: float = 7.0e-9
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What the planner knows of one bound query over one snapshot.

    `share` is the estimated share of rows that pass the compiled leaves, `near` that among the rows
    of the lists nearest to the query, if it was asked for; `narrowest_rows` the exact number of
    rows of the narrowest leaf, None without permutations. `open_lists` and `open_blocks` are the
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
            per_row = unit.duckdb_row + s.passing * unit.duckdb_distance_per_dim * s.dim
            return unit.duckdb_call + s.rows * per_row
        case Exact():
            return scan_cost(s, unit, s.nlist, s.k, coded=False)
        case Prefilter():
            return _prefilter(plan, s, unit)
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
    return rows * (unit.mask_row * s.leaves + s.share * unit.scan_per_dim * s.dim)


def scan_cost(s: Statistics, unit: UnitCosts, lists: float, k: int, *, coded: bool) -> float:
    """Return the cost of a scan of `lists`, nearest first, for k rows; and of the delta parts."""
    base = s.rows - s.delta_rows
    delta = _float_scan(s, unit, s.delta_rows)
    scanned = base * min(1.0, lists / max(1, s.nlist))
    if not coded:
        fixed = unit.call + lists * unit.list_visit
        return fixed + _float_scan(s, unit, scanned) + delta
    # Near lists may all be open; of all of them, only so many are.
    opened = min(lists, s.open_lists * s.nlist) if s.leaves else lists
    blocks = (scanned / _BLOCK + 0.5 * lists) * (opened / max(1, lists))
    within = min(1.0, s.open_blocks / max(s.open_lists, 1e-9)) if s.leaves else 1.0
    # To look at zones takes as long as to look at the keys: both are read from memory.
    per_block = unit.block_visit + unit.mask_row * _BLOCK * s.leaves
    visits = opened * unit.list_visit + blocks * per_block
    mean = min(1.0, s.share / max(1e-9, s.open_blocks)) * _BLOCK
    none_or_few, few_rows = _few(mean)
    codes = (1.0 - none_or_few) * unit.code_block_per_dim + few_rows * unit.fine_per_dim
    coding = blocks * within * codes * s.dim
    fixed = unit.coded_call + s.nlist * unit.list_coarse
    results = k * unit.result_per_dim * s.dim
    return fixed + visits + coding + results + delta


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
    return unit.call + per_dim * s.dim


def _prefilter(plan: Prefilter, s: Statistics, unit: UnitCosts) -> float:
    passing = plan.estimated_rows
    gathered = gather_cost(s, unit, passing)
    match plan.source:
        case "permutation":
            delta = s.delta_rows * unit.mask_row * s.leaves
            found = unit.permutation_row + (unit.filter_row if s.leaves > 1 else 0.0)
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
    if rest.cheap:
        found = s.rows * rest.share
        made = unit.duckdb_call + s.rows * unit.duckdb_row + found * unit.place_row
        return made / _USES if rest.lasting else made
    # It gets the whole WHERE, for its functions cost more than all else.
    asked = s.rows * s.share
    found = asked * rest.share
    row = unit.function_row
    return unit.duckdb_call + s.rows * unit.duckdb_row + asked * row + found * unit.place_row


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
