from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.kernels import scan
from hybridq.kernels.distance import COSINE, IP, L2
from tests.kernels import naive
from tests.kernels.cases import FAST, Table, programs, some_buckets, tables, vectors

METRICS = st.sampled_from([L2, COSINE, IP])
NO_LADDER = np.empty(0)
ALL_LISTS = (NO_LADDER, NO_LADDER, 0.5, 1.0, 1 << 40)


@dataclass
class Result:
    filled: int
    distance: np.ndarray
    tie: np.ndarray
    position: np.ndarray
    counters: np.ndarray


def run_probe(
    metric, table, k, *, program=(), lower=None, radius=np.inf, inclusive=False, rule=ALL_LISTS
):
    if lower is None:
        lower = np.full(len(table.order), -np.inf, np.float32)
    distance, tie, position, counters = outputs(k)
    filled = scan.probe(
        metric,
        table.query,
        table.vectors,
        table.offsets,
        table.order,
        lower,
        table.keys,
        naive.no_zones(table.keys),
        naive.words(table.alive),
        *naive.program_arrays(list(program), table.n),
        *some_buckets(table.keys),
        table.tie,
        radius,
        inclusive,
        *rule,
        k,
        distance,
        tie,
        position,
        counters,
    )
    return Result(filled, distance[:filled], tie[:filled], position[:filled], counters)


def run_gather(metric, table, positions, k, *, radius=np.inf, inclusive=False):
    distance, tie, position, counters = outputs(k)
    filled = scan.gather(
        metric,
        table.query,
        table.vectors,
        positions,
        table.tie,
        radius,
        inclusive,
        k,
        distance,
        tie,
        position,
        counters,
    )
    return Result(filled, distance[:filled], tie[:filled], position[:filled], counters)


def outputs(k):
    return (
        np.full(k, 7, np.float32),
        np.full(k, 7, np.int64),
        np.full(k, 7, np.int64),
        np.zeros(scan.COUNTERS, np.int64),
    )


def check(result, expected, distance, tie):
    """The rows `expected`, in that order, with their distances to the bit."""
    assert result.position.tolist() == expected.tolist()
    assert result.tie.tolist() == tie[expected].tolist()
    np.testing.assert_array_equal(result.distance, distance[expected])
    assert result.distance.dtype == np.float32


@st.composite
def radii(draw, distance):
    """No radius, one beside or exactly at a row's distance, or one that excludes all."""
    known = [float(value) for value in distance[:20] if not np.isnan(value)]
    return draw(st.sampled_from([np.inf, np.inf, -np.inf, 0.0, *known]))


@FAST
@given(st.data(), METRICS)
def test_all_lists_are_brute_force(data, metric):
    table = data.draw(tables())
    program = data.draw(programs(len(table.keys)))
    k = data.draw(st.sampled_from([1, 2, 10, 500]))
    distance = naive.distances(metric, table.query, table.vectors)
    radius = data.draw(radii(distance))
    inclusive = data.draw(st.booleans())

    passing = naive.passes(table.keys, program) & (table.alive != 0)
    good = passing & naive.in_radius(distance, radius, inclusive)
    expected = naive.top(distance, table.tie, np.flatnonzero(good), k)
    result = run_probe(metric, table, k, program=program, radius=radius, inclusive=inclusive)
    check(result, expected, distance, table.tie)
    visited, examined, blocks, skipped, fast, exact, passed, bounded = result.counters[:8]
    assert visited == table.nlist
    assert bounded == 0
    assert examined == table.n
    assert passed == passing.sum()
    assert passed >= fast >= exact >= len(expected)
    assert blocks == sum(-(-size // 64) for size in np.diff(table.offsets))
    assert skipped <= blocks

    positions = table.rng.permutation(np.flatnonzero(passing))
    result = run_gather(metric, table, positions, k, radius=radius, inclusive=inclusive)
    check(result, expected, distance, table.tie)
    assert result.counters[scan.ROWS_PASSING] == passed


@FAST
@given(tables(max_rows=80), METRICS)
def test_no_row_is_lost_at_its_own_distance(table, metric):
    """The sharpest radius for each row: the float32 bound must let it through."""
    distance = naive.distances(metric, table.query, table.vectors)
    for row in range(0, table.n, 7):
        if np.isnan(distance[row]):
            continue
        radius = float(distance[row])
        result = run_gather(metric, table, np.array([row]), 1, radius=radius, inclusive=True)
        assert result.position.tolist() == [row]
        result = run_gather(metric, table, np.array([row]), 1, radius=radius)
        assert result.filled == (radius == np.inf)


@pytest.mark.parametrize("metric", [L2, COSINE, IP])
@pytest.mark.parametrize("d", [1, 3, 100, 1000])
@pytest.mark.parametrize("scale", [1e-25, 1e-6, 1.0, 1e6, 1e18, 1e25])
def test_nearest_among_near_ties(metric, d, scale):
    """Rows whose distances differ in the last bits only, at any magnitude."""
    rng = np.random.default_rng(d)
    query = rng.standard_normal(d)
    rows = query + rng.integers(-3, 4, (200, d)) * 1e-7
    with np.errstate(all="ignore"):
        query, rows = (query * scale).astype(np.float32), (rows * scale).astype(np.float32)
    table = plain_table(query, rows)
    distance = naive.distances(metric, query, rows)
    expected = naive.top(distance, table.tie, np.flatnonzero(~np.isnan(distance)), 10)
    check(run_probe(metric, table, 10), expected, distance, table.tie)


def plain_table(query, rows, sizes=None):
    sizes = [len(rows)] if sizes is None else sizes
    return Table(
        query=query,
        vectors=rows,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        order=np.arange(len(sizes)),
        keys=np.empty((0, len(rows)), np.int64),
        alive=np.ones(len(rows), np.uint8),
        tie=np.arange(len(rows))[::-1].copy(),
        rng=np.random.default_rng(0),
    )


@FAST
@given(st.data(), METRICS)
def test_lower_bounds_never_change_the_answer(data, metric):
    table = data.draw(tables())
    k = data.draw(st.sampled_from([1, 5, 50]))
    distance = naive.distances(metric, table.query, table.vectors)
    radius = data.draw(radii(distance))
    inclusive = data.draw(st.booleans())
    lower = np.full(table.nlist, -np.inf, np.float32)
    for i, list_ in enumerate(table.order):
        rows = distance[table.offsets[list_] : table.offsets[list_ + 1]]
        rows = rows[~np.isnan(rows)]
        lower[i] = rows.min() if len(rows) else np.inf
    arguments = {"radius": radius, "inclusive": inclusive}
    free = run_probe(metric, table, k, **arguments)
    bounded = run_probe(metric, table, k, lower=lower, **arguments)
    check(bounded, free.position, distance, table.tie)
    skipped = int((lower > radius).sum())
    assert bounded.counters[scan.LISTS_SKIPPED] >= skipped
    assert bounded.counters[scan.ROWS_EXAMINED] <= free.counters[scan.ROWS_EXAMINED]
    assert bounded.counters[scan.LISTS_VISITED] == table.nlist


@FAST
@given(st.data(), METRICS)
def test_the_stopping_rule(data, metric):
    table = data.draw(tables(kinds=("normal", "grid", "odd")))
    program = data.draw(programs(len(table.keys)))
    k = data.draw(st.sampled_from([1, 3, 20]))
    steps = data.draw(st.integers(0, 3))
    ladder_share = np.log(np.sort(table.rng.random(steps)) + np.arange(steps) * 0.3 + 1e-3)
    ladder_lists = np.log(table.rng.integers(1, 7, steps).astype(np.float64))
    gamma = data.draw(st.sampled_from([0.0, 0.5, 0.9]))
    global_share = data.draw(st.sampled_from([0.0, 0.01, 0.5, 1.0]))
    min_lists = data.draw(st.integers(0, 7))
    rule = (ladder_share, ladder_lists, gamma, global_share, min_lists)

    distance = naive.distances(metric, table.query, table.vectors)
    passing = naive.passes(table.keys, program) & (table.alive != 0)
    radius = data.draw(radii(distance))
    good = passing & naive.in_radius(distance, radius, False)
    lower = np.full(table.nlist, -np.inf, np.float32)
    expected, visited = naive.probe(
        distance, good, passing, table.offsets, table.order, lower, table.tie, rule, radius, k
    )
    result = run_probe(metric, table, k, program=program, radius=radius, rule=rule)
    check(result, expected, distance, table.tie)
    assert result.counters[scan.LISTS_VISITED] == visited


def staircase():
    """Ten lists of 20 rows at distances 0.00, 0.01, …: list i holds 0.2 i … 0.2 i + 0.19."""
    rows = (np.arange(200, dtype=np.float32) / 100).reshape(-1, 1)
    return plain_table(np.zeros(1, np.float32), rows, [20] * 10)


def visited(**rule):
    defaults = {
        "ladder_share": NO_LADDER,
        "ladder_lists": NO_LADDER,
        "gamma": 0.5,
        "global_share": 1.0,
        "min_lists": 0,
    }
    k = rule.pop("k", 5)
    table = staircase()
    table.alive[rule.pop("dead", slice(0, 0))] = 0
    result = run_probe(L2, table, k, rule=tuple((defaults | rule).values()))
    return int(result.counters[scan.LISTS_VISITED])


def test_without_a_ladder_min_lists_decides():
    assert visited() == 1
    assert visited(min_lists=4) == 4
    assert visited(min_lists=100) == 10


def test_a_heap_that_is_not_full_goes_on():
    assert visited(k=41) == 3
    assert visited(k=41, min_lists=5) == 5
    assert visited(k=1000) == 10


def test_the_ladder_is_interpolated_and_clamped():
    ladder = {
        "ladder_share": np.log([0.01, 1.0]),
        "ladder_lists": np.log([8.0, 2.0]),
    }
    assert visited(**ladder) == 2
    assert visited(**ladder, min_lists=3) == 3
    # half of the rows pass: exp(log 2 + log 4 * log .5 / log .01) = 2.46
    assert visited(**ladder, dead=slice(0, 200, 2), gamma=0.0) == 3
    # the share found is half of the table's: 2.46 * 2 ** 1 = 4.9
    assert visited(**ladder, dead=slice(0, 200, 2), gamma=1.0) == 5
    # nothing passes in the first three lists: shares below the ladder need its 8 lists
    ladder["ladder_share"] = np.log([0.9, 1.0])
    assert visited(**ladder, dead=slice(0, 60), gamma=0.0) == 8


def test_skipped_lists_count_as_visited_and_not_as_scanned():
    table = staircase()
    lower = np.arange(10, dtype=np.float32) / 5
    result = run_probe(L2, table, 5, lower=lower)
    assert result.counters[:8].tolist() == [10, 20, 1, 0, 20, result.counters[5], 20, 9]
    result = run_probe(L2, table, 1000, lower=lower, radius=0.5)
    assert result.filled == 50
    assert result.counters[scan.LISTS_SKIPPED] == 7


def test_counters_are_added_to():
    table = staircase()
    distance, tie, position, counters = outputs(5)
    once = run_gather(L2, table, np.arange(200), 5).counters
    for _ in range(3):
        scan.gather(
            L2, table.query, table.vectors, np.arange(200), table.tie, np.inf, False, 5,
            distance, tie, position, counters,
        )  # fmt: skip
    assert counters.tolist() == (3 * once).tolist()


def test_nothing_to_find():
    table = staircase()
    assert run_probe(L2, table, 0).filled == 0
    assert run_gather(L2, table, np.arange(200), 0).filled == 0
    assert run_gather(L2, table, np.empty(0, np.int64), 5).filled == 0
    table.alive[:] = 0
    result = run_probe(L2, table, 5)
    assert result.filled == 0
    assert result.counters[scan.BLOCKS_SKIPPED] == result.counters[scan.BLOCKS] == 10
    table.order = np.empty(0, np.int64)
    assert run_probe(L2, table, 5).filled == 0


def test_read_only_arrays():
    table = staircase()
    expected = run_probe(L2, table, 7)
    for array in (table.query, table.vectors, table.offsets, table.keys, table.alive, table.tie):
        array.flags.writeable = False
    result = run_probe(L2, table, 7)
    assert result.position.tolist() == expected.position.tolist()


def test_the_float32_sieve_saves_work():
    query, rows = vectors("normal", 5000, 16, np.random.default_rng(0))
    result = run_probe(L2, plain_table(query, rows), 10)
    assert result.counters[scan.FAST_DISTANCES] == 5000
    assert result.counters[scan.EXACT_DISTANCES] < 250
