"""k-means: train the centroids of an index, and assign rows to them.

Assignment is a blocked matrix product, or with hundreds of centroids a search among their codes
(see `nearest`), so its memory is bounded. Rows
go to the centroid nearest in L2, or for COSINE (spherical k-means: unit centroids) to the one
of least angle; a tie goes to the lowest list. IP indexes use L2 lists: rows of a list are then
close in dot product with any query too, and large rows, the likely answers, come together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import entry, in_f32_2d, in_i32, out_f64_2d, out_i64
from hybridq.kernels.distance import COSINE, L2
from hybridq.kernels.nearest import nearest
from hybridq.kernels.rabitq import encode_points, rotation

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]

_SCORES_BYTES = 1 << 23  # one block of row x centroid scores
_SEED_ROUNDS = 8
_CODED_LISTS = 256  # from here on codes are faster
_EPSILON = 2.5
_CHUNK_ROWS = 2_048
_THREADS = os.cpu_count() or 1


def train(
    sample: Float32s,
    nlist: int,
    *,
    metric: int = L2,
    seed: int = 0,
    iterations: int = 10,
    on_iteration: Callable[[int], None] | None = None,
) -> Float32s:
    """Return `nlist` centroids (nlist, d) of `sample` (m, d), float32, by Lloyd's algorithm.

    32 to 64 rows per list are enough; the cost is `iterations` times that of `assign`. The result
    depends on `seed` only. Empty lists are re-seeded from the largest ones; where there are
    fewer distinct rows than lists, centroids repeat. `on_iteration` gets 1, 2, … as they end.
    """
    generator = np.random.default_rng(seed)
    if sample.shape[0] == 0 or nlist == 0:
        return np.zeros((nlist, sample.shape[1]), np.float32)
    rows = _unit_rows(sample) if metric == COSINE else np.ascontiguousarray(sample, np.float32)
    centroids = _seeds(rows, nlist, metric, generator)
    labels = np.empty(len(rows), np.int32)
    sums = np.empty((nlist, rows.shape[1]), np.float64)
    sizes = np.empty(nlist, np.int64)
    for iteration in range(iterations):
        assign(rows, centroids, labels, metric=metric)
        _sum_lists(rows, labels, sums, sizes)
        with np.errstate(over="ignore"):
            centroids = (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
        _reseed_empty(rows, labels, sizes, centroids, generator)
        if metric == COSINE:
            centroids = _unit_rows(centroids)
        if on_iteration is not None:
            on_iteration(iteration + 1)
    return centroids


def assign(vectors: Float32s, centroids: Float32s, out: Int32s, *, metric: int = L2) -> None:
    """Write the list of each row of `vectors` (n, d) into `out` (n,), int32."""
    Lists(centroids, metric).assign(vectors, out)


class Lists:
    """Centroids that rows are assigned to, time and again; their codes are made once."""

    def __init__(self, centroids: Float32s, metric: int = L2) -> None:
        self._centroids = centroids
        self._metric = metric
        self._codes: tuple[Float32s, Float32s, Uint8s, Float32s] | None = None
        if len(centroids) >= _CODED_LISTS:
            with np.errstate(all="ignore"):
                centre = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
            if np.isfinite(centre).all():
                signs = rotation(centroids.shape[1])
                self._codes = centre, signs, *encode_points(centroids, centre, signs)

    def assign(self, vectors: Float32s, out: Int32s) -> None:
        """Write the list of each row of `vectors` (n, d) into `out` (n,), int32."""
        if self._codes is None:
            self._by_products(vectors, out)
            return
        self._by_codes(vectors, out)
        unknown = np.flatnonzero(out < 0)
        if len(unknown):
            labels = np.empty(len(unknown), np.int32)
            self._by_products(vectors[unknown], labels)
            out[unknown] = labels

    def _by_products(self, vectors: Float32s, out: Int32s) -> None:
        scorer = _Scorer(self._centroids, self._metric)
        for first, scores in scorer.blocks(vectors):
            out[first : first + len(scores)] = np.argmax(scores, axis=1)

    def _by_codes(self, vectors: Float32s, out: Int32s) -> None:
        assert self._codes is not None
        codes = self._codes

        def work(first: int) -> None:
            rows = slice(first, first + _CHUNK_ROWS)
            nearest(self._metric, vectors[rows], self._centroids, *codes, _EPSILON, out[rows])

        if len(vectors) <= _CHUNK_ROWS:
            work(0)
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(work, range(0, len(vectors), _CHUNK_ROWS)):
                pass


class _Scorer:
    """Scores rows against centroids: the largest score is the nearest centroid.

    L2: x·c - |c|²/2, COSINE: x·c / |c|; both times a power of two that brings the centroids
    near 1, so that squares of very small or large components neither vanish nor overflow.
    """

    def __init__(self, centroids: Float32s, metric: int) -> None:
        largest = float(np.max(np.abs(centroids), initial=0.0))
        exponent = int(np.frexp(largest)[1]) if np.isfinite(largest) else 0
        scaled = np.ldexp(centroids.astype(np.float64), -exponent)
        squares = np.einsum("ij,ij->i", scaled, scaled)
        self.exponent = exponent
        self.half: Float32s | None = None
        if metric == COSINE:
            scaled /= np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny))[:, None]
        else:
            with np.errstate(over="ignore"):
                self.half = np.ldexp(squares / 2, exponent).astype(np.float32)
        self.columns = np.ascontiguousarray(scaled.T, np.float32)

    def blocks(self, rows: Float32s) -> Iterator[tuple[int, Float32s]]:
        """Yield (first row, scores (block, nlist)); the scores are overwritten by the next."""
        nlist = self.columns.shape[1]
        block = max(64, _SCORES_BYTES // (4 * max(1, nlist)))
        buffer = np.empty((min(block, len(rows)), nlist), np.float32)
        for first in range(0, len(rows), block):
            part = rows[first : first + block]
            scores = buffer[: len(part)]
            with np.errstate(all="ignore"):
                np.matmul(part, self.columns, out=scores)
                if self.half is not None:
                    scores -= self.half
            yield first, scores


def _unit_rows(rows: Float32s) -> Float32s:
    """Return the rows divided by their norms; a zero row stays zero."""
    scale = np.max(np.abs(rows), axis=1, initial=0.0, keepdims=True).astype(np.float64)
    scaled = rows / np.where(scale > 0, scale, 1.0)
    norms = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
    unit: Float32s = (scaled / np.where(norms > 0, norms, 1.0)[:, None]).astype(np.float32)
    return unit


def _seeds(rows: Float32s, nlist: int, metric: int, generator: np.random.Generator) -> Float32s:
    """Choose rows as first centroids: k-means++ in a few rounds of many seeds each.

    Each round draws without replacement, with a row's chance proportional to its squared
    distance from the seeds so far (for COSINE 1 - cosine, half that of unit rows).
    """
    m = len(rows)
    if m <= nlist:
        extra = generator.integers(m, size=nlist - m)
        repeated: Float32s = rows[np.concatenate([np.arange(m), extra])]
        return repeated
    chosen = np.empty(nlist, np.int64)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    nearest = np.full(m, np.inf)
    taken = 0
    for round_ in range(_SEED_ROUNDS):
        stop = nlist * (round_ + 1) // _SEED_ROUNDS
        if stop == taken:
            continue
        weight = np.where(np.isfinite(nearest), nearest, 1.0)
        weight[chosen[:taken]] = 0.0
        arrival = generator.standard_exponential(m) / np.maximum(weight, 1e-300)
        arrival[chosen[:taken]] = np.inf
        fresh = np.argpartition(arrival, stop - taken - 1)[: stop - taken]
        fresh.sort()
        chosen[taken:stop] = fresh
        taken = stop
        scorer = _Scorer(rows[fresh], metric)
        for first, scores in scorer.blocks(rows):
            best = np.max(scores, axis=1).astype(np.float64)
            part = slice(first, first + len(best))
            if metric == COSINE:
                gap = 1.0 - best
            else:
                gap = squares[part] - 2.0 * np.ldexp(best, scorer.exponent)
            np.minimum(nearest[part], np.maximum(gap, 0.0), out=nearest[part])
    seeds: Float32s = rows[chosen]
    return seeds


@entry(in_f32_2d, in_i32, out_f64_2d, out_i64)
def _sum_lists(rows: Float32s, labels: Int32s, sums: Float64s, sizes: Int64s) -> None:
    """Write the sum (nlist, d) and number (nlist,) of the rows of each list, in row order."""
    sums[:] = 0.0
    sizes[:] = 0
    for i in range(rows.shape[0]):
        label = labels[i]
        sizes[label] += 1
        for j in range(rows.shape[1]):
            sums[label, j] += rows[i, j]


def _reseed_empty(
    rows: Float32s,
    labels: Int32s,
    sizes: Int64s,
    centroids: Float32s,
    generator: np.random.Generator,
) -> None:
    """Give each empty list a row of the list that is largest, which then counts as halved."""
    for empty in np.flatnonzero(sizes == 0):
        largest = int(np.argmax(sizes))
        members = np.flatnonzero(labels == largest)
        if len(members) == 0:  # itself seeded just now
            members = np.arange(len(rows))
        centroids[empty] = rows[members[generator.integers(len(members))]]
        sizes[empty] = sizes[largest] // 2
        sizes[largest] -= sizes[empty]
