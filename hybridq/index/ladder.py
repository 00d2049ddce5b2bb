"""The ladder of the stopping rule: how many lists a scan visits, and how far; see index.recall."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Int64s: TypeAlias = npt.NDArray[np.int64]
Doubles: TypeAlias = npt.NDArray[np.float64]

_KEPT = 256


class Rungs(NamedTuple):
    """The ladder for one k and target, by share (S,); `enough` is a number."""

    shares: Doubles
    lists: Doubles
    least: Doubles
    enough: float
    visits: Doubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Lists to visit by k, target recall and share of passing rows, as natural logarithms.

    `lists` is (len(ks), len(targets), len(shares)); shares ascend, targets ascend. Calibrated on
    random subsamples of the table; `gamma` corrects for shares that differ near the query.

    How far a scan has come is the distance of the next list's centroid over that of the k-th row
    (squares of L2 between vectors, or between unit vectors for cosine; unknown for inner products).
    The other tables have the shape of `lists`. `least`: no scan stops before it has come so far; 0
    where it is not known. `enough`: scans that stop there, whatever they saw, reach the target; 0
    where it is not known. `visits`: the lists that scans visit on average until they stop, as
    logarithms.
    """

    ks: Int64s
    targets: Doubles
    shares: Doubles
    lists: Doubles
    least: Doubles
    enough: Doubles
    visits: Doubles
    gamma: float
    _known: dict[tuple[int, float], Rungs] = field(default_factory=dict, compare=False, repr=False)
    _lines: dict[tuple[int, float], tuple[list[float], list[float]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def for_query(self, k: int, target: float) -> Rungs:
        """Return the rungs for one query, interpolated in k and target."""
        known = self._known.get((k, target))
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
                self._lines.clear()
            known = self._known[k, target] = self._interpolated(k, target)
        return known

    def at(self, k: int, target: float, share: float) -> float:
        """Return the logarithm of `visits`, interpolated in the logarithm `share`."""
        known = self._lines.get((k, target))
        if known is None:
            rungs = self.for_query(k, target)
            known = self._lines[k, target] = rungs.shares.tolist(), rungs.visits.tolist()
        x, y = known
        # What np.interp does, at a tenth of its cost for a single value.
        right = bisect.bisect_right(x, share)
        if right == 0:
            return y[0]
        if right == len(x):
            return y[-1]
        slope = (y[right] - y[right - 1]) / (x[right] - x[right - 1])
        return y[right - 1] + slope * (share - x[right - 1])

    def _interpolated(self, k: int, target: float) -> Rungs:
        # As many lists hold k of a share as hold ks[-1] of a share that much smaller.
        shares = self.shares + max(0.0, np.log(k / self.ks[-1]))
        position = float(np.interp(np.log(k), np.log(self.ks), np.arange(len(self.ks))))
        below = int(position)
        above = min(below + 1, len(self.ks) - 1)
        weight = position - below

        def at(table: Doubles) -> Doubles:
            by_k = [
                np.array([np.interp(target, self.targets, row) for row in table[i].T])
                for i in (below, above)
            ]
            values: Doubles = by_k[0] * (1 - weight) + by_k[1] * weight
            return values

        # Where passing rows lie they may be as close together as the rows of the whole table.
        enough = float(np.interp(0.0, shares, at(self.enough)))
        return Rungs(shares, at(self.lists), at(self.least), enough, at(self.visits))
