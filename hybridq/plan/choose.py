"""Choose a plan: price every candidate, take the cheapest that may run.

Pure: statistics and settings in, a decision out; the same input gives the same plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from hybridq.errors import ProgrammingError
from hybridq.plan.cost import (
    CodedScan,
    Statistics,
    UnitCosts,
    check_cost,
    cost_of,
    gather_cost,
    prefilter_cost,
    scan_cost,
    with_bitmap,
)
from hybridq.plan.physical import (
    NAMES,
    Bitmap,
    Candidate,
    Decision,
    Exact,
    Fused,
    Postfilter,
    Prefilter,
)
from hybridq.settings import Settings

_EXACT = Exact(by_duckdb=False)
_LEFT = "a part of the WHERE does not compile to a mask program"
_MOST = 16
"""Candidates a forced postfilter looks at, at most, in multiples of its first ones."""


def choose(s: Statistics, settings: Settings, unit: UnitCosts, *, target: float) -> Decision:
    """Return the decision for a query the index can answer.

    Raises ProgrammingError if `SET plan` forces a plan that cannot run.
    """
    forced = settings.plan
    prefilter = _prefilter(s, unit)
    first = (_exact(s, unit), prefilter, _fused(s, settings, unit, target, prefilter))

    def priced() -> tuple[Candidate, ...]:
        bitmap = _bitmap(s, settings, unit, target)
        return (*first, bitmap, _postfilter(s, settings, unit, target, bitmap))

    # Where all compiles, the scan asks the program itself, which is never dearer than what checks
    # rows beside it; EXPLAIN prices these, too.
    candidates = priced() if s.rest is not None or forced in NAMES[3:] else first
    considered = priced if candidates is first else lambda: candidates
    if forced != "auto":
        chosen = candidates[NAMES.index(forced)]
        if chosen.plan is None:
            raise ProgrammingError(
                f"plan {forced} cannot run: {chosen.rejected_because}",
                hint="SET plan = 'auto'",
            )
        chosen = replace(chosen, plan=_alone(chosen.plan))
        return _decision(chosen, lambda: f"forced by plan = '{forced}'", s, considered)
    fused = candidates[2]
    if settings.nprobe is not None and fused.plan is not None:
        chosen = replace(fused, plan=_alone(fused.plan))
        return _decision(chosen, lambda: f"SET nprobe = {settings.nprobe}", s, considered)
    best = min(candidates, key=_seconds)
    decision = _decision(best, lambda: _reason(best, s), s, considered)
    every_row = isinstance(best.plan, Exact | Prefilter)
    if every_row and s.near is None and fused.plan is not None and target < 1.0:
        # Should the rows near the query pass more often, a scan might be done before.
        lists = s.lists(s.k, s.share, 1.0)
        least = scan_cost(s, unit, lists or s.nlist, s.k, coded=True)
        decision.ask_near = unit.near + 2 * least < best.seconds
    return decision


def _seconds(candidate: Candidate) -> float:
    return candidate.seconds


def by_duckdb(reason: str, settings: Settings, *, forced_allowed: bool) -> Decision:
    """Return the decision for a query the index cannot answer.

    Raises ProgrammingError if `SET plan` forces a plan that needs the index.
    """
    if settings.plan not in ("auto", "exact") and not forced_allowed:
        raise ProgrammingError(
            f"plan {settings.plan} cannot run: {reason}", hint="SET plan = 'auto'"
        )
    plan = Exact(by_duckdb=True)
    exact = Candidate(name="exact", plan=plan, cost_seconds=None)
    others = tuple(
        Candidate(name=name, plan=None, cost_seconds=None, rejected_because=reason)
        for name in NAMES[1:]
    )
    return Decision(
        plan=plan,
        name="exact",
        estimated_selectivity=1.0,
        considered=lambda: (exact, *others),
        because=lambda: reason,
    )


def _alone(
    plan: Exact | Prefilter | Fused | Bitmap | Postfilter,
) -> Exact | Prefilter | Fused | Bitmap | Postfilter:
    """Return the plan without others that could take over soon."""
    match plan:
        case Fused():
            return replace(plan, max_lists=None, otherwise=None)
        case Bitmap():
            return replace(plan, gather_rows=0)
        case Postfilter():
            return replace(plan, most=max(plan.most, _MOST * plan.first))
        case _:
            return plan


def _decision(
    chosen: Candidate,
    because: Callable[[], str],
    s: Statistics,
    considered: Callable[[], tuple[Candidate, ...]],
) -> Decision:
    assert chosen.plan is not None
    return Decision(
        plan=chosen.plan,
        name=chosen.name,
        estimated_selectivity=s.passing,
        considered=considered,
        because=because,
    )


def _reason(best: Candidate, s: Statistics) -> str:
    guessed = s.rest is not None and not s.rest.kept
    share = f"{s.passing * 100:.3g} % of {s.rows:,} rows pass"
    share = f"perhaps {share}" if guessed else share
    match best.plan:
        case Fused(target=None):
            return f"{share}; recall 1 visits every list"
        case Fused(estimated_lists=lists):
            near = "" if s.near is None else f", {s.near * 100:.3g} % near the query"
            return f"{share}{near}; about {lists} of {s.nlist} lists reach the recall"
        case Prefilter(source=source, estimated_rows=rows):
            return f"{share}; {rows:,} rows found by {source} are cheaper than a scan"
        case Bitmap(kept=True):
            return f"{share}; a bitmap of them is at hand"
        case Bitmap():
            lasting = s.rest is not None and s.rest.lasting
            kept = ", kept for queries to come," if lasting else ""
            return f"{share}; a bitmap of them{kept} is cheaper than to check candidates"
        case Postfilter(first=first):
            return f"{share}; {first} candidates are cheaper to check than {s.rows:,} rows"
        case _:
            return f"{share}; a pass over all of them is cheapest"


def _exact(s: Statistics, unit: UnitCosts) -> Candidate:
    if s.rest is None:
        cost = scan_cost(s, unit, s.nlist, s.k, coded=False)
        return Candidate(name="exact", plan=_EXACT, cost_seconds=cost)
    plan = Exact(by_duckdb=True)
    return Candidate(name="exact", plan=plan, cost_seconds=cost_of(plan, s, unit))


def _prefilter(s: Statistics, unit: UnitCosts) -> Candidate:
    rows = max(1, round(s.rows * s.passing))
    if s.rest is not None:
        best = Prefilter(source="duckdb", estimated_rows=rows)
        return Candidate(name="prefilter", plan=best, cost_seconds=cost_of(best, s, unit))
    source, cost = "mask", prefilter_cost(s, unit, "mask", rows)
    if not s.leaves:  # the same rows, but one by one
        cost = max(cost, scan_cost(s, unit, s.nlist, s.k, coded=False) + unit.call)
    if s.narrowest_rows is not None:
        passing = min(rows, s.narrowest_rows)
        if (other := prefilter_cost(s, unit, "permutation", passing)) < cost:
            source, rows, cost = "permutation", passing, other
    best = Prefilter(source=source, estimated_rows=rows)
    return Candidate(name="prefilter", plan=best, cost_seconds=cost)


def _lists(s: Statistics, settings: Settings, target: float, share: float, k: int) -> int | None:
    """Return the lists to visit for k rows, None for all of them because the answer is exact."""
    if settings.nprobe is not None:
        return min(settings.nprobe, s.nlist)
    near = share if s.near is None else s.near
    lists = s.lists(k, share, near) if target < 1.0 else None
    if lists is None:
        return None
    # Enough lists must be visited to meet k passing rows at all.
    expected = s.rows / max(1, s.nlist) * max(near, 1e-9)
    return max(1, min(s.nlist, max(lists, round(k / max(expected, 1e-9)))))


def _fused(
    s: Statistics, settings: Settings, unit: UnitCosts, target: float, prefilter: Candidate
) -> Candidate:
    if s.rest is not None:
        return Candidate(name="fused", plan=None, cost_seconds=None, rejected_because=_LEFT)
    lists = _lists(s, settings, target, s.share, s.k)
    most = otherwise = None
    if lists is None:
        cost = scan_cost(s, unit, s.nlist, s.k, coded=False)
    else:
        scan = CodedScan(s, unit)
        cost = scan.cost(lists, s.k)
        if isinstance(prefilter.plan, Prefilter) and s.leaves:
            scanning = scan.cost(s.nlist, s.k) - scan.cost(0, s.k)
            if prefilter.seconds < scanning:
                # So much is spent at most before, that both together cost no more than twice.
                share = prefilter.seconds / scanning
                most = max(1, int(share * s.open_lists * s.nlist))
                otherwise = prefilter.plan
    plan = Fused(
        target=None if lists is None else target,
        nprobe=settings.nprobe,
        estimated_lists=s.nlist if lists is None else lists,
        estimated_share=s.share,
        max_lists=most,
        otherwise=otherwise,
    )
    return Candidate(name="fused", plan=plan, cost_seconds=cost)


def _bitmap(s: Statistics, settings: Settings, unit: UnitCosts, target: float) -> Candidate:
    lists = _lists(s, settings, target, s.passing, s.k)
    plan = Bitmap(
        target=None if lists is None else target,
        nprobe=settings.nprobe,
        estimated_lists=s.nlist if lists is None else lists,
        estimated_share=s.passing,
        kept=s.rest is not None and s.rest.kept,
        gather_rows=_gather_rows(s, settings, unit, target),
    )
    return Candidate(name="bitmap", plan=plan, cost_seconds=cost_of(plan, s, unit))


def _gather_rows(s: Statistics, settings: Settings, unit: UnitCosts, target: float) -> int:
    """Return for how many rows, at most, distances one by one are cheaper than a scan."""
    if s.rest is None or settings.nprobe is not None:
        return 0
    rows = s.rows
    while rows > 1:
        share = rows / s.rows
        lists = _lists(s, settings, target, share, s.k)
        scanned = with_bitmap(s, share)
        count = s.nlist if lists is None else lists
        scan = scan_cost(scanned, unit, count, s.k, coded=lists is not None)
        if gather_cost(s, unit, rows) < scan:
            break
        rows //= 2
    return rows


def _postfilter(
    s: Statistics, settings: Settings, unit: UnitCosts, target: float, bitmap: Candidate
) -> Candidate:
    assert isinstance(bitmap.plan, Bitmap)
    checked = s.rest.share if s.rest is not None else s.share
    share = s.share if s.rest is not None else 1.0
    first = s.k if checked >= 1.0 else math.ceil(1.5 * s.k / max(checked, 1e-9)) + 8
    first = max(1, min(s.rows, first))
    lists = _lists(replace(s, near=None), settings, target, share, first)
    plan = Postfilter(
        target=None if lists is None else target,
        nprobe=settings.nprobe,
        estimated_lists=s.nlist if lists is None else lists,
        estimated_share=share,
        first=first,
        most=first,
        otherwise=bitmap.plan,
    )
    most = first
    while most < s.rows and _more_cost(s, unit, 2 * most) < bitmap.seconds:
        most *= 2
    plan = replace(plan, most=most)
    return Candidate(name="postfilter", plan=plan, cost_seconds=cost_of(plan, s, unit))


def _more_cost(s: Statistics, unit: UnitCosts, rows: int) -> float:
    """Return the cost of so many candidates more."""
    return check_cost(s, unit, rows) + rows * unit.result_per_dim * s.dim
