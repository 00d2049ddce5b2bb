"""Calibrate how many lists reach a recall: the ladder of the stopping rule.

Rows of the table serve as held-out queries (each leaves itself out of its own answer). For every
share s, the truth is the top k among a random subset of that share, so the ladder needs no
predicate; a predicate that is correlated with the query is met at run time by the ratio of local
to global share (see kernels.scan.probe), and by how far a scan has come (see `Ladder`).
"""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.index.ivf import Float32s, Int64s
from hybridq.index.ladder import Doubles, Ladder
from hybridq.index.stopping import GAMMA, KS, TARGETS, Far, Found, Seen, Tables, fit, steps_to
from hybridq.kernels import subsets
from hybridq.nodes import Metric
from hybridq.progress import Progress

QUERIES = 512
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
_EPSILONS = (1.2, 1.5, 1.8, 2.2, 2.5, 3.5)
_MAX_ROWS = 2_000_000
_ROWS_AT_ONCE = 16_384


def epsilon_for(target: float | None) -> float:
    """Return the deviations of a code's score that a scan allows for a target recall.

    Chosen so that codes lose about a tenth of what the target allows to lose.
    """
    wanted = 1.0 if target is None else target
    at = min(bisect.bisect_left(_RECALLS, wanted), len(_RECALLS) - 1)
    return _EPSILONS[at]


def ladder_to_json(ladder: Ladder) -> dict[str, Any]:
    """Return the ladder as plain values."""
    names = ("ks", "targets", "shares", "lists", "least", "enough", "visits")
    return {"gamma": ladder.gamma, **{n: getattr(ladder, n).tolist() for n in names}}


def ladder_from_json(values: Mapping[str, Any]) -> Ladder:
    """Return the ladder that `ladder_to_json` described."""
    return Ladder(
        ks=np.array(values["ks"], np.int64),
        targets=np.array(values["targets"]),
        shares=np.array(values["shares"]),
        lists=np.array(values["lists"]),
        least=np.array(values["least"]),
        enough=np.array(values["enough"]),
        visits=np.array(values["visits"]),
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
    if nlist <= 1 or count < 2:
        none = np.zeros((len(KS), len(TARGETS), 1))
        return _ladder(np.zeros(1), (none, none, none, none))
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
    passed = np.array([size[visits] for size in listed], np.float32)
    scanned = np.bincount(row_lists, minlength=nlist)[visits].astype(np.float64)
    steps = steps_to(nlist)
    seen = [Seen(shares, s, passed[s], scanned, steps) for s in range(len(shares))]
    far = None
    if metric is not Metric.IP:
        far = Far(rows, queries, nearest, centroids, visits, steps, metric)
    tables = fit(Found(row_lists, nearest, visits, steps), seen, far)
    return _ladder(*_extended(np.log(shares), tables, count, nlist))


def _ladder(log_shares: Doubles, tables: Tables) -> Ladder:
    lists, least, enough, visits = tables
    return Ladder(
        ks=np.array(KS, np.int64),
        targets=np.array(TARGETS),
        shares=log_shares,
        lists=lists,
        least=least,
        enough=enough,
        visits=visits,
        gamma=GAMMA,
    )


def _extended(shares: Doubles, tables: Tables, count: int, nlist: int) -> tuple[Doubles, Tables]:
    """Continue the ladder as it rises, from the least calibrated share down to one row."""
    one = -np.log(count)
    if len(shares) < 2 or one >= shares[0]:
        return shares, tables
    more = (shares[0] - one) / (shares[1] - shares[0])

    def on(table: Doubles, most: float = np.inf) -> Doubles:
        first, second = table[:, :, 0], table[:, :, 1]
        change = np.maximum(first - second, 0.0) if most < np.inf else np.minimum(first - second, 0)
        end = np.clip(first + more * change, 0.0, most)
        end = np.maximum.accumulate(end, axis=1)
        return np.ascontiguousarray(np.concatenate([end[:, :, None], table], axis=2))

    lists, least, enough, visits = tables
    most = float(np.log(nlist))
    return np.append(one, shares), (on(lists, most), on(least), on(enough), on(visits, most))


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
