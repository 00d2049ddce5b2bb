"""Top-k over coded inverted lists, with the predicate inside the scan.

A row meets four sieves, each reading more of it than the last: the mask of its attributes (64
rows at a time), its sign bits (64 rows at a time), its four-bit code, its vector. The codes give
a score with a deviation that is known (see `rabitq`); a row falls out where score - epsilon
deviations exceeds `tau`, the k-th smallest score + epsilon deviations so far. Which rows fall out
wrongly is a matter of epsilon, and part of the recall; the distances of the rows that stay are
those of `distance`, to the bit.

Vectors are read once the lists are done: first of the rows that are surely among the k nearest,
then of those that still may be.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import BLOCK
from hybridq.kernels._jit import (
    boolean,
    entry,
    f32,
    f64,
    i64,
    in_f32,
    in_f32_2d,
    in_f32_3d,
    in_f64,
    in_i64,
    in_i64_2d,
    in_i64_3d,
    in_u8_2d,
    in_u8_3d,
    in_u16_2d,
    in_u64,
    out_f32,
    out_f64,
    out_i64,
    out_u8_2d,
)
from hybridq.kernels.buckets import SPAN_FIELDS, fill_spans, span_count
from hybridq.kernels.distance import COSINE, IP, fast_dot, fast_squared_l2, squared_norm
from hybridq.kernels.lists import SAMPLE, score_centroids
from hybridq.kernels.predicate import INTERVALS, MAX_DEPTH
from hybridq.kernels.rabitq import LARGEST_SCORE, turn_one
from hybridq.kernels.rerank import RUN, read_vectors, score_of
from hybridq.kernels.sieve import DONE, FULL, sieve_lists
from hybridq.kernels.tables import MIDDLE, split_query

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]
Uint16s = npt.NDArray[np.uint16]
Uint64s = npt.NDArray[np.uint64]

_CHUNK_LISTS = 32
"""Lists, at least, that are put in order at a time."""

_IN_ORDER = 4
"""So many times the lists that are expected to be visited are put in order first."""

_FOUND = 1024
"""Rows, at least, that there is room for while they may be among the k nearest."""


@entry(
    *(i64, in_f32, in_f32_2d, in_i64, in_f32),
    *(in_f32_2d, in_f32, in_f32_2d, in_u8_3d, in_f32_3d),
    *(in_u8_3d, in_f32_3d, in_u8_2d, in_f32_2d),
    *(in_i64_2d, in_i64_3d, in_i64_3d, in_u64, in_i64_2d, in_i64, in_i64, in_u64),
    *(in_u16_2d, in_i64_3d, in_i64),
    *(f32, boolean, in_f64, in_f64, in_f64, f64, f64, f64, f64, i64, i64, f64),
    *(i64, i64, out_i64, out_f32, out_u8_2d, out_f32, out_f64),
    *(out_f32, out_i64, out_i64, out_i64),
    returns=i64,
    checked=False,
)
def probe_coded(
    metric: int,
    query: Float32s,
    vectors: Float32s,
    list_offsets: Int64s,
    list_radius: Float32s,
    centroids: Float32s,
    centre: Float32s,
    signs: Float32s,
    list_codes: Uint8s,
    list_factors: Float32s,
    codes: Uint8s,
    factors: Float32s,
    fine: Uint8s,
    fine_factors: Float32s,
    keys: Int64s,
    zones: Int64s,
    list_zones: Int64s,
    alive: Uint64s,
    ops: Int64s,
    low: Int64s,
    high: Int64s,
    bits: Uint64s,
    numbers: Uint16s,
    bounds: Int64s,
    tie: Int64s,
    radius: float,
    radius_inclusive: bool,
    ladder_share: Float64s,
    ladder_lists: Float64s,
    ladder_least: Float64s,
    enough: float,
    expected: float,
    gamma: float,
    global_share: float,
    min_lists: int,
    max_lists: int,
    epsilon: float,
    k: int,
    given: int,
    order: Int64s,
    turned: Float32s,
    tables: Uint8s,
    unit: Float32s,
    step_of: Float64s,
    out_distance: Float32s,
    out_tie: Int64s,
    out_position: Int64s,
    counters: Int64s,
) -> int:
    """Find about the k nearest live, passing rows; return how many, -1 if codes cannot serve.

    Rows leave as from `scan.probe`, and so do the arguments of the same names; those of the codes
    are in `rabitq`. Lists are visited nearest first and the scan stops as there, a row counting
    as found once its score is known. At least k rows are returned if k rows pass the lists that
    were visited and `radius` is infinite.

    Parameters
    ----------
    list_radius, list_zones
        (nlist,): for L2, how far a row of the list may lie from its centroid; and the zones of
        lists (A, nlist, FIELDS), see `zones`, or (A, 0, FIELDS).
    ladder_least, enough
        How far a scan comes is the score of the next list over the k-th score. It does not stop by
        the ladder before it has come as far as `ladder_least` (as long as the ladder) says for the
        share so far. Where so few of the rows in the nearest lists pass that they tell nothing of
        where passing rows are, it stops when it has come as far as `enough`; with 0, all lists are
        visited that may hold some.
    expected
        Lists that scans visit on average. Several times as many are put in order at once, by their
        distance: which are the nearest is only known roughly before.
    max_lists
        With fewer than nlist, another way to the answer is known, that costs as much as to scan so
        many lists. The scan gives up as soon as it would have to look everywhere, or at more.
    epsilon
        Deviations by which sign bits and four-bit codes may be wrong.
    given, order
        Parts that share their lists are scanned one after the other. For the first, `given` is 0
        and the lists are left in `order` (nlist + 1,), as many as were visited, one that the zones
        ruled out as ~list; the last entry is 1 if all lists were to be visited that may hold a
        row. For the others the first `given` entries are visited, all of them and nothing else.
    turned, tables, unit, step_of
        (D,), (D / 4, PATTERNS), (d,), (1,): the query as the codes and as the centroids compare it,
        left there for the parts that follow.

    Notes
    -----
    -1 is returned for a query whose scores overflow float32, GAVE_UP where the scan gave up.
    """
    if k <= 0:
        return 0
    dim = query.shape[0]
    size = signs.shape[1]
    nlist = centroids.shape[0]
    query_square = squared_norm(query)
    offset = np.float64(0.0)
    if given == 0:
        length = 1.0
        if metric == COSINE:
            length = np.sqrt(query_square)
        # -- the query, rotated, as floats and as tables of sums
        as_table = query.reshape(1, dim)
        turn_one(as_table, 0, length, centre, signs, turned)
        step_of[0] = split_query(turned, tables)
        for j in range(dim):
            unit[j] = np.float32(np.float64(query[j]) / length)
            if metric == IP:
                offset -= np.float64(unit[j]) * np.float64(centre[j])
            else:
                difference = np.float64(unit[j]) - np.float64(centre[j])
                offset += difference * difference
        if not abs(offset) < LARGEST_SCORE:
            return -1
    step = step_of[0]
    middle = step * MIDDLE * size
    # -- scratch
    sums = np.empty(BLOCK, np.uint16)
    scores = np.empty(BLOCK, np.float32)
    mask_scratch = np.empty(BLOCK, np.int64)
    stack = np.empty(MAX_DEPTH, np.uint64)
    spans = np.empty((span_count(bounds, low), SPAN_FIELDS), np.int64)
    fill_spans(bounds, ops, INTERVALS, low, high, spans)
    rows = np.empty(RUN + BLOCK, np.int64)
    exact_bounds = np.empty(RUN + BLOCK, np.float64)
    four_rows = np.empty(4, np.int64)
    four_values = np.empty(4, np.float32)
    upper_bounds = np.empty(k, np.float32)
    largest = score_of(metric, np.float64(radius)) if radius < np.inf else np.inf
    # -- the coarse step: all centroids by their sign bits, the best of them exactly
    rough = np.empty(list_codes.shape[0] * BLOCK, np.float32)
    taken = np.zeros(nlist, np.uint8)
    order_score = np.empty(nlist, np.float32)
    if given == 0:
        score_centroids(list_codes, list_factors, tables, middle, -step, offset, sums, rough)
    for i in range(given):
        if order[i] < 0:
            order[i] = ~order[i]
        if metric == IP:
            dot, _ = fast_dot(unit, centroids, order[i])
            order_score[i] = np.float32(-dot)
        else:
            order_score[i] = np.float32(fast_squared_l2(unit, centroids, order[i]))
        if not order_score[i] < np.inf:
            order_score[i] = np.float32(np.inf)
    chunk = max(_CHUNK_LISTS, _IN_ORDER * min_lists, int(min(_IN_ORDER * expected, 1.0 * nlist)))
    if nlist <= BLOCK:
        chunk = nlist
    spare = np.empty(2 * SAMPLE, np.float32)
    sets = np.empty(ops.shape[0], np.int64)
    before = counters.copy()
    capacity = max(_FOUND, 4 * k)
    while True:
        found_rows = np.empty(capacity, np.int64)
        found_low = np.empty(capacity, np.float32)
        found_high = np.empty(capacity, np.float32)
        status, found, sure = sieve_lists(
            metric,
            vectors.shape[0],
            list_offsets,
            list_radius,
            centroids,
            codes,
            factors,
            fine,
            fine_factors,
            keys,
            zones,
            list_zones,
            alive,
            ops,
            low,
            high,
            bits,
            numbers,
            spans,
            ladder_share,
            ladder_lists,
            ladder_least,
            enough,
            gamma,
            global_share,
            min_lists,
            max_lists,
            epsilon,
            k,
            unit,
            turned,
            tables,
            step,
            largest,
            chunk,
            rough,
            taken,
            order,
            order_score,
            spare,
            given,
            sets,
            sums,
            scores,
            mask_scratch,
            stack,
            rows,
            upper_bounds,
            found_rows,
            found_low,
            found_high,
            counters,
        )
        if status != FULL:
            break
        # Seldom: more rows than expected are as near as the k-th.
        capacity *= 4
        for i in range(before.shape[0]):
            counters[i] = before[i]
        for i in range(nlist):
            taken[i] = 0
    if status != DONE:
        return status
    return read_vectors(
        metric,
        query,
        query_square,
        vectors,
        found_rows,
        found_low,
        found_high,
        found,
        sure,
        exact_bounds,
        four_rows,
        four_values,
        rows,
        tie,
        radius,
        radius_inclusive,
        k,
        out_distance,
        out_tie,
        out_position,
        counters,
    )
