"""Choose a plan: price every candidate, take the cheapest that may run.

Pure: statistics and settings in, a decision out; the same input gives the same plan.
"""

from __future__ import annotations

from collections.abc import Callable

from hybridq.errors import ProgrammingError
from hybridq.plan.cost import Statistics, UnitCosts, cost_of
from hybridq.plan.physical import Candidate, Decision, Exact, Fused, Prefilter
from hybridq.settings import Settings


def choose(s: Statistics, settings: Settings, unit: UnitCosts, *, target: float) -> Decision:
    """Return the decision for a query the index can answer.

    Raises ProgrammingError if `SET plan` forces a plan that cannot run.
    """
    candidates = (_exact(s, unit), _prefilter(s, unit), _fused(s, settings, unit, target))
    if settings.plan != "auto":
        forced = next(c for c in candidates if c.name == settings.plan)
        if forced.plan is None:
            raise ProgrammingError(
                f"plan {settings.plan} cannot run: {forced.rejected_because}",
                hint="SET plan = 'auto'",
            )
        return _decision(forced, lambda: f"forced by SET plan = '{settings.plan}'", s, candidates)
    if settings.nprobe is not None and candidates[2].plan is not None:
        return _decision(candidates[2], lambda: f"SET nprobe = {settings.nprobe}", s, candidates)
    best = candidates[0]
    for candidate in candidates:
        if candidate.seconds < best.seconds:
            best = candidate
    return _decision(best, lambda: _reason(best, s), s, candidates)


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
        for name in ("prefilter", "fused")
    )
    return Decision(
        plan=plan,
        name="exact",
        estimated_selectivity=1.0,
        candidates=(exact, *others),
        because=lambda: reason,
    )


def _decision(
    chosen: Candidate,
    because: Callable[[], str],
    s: Statistics,
    candidates: tuple[Candidate, ...],
) -> Decision:
    assert chosen.plan is not None
    return Decision(
        plan=chosen.plan,
        name=chosen.name,
        estimated_selectivity=s.share,
        candidates=candidates,
        because=because,
    )


def _reason(best: Candidate, s: Statistics) -> str:
    share = f"{s.share * 100:.3g} % of {s.rows:,} rows pass"
    match best.plan:
        case Fused(target=None):
            return f"{share}; recall 1 visits every list"
        case Fused(estimated_lists=lists):
            return f"{share}; about {lists} of {s.nlist} lists reach the recall"
        case Prefilter(source=source, estimated_rows=rows):
            return f"{share}; {rows:,} rows found by {source} are cheaper than a scan"
        case _:
            return f"{share}; a pass over all of them is cheapest"


def _exact(s: Statistics, unit: UnitCosts) -> Candidate:
    plan = Exact(by_duckdb=not s.compiled)
    return Candidate(name="exact", plan=plan, cost_seconds=cost_of(plan, s, unit))


def _prefilter(s: Statistics, unit: UnitCosts) -> Candidate:
    rows = max(1, round(s.rows * s.share))
    best = Prefilter(source="mask" if s.compiled else "duckdb", estimated_rows=rows)
    cost = cost_of(best, s, unit)
    if s.compiled and s.narrowest_rows is not None:
        passing = min(rows, s.narrowest_rows)
        enumerated = Prefilter(source="permutation", estimated_rows=passing)
        if (other := cost_of(enumerated, s, unit)) < cost:
            best, cost = enumerated, other
    return Candidate(name="prefilter", plan=best, cost_seconds=cost)


def _fused(s: Statistics, settings: Settings, unit: UnitCosts, target: float) -> Candidate:
    if not s.compiled:
        return Candidate(
            name="fused",
            plan=None,
            cost_seconds=None,
            rejected_because="a part of the WHERE does not compile to a mask program",
        )
    if settings.nprobe is not None:
        lists = min(settings.nprobe, s.nlist)
        plan = Fused(
            target=target,
            nprobe=settings.nprobe,
            estimated_lists=lists,
            estimated_share=s.share,
        )
    elif s.lists_needed is None or target >= 1.0:
        plan = Fused(target=None, nprobe=None, estimated_lists=s.nlist, estimated_share=s.share)
    else:
        # Enough lists must be visited to meet k passing rows at all.
        expected = s.rows / max(1, s.nlist) * max(s.share, 1e-9)
        lists = min(s.nlist, max(s.lists_needed, round(s.k / max(expected, 1e-9))))
        plan = Fused(
            target=target, nprobe=None, estimated_lists=max(1, lists), estimated_share=s.share
        )
    return Candidate(name="fused", plan=plan, cost_seconds=cost_of(plan, s, unit))
