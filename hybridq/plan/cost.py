"""What plans cost, in seconds, from unit costs measured on the host.

    exact      rows · (mask · leaves + share · scan · d)
    prefilter  positions + passing rows · gather · d
    fused      coarse · nlist · d + lists · rows/list · (mask · leaves + share · scan · d)
    duckdb     fixed + rows · (predicate + share · distance · d)

AnalyticDB-V (PVLDB 13(12), section 5.2, equations 1-4) prices the scans; the coarse step, finding
positions and DuckDB's fixed cost are terms its equations lack.
"""

from __future__ import annotations

from dataclasses import dataclass

from hybridq.plan.physical import Exact, Fused, PhysicalPlan, Prefilter


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCosts:
    """Unit costs in seconds; per_dim ones are per row and dimension."""

    call: float = 25e-6
    coarse_per_dim: float = 1.0e-10
    scan_per_dim: float = 2.5e-10
    gather_per_dim: float = 4.0e-10
    gather_row: float = 3.0e-8
    mask_row: float = 1.0e-9
    permutation_row: float = 1.5e-8
    find_row: float = 2.0e-7
    duckdb_call: float = 6.0e-4
    duckdb_row: float = 6.0e-9
    duckdb_distance_per_dim: float = 3.0e-9


REFERENCE = UnitCosts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What the planner knows of one bound query over one snapshot.

    `share` is the estimated share of rows that pass the compiled leaves; `narrowest_rows` the exact
    number of rows of the narrowest leaf, None without permutations; `lists_needed` the ladder's
    answer for that share (None: every list).
    """

    rows: int
    delta_rows: int
    dim: int
    nlist: int
    leaves: int
    share: float
    narrowest_rows: int | None
    compiled: bool
    lists_needed: int | None
    k: int
    selectivity_known: bool = True


def cost_of(plan: PhysicalPlan, s: Statistics, unit: UnitCosts) -> float:
    """Return the estimated seconds of a plan."""
    per_row = unit.mask_row * max(1, s.leaves) + s.share * unit.scan_per_dim * s.dim
    match plan:
        case Exact(by_duckdb=True):
            per_table_row = unit.duckdb_row + s.share * unit.duckdb_distance_per_dim * s.dim
            return unit.duckdb_call + s.rows * per_table_row
        case Exact():
            return unit.call + s.rows * per_row
        case Prefilter(source=source, estimated_rows=passing):
            match source:
                case "permutation":
                    found = (s.narrowest_rows or 0) * unit.permutation_row
                case "mask":
                    found = s.rows * unit.mask_row * max(1, s.leaves)
                case _:
                    found = unit.duckdb_call + s.rows * unit.duckdb_row + passing * unit.find_row
            delta = s.delta_rows * per_row if source == "permutation" else 0.0
            gathered = passing * (unit.gather_row + unit.gather_per_dim * s.dim)
            return unit.call + found + delta + gathered
        case Fused(estimated_lists=lists):
            base = s.rows - s.delta_rows
            per_list = base / max(1, s.nlist)
            return (
                unit.call
                + s.nlist * s.dim * unit.coarse_per_dim
                + min(base, lists * per_list) * per_row
                + s.delta_rows * per_row
            )
