"""Sign bits met by a query's tables, against NumPy."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.kernels import tables
from hybridq.kernels._jit import (
    entry,
    i64,
    in_f32,
    in_f32_3d,
    in_u8_2d,
    in_u8_3d,
    out_f32,
    out_f64,
    out_u8_2d,
    out_u16,
)
from tests.kernels.cases import FAST

SIZES = st.sampled_from([64, 128, 192, 1024, 2048, 2112, 8192])


@entry(in_f32, out_u8_2d, out_f64)
def _split(turned, out, step):
    step[0] = tables.split_query(turned, out)


@entry(in_u8_3d, i64, i64, i64, in_u8_2d, out_u16)
def _sums(codes, block, first, stop, found, out):
    tables.pattern_sums(codes, block, first, stop, found, out)


@entry(in_u8_3d, in_f32_3d, i64, in_u8_2d, in_f32, out_u16, out_f32)
def _scores(codes, factors, block, found, numbers, sums, out):
    offset, shift, slope = numbers[0], numbers[1], numbers[2]
    tables.block_scores(codes, factors, block, found, offset, shift, slope, sums, out, 0)


def levels_of(query):
    step = np.abs(query).max() / np.float32(15.5)
    return (
        np.clip(np.floor(query / step + 16), 0, 31).astype(int) if step else np.full(len(query), 16)
    )


def split(query):
    found, step = np.empty((len(query) // 4, 16), np.uint8), np.empty(1)
    _split(query, found, step)
    return found, step[0]


def bits_of(codes):
    """The bits (blocks * 64, D) of codes (blocks, D / 8, 64)."""
    return np.unpackbits(codes.transpose(0, 2, 1), axis=2, bitorder="little").reshape(
        -1, 8 * codes.shape[1]
    )


@FAST
@given(seed=st.integers(0, 1000), size=st.sampled_from([64, 128, 1024]))
def test_tables_hold_the_sums_of_every_pattern(seed, size):
    query = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    found, step = split(query)
    levels = levels_of(query)
    assert np.abs(step * (levels - 15.5) - query).max() <= 0.51 * step
    for pattern in range(16):
        bit = np.array([pattern >> i & 1 for i in range(4)])
        parts = np.where(bit, 31 - levels.reshape(-1, 4), levels.reshape(-1, 4))
        assert (found[:, pattern] == parts.sum(axis=1)).all()


def test_a_query_of_zeros():
    found, step = split(np.zeros(64, np.float32))
    assert step == 0
    assert found[:, 0].tolist() == [64] * 16


@FAST
@given(seed=st.integers(0, 1000), size=SIZES)
def test_sums_are_those_of_the_plain_definition(seed, size):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (2, size // 8, 64)).astype(np.uint8)
    found, _ = split(rng.standard_normal(size).astype(np.float32))
    last = min(size // 8, 256)
    for block, first, stop in ((0, 0, last), (1, 0, last), (1, 3, 5), (0, 2, 2)):
        out, plain = np.empty(64, np.uint16), np.empty(64, np.uint16)
        _sums(codes, block, first, stop, found, out)
        tables.pattern_sums(codes, block, first, stop, found, plain)
        assert (out == plain).all()


@pytest.mark.parametrize("extreme", [0, 255])
def test_the_largest_sums_fit(extreme):
    codes = np.full((1, 256, 64), extreme, np.uint8)
    query = np.full(2048, 1.0 if extreme == 0 else -1.0, np.float32)
    found, _ = split(query)
    out = np.empty(64, np.uint16)
    _sums(codes, 0, 0, 256, found, out)
    assert (out == 31 * 2048).all()


@FAST
@given(seed=st.integers(0, 1000), size=SIZES)
def test_scores(seed, size):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (2, size // 8, 64)).astype(np.uint8)
    factors = rng.standard_normal((2, 2, 64)).astype(np.float32)
    query = rng.standard_normal(size).astype(np.float32)
    found, step = split(query)
    levels = levels_of(query)
    signs = 2.0 * bits_of(codes) - 1
    numbers = np.array([3.0, 15.5 * size * step, -step], np.float32)
    for block in range(2):
        out, sums = np.empty(64, np.float32), np.empty(64, np.uint16)
        _scores(codes, factors, block, found, numbers, sums, out)
        product = signs[64 * block : 64 * block + 64] @ (step * (levels - 15.5))
        expected = 3.0 + factors[block, 0] + factors[block, 1] * product
        np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3 * size**0.5)
