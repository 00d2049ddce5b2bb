"""Hits of several parts as one list."""

import numpy as np
import pytest

from hybridq.kernels.merging import merge_sorted


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
