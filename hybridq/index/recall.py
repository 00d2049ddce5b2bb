"""Calibrate how many lists reach a recall: the ladder of the stopping rule.

Rows of the table serve as held-out queries (each leaves itself out of its own answer). For every
share s, the truth is the top k among a random subset of that share, so the ladder needs no
predicate; a predicate that is correlated with the query is met at run time by the ratio of local
to global share (see kernels.scan.probe).
"""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.index.ivf import Float32s, Int64s
from hybridq.index.ladder import Ladder
from hybridq.kernels import subsets
from hybridq.nodes import Metric
from hybridq.progress import Progress

Doubles: TypeAlias = npt.NDArray[np.float64]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]

QUERIES = 512
_LEAST = 3
KS = (1, 10, 100)
TARGETS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
GAMMA = 0.75
_LOST_BY_CODES = 0.1
_RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
_EPSILONS = (1.2, 1.5, 1.8, 2.2, 2.5, 3.5)
_MAX_ROWS = 2_000_000
_ROWS_AT_ONCE = 16_384
_HALVINGS = 4
_ERRORS = 2.0  # standard errors of a mean recall that a target is kept away from


def epsilon_for(target: float | None) -> float:
    """Return the deviations of a code's score that a scan allows for a target recall.

    Chosen so that codes lose about `_LOST_BY_CODES` of what the target allows to lose.
    """
    wanted = 1.0 if target is None else target
    at = min(bisect.bisect_left(_RECALLS, wanted), len(_RECALLS) - 1)
    return _EPSILONS[at]


def ladder_to_json(ladder: Ladder) -> dict[str, Any]:
    """Return the ladder as plain values."""
    names = ("ks", "targets", "shares", "lists")
    return {"gamma": ladder.gamma, **{n: getattr(ladder, n).tolist() for n in names}}


def ladder_from_json(values: Mapping[str, Any]) -> Ladder:
    """Return the ladder that `ladder_to_json` described."""
    return Ladder(
        ks=np.array(values["ks"], np.int64),
        targets=np.array(values["targets"]),
        shares=np.array(values["shares"]),
        lists=np.array(values["lists"]),
        gamma=float(values["gamma"]),
    )


# Huge components overflow float32 sums: such rows are far away, and order among them is nothing.
@np.errstate(over="ignore", invalid="ignore")
def calibrate(
    vectors: Float32s,
    labels: npt.NDArray[np.int32],
    centroids: Float32s,
    metric: Metric,
    progress: Progress,
) -> Ladder:
    """Return the ladder of an index; `labels` (n,) is the list of each row of `vectors` (n, d)."""
    count, nlist = len(vectors), len(centroids)
    ks = np.array(KS, np.int64)
    targets = np.array(TARGETS)
    if nlist <= 1 or count < 2:
        lists = np.zeros((len(ks), len(targets), 1))
        return Ladder(ks=ks, targets=targets, shares=np.zeros(1), lists=lists, gamma=GAMMA)
    generator = np.random.default_rng(1)
    step = max(1, -(-count // _MAX_ROWS))
    rows, row_lists = vectors[::step], labels[::step]
    queries = generator.choice(len(rows), min(QUERIES, len(rows)), replace=False)
    # Fewer rows say nothing about k = 10.
    shares = np.array([s for s in SHARES if s * len(rows) >= 20] or [1.0])
    sizes = [max(1, round(s * len(rows))) for s in shares]
    rank = generator.permutation(len(rows))
    level = np.searchsorted(sizes, rank, side="right").astype(np.uint8)
    listed = [np.bincount(row_lists[level <= s], minlength=nlist) for s in range(len(shares))]
    visits = np.argsort(_scores(rows[queries], centroids, metric), axis=1)
    progress.start("calibrate recall", len(rows))
    try:
        nearest = _nearest(rows, queries, level, len(shares), metric, progress)
    finally:
        progress.finish()
    found = _Found(row_lists, nearest, visits)
    passed = np.array([size[visits] for size in listed], np.float32)
    scanned = np.bincount(row_lists, minlength=nlist)[visits].astype(np.float64)
    lists = _as_stopped(_lists_for(found), found, shares, passed, scanned)
    known, lists = _extended(np.log(shares), lists, count, nlist)
    return Ladder(
        ks=ks, targets=targets, shares=known, lists=np.ascontiguousarray(lists), gamma=GAMMA
    )


def _extended(shares: Doubles, lists: Doubles, count: int, nlist: int) -> tuple[Doubles, Doubles]:
    """Continue the ladder as it rises, from the least calibrated share down to one row."""
    least = -np.log(count)
    if len(shares) < 2 or least >= shares[0]:
        return shares, lists
    slope = np.maximum(lists[:, :, 0] - lists[:, :, 1], 0.0) / (shares[1] - shares[0])
    end = np.minimum(lists[:, :, 0] + slope * (shares[0] - least), np.log(nlist))
    end = np.maximum.accumulate(end, axis=1)
    return np.append(least, shares), np.concatenate([end[:, :, None], lists], axis=2)


class _Found:
    """How many of the true top k each visited list holds: per k, share and query, (…, nlist)."""

    def __init__(self, row_lists: npt.NDArray[np.int32], nearest: Int64s, visits: Int64s) -> None:
        queries, nlist = visits.shape
        shares = nearest.shape[1]
        self.shape = len(KS), shares, queries
        self._counts = np.zeros((len(KS), shares, queries, nlist), np.uint8)
        self._tops = np.empty((len(KS), shares, queries), np.float32)
        place = np.empty(nlist, np.int64)
        for q in range(queries):
            place[visits[q]] = np.arange(nlist)
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
        """Return the recall (queries, nlist) after each visited list."""
        recall: Floats = self._counts[i, s] / self._tops[i, s][:, None]
        return recall


def _aim(target: float) -> float:
    """Return the recall that lists must reach so that codes may lose some, too."""
    return target + _LOST_BY_CODES * (1 - target)


def _lists_for(found: _Found) -> Doubles:
    """Return the log of the lists whose mean recall reaches each target: (k, target, share)."""
    kinds, shares, queries = found.shape
    lists = np.empty((kinds, len(TARGETS), shares))
    for i in range(kinds):
        for s in range(shares):
            recall = found.recall(i, s)
            error = _ERRORS * recall.std(axis=0) / queries**0.5
            reached = np.minimum(recall.mean(axis=0) - error, 1.0)
            for t, target in enumerate(TARGETS):
                enough = reached >= min(_aim(target), reached[-1])
                lists[i, t, s] = np.log(int(np.argmax(enough)) + 1)
    return lists


@dataclass(frozen=True, slots=True)
class _Seen:
    """What scans of one share have seen after each visited list: all (queries, nlist).

    `passed` are rows that passed, `local` is the log of the share they are of the rows scanned,
    `elsewhere` the log of what the rule asks for more where that is less than the share.
    """

    log_shares: Doubles
    passed: Floats
    local: Doubles
    elsewhere: Doubles

    @classmethod
    def of(cls, shares: Doubles, s: int, passed: Floats, scanned: Doubles) -> _Seen:
        """Tell what is seen of rows that pass and are scanned in each list (queries, nlist)."""
        passed, share = np.cumsum(passed, axis=1), shares[s]
        local = np.log((passed + 0.5 * share) / (np.cumsum(scanned, axis=1) + 0.5))
        elsewhere = GAMMA * np.maximum(0.0, np.log(share) - local)
        return cls(np.log(shares), passed, local, elsewhere)


def _as_stopped(
    lists: Doubles, found: _Found, shares: Doubles, passed: Floats, scanned: Doubles
) -> Doubles:
    """Raise the ladder until a scan that stops by it reaches the targets.

    A scan knows only the share among the rows it has seen, and stops at the first list where that
    happens to be high: the recall it reaches lies below that of the same number of lists.
    """
    corrected = lists.copy()
    for s in range(len(shares)):
        seen = _Seen.of(shares, s, passed[s], scanned)
        for i, k in enumerate(KS):
            recall = found.recall(i, s)
            wanted = len(TARGETS) - 1
            for t in reversed(range(len(TARGETS))):
                target = _aim(TARGETS[t])
                wanted = min(wanted, len(TARGETS) - 1)
                # Targets ascend, so a lower one needs no higher a rung than the one above it.
                rung = t
                while rung < wanted and not _reaches(target, lists[i, rung], recall, seen, k):
                    rung += 1
                corrected[i, t, s] = lists[i, rung, s]
                if rung > t:
                    # Between the rung that is too low and the one that is not.
                    low, high = lists[i, rung - 1], lists[i, rung]
                    for _ in range(_HALVINGS):
                        middle = (low + high) / 2
                        if _reaches(target, middle, recall, seen, k):
                            high = middle
                        else:
                            low = middle
                    corrected[i, t, s] = high[s]
                wanted = rung
    return np.maximum.accumulate(corrected, axis=1)


def _reaches(target: float, rung: Doubles, recall: Floats, seen: _Seen, k: int) -> bool:
    """Tell whether scans that stop by one rung of the ladder reach `target` on average."""
    queries, nlist = recall.shape
    length = min(nlist, int(4 * np.exp(rung.max())) + 16)
    passed, local = seen.passed[:, :length], seen.local[:, :length]
    need = np.interp(local, seen.log_shares, rung)
    need += seen.elsewhere[:, :length]
    visited = np.log(np.arange(1, length + 1)) + 1e-9
    done = (visited >= need) & (passed >= min(k, passed[:, -1:].min()))
    stop = np.where(done.any(axis=1), done.argmax(axis=1), length - 1)
    reached = recall[np.arange(queries), stop]
    return bool(reached.mean() - _ERRORS * reached.std() / queries**0.5 >= target)


def _scores(queries: Float32s, rows: Float32s, metric: Metric) -> npt.NDArray[np.float32]:
    """Return values (queries, rows) that order rows by distance, smaller nearer."""
    scores: Float32s = queries @ rows.T
    if metric is Metric.IP:
        return np.negative(scores, out=scores)
    squares = np.einsum("ij,ij->i", rows, rows)
    if metric is Metric.COSINE:
        scores /= -np.sqrt(np.maximum(squares, np.float32(1e-30)))
        return scores
    scores *= np.float32(-2)
    scores += squares
    return scores


def _nearest(
    rows: Float32s,
    queries: Int64s,
    level: npt.NDArray[np.uint8],
    count: int,
    metric: Metric,
    progress: Progress,
) -> Int64s:
    """Return the rows nearest to each of `queries`, nearest first: (queries, count, k).

    A query leaves itself out; -1 stands where there are fewer rows. Rows are read once, some at a
    time, so that their scores stay in the cache.
    """
    shape = len(queries), count, min(max(KS), len(rows))
    distances = np.full(shape, np.inf, np.float32)
    nearest = np.full(shape, -1, np.int64)
    filled = np.zeros(shape[:2], np.int64)
    vectors = np.ascontiguousarray(rows[queries])
    threads = os.cpu_count() or 1
    edges = np.linspace(0, len(queries), 4 * threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            chunk = rows[first : first + _ROWS_AT_ONCE]
            scores = np.ascontiguousarray(_scores(vectors, chunk, metric))
            own = np.flatnonzero((queries >= first) & (queries < first + len(chunk)))
            scores[own, queries[own] - first] = np.inf
            levels = np.ascontiguousarray(level[first : first + len(chunk)])

            def offer(
                part: tuple[int, int],
                scores: Float32s = scores,
                levels: npt.NDArray[np.uint8] = levels,
                first: int = first,
            ) -> None:
                subsets.nearest_of_subsets(scores, levels, *part, first, distances, nearest, filled)

            for _ in pool.map(offer, itertools.pairwise(edges)):
                pass
            progress.advance(len(chunk))
    return np.take_along_axis(nearest, np.lexsort((nearest, distances)), axis=2)
