"""The transform against the matrix that defines it, in a part of an array."""

import numpy as np
import pytest

from hybridq.kernels import hadamard
from hybridq.kernels._jit import entry, i64, out_f32


@entry(out_f32, i64, i64)
def transformed(x, start, size):
    hadamard.transform(x, start, size)


def matrix(size):
    found = np.ones((1, 1))
    while len(found) < size:
        found = np.block([[found, found], [found, -found]])
    return found


@pytest.mark.parametrize("size", [16, 32, 64, 128, 1024])
@pytest.mark.parametrize("start", [0, 1, 64])
def test_a_transform_is_the_product_with_its_matrix(size, start):
    x = np.random.default_rng(size).integers(-50, 50, start + size + 3).astype(np.float32)
    expected = x.copy()
    expected[start : start + size] = matrix(size) @ x[start : start + size]
    transformed(x, start, size)
    assert np.array_equal(x, expected)


def test_infinities_and_nan_reach_the_components_that_they_reach_in_a_sum():
    x = np.zeros(32, np.float32)
    x[5] = np.inf
    transformed(x, 0, 32)
    assert np.array_equal(np.abs(x), np.full(32, np.inf))
    x[3] = np.nan
    transformed(x, 0, 32)
    assert np.isnan(x).all()
