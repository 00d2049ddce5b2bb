import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.kernels import distance
from tests.kernels import naive
from tests.kernels.calls import from_python
from tests.kernels.cases import FAST, KINDS, vectors

_distance = from_python(distance.distance)

METRICS = (distance.L2, distance.COSINE, distance.IP)
SEEDS = st.integers(0, 2**32 - 1)


def same_bits(a, b):
    """Equal, -0.0 apart from 0.0, NaN equal to NaN."""
    np.testing.assert_array_equal(a, b, strict=True)
    np.testing.assert_array_equal(np.signbit(a)[~np.isnan(a)], np.signbit(b)[~np.isnan(b)])


def test_metric_codes_are_fixed():
    assert (distance.L2, distance.COSINE, distance.IP) == (0, 1, 2)


@FAST
@given(
    SEEDS, st.sampled_from(METRICS), st.sampled_from(KINDS), st.integers(0, 40), st.integers(1, 80)
)
def test_distances_are_the_defined_ones_to_the_bit(seed, metric, kind, n, d):
    rng = np.random.default_rng(seed)
    query, rows = vectors(kind, n, d, rng)
    expected = naive.distances(metric, query, rows)
    out = np.full(n, 7, np.float32)
    distance.distances(metric, query, rows, out)
    same_bits(out, expected)
    positions = rng.integers(0, n, 2 * n) if n else np.empty(0, np.int64)
    out = np.full(len(positions), 7, np.float32)
    distance.distances_at(metric, query, rows, positions, out)
    same_bits(out, expected[positions])
    for row in range(min(n, 3)):
        with np.errstate(all="ignore"):
            value = _distance(metric, query, rows, row)
        same_bits(np.float32(value), expected[row])


def test_small_cases():
    query = np.array([3, 4], np.float32)
    rows = np.array([[0, 0], [3, 4], [-3, -4], [np.nan, 0], [np.inf, 0]], np.float32)
    out = np.empty(5, np.float32)
    distance.distances(distance.L2, query, rows, out)
    same_bits(out, np.array([5, 0, 10, np.nan, np.inf], np.float32))
    distance.distances(distance.COSINE, query, rows, out)
    same_bits(out, np.array([np.nan, 0, 2, np.nan, np.nan], np.float32))
    distance.distances(distance.IP, query, rows, out)
    same_bits(out, np.array([-0.0, -25, 25, np.nan, -np.inf], np.float32))


@pytest.mark.parametrize("metric", METRICS)
def test_read_only_and_writable_arrays_are_alike(metric):
    query, rows = vectors("normal", 20, 7, np.random.default_rng(0))
    expected = np.empty(20, np.float32)
    distance.distances(metric, query, rows, expected)
    query.flags.writeable = rows.flags.writeable = False
    out = np.empty(20, np.float32)
    distance.distances(metric=metric, query=query, vectors=rows, out=out)
    same_bits(out, expected)


@FAST
@given(SEEDS, st.sampled_from(METRICS), st.integers(0, 40), st.integers(1, 80))
def test_coarse_is_close_to_the_distance(seed, metric, n, d):
    query, rows = vectors("normal", n, d, np.random.default_rng(seed))
    expected = naive.distances(metric, query, rows)
    out = np.empty(n, np.float32)
    distance.coarse(metric, query, rows, out)
    if metric == distance.L2:
        out = np.sqrt(out)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_coarse_keeps_nan():
    query = np.ones(3, np.float32)
    rows = np.array([[np.nan, 0, 0], [1, 1, 1]], np.float32)
    out = np.empty(2, np.float32)
    for metric in METRICS:
        distance.coarse(metric, query, rows, out)
        assert np.isnan(out[0])
        assert not np.isnan(out[1])
