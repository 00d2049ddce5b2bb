"""Calibrate how many lists reach a recall: the ladder of the stopping rule.

Rows of the table serve as held-out queries (each leaves itself out of its own answer). For every
share s, the truth is the top k among a random subset of that share, so the ladder needs no
predicate; a predicate that is correlated with the query is met at run time by the ratio of local
to global share (see kernels.scan.probe).
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.index.ivf import Float32s
from hybridq.index.ladder import Ladder
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
_BLOCK = 8
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
    order = generator.permutation(len(rows))
    subsets = [np.sort(order[: max(1, round(s * len(rows)))]) for s in shares]
    hits = np.zeros((len(ks), len(shares), len(queries), nlist), np.float32)
    visits = np.empty((len(queries), nlist), np.int64)
    sizes = np.array([np.bincount(row_lists[subset], minlength=nlist) for subset in subsets])
    progress.start("calibrate recall", len(queries))
    try:
        squares = np.einsum("ij,ij->i", rows, rows)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for first in range(0, len(queries), _BLOCK):
                block = queries[first : first + _BLOCK]
                # One matrix product for many queries: BLAS runs several times faster than by row.
                scores = _scores(rows[block], rows, squares, metric)
                scores[np.arange(len(block)), block] = np.inf
                away = _scores(rows[block], centroids, None, metric)
                visits[first : first + len(block)] = np.argsort(away, axis=1)

                def work(i: int, first: int = first, scores: Float32s = scores) -> None:
                    place = np.empty(nlist, np.int64)
                    place[visits[first + i]] = np.arange(nlist)
                    for s, subset in enumerate(subsets):
                        whole = len(subset) == len(rows)
                        own = scores[i] if whole else scores[i, subset]
                        nearest = _nearest(own, int(ks.max()))
                        places = place[row_lists[subset[nearest]]]
                        _count_hits(places, ks, hits[:, s, first + i])

                for _ in pool.map(work, range(len(block))):
                    pass
                progress.advance(len(block))
    finally:
        progress.finish()
    recall = np.cumsum(hits, axis=3, out=hits)
    passed = np.array([size[visits] for size in sizes], np.float32)
    scanned = np.bincount(row_lists, minlength=nlist)[visits].astype(np.float64)
    aims = targets + _LOST_BY_CODES * (1 - targets)
    lists = _lists_for(recall, aims)
    seen = _Seen(shares, np.cumsum(passed, axis=2, out=passed), np.cumsum(scanned, axis=1))
    lists = _as_stopped(lists, recall, seen, ks, aims)
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


def _lists_for(recall: Floats, targets: Doubles) -> Doubles:
    """Return the log of the lists whose mean recall reaches each target: (k, target, share)."""
    kinds, shares, queries, _ = recall.shape
    lists = np.empty((kinds, len(targets), shares))
    for i in range(kinds):
        for s in range(shares):
            error = _ERRORS * recall[i, s].std(axis=0) / queries**0.5
            reached = np.minimum(recall[i, s].mean(axis=0) - error, 1.0)
            for t, target in enumerate(targets):
                enough = reached >= min(target, reached[-1])
                lists[i, t, s] = np.log(int(np.argmax(enough)) + 1)
    return lists


@dataclass(frozen=True, slots=True)
class _Seen:
    """Per share and query, after each visited list: rows that passed, and rows scanned."""

    shares: Doubles
    passed: Floats
    scanned: Doubles


def _as_stopped(
    lists: Doubles, recall: Floats, seen: _Seen, ks: npt.NDArray[np.int64], targets: Doubles
) -> Doubles:
    """Raise the ladder until a scan that stops by it reaches the targets.

    A scan knows only the share among the rows it has seen, and stops at the first list where that
    happens to be high: the recall it reaches lies below that of the same number of lists.
    """
    corrected = lists.copy()
    for i, k in enumerate(ks.tolist()):
        for s in range(len(seen.shares)):
            wanted = len(targets) - 1
            for t in reversed(range(len(targets))):
                wanted = min(wanted, len(targets) - 1)
                # Targets ascend, so a lower one needs no higher a rung than the one above it.
                rung = t
                while rung < wanted and not _reaches(
                    targets[t], lists[i, rung], recall[i, s], seen, s, k
                ):
                    rung += 1
                corrected[i, t, s] = lists[i, rung, s]
                if rung > t:
                    # Between the rung that is too low and the one that is not.
                    low, high = lists[i, rung - 1], lists[i, rung]
                    for _ in range(_HALVINGS):
                        middle = (low + high) / 2
                        if _reaches(targets[t], middle, recall[i, s], seen, s, k):
                            high = middle
                        else:
                            low = middle
                    corrected[i, t, s] = high[s]
                wanted = rung
    return np.maximum.accumulate(corrected, axis=1)


def _reaches(target: float, rung: Doubles, recall: Floats, seen: _Seen, s: int, k: int) -> bool:
    """Tell whether scans that stop by one rung of the ladder reach `target` on average."""
    queries, nlist = recall.shape
    length = min(nlist, int(4 * np.exp(rung.max())) + 16)
    share = seen.shares[s]
    passed, scanned = seen.passed[s, :, :length], seen.scanned[:, :length]
    local = (passed + 0.5 * share) / (scanned + 0.5)
    need = np.exp(np.interp(np.log(local), np.log(seen.shares), rung))
    need *= np.maximum(1.0, share / local) ** GAMMA
    done = (np.arange(1, length + 1) >= need) & (passed >= min(k, passed[:, -1:].min()))
    stop = np.where(done.any(axis=1), done.argmax(axis=1), length - 1)
    reached = recall[np.arange(queries), stop]
    return bool(reached.mean() - _ERRORS * reached.std() / queries**0.5 >= target)


def _scores(
    queries: Float32s, rows: Float32s, squares: npt.NDArray[np.float32] | None, metric: Metric
) -> npt.NDArray[np.float32]:
    """Return values (queries, rows) that order rows by distance, smaller nearer."""
    scores: Float32s = queries @ rows.T
    if metric is Metric.IP:
        return np.negative(scores, out=scores)
    if squares is None:
        squares = np.einsum("ij,ij->i", rows, rows)
    # In place: with millions of rows each copy counts.
    if metric is Metric.COSINE:
        scores /= -np.sqrt(np.maximum(squares, np.float32(1e-30)))
        return scores
    scores *= np.float32(-2)
    scores += squares
    return scores


def _nearest(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Return the places of the k least finite scores, or of all there are, in order."""
    k = min(k, int(np.isfinite(scores).sum()))
    if k == 0:
        return np.empty(0, np.int64)
    nearest = np.argpartition(scores, k - 1)[:k]
    return nearest[np.argsort(scores[nearest], kind="stable")]


def _count_hits(places: npt.NDArray[np.int64], ks: npt.NDArray[np.int64], out: Floats) -> None:
    """Add to `out` (len(ks), nlist) the share of the true top k that each visited list holds."""
    if len(places) == 0:
        out[:, 0] += 1.0
        return
    for i, k in enumerate(ks.tolist()):
        # One neighbour a query says too little: for k = 1 the first three speak.
        top = places[: max(k, _LEAST)]
        np.add.at(out[i], top, 1.0 / len(top))
