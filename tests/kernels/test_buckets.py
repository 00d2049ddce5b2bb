import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.kernels import buckets
from tests.kernels.cases import FAST, INT64, NULL


def made(keys, most):
    return buckets.make_buckets(keys, np.argsort(keys, axis=1, kind="stable"), most)


@FAST
@given(
    st.lists(st.integers(-9, 9) | st.sampled_from([NULL, NULL + 1, INT64.max]), max_size=200),
    st.sampled_from([3, 4, 7, 4096]),
)
def test_buckets_ascend_as_keys_do_and_are_tight(values, most):
    keys = np.array([values], np.int64).reshape(1, -1)
    numbers, bounds = made(keys, most)
    own = numbers[0, : len(values)].astype(int)
    assert numbers.shape[1] >= len(values) + 64
    assert bounds.shape[2] <= most
    for bucket in set(own.tolist()):
        inside = keys[0, own == bucket]
        assert bounds[0, :, bucket].tolist() == [inside.min(), inside.max()]
    used = bounds[0, :, : len(set(own.tolist()))]
    assert (used[0] <= used[1]).all()
    assert (used[1, :-1] < used[0, 1:]).all()


def test_null_has_a_bucket_of_its_own():
    keys = np.array([[NULL, *range(100)]])
    numbers, bounds = made(keys, 5)
    assert (numbers[0, :101] == 0).sum() == 1
    assert bounds[0, :, 0].tolist() == [NULL, NULL]


@pytest.mark.parametrize("values", [1, 3, 4000])
def test_few_values_have_a_bucket_each(values):
    keys = np.repeat(np.arange(values), 3)[None] * 1_000_003
    numbers, bounds = made(keys, buckets.MOST)
    assert len(np.unique(numbers[0, : keys.shape[1]])) == values
    assert (bounds[0, 0, :values] == bounds[0, 1, :values]).all()


def test_buckets_are_about_even():
    keys = np.random.default_rng(0).integers(0, 10**9, (1, 100_000))
    numbers, _ = made(keys, 100)
    counts = np.bincount(numbers[0, :100_000])
    assert len(counts) == 100
    assert counts[2:].max() < 2_000
