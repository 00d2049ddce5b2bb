"""Hits of several parts as one list."""

import numpy as np
import pytest

from hybridq.kernels.merging import keep_nearest, merge_sorted
from tests.kernels.calls import from_python


@pytest.mark.parametrize("seed", range(40))
def test_merge_sorted(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 9, rng.integers(1, 6))
    values = 5 if seed % 2 else 1_000_000  # few values: ties
    runs = [np.sort(rng.integers(0, values, n)).astype(np.float32) for n in sizes]
    distance = np.concatenate(runs)
    position = rng.permutation(len(distance))
    ends = np.cumsum(sizes)
    count = int(rng.integers(0, len(distance) + 1))
    near, part = np.empty(count, np.float32), np.empty(count, np.int64)
    at = np.empty(count, np.int64)
    bounds = np.array([ends - sizes, ends], np.int64)
    tied = merge_sorted(distance, position, bounds, count, near, part, at)
    order = np.argsort(distance, kind="stable")
    first = distance[order[: count + 1]]
    assert tied == int(count > 0 and (first[1:] == first[:-1]).any())
    if not tied:
        assert near.tolist() == first[:count].tolist()
        assert at.tolist() == position[order[:count]].tolist()
        assert part.tolist() == np.searchsorted(ends, order[:count], "right").tolist()


@pytest.mark.parametrize("seed", range(40))
def test_keep_nearest(seed):
    call = from_python(keep_nearest)
    rng = np.random.default_rng(seed)
    k, start = rng.integers(1, 12), rng.integers(0, 3)
    filled, count = rng.integers(0, k + 1), rng.integers(0, 15)
    values = 5 if seed % 2 else 1_000_000
    near = rng.integers(0, values, k).astype(np.float32)
    distance = rng.integers(0, values, start + count + 2).astype(np.float32)
    near[:filled].sort()
    distance[start : start + count].sort()
    expected = np.sort(np.concatenate([near[:filled], distance[start : start + count]]))[:k]
    kept = call(near, filled, distance, start, start + count)
    assert kept == len(expected)
    assert near[:kept].tolist() == expected.tolist()
