"""A coded scan of several parts of one generation, in one call or one call after the other."""

from dataclasses import dataclass

import numpy as np
import pytest

from hybridq.index.codes import encode_part, frame_of
from hybridq.kernels import addressed, coded, scan
from hybridq.kernels.distance import COSINE, IP, L2
from hybridq.kernels.tables import PATTERNS
from hybridq.nodes import Metric
from hybridq.progress import NoProgress
from tests.kernels import naive
from tests.kernels.cases import some_buckets

DIM, NLIST = 12, 70
SURE = 1e6
"""Deviations at which no code is ever believed."""


@dataclass
class Piece:
    """A part: its arrays, and which list a row is in."""

    vectors: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    alive: np.ndarray
    tie: np.ndarray
    arrays: tuple


def pieces_of(metric, sizes, seed):
    """Parts of these sizes, and a query; every fourth row is one of a few vectors."""
    rng = np.random.default_rng([seed, metric])
    centroids = (3 * rng.standard_normal((NLIST, DIM))).astype(np.float32)
    if metric == COSINE:
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    frame = frame_of(centroids, Metric(metric))
    made = []
    for n in sizes:
        labels = np.sort(rng.integers(0, NLIST, n)).astype(np.int32)
        rows = (centroids[labels] + rng.standard_normal((n, DIM))).astype(np.float32)
        rows[::4] = np.float32(2.0) * np.eye(DIM, dtype=np.float32)[labels[::4] % 5]
        keys = rng.integers(0, 10, (1, n))
        alive = (rng.random(n) < 0.9).astype(np.uint8)
        tie = rng.permutation(n)
        c = encode_part([rows], labels, frame, Metric(metric), NoProgress())
        arrays = (
            *(rows, np.searchsorted(labels, np.arange(NLIST + 1)).astype(np.int64)),
            *(np.full(NLIST, np.inf, np.float32), centroids, c.centre, c.signs),
            *(c.list_codes, c.list_factors, c.codes, c.factors, c.fine, c.fine_factors),
            *(keys, naive.no_zones(keys), naive.no_zones(keys), *some_buckets(keys), tie),
        )
        made.append(Piece(rows, labels, keys, alive, tie, arrays))
    query = (centroids[3] + rng.standard_normal(DIM)).astype(np.float32)
    return made, query


class Run:
    """A query over parts that are scanned one, or all, at a time."""

    def __init__(self, metric, pieces, query, k, min_lists, most_keys):
        self.metric, self.query, self.k, self.min_lists = metric, query, k, min_lists
        self.table = np.stack([addressed.located(p.arrays) for p in pieces])
        self.programs = [
            (naive.words(p.alive), *naive.program_arrays([(0, [(0, most)])], len(p.vectors)))
            for p, most in zip(pieces, most_keys, strict=True)
        ]
        for i, arrays in enumerate(self.programs):
            addressed.place_program(self.table, i, *arrays)
            self.table[i, addressed.PLACE, :2] = i, i * k
        size = self.table[0, addressed.SIGNS, 2]
        self.order = np.zeros(NLIST + 2, np.int64)
        self.state = (
            np.empty(size + DIM + 1 + NLIST, np.float32),
            np.empty((size // 4, PATTERNS), np.uint8),
        )
        self.distance = np.empty(len(pieces) * k, np.float32)
        self.position = np.empty(len(pieces) * k, np.int64)
        self.runs = np.full((2, len(pieces)), -1)
        self.near = np.empty(k, np.float32)
        self.counters = np.zeros(scan.COUNTERS, np.int64)

    def __call__(self, parts, filled):
        ladder = (np.empty(0),) * 3
        return coded.probe_coded(
            *(self.metric, self.query, self.table[parts], np.inf, False, *ladder, 0.0, 0.0, 0.5),
            *(1.0, self.min_lists, NLIST, SURE, self.k, filled, self.order, *self.state),
            *(self.distance, self.position, self.runs, self.near, self.counters),
        )

    def found(self, part):
        run = slice(*self.runs[:, part].tolist())
        return self.distance[run], self.position[run]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("metric", [L2, COSINE, IP])
@pytest.mark.parametrize("sizes", [(901,), (900, 77), (600, 0, 301, 64, 5), (3, 500, 40)])
@pytest.mark.parametrize("k", [1, 8, 50])
def test_later_parts_are_scanned_in_the_lists_of_the_first(sizes, metric, k, together):
    for seed, min_lists in ((0, 3), (1, 12), (2, NLIST)):
        pieces, query = pieces_of(metric, sizes, seed)
        most_keys = [9 - i for i in range(len(sizes))]
        run = Run(metric, pieces, query, k, min_lists, most_keys)
        total = 0
        if together:
            total = run(slice(None), 0)
        else:
            for i in range(len(sizes)):
                total += run(slice(i, i + 1), min(k, total))
        given = run.order[: run.order[-1]]
        assert (given >= 0).all()
        if len(given):
            assert min_lists <= len(given) <= NLIST
        near = np.empty(0, np.float32)
        for i, (piece, most) in enumerate(zip(pieces, most_keys, strict=True)):
            distance = naive.distances(metric, query, piece.vectors)
            good = naive.passes(piece.keys, [(0, [(0, most)])]) & (piece.alive == 1)
            if len(given):
                good &= np.isin(piece.labels, given)
            if len(near) >= k:
                good &= distance <= near[k - 1]
            most_rows = min(k, len(piece.vectors))
            expected = naive.top(distance, piece.tie, np.flatnonzero(good), most_rows)
            assert run.found(i)[1].tolist() == expected.tolist()
            assert run.found(i)[0].tolist() == distance[expected].tolist()
            near = np.sort(np.concatenate([near, distance[expected]]))
        assert total == len(near)
        assert run.near[: min(k, total)].tolist() == near[:k].tolist()


def test_more_rows_than_there_is_room_for_are_looked_at_again():
    sizes, k = (4_000, 2_500, 3_000), 5
    pieces, query = pieces_of(L2, sizes, 7)
    run = Run(L2, pieces, query, k, NLIST, (9, 9, 9))
    total = run(slice(None), 0)
    near = np.empty(0, np.float32)
    for i, piece in enumerate(pieces):
        distance = naive.distances(L2, query, piece.vectors)
        good = piece.alive == 1
        if i:
            good &= distance <= near[k - 1]
        expected = naive.top(distance, piece.tie, np.flatnonzero(good), k)
        assert run.found(i)[1].tolist() == expected.tolist()
        near = np.sort(np.concatenate([near, distance[expected]]))
    assert total == len(near)
    assert run.counters[scan.ROWS_EXAMINED] == sum(sizes)


def test_a_query_whose_scores_overflow_is_refused():
    pieces, _ = pieces_of(L2, (60, 60), 0)
    run = Run(L2, pieces, np.full(DIM, 1e25, np.float32), 3, 2, (9, 9))
    assert run(slice(None), 0) == -1
