"""The nearest rows of nested subsets, against NumPy."""

import itertools

import numpy as np
import pytest

from hybridq.kernels.subsets import nearest_of_subsets

QUERIES, SUBSETS = 5, 3


@pytest.mark.parametrize("k", [1, 4, 300])
@pytest.mark.parametrize("pieces", [1, 3])
def test_against_numpy(k, pieces):
    chosen = np.random.default_rng(k)
    count = 200
    # Few values, so that many are equal; some are no numbers.
    scores = chosen.integers(0, 40, (QUERIES, count)).astype(np.float32)
    scores[chosen.random(scores.shape) < 0.05] = np.nan
    scores[chosen.random(scores.shape) < 0.05] = np.inf
    scores[chosen.random(scores.shape) < 0.05] = -np.inf
    level = chosen.integers(0, SUBSETS, count).astype(np.uint8)
    distances = np.full((QUERIES, SUBSETS, k), np.inf, np.float32)
    rows = np.full((QUERIES, SUBSETS, k), -1, np.int64)
    filled = np.zeros((QUERIES, SUBSETS), np.int64)
    edges = np.linspace(0, count, pieces + 1).astype(int)
    for first, end in itertools.pairwise(edges):
        piece = np.ascontiguousarray(scores[:, first:end])
        for start, stop in ((0, 2), (2, QUERIES)):
            args = piece, level[first:end], start, stop, int(first)
            nearest_of_subsets(*args, distances, rows, filled)
    for q in range(QUERIES):
        for s in range(SUBSETS):
            usable = np.flatnonzero(np.isfinite(scores[q]) & (level <= s))
            expected = usable[np.lexsort((usable, scores[q, usable]))][:k]
            n = filled[q, s]
            assert n == len(expected)
            assert sorted(rows[q, s, :n]) == sorted(expected)
            assert (distances[q, s, :n] == scores[q, rows[q, s, :n]]).all()
