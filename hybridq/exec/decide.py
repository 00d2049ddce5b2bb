"""Gather what the planner needs to know of a bound query, and choose."""

from __future__ import annotations

import math
from collections.abc import Hashable

from hybridq.exec.bind import BoundTopK
from hybridq.index.ladder import Ladder
from hybridq.index.measure import LEAST_DIM
from hybridq.index.selectivity import local_share
from hybridq.plan.choose import choose
from hybridq.plan.cost import REFERENCE, Lists, Rest, Statistics, UnitCosts
from hybridq.plan.physical import Decision
from hybridq.settings import Settings

_GUESSED_SHARE = 1 / 3
"""What is taken to satisfy a conjunct of which nothing is known."""

_KEPT = 32
_DEFAULT_RECALL = Settings().recall


def decide(
    bound: BoundTopK, settings: Settings, unit: UnitCosts, rest: Rest | None = None
) -> Decision:
    """Choose the plan of a bound query, or return the one chosen before for the same input.

    `rest` tells of the conjuncts that do not compile.
    """
    where = bound.where
    if where.decided_for[0] is not settings or where.decided_for[1] is not unit:
        where.decisions.clear()
        where.decided_for = settings, unit
    known = _decided(bound, settings, unit, rest, None)
    if known.ask_near:
        base = bound.snapshot.parts[0]
        share = bound.where.selectivity.share
        near = local_share(base, bound.programs[0], bound.search.query, share)
        # In steps, so that plans are chosen but a few times.
        step = round(2 * math.log2(max(near, 1e-9)))
        known = _decided(bound, settings, unit, rest, step)
    return known


def _decided(
    bound: BoundTopK, settings: Settings, unit: UnitCosts, rest: Rest | None, step: int | None
) -> Decision:
    decisions = bound.where.decisions
    k = bound.search.k
    key: Hashable = k if rest is None and step is None else (k, rest, step)
    known = decisions.get(key)
    if known is None:
        if len(decisions) >= _KEPT:
            decisions.clear()
        target = target_of(bound, settings)
        costs = REFERENCE if settings.calibration == "reference" else unit
        near = None if step is None else min(1.0, 2.0 ** (step / 2))
        found = statistics(bound, target, rest, near)
        known = decisions[key] = choose(found, settings, costs, target=target)
    return known


def target_of(bound: BoundTopK, settings: Settings) -> float:
    """Return the recall to reach: the hint's, the session's, or the index's own."""
    own = bound.spec.recall
    if own is None or settings.recall != _DEFAULT_RECALL:
        return settings.recall
    return settings.recall if any(name == "recall" for name, _ in bound.topk.hints) else own


def statistics(
    bound: BoundTopK, target: float, rest: Rest | None = None, near: float | None = None
) -> Statistics:
    """Return the statistics of a bound query."""
    base = bound.snapshot.parts[0]
    known = bound.where.selectivity
    return Statistics(
        rows=bound.snapshot.live_rows,
        delta_rows=bound.snapshot.flat_rows,
        dim=max(bound.spec.dim, LEAST_DIM),
        nlist=base.nlist,
        leaves=bound.programs[0].leaves,
        share=known.share,
        narrowest_rows=known.narrowest_rows,
        lists=lists_of(base.ladder, target),
        k=max(1, bound.search.k),
        rest=rest,
        near=near,
        runs=known.runs,
        open_lists=known.open_lists,
        open_blocks=known.open_blocks,
    )


def guess(conjuncts: int, checked: tuple[int, int] | None, *, cheap: bool, lasting: bool) -> Rest:
    """Return what is taken of conjuncts: what candidates checked before say, else a guess."""
    share = _GUESSED_SHARE**conjuncts
    if checked is not None:
        passing, candidates = checked
        # In steps, so that plans are chosen but a few times.
        share = 2.0 ** round(math.log2((passing + share) / (candidates + 1)))
    return Rest(share=min(1.0, share), kept=False, cheap=cheap, lasting=lasting)


def lists_of(ladder: Ladder | None, target: float) -> Lists:
    """Return how many lists the ladder asks for."""

    def lists(k: int, share: float, near: float) -> int | None:
        if ladder is None:
            return None
        near = max(near, 1e-12)
        rungs = math.exp(ladder.at(k, target, math.log(near)))
        elsewhere = math.pow(max(1.0, share / near), ladder.gamma)
        return math.ceil(rungs * elsewhere - 1e-9)

    return lists
