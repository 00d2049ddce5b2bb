"""Gather what the planner needs to know of a bound query, and choose."""

from __future__ import annotations

import math

from hybridq.exec.bind import BoundTopK
from hybridq.index.ivf import Ladder
from hybridq.plan.choose import choose
from hybridq.plan.cost import REFERENCE, Statistics, UnitCosts
from hybridq.plan.physical import Decision
from hybridq.settings import Settings

_UNKNOWN_SHARE = 0.1
_KEPT = 16
_DEFAULT_RECALL = Settings().recall


def decide(bound: BoundTopK, settings: Settings, unit: UnitCosts) -> Decision:
    """Choose the plan of a bound query, or return the one chosen before for the same input."""
    where = bound.where
    if where.decided_for[0] is not settings or where.decided_for[1] is not unit:
        where.decisions.clear()
        where.decided_for = settings, unit
    known = where.decisions.get(bound.wanted)
    if known is None:
        if len(where.decisions) >= _KEPT:
            where.decisions.clear()
        known = where.decisions[bound.wanted] = _decide(bound, settings, unit)
    return known


def _decide(bound: BoundTopK, settings: Settings, unit: UnitCosts) -> Decision:
    target = target_of(bound, settings)
    costs = REFERENCE if settings.calibration == "reference" else unit
    return choose(statistics(bound, target), settings, costs, target=target)


def target_of(bound: BoundTopK, settings: Settings) -> float:
    """Return the recall to reach: the hint's, the session's, or the index's own."""
    own = bound.spec.recall
    if own is None or settings.recall != _DEFAULT_RECALL:
        return settings.recall
    return settings.recall if any(name == "recall" for name, _ in bound.topk.hints) else own


def statistics(bound: BoundTopK, target: float) -> Statistics:
    """Return the statistics of a bound query."""
    base = bound.snapshot.parts[0]
    known = bound.where.selectivity
    share = known.share if known is not None else _UNKNOWN_SHARE
    lists = None
    if target < 1.0 and base.ladder is not None:
        lists = lists_needed(base.ladder, max(1, bound.wanted), target, share)
    return Statistics(
        rows=bound.snapshot.live_rows,
        delta_rows=bound.snapshot.delta_rows,
        dim=bound.spec.dim,
        nlist=base.nlist,
        leaves=bound.programs[0].leaves if bound.compiled else len(bound.conjuncts),
        share=share,
        narrowest_rows=known.narrowest_rows if known is not None else None,
        compiled=bound.compiled,
        lists_needed=lists,
        k=max(1, bound.wanted),
    )


def lists_needed(ladder: Ladder, k: int, target: float, share: float) -> int:
    """Return the lists the ladder asks for when `share` of the rows pass evenly."""
    return math.ceil(math.exp(ladder.at(k, target, math.log(max(share, 1e-12)))) - 1e-9)
