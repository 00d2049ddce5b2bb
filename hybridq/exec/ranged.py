"""Searches within a radius: `WHERE distance < r` without LIMIT, every row that matches.

The kernels look for k rows, so k grows until fewer are found. Lists whose bounds lie beyond the
radius are passed over; every other one is visited, whatever the recall.
"""

from __future__ import annotations

from dataclasses import replace

from hybridq.exec.bind import BoundTopK
from hybridq.exec.decide import decide
from hybridq.exec.executor import Run, Table, execute
from hybridq.exec.host import Host, settings_of
from hybridq.exec.opaque import rest_of
from hybridq.exec.pages import depths_before
from hybridq.index.hits import Hits
from hybridq.index.search import rows_in_reach
from hybridq.plan.physical import Decision, Exact, Fused, PhysicalPlan, Prefilter, is_exact
from hybridq.settings import hinted

_MOST = 65_536
_GROWTH = 8
_ALL = (("recall", 1.0), ("nprobe", None))
_MASK = 1 / 16
"""What it costs to ask whether a row passes, in distances of rows."""


def decided(session: Host, bound: BoundTopK) -> Decision:
    """Choose the plan of a bound query, and of what it needs before for OFFSET."""
    settings, rest = settings_of(session, bound.topk), rest_of(session, bound)
    if bound.topk.limit is not None:
        decision = decide(bound, settings, session.instance.unit, rest)
        if not bound.offset or not bound.limit:
            return decision
        depths = depths_before(bound.limit, bound.offset)
        plans = [decide(bound.first(k), settings, session.instance.unit, rest).plan for k in depths]
        if all(map(is_exact, plans)):
            return decision
        before = zip(depths, map(_by_index, plans), strict=True)
        return replace(decision, plan=_by_index(decision.plan), before=tuple(before))
    settings = hinted(settings, _ALL)
    decision = decide(bound, settings, session.instance.unit, rest)
    if settings.plan != "auto" or not _scan_is_cheaper(bound, decision):
        return decision
    return replace(
        decision,
        plan=Fused(
            target=None,
            nprobe=None,
            estimated_lists=bound.snapshot.parts[0].nlist,
            estimated_share=decision.estimated_selectivity,
        ),
        name="fused",
        because=lambda: "every row within the radius; lists beyond it are passed over",
    )


def _scan_is_cheaper(bound: BoundTopK, decision: Decision) -> bool:
    """Tell whether to scan the lists within the radius, of which plans are priced without."""
    match decision.plan:
        case Exact(by_duckdb=by_duckdb):
            return not by_duckdb
        case Prefilter(source="mask" | "permutation", estimated_rows=rows):
            reach = rows_in_reach(bound.snapshot.parts[0], bound.search)
            return reach * (decision.estimated_selectivity + _MASK) < rows
        case _:
            return False


def _by_index(plan: PhysicalPlan) -> PhysicalPlan:
    """Return a plan of the same cost and rows that can be one of several searches."""
    if isinstance(plan, Exact) and plan.by_duckdb:
        return Prefilter(source="duckdb", estimated_rows=0)
    return plan


def find(decision: Decision, bound: BoundTopK, table: Table, run: Run) -> Hits | None:
    """Return the hits; None where so many lie within the radius that DuckDB is as fast."""
    hits = execute(decision.plan, bound, table, run, before=decision.before)
    if bound.topk.limit is not None:
        return hits
    while len(hits) == bound.limit:
        if bound.limit >= _MOST:
            return None
        bound = bound.first(bound.limit * _GROWTH)
        hits = execute(decision.plan, bound, table, run)
    return hits
