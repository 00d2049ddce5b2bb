import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.kernels import buckets, predicate, select
from tests.kernels import naive
from tests.kernels.calls import from_python
from tests.kernels.cases import FAST, INT64, NULL, programs, tables, trees

block_word = from_python(predicate.block_word)


def few_buckets(keys):
    return buckets.make_buckets(keys, np.argsort(keys, axis=1, kind="stable"), 5)


def many_buckets(keys):
    return buckets.make_buckets(keys, np.argsort(keys, axis=1, kind="stable"))


def selected(keys, arrays, alive=None, begin=0, end=None, zones=None, in_buckets=naive.no_buckets):
    n = keys.shape[1]
    end = n if end is None else end
    alive = np.ones(n, np.uint8) if alive is None else alive
    zones = naive.no_zones(keys) if zones is None else zones
    out = np.empty(end - begin, np.int64)
    found = select.select_passing(
        keys, zones, begin, end, naive.words(alive), *arrays, *in_buckets(keys), out
    )
    return out[:found].tolist()


def check(table, program, arrays, data):
    begin = data.draw(st.integers(0, table.n))
    end = data.draw(st.integers(begin, table.n))
    passing = naive.passes(table.keys, program)
    expected = np.flatnonzero(passing & (table.alive != 0))
    expected = expected[(expected >= begin) & (expected < end)].tolist()
    for zones in (naive.zones(table.keys), naive.no_zones(table.keys)):
        for how in (naive.no_buckets, few_buckets, many_buckets):
            found = selected(table.keys, arrays, table.alive, begin, end, zones, how)
            assert found == expected

    positions = table.rng.integers(0, table.n, 50) if table.n else np.empty(0, np.int64)
    count = select.count_passing(table.keys, positions, *arrays)
    assert count == passing[positions].sum()
    out = np.empty(len(positions), np.int64)
    found = select.filter_positions(table.keys, positions, *arrays, out)
    assert out[:found].tolist() == positions[passing[positions]].tolist()


@FAST
@given(st.data())
def test_selects_and_counts_what_passes(data):
    table = data.draw(tables())
    program = data.draw(programs(len(table.keys)))
    check(table, program, naive.program_arrays(program), data)


@FAST
@given(st.data(), st.booleans(), st.booleans())
def test_trees(data, skips, clustered):
    table = data.draw(tables())
    table.keys = np.minimum(table.keys, 63)
    if clustered:  # whole blocks within a few keys, which zones decide
        table.keys.sort(axis=1)
    table.keys[(table.keys < 0) & (table.keys > NULL)] += 21
    program = data.draw(trees(len(table.keys), table.n))
    check(table, program, naive.program_arrays(program, table.n, skips=skips), data)


@FAST
@given(st.data(), st.sampled_from([62, 63, 64, 200]))
def test_sets_of_codes_of_every_size(data, codes):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    keys = rng.integers(0, codes, (1, 200))
    keys[rng.random((1, 200)) < 0.2] = NULL
    members = data.draw(st.sets(st.integers(-1, codes - 1)))
    alive = (rng.random(200) < data.draw(st.sampled_from([1.0, 0.1]))).astype(np.uint8)
    program = [("bits", 0, members)]
    expected = np.flatnonzero(naive.passes(keys, program) & (alive > 0)).tolist()
    for zones in (naive.zones(keys), naive.no_zones(keys)):
        arrays = naive.program_arrays(program, codes=codes)
        assert selected(keys, arrays, alive, zones=zones) == expected


@pytest.mark.parametrize("count", [1, 63, 64])
def test_a_word_covers_the_rows_asked_for(count):
    rng = np.random.default_rng(count)
    keys = rng.integers(0, 9, (1, 192))
    program = [("or", [(0, [(0, 3)]), ("rows", set(range(0, 192, 5)))])]
    passing = naive.passes(keys, program)
    ops, low, high, bits = naive.program_arrays(program, 192)
    for first in (0, 64, 128, 7, 100):
        if first + count <= 192:
            word = block_word(
                keys,
                naive.zones(keys),
                first,
                count,
                naive.words(np.ones(192)),
                ops,
                low,
                high,
                bits,
                np.empty((1, 0), np.uint16),
                np.empty((0, 3), np.int64),
                np.empty(2, np.uint64),
                np.empty(64, np.int64),
            )
            found = [v for v in range(64) if int(word) >> v & 1]
            assert found == np.flatnonzero(passing[first : first + count]).tolist()


@pytest.mark.parametrize("intervals", range(12))
def test_every_number_of_intervals(intervals):
    keys = np.arange(-5, 130).reshape(1, -1)
    program = [(0, [(10 * i, 10 * i + 3) for i in range(intervals)])]
    found = selected(keys, naive.program_arrays(program))
    assert keys[0, found].tolist() == [10 * i + j for i in range(intervals) for j in range(4)]


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
    assert selected(keys, arrays) == expected
    assert select.count_passing(keys, np.arange(4), *arrays) == len(expected)


@pytest.mark.parametrize("intervals", [5, 33, 100, 1000])
@pytest.mark.parametrize("alive_share", [1.0, 0.1])
@pytest.mark.parametrize("zones", [naive.zones, naive.no_zones])
@pytest.mark.parametrize("how", [naive.no_buckets, few_buckets, many_buckets])
def test_long_lists_of_values(intervals, alive_share, zones, how):
    """Enough intervals to be searched, for all rows of a block or for each that is left."""
    rng = np.random.default_rng(intervals)
    n = 500
    keys = rng.integers(-50, 4 * intervals, (1, n))
    alive = (rng.random(n) < alive_share).astype(np.uint8)
    program = [(0, [(4 * i, 4 * i + i % 3) for i in range(intervals)])]
    found = selected(keys, naive.program_arrays(program), alive, zones=zones(keys), in_buckets=how)
    assert found == np.flatnonzero(naive.passes(keys, program) & (alive > 0)).tolist()


def test_the_deepest_program():
    program = [(0, [(1, 1)])]
    for i in range(predicate.MAX_DEPTH - 1):
        program = [("and" if i % 2 else "or", [(0, [(i % 3, 5)]), *program])]
    keys = np.arange(100).reshape(1, -1) % 7
    expected = np.flatnonzero(naive.passes(keys, program)).tolist()
    assert selected(keys, naive.program_arrays(program)) == expected
