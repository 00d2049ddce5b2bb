"""What a scan of coded lists is told: tables, where to stop, and arrays for what it finds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.index.ivf import Int64s, Part
from hybridq.index.recall import epsilon_for
from hybridq.kernels import addressed, scan, tables

_LOCATED = "located"
"""Where `Part.known` keeps addresses."""


def _no_ladder() -> npt.NDArray[np.float64]:
    return np.empty(0, np.float64)


@dataclass(slots=True, kw_only=True)
class Effort:
    """How far a scan goes.

    Until the ladder says that recall `target` is reached (None: all lists), or `nprobe` lists were
    visited. `share` is the estimated share of rows that pass. A scan that would take more than
    `max_lists` lists (None: as many as there are) is given up.
    """

    share: float
    target: float | None
    nprobe: int | None = None
    max_lists: int | None = None
    use_bounds: bool = True


class Out:
    """The arrays a kernel writes for one part."""

    def __init__(self, k: int) -> None:
        self.distance = np.empty(k, np.float32)
        self.tie = np.empty(k, np.int64)
        self.position = np.empty(k, np.int64)
        self.counters = np.zeros(scan.COUNTERS, np.int64)


@dataclass(slots=True, kw_only=True)
class Rule:
    """Where a scan stops: lists at least and at most, the ladder, gamma, the estimated share.

    `epsilon` are the deviations that codes are allowed; `least`, `enough` and `expected` lists
    are the ladder's.
    """

    minimum: int
    maximum: int
    epsilon: float
    share: float = 1.0
    shares: npt.NDArray[np.float64] = field(default_factory=_no_ladder)
    lists: npt.NDArray[np.float64] = field(default_factory=_no_ladder)
    least: npt.NDArray[np.float64] = field(default_factory=_no_ladder)
    enough: float = 0.0
    expected: float = 0.0
    gamma: float = 0.0


class Order:
    """The lists that parts of one generation are visited in, and what the codes make of a query.

    The first part that is scanned leaves both for the others, see `coded.probe_coded`.
    """

    __slots__ = ("arrays", "lists")

    def __init__(self, part: Part) -> None:
        assert part.codes is not None
        size = part.codes.signs.shape[1]
        self.lists = np.zeros(part.nlist + 2, np.int64)
        self.arrays = (
            self.lists,
            np.empty(size + part.spec.dim + 1 + part.nlist, np.float32),
            np.empty((size // 4, tables.PATTERNS), np.uint8),
        )


def rule_of(part: Part, k: int, effort: Effort) -> Rule:
    """Return where the scan of a part for k rows stops."""
    target, nlist = effort.target, part.nlist
    rule = Rule(
        minimum=nlist,
        maximum=nlist if effort.max_lists is None else min(effort.max_lists, nlist),
        epsilon=epsilon_for(target),
        share=max(effort.share, 1e-9),
    )
    if effort.nprobe is not None:
        rule.minimum = min(effort.nprobe, nlist)
    elif target is not None and part.ladder is not None and nlist > 1:
        rule.minimum = 1
        rungs = part.ladder.for_query(k, target)
        rule.shares, rule.lists = rungs.shares, rungs.lists
        rule.least, rule.enough = rungs.least, rungs.enough
        rule.expected = math.exp(part.ladder.at(k, target, math.log(rule.share)))
        rule.gamma = part.ladder.gamma
    return rule


def addresses_of(part: Part) -> Int64s:
    """Return the row of a coded part in the table that `probe_coded` takes, without a program.

    It is made once for all that the part becomes while its rows die.
    """
    row: Int64s | None = part.known.get(_LOCATED)
    if row is None:
        c = part.codes
        assert c is not None
        row = part.known[_LOCATED] = addressed.located(
            (
                part.vectors,
                part.list_offsets,
                part.list_radius,
                part.centroids,
                c.centre,
                c.signs,
                c.list_codes,
                c.list_factors,
                c.codes,
                c.factors,
                c.fine,
                c.fine_factors,
                part.keys,
                part.zones,
                part.list_zones,
                part.buckets,
                part.bucket_bounds,
                part.tie,
            )
        )
    return row


def stopping(rule: Rule) -> tuple[Any, ...]:
    """Return the arguments of `probe_coded` that say where it stops."""
    return (
        rule.shares,
        rule.lists,
        rule.least,
        rule.enough,
        rule.expected,
        rule.gamma,
        rule.share,
        rule.minimum,
        rule.maximum,
        rule.epsilon,
    )
