"""Fit the ladder: where scans must stop so that calibration's queries reach the targets.

A scan stops at the first list where it has visited as many as the share among the rows it has seen
asks for, and has come far enough. The distances alone would do (adaptive termination), and so would
a number of lists; both together visit fewer at the same recall, and hardly any query goes without:
a quarter of the scans go on because of the distance, and the number of lists is lowered for that.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.index.ivf import Float32s, Int64s
from hybridq.index.ladder import Doubles
from hybridq.nodes import Metric

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Tables: TypeAlias = tuple[Doubles, Doubles, Doubles, Doubles]
"""`lists`, `least`, `enough` and `visits` of a `Ladder`."""

KS = (1, 10, 100)
TARGETS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
GAMMA = 0.75
_EASED = 0.1
"""Scans know bounds of distances where the fit knows distances, and so they go on for longer: they
miss less than the fit says by more than what codes lose."""

_LEAST = 3
_HALVINGS = 4
_ERRORS = 0.5  # standard errors of a mean recall that a target is kept away from
_QUARTER = 0.25
_FAR = np.geomspace(0.5, 8.0, 97)


def steps_to(nlist: int) -> Int64s:
    """Return after how many lists (S,) scans are looked at: each up to 64, then every fiftieth."""
    many = np.ceil(64 * 1.02 ** np.arange(1, 1000)).astype(np.int64)
    steps = np.append(np.arange(1, 65), many)
    return np.append(np.unique(steps[steps < nlist]), nlist)


class Found:
    """How many of the true top k scans have found after `steps` lists."""

    def __init__(
        self,
        row_lists: npt.NDArray[np.int32],
        nearest: Int64s,
        visits: Int64s,
        steps: Int64s,
    ) -> None:
        queries, nlist = visits.shape
        shares = nearest.shape[1]
        step_of = np.searchsorted(steps, np.arange(1, nlist + 1))
        self.steps = steps
        self._counts = np.zeros((len(KS), shares, queries, len(steps)), np.uint8)
        self._tops = np.empty((len(KS), shares, queries), np.float32)
        place = np.empty(nlist, np.int64)
        for q in range(queries):
            place[visits[q]] = step_of
            for s in range(shares):
                rows = nearest[q, s]
                places = place[row_lists[rows[rows >= 0]]]
                for i, k in enumerate(KS):
                    # One neighbour a query says too little: for k = 1 the first three speak.
                    top = places[: max(k, _LEAST)] if len(places) else np.zeros(1, np.int64)
                    np.add.at(self._counts[i, s, q], top, 1)
                    self._tops[i, s, q] = len(top)
        np.cumsum(self._counts, axis=3, dtype=np.uint8, out=self._counts)

    def recall(self, i: int, s: int) -> Floats:
        """Return the recall (queries, S) after each step."""
        recall: Floats = self._counts[i, s] / self._tops[i, s][:, None]
        return recall


def _aim(target: float) -> float:
    """Return the recall that lists must reach."""
    return target - _EASED * (1 - target)


def _surely(reached: Floats) -> Any:
    """Return the mean over queries, the last axis, less what it may be wrong by."""
    return reached.mean(axis=-1) - _ERRORS * reached.std(axis=-1) / reached.shape[-1] ** 0.5


class Seen:
    """What scans of one share have seen after each step, (queries, S), and what they make of it."""

    def __init__(
        self, shares: Doubles, s: int, passed: Floats, scanned: Doubles, steps: Int64s
    ) -> None:
        """Take the rows that pass and that are scanned in each visited list (queries, nlist)."""
        self.passed = np.cumsum(passed, axis=1)[:, steps - 1]
        share, log_shares = shares[s], np.log(shares)
        local = np.log(
            (self.passed + 0.5 * share) / (np.cumsum(scanned, axis=1)[:, steps - 1] + 0.5)
        )
        elsewhere = GAMMA * np.maximum(0.0, np.log(share) - local)
        self.visited = (np.log(steps) + 1e-9 - elsewhere).astype(np.float32)
        """The logarithm of the lists visited, less what is asked for more where fewer rows pass."""
        right = np.clip(np.searchsorted(log_shares, local), 1, max(1, len(shares) - 1))
        self._left = (right - 1).astype(np.int8)
        self._weight = np.zeros(local.shape, np.float32)
        if len(shares) > 1:
            gaps = np.diff(log_shares)[self._left]
            self._weight[:] = np.clip((local - log_shares[self._left]) / gaps, 0.0, 1.0)

    def by_share(self, values: Doubles, length: int) -> Floats:
        """Return `values`, one a share, at the share seen after the first `length` steps."""
        left, weight = self._left[:, :length], self._weight[:, :length]
        steps = np.append(np.diff(values), 0.0).astype(np.float32)
        found: Floats = steps[left] * weight
        found += values.astype(np.float32)[left]
        return found


class Far:
    """How far scans have come after each step, as `Ladder` has it."""

    def __init__(
        self,
        rows: Float32s,
        queries: Int64s,
        nearest: Int64s,
        centroids: Float32s,
        visits: Int64s,
        steps: Int64s,
        metric: Metric,
    ) -> None:
        asked, lists = _as_compared(rows[queries], metric), centroids.astype(np.float64)
        away = (asked**2).sum(axis=1)[:, None] + (lists**2).sum(axis=1) - 2 * asked @ lists.T
        away = np.take_along_axis(away, visits[:, steps[:-1]], axis=1)
        self._next = np.append(away, np.full((len(queries), 1), np.inf), axis=1)
        self._kth = np.full((len(KS), nearest.shape[1], len(queries)), np.inf)
        for i, k in enumerate(KS):
            row = nearest[:, :, min(k, nearest.shape[2]) - 1]
            there = row >= 0
            apart = _as_compared(rows[row[there]], metric) - asked[np.nonzero(there)[0]]
            self._kth[i].T[there] = (apart**2).sum(axis=1)

    def after(self, i: int, s: int) -> Float32s:
        """Return it for the i-th k and a share, (queries, S); 0 where k rows do not pass."""
        far = self._next / np.maximum(self._kth[i, s], 1e-30)[:, None]
        far[:, -1] = np.inf
        come: Float32s = far.astype(np.float32)
        return come


def _as_compared(rows: Float32s, metric: Metric) -> Doubles:
    vectors: Doubles = rows.astype(np.float64)
    if metric is Metric.COSINE:
        vectors /= np.maximum(np.sqrt((vectors**2).sum(axis=1)), 1e-300)[:, None]
    return vectors


@dataclass(frozen=True, slots=True)
class _Cell:
    """The scans for one k over one share.

    `recall` after each of `steps`, and how far they have `come` (None: unknown): (queries, S).
    """

    k: int
    steps: Int64s
    recall: Floats
    seen: Seen
    come: Float32s | None

    def stops(self, rung: Doubles, least: Doubles | None = None) -> Int64s:
        """Return the step, from 0, that scans make as their last which stop by one rung."""
        seen, most = self.seen, (4 if least is None else 8) * np.exp(rung.max()) + 16
        length = int(min(np.searchsorted(self.steps, most) + 1, len(self.steps)))
        passed = seen.passed[:, :length]
        done = seen.visited[:, :length] >= seen.by_share(rung, length)
        done &= passed >= min(self.k, passed[:, -1].min())
        if self.come is not None and least is not None:
            done &= self.come[:, :length] >= seen.by_share(least, length)
        stops: Int64s = np.where(done.any(axis=1), done.argmax(axis=1), length - 1)
        return stops

    def reached(self, rung: Doubles, least: Doubles | None) -> float:
        """Return the mean recall that is surely reached."""
        stops = self.stops(rung, least)
        return float(_surely(self.recall[np.arange(len(stops)), stops]))

    def lowest(
        self, target: float, rungs: Doubles, highest: int, least: Doubles | None
    ) -> tuple[int, Doubles]:
        """Return the lowest rung that reaches `target`, or `highest`, and one just below it."""
        rung = bisect.bisect_left(
            range(highest), True, key=lambda r: self.reached(rungs[r], least) >= target
        )
        low, high = rungs[max(rung - 1, 0)], rungs[rung]
        for _ in range(_HALVINGS if rung > 0 else 0):
            middle = (low + high) / 2
            if self.reached(middle, least) >= target:
                high = middle
            else:
                low = middle
        return rung, high

    def farthest(self) -> Floats:
        """Return how far scans must come, by that alone, to reach each target."""
        assert self.come is not None
        last = self.recall.shape[1] - 1
        stops = [np.minimum((self.come < far).sum(axis=1), last) for far in _FAR]
        reached = _surely(self.recall[np.arange(len(self.recall)), np.array(stops)])
        there = [reached >= min(_aim(target), reached[-1]) for target in TARGETS]
        far: Floats = _FAR[np.argmax(there, axis=1)]
        return far


def fit(found: Found, seen: list[Seen], far: Far | None) -> Tables:
    """Return the tables of the ladder, each (ks, targets, shares)."""

    def cells(i: int) -> list[_Cell]:
        return [
            _Cell(
                k=KS[i],
                steps=found.steps,
                recall=found.recall(i, s),
                seen=seen[s],
                come=None if far is None else far.after(i, s),
            )
            for s in range(len(seen))
        ]

    shape = len(KS), len(TARGETS), len(seen)
    tables = tuple(np.zeros(shape) for _ in range(4))
    lists, least, enough, visits = tables
    for i in range(len(KS)):
        row = cells(i)
        for s, cell in enumerate(row):
            lists[i, :, s] = _alike(cell)
        if far is None:
            lists[i] = _as_stopped(lists[i], row, None)
        else:
            for s, cell in enumerate(row):
                assert cell.come is not None
                enough[i, :, s] = cell.farthest()
                for t in range(len(TARGETS)):
                    at = cell.come[np.arange(len(cell.come)), cell.stops(lists[i, t])]
                    least[i, t, s] = np.quantile(at, _QUARTER)
            least[i] = np.maximum.accumulate(np.nan_to_num(least[i], posinf=0.0), axis=0)
            lists[i] = _as_stopped(lists[i], row, least[i])
        for s, cell in enumerate(row):
            for t in range(len(TARGETS)):
                visits[i, t, s] = np.log(found.steps[cell.stops(lists[i, t], least[i, t])].mean())
    return lists, least, np.maximum.accumulate(enough, axis=1), visits


def _alike(cell: _Cell) -> Floats:
    """Return the log of the lists, as many for every query, that reach each target."""
    reached = np.minimum(_surely(cell.recall.T), 1.0)
    enough = [reached >= min(_aim(target), reached[-1]) for target in TARGETS]
    lists: Floats = np.log(cell.steps[np.argmax(enough, axis=1)])
    return lists


def _as_stopped(rungs: Doubles, row: list[_Cell], least: Doubles | None) -> Doubles:
    """Set rungs (targets, shares) so that scans that stop by them, and `least`, reach the targets.

    A scan knows only the share among the rows it has seen, and stops at the first list where that
    happens to be high: the recall it reaches lies below that of the same number of lists. One that
    must come as far as `least`, too, reaches more.
    """
    corrected = rungs.copy()
    for s, cell in enumerate(row):
        highest = len(TARGETS) - 1
        for t in reversed(range(len(TARGETS))):
            must = None if least is None else least[t]
            lowest, rung = cell.lowest(_aim(TARGETS[t]), rungs, highest, must)
            corrected[t, s] = rung[s]
            if least is None:  # targets ascend, so the one below needs no higher a rung
                highest = lowest
    return np.maximum.accumulate(corrected, axis=0)
