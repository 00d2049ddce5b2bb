"""The ladder of the stopping rule: how many lists a scan visits; see index.recall."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Int64s: TypeAlias = npt.NDArray[np.int64]

_KEPT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Lists to visit by k, target recall and share of passing rows, as natural logarithms.

    `lists` is (len(ks), len(targets), len(shares)); shares ascend, targets ascend. Calibrated on
    random subsamples of the table; `gamma` corrects for shares that differ near the query.
    """

    ks: Int64s
    targets: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    lists: npt.NDArray[np.float64]
    gamma: float
    _known: dict[tuple[int, float], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = (
        field(default_factory=dict, compare=False, repr=False)
    )
    _lines: dict[tuple[int, float], tuple[list[float], list[float]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def for_query(
        self, k: int, target: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (shares, lists) for one query, interpolated in k and target."""
        known = self._known.get((k, target))
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
                self._lines.clear()
            known = self._known[k, target] = self._interpolated(k, target)
        return known

    def at(self, k: int, target: float, share: float) -> float:
        """Return the logarithm of the lists to visit, interpolated in the logarithm `share`."""
        known = self._lines.get((k, target))
        if known is None:
            shares, lists = self.for_query(k, target)
            known = self._lines[k, target] = shares.tolist(), lists.tolist()
        x, y = known
        # What np.interp does, at a tenth of its cost for a single value.
        right = bisect.bisect_right(x, share)
        if right == 0:
            return y[0]
        if right == len(x):
            return y[-1]
        slope = (y[right] - y[right - 1]) / (x[right] - x[right - 1])
        return y[right - 1] + slope * (share - x[right - 1])

    def _interpolated(
        self, k: int, target: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        if k > self.ks[-1]:
            # As many lists hold k of a share as hold ks[-1] of a share that much smaller.
            shares, lists = self.for_query(int(self.ks[-1]), target)
            return shares + np.log(k / self.ks[-1]), lists
        by_k = [
            np.array([np.interp(target, self.targets, row) for row in self.lists[i].T])
            for i in range(len(self.ks))
        ]
        position = float(np.interp(np.log(k), np.log(self.ks), np.arange(len(self.ks))))
        below = int(position)
        above = min(below + 1, len(self.ks) - 1)
        weight = position - below
        return self.shares, by_k[below] * (1 - weight) + by_k[above] * weight
