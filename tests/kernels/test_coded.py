import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.index.codes import encode_part, frame_of
from hybridq.kernels import addressed, coded, scan, sieve, zones
from hybridq.kernels import tables as tables_of_sums
from hybridq.kernels.distance import COSINE, IP, L2
from hybridq.nodes import Metric
from hybridq.progress import NoProgress
from tests.kernels import naive
from tests.kernels.cases import FAST, NULL, Table, programs, some_buckets, tables, trees
from tests.kernels.test_scan import Result, check, outputs

METRICS = st.sampled_from([L2, COSINE, IP])
NO_LADDER = np.empty(0)
NO_RULE = (NO_LADDER, NO_LADDER, NO_LADDER, 0.0)
SURE = 1e6
"""Deviations at which no code is ever believed."""


def prepared(metric, table):
    """Centroids of the table's lists, its codes and radii; None if a row cannot be coded."""
    rows = table.vectors
    if metric == COSINE and (~rows.any(axis=1)).any():
        return None
    labels = np.repeat(np.arange(table.nlist), np.diff(table.offsets)).astype(np.int32)
    centroids = np.zeros((table.nlist, rows.shape[1]), np.float32)
    radius = np.full(table.nlist, np.inf, np.float32)
    for c in range(table.nlist):
        members = rows[labels == c].astype(np.float64)
        if not len(members):
            continue
        if metric == COSINE:
            members = members / np.linalg.norm(members, axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            centroids[c] = members.mean(axis=0)
            away = np.linalg.norm(members - centroids[c].astype(np.float64), axis=1)
            if metric == L2 and np.isfinite(away).all():
                radius[c] = np.nextafter(np.float32(away.max()), np.float32(np.inf))
    with np.errstate(all="ignore"):
        frame = frame_of(centroids, Metric(metric))
        codes = encode_part([rows], labels, frame, Metric(metric), NoProgress())
    return centroids, codes, radius


def run(
    metric,
    table,
    prepared,
    k,
    *,
    program=(),
    radius=np.inf,
    min_lists=None,
    max_lists=None,
    epsilon=SURE,
    groups=None,
    rule=NO_RULE,
):
    centroids, codes, list_radius = prepared
    distance, tie, position, counters = outputs(k)
    zones_of_blocks, zones_of_lists = groups or (naive.no_zones(table.keys),) * 2
    program_arrays = naive.program_arrays(list(program), table.n)
    kept = (
        *(table.vectors, table.offsets, list_radius, centroids),
        *(codes.centre, codes.signs, codes.list_codes, codes.list_factors),
        *(codes.codes, codes.factors, codes.fine, codes.fine_factors),
        *(table.keys, zones_of_blocks, zones_of_lists, *some_buckets(table.keys), table.tie),
    )
    parts = addressed.located(kept)[None]
    alive = naive.words(table.alive)
    addressed.place_program(parts, 0, alive, *program_arrays)
    size, nlist = codes.signs.shape[1], len(centroids)
    filled = coded.probe_coded(
        metric,
        table.query,
        parts,
        radius,
        False,
        *rule,
        0.0,
        0.5,
        1.0,
        len(table.offsets) if min_lists is None else min_lists,
        len(table.offsets) if max_lists is None else max_lists,
        epsilon,
        k,
        0,
        np.zeros(nlist + 2, np.int64),
        np.empty(size + len(table.query) + 1 + nlist, np.float32),
        np.empty((size // 4, tables_of_sums.PATTERNS), np.uint8),
        distance,
        position,
        np.empty((2, 1), np.int64),
        np.empty(k, np.float32),
        counters,
    )
    tie[: max(filled, 0)] = table.tie[position[: max(filled, 0)]]
    end = max(filled, 0)
    return Result(filled, distance[:end], tie[:end], position[:end], counters)


def zones_of(table):
    """Zones of the table's blocks and of its lists."""
    blocks = np.append(np.arange(0, table.n, 64), table.n)
    found = []
    for offsets in (blocks, table.offsets):
        out = np.empty((len(table.keys), len(offsets) - 1, zones.FIELDS), np.int64)
        zones.fill_zones(table.keys, offsets, out)
        found.append(out)
    return found


CODABLE = ("normal", "grid", "close", "tiny", "mixed", "huge")


@FAST
@given(st.data(), METRICS)
def test_all_lists_without_trust_in_codes_are_exact(data, metric):
    table = data.draw(tables(kinds=CODABLE))
    ready = prepared(metric, table)
    if ready is None or (metric == COSINE and not table.query.any()):
        return
    # Codes of a column with a dictionary: from 0 on, or NULL.
    table.keys = np.minimum(table.keys, 63)
    table.keys[(table.keys < 0) & (table.keys > NULL)] += 21
    program = data.draw(trees(len(table.keys), table.n))
    k = data.draw(st.sampled_from([1, 3, 10, 400]))
    groups = data.draw(st.sampled_from([None, zones_of(table)]))
    result = run(metric, table, ready, k, program=program, groups=groups)
    if result.filled < 0:  # scores overflow: the caller scans vectors
        return
    distance = naive.distances(metric, table.query, table.vectors)
    good = naive.passes(table.keys, program) & (table.alive == 1) & ~np.isnan(distance)
    check(result, naive.top(distance, table.tie, np.flatnonzero(good), k), distance, table.tie)


@FAST
@given(st.data(), METRICS)
def test_what_leaves_is_right_however_codes_err(data, metric):
    table = data.draw(tables(kinds=("normal", "grid", "close")))
    ready = prepared(metric, table)
    if ready is None or (metric == COSINE and not table.query.any()):
        return
    program = data.draw(programs(len(table.keys)))
    k = data.draw(st.sampled_from([1, 10]))
    lists = data.draw(st.integers(1, 6))
    result = run(metric, table, ready, k, program=program, min_lists=lists, epsilon=0.3)
    distance = naive.distances(metric, table.query, table.vectors)
    passing = naive.passes(table.keys, program) & (table.alive == 1)
    assert passing[result.position].all()
    np.testing.assert_array_equal(result.distance, distance[result.position])
    order = np.lexsort((result.tie, result.distance))
    assert order.tolist() == list(range(len(order)))
    assert len(set(result.position.tolist())) == result.filled
    assert result.filled == min(k, int(passing.sum()))


@FAST
@given(st.data())
def test_a_radius_keeps_only_nearer_rows(data):
    table = data.draw(tables(kinds=("normal", "grid")))
    ready = prepared(L2, table)
    distance = naive.distances(L2, table.query, table.vectors)
    radius = float(data.draw(st.sampled_from([*distance.tolist(), 0.0, 1.0, -1.0])))
    result = run(L2, table, ready, 10, radius=radius)
    good = naive.in_radius(distance, radius, False) & (table.alive == 1)
    check(result, naive.top(distance, table.tie, np.flatnonzero(good), 10), distance, table.tie)


@pytest.mark.parametrize("metric", [L2, COSINE, IP])
def test_codes_find_nearly_all_of_the_nearest(metric):
    rng = np.random.default_rng(3)
    n, d, k = 2_000, 64, 10
    centroids = rng.standard_normal((8, d)).astype(np.float32)
    labels = np.sort(rng.integers(0, 8, n)).astype(np.int32)
    rows = (centroids[labels] + 0.4 * rng.standard_normal((n, d))).astype(np.float32)
    if metric == COSINE:
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    frame = frame_of(centroids, Metric(metric))
    codes = encode_part([rows], labels, frame, Metric(metric), NoProgress())
    ready = (centroids, codes, np.full(8, np.inf, np.float32))
    offsets = np.searchsorted(labels, np.arange(9)).astype(np.int64)
    found = 0
    read = 0
    for seed in range(30):
        query = rows[rng.integers(n)] + 0.3 * rng.standard_normal(d)
        table = _plain_table(query.astype(np.float32), rows, offsets)
        result = run(metric, table, ready, k, epsilon=2.0)
        distance = naive.distances(metric, table.query, rows)
        best = naive.top(distance, table.tie, np.arange(n), k)
        found += len(set(result.position.tolist()) & set(best.tolist()))
        read += int(result.counters[scan.FAST_DISTANCES])
        assert seed >= 0
    assert found >= 0.97 * 30 * k
    assert read < 30 * 60  # of 2,000 rows each


def test_a_query_whose_scores_overflow_is_refused():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((100, 4)).astype(np.float32)
    table = _plain_table(np.full(4, 1e25, np.float32), rows, np.array([0, 50, 100]))
    assert run(L2, table, prepared(L2, table), 3).filled == -1


def test_lists_beyond_the_first_chunk_are_visited():
    rng = np.random.default_rng(1)
    nlist, d = 300, 8
    centroids = (10 * rng.standard_normal((nlist, d))).astype(np.float32)
    labels = np.repeat(np.arange(nlist), 2).astype(np.int32)
    rows = (centroids[labels] + 0.1 * rng.standard_normal((2 * nlist, d))).astype(np.float32)
    codes = encode_part([rows], labels, frame_of(centroids, Metric.L2), Metric.L2, NoProgress())
    ready = (centroids, codes, np.full(nlist, np.inf, np.float32))
    table = _plain_table(rows[7].copy(), rows, np.arange(0, 2 * nlist + 1, 2))
    result = run(L2, table, ready, 10, min_lists=nlist)
    assert result.counters[scan.LISTS_VISITED] == nlist
    distance = naive.distances(L2, table.query, rows)
    check(result, naive.top(distance, table.tie, np.arange(len(rows)), 10), distance, table.tie)


def _far_rows(spread):
    """Forty lists of ten rows, where a program passes those of the farther twenty."""
    rng = np.random.default_rng(2)
    nlist, d, each = 40, 8, 10
    centroids = (10 * rng.standard_normal((nlist, d))).astype(np.float32)
    labels = np.repeat(np.arange(nlist), each).astype(np.int32)
    rows = centroids[labels] + spread * rng.standard_normal((nlist * each, d))
    rows = rows.astype(np.float32)
    codes = encode_part([rows], labels, frame_of(centroids, Metric.L2), Metric.L2, NoProgress())
    ready = (centroids, codes, np.full(nlist, np.inf, np.float32))
    table = _plain_table(rows[7].copy(), rows, np.arange(0, nlist * each + 1, each))
    away = np.sort(np.linalg.norm(centroids - table.query, axis=1))
    far = np.linalg.norm(centroids - table.query, axis=1) >= away[20]
    table.keys = far[labels].astype(np.int64)[None, :]
    return table, ready, [(0, [(1, 1)])], away


def test_a_scan_does_not_stop_before_it_has_come_far_enough():
    table, ready, _, away = _far_rows(3.0)
    one_list = np.array([-1.0, 0.0]), np.zeros(2)
    visited = []
    for least in (0.0, 1.0, 1.5, 3.0):
        rule = (*one_list, np.full(2, least), 0.0)
        result = run(L2, table, ready, 15, rule=rule, min_lists=1, epsilon=3.5)
        visited.append(int(result.counters[scan.LISTS_VISITED]))
        distance = naive.distances(L2, table.query, table.vectors)
        kth = np.sort(distance)[14]
        if visited[-1] < len(away):
            assert away[visited[-1]] ** 2 >= least * kth**2
        before = away[visited[-1] - 1]
        if visited[-1] > visited[0]:
            # No farther than it must, up to what codes leave uncertain of the k-th distance.
            assert before**2 <= 2.0 * least * kth**2
    assert visited == sorted(visited)
    assert visited[0] == 2 < visited[-1]


def test_where_rows_pass_elsewhere_the_distance_says_when_to_stop():
    table, ready, elsewhere, _ = _far_rows(0.1)
    ladder = np.array([-1.0, 0.0]), np.zeros(2), np.zeros(2)
    distance = naive.distances(L2, table.query, table.vectors)
    passing = np.flatnonzero(table.keys[0])
    expected = naive.top(distance, table.tie, passing, 3)
    for enough, all_lists in ((1.2, False), (0.0, True)):
        rule = (*ladder, enough)
        how = {"program": elsewhere, "rule": rule, "min_lists": 1, "epsilon": 3.5}
        result = run(L2, table, ready, 3, **how)
        check(result, expected, distance, table.tie)
        visited = result.counters[scan.LISTS_VISITED]
        assert (visited == 40) if all_lists else (20 < visited < 40)
        # Nor is it given up before it has looked at more lists than the other way would cost.
        found = run(L2, table, ready, 3, **how, max_lists=35).filled
        assert found == (sieve.GAVE_UP if all_lists else 3)


def test_a_scan_gives_up_where_rows_pass_elsewhere():
    table, ready, elsewhere, _ = _far_rows(0.1)
    assert run(L2, table, ready, 3, program=elsewhere, max_lists=30).filled == sieve.GAVE_UP
    assert run(L2, table, ready, 3, program=elsewhere).filled == 3
    # All rows pass, but more lists would be visited than the other way would cost.
    result = run(L2, table, ready, 3, max_lists=10)
    assert result.filled == sieve.GAVE_UP
    assert result.counters[scan.LISTS_VISITED] == 11
    assert run(L2, table, ready, 3, min_lists=5, max_lists=10).filled == 3


def _plain_table(query, rows, offsets):

    n = len(rows)
    return Table(
        query=query,
        vectors=rows,
        offsets=np.asarray(offsets, np.int64),
        order=np.arange(len(offsets) - 1),
        keys=np.zeros((0, n), np.int64),
        alive=np.ones(n, np.uint8),
        tie=np.arange(n),
        rng=np.random.default_rng(0),
    )
