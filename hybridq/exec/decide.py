"""Gather what the planner needs to know of a bound query."""

from __future__ import annotations

import math

from hybridq.exec.bind import BoundTopK
from hybridq.index.ivf import Ladder, Part
from hybridq.index.search import (
    Program,
    narrowest,
    sampled_share,
)
from hybridq.plan.choose import choose
from hybridq.plan.cost import REFERENCE, Statistics, UnitCosts
from hybridq.plan.physical import Decision
from hybridq.settings import Settings

_UNKNOWN_SHARE = 0.1
_DEFAULT_RECALL = Settings().recall


def decide(bound: BoundTopK, settings: Settings, unit: UnitCosts) -> Decision:
    """Choose the plan of a bound query."""
    target = settings.recall
    if bound.spec.recall is not None and settings.recall == _DEFAULT_RECALL:
        target = bound.spec.recall
    costs = REFERENCE if settings.calibration == "reference" else unit
    return choose(statistics(bound, target), settings, costs, target=target)


def statistics(bound: BoundTopK, target: float) -> Statistics:
    """Return the statistics of a bound query."""
    base = bound.snapshot.parts[0]
    share, narrow = _UNKNOWN_SHARE, None
    if bound.programs is not None:
        share, narrow = _share(base, bound.programs[0])
    lists = None
    if target < 1.0 and base.ladder is not None:
        lists = lists_needed(base.ladder, max(1, bound.wanted), target, share)
    return Statistics(
        rows=bound.snapshot.live_rows,
        delta_rows=bound.snapshot.delta_rows,
        dim=bound.spec.dim,
        nlist=base.nlist,
        leaves=bound.programs[0].leaves if bound.programs is not None else len(bound.conjuncts),
        share=share,
        narrowest_rows=narrow,
        compiled=bound.programs is not None,
        lists_needed=lists,
        k=max(1, bound.wanted),
    )


def _share(part: Part, program: Program) -> tuple[float, int | None]:
    """Return (estimated share of passing rows, rows of the narrowest leaf)."""
    if program.leaves == 0 or part.rows == 0:
        return 1.0, None
    best = narrowest(part, program)
    exact = best[1] / part.rows if best is not None else 1.0
    if best is not None and program.leaves == 1:
        return exact, best[1]
    sampled = sampled_share(part, program)
    if sampled == 0.0:
        sampled = 0.5 / max(1, part.sample.shape[1])
    return min(sampled, exact), best[1] if best is not None else None


def lists_needed(ladder: Ladder, k: int, target: float, share: float) -> int:
    """Return the lists the ladder asks for when `share` of the rows pass evenly."""
    return math.ceil(math.exp(ladder.at(k, target, math.log(max(share, 1e-12)))) - 1e-9)
