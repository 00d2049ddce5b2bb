import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.kernels import predicate
from tests.kernels import naive
from tests.kernels.cases import FAST, INT64, NULL, programs, tables


@FAST
@given(st.data())
def test_selects_and_counts_what_passes(data):
    table = data.draw(tables())
    program = data.draw(programs(len(table.keys)))
    begin = data.draw(st.integers(0, table.n))
    end = data.draw(st.integers(begin, table.n))
    passing = naive.passes(table.keys, program)
    arrays = naive.program_arrays(program)

    out = np.empty(end - begin, np.int64)
    found = predicate.select_passing(table.keys, begin, end, table.alive, *arrays, out)
    expected = np.flatnonzero(passing & (table.alive != 0))
    assert out[:found].tolist() == expected[(expected >= begin) & (expected < end)].tolist()

    positions = table.rng.integers(0, table.n, 50) if table.n else np.empty(0, np.int64)
    count = predicate.count_passing(table.keys, positions, *arrays)
    assert count == passing[positions].sum()


@pytest.mark.parametrize("intervals", range(12))
def test_every_number_of_intervals(intervals):
    keys = np.arange(-5, 130).reshape(1, -1)
    n = keys.shape[1]
    program = [(0, [(10 * i, 10 * i + 3) for i in range(intervals)])]
    out = np.empty(n, np.int64)
    found = predicate.select_passing(
        keys, 0, n, np.ones(n, np.uint8), *naive.program_arrays(program), out
    )
    assert found == 4 * intervals
    assert keys[0, out[:found]].tolist() == [10 * i + j for i in range(intervals) for j in range(4)]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((NULL, NULL), [0]),
        ((NULL + 1, INT64.max), [1, 2, 3]),
        ((NULL, INT64.max), [0, 1, 2, 3]),
        ((INT64.max, INT64.max), [3]),
        ((NULL + 1, NULL + 1), [1]),
    ],
)
def test_extreme_keys(interval, expected):
    keys = np.array([[NULL, NULL + 1, 0, INT64.max]])
    arrays = naive.program_arrays([(0, [interval])])
    out = np.empty(4, np.int64)
    found = predicate.select_passing(keys, 0, 4, np.ones(4, np.uint8), *arrays, out)
    assert out[:found].tolist() == expected
    assert predicate.count_passing(keys, np.arange(4), *arrays) == len(expected)


def test_any_non_zero_byte_is_alive():
    keys = np.empty((0, 4), np.int64)
    out = np.empty(4, np.int64)
    alive = np.array([0, 1, 2, 255], np.uint8)
    found = predicate.select_passing(keys, 0, 4, alive, *naive.program_arrays([]), out)
    assert out[:found].tolist() == [1, 2, 3]


@pytest.mark.parametrize("intervals", [5, 33, 100, 1000])
@pytest.mark.parametrize("alive_share", [1.0, 0.1])
def test_long_lists_of_values(intervals, alive_share):
    """Enough intervals to be searched, for all rows of a block or for each that is left."""
    rng = np.random.default_rng(intervals)
    n = 500
    keys = rng.integers(-50, 4 * intervals, (1, n))
    alive = (rng.random(n) < alive_share).astype(np.uint8)
    program = [(0, [(4 * i, 4 * i + i % 3) for i in range(intervals)])]
    out = np.empty(n, np.int64)
    found = predicate.select_passing(keys, 0, n, alive, *naive.program_arrays(program), out)
    assert (
        out[:found].tolist() == np.flatnonzero(naive.passes(keys, program) & (alive > 0)).tolist()
    )
