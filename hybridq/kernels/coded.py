"""Top-k over coded inverted lists, with the predicate inside the scan.

A row meets four sieves, each reading more of it than the last: the mask of its attributes (64
rows at a time), its sign bits (64 rows at a time), its four-bit code, its vector. The codes give
a score with a deviation that is known (see `rabitq`); a row falls out where score - epsilon
deviations exceeds `tau`, the k-th smallest score + epsilon deviations so far. Which rows fall out
wrongly is a matter of epsilon, and part of the recall; the distances of the rows that stay are
those of `distance`, to the bit.

Vectors are read once the lists are done: first of the rows that are surely among the k nearest,
then of those that still may be.

One call scans parts of one generation, which share their centroids, one after the other.
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
    in_f64,
    in_i64_3d,
    out_f32,
    out_i64,
    out_i64_2d,
    out_u8_2d,
)
from hybridq.kernels.addressed import (
    ALIVE,
    BITS,
    BUCKET_BOUNDS,
    BUCKETS,
    BYTES_2D,
    BYTES_3D,
    CENTRE,
    CENTROIDS,
    CODES,
    FACTORS,
    FINE,
    FINE_FACTORS,
    FLOATS,
    FLOATS_2D,
    FLOATS_3D,
    HIGH,
    INTEGERS,
    INTEGERS_2D,
    INTEGERS_3D,
    KEYS,
    LIST_CODES,
    LIST_FACTORS,
    LIST_OFFSETS,
    LIST_RADIUS,
    LIST_ZONES,
    LOW,
    NUMBERS_2D,
    OPS,
    PLACE,
    SIGNS,
    TIE,
    VECTORS,
    WORDS,
    ZONES,
    array_at,
)
from hybridq.kernels.aiming import aim_query, open_all
from hybridq.kernels.buckets import SPAN_FIELDS, fill_spans, span_count
from hybridq.kernels.distance import squared_norm
from hybridq.kernels.lists import SAMPLE, score_centroids
from hybridq.kernels.merging import keep_nearest
from hybridq.kernels.predicate import INTERVALS, MAX_DEPTH
from hybridq.kernels.rabitq import LARGEST_SCORE
from hybridq.kernels.rerank import RUN, read_vectors, score_of
from hybridq.kernels.scan import COUNTERS, LISTS_VISITED
from hybridq.kernels.sieve import DONE, FULL, sieve_lists
from hybridq.kernels.tables import MIDDLE

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]

_CHUNK_LISTS = 32
"""Lists, at least, that are put in order at a time."""

_IN_ORDER = 4
"""So many times the lists that are expected to be visited are put in order first."""

_FOUND = 1024
"""Rows, at least, that there is room for while they may be among the k nearest."""


@entry(
    *(i64, in_f32, in_i64_3d, f32, boolean),
    *(in_f64, in_f64, in_f64, f64, f64, f64, f64, i64, i64, f64),
    *(i64, i64, out_i64, out_f32, out_u8_2d),
    *(out_f32, out_i64, out_i64_2d, out_f32, out_i64),
    returns=i64,
    checked=False,
)
def probe_coded(
    metric: int,
    query: Float32s,
    parts: Int64s,
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
    filled: int,
    order: Int64s,
    aimed: Float32s,
    tables: Uint8s,
    out_distance: Float32s,
    out_position: Int64s,
    runs: Int64s,
    near: Float32s,
    counters: Int64s,
) -> int:
    """Find about the k nearest live, passing rows of each part; return how many in all.

    -1 if codes cannot serve. Rows leave as from `scan.probe`, and so do the arguments of the same
    names; those of the codes are in `rabitq`. Lists are visited nearest first and the scan stops as
    there, a row counting as found once its score is known. At least k rows are returned if k rows
    pass the lists that were visited and `radius` is infinite. Once k rows were found, those that
    are farther than the k-th are left alone.

    Parameters
    ----------
    parts
        (parts, ARRAYS, 4): where their arrays are, see `addressed`. `list_radius`, `list_zones`:
        (nlist,) for L2, how far a row of the list may lie from its centroid; and the zones of
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
    order, aimed, tables
        (nlist + 2,), (D + d + 1 + nlist,), (D / 4, PATTERNS): what one part leaves for those that
        follow, in this call or the next. The lists in `order`, as many as were visited, one that
        the zones ruled out as ~list; then 1 if all lists were to be visited that may hold a row;
        last, how many lists the parts that follow are to visit, all of them and nothing else: 0
        before the first part, and where it visited all. In the others the query as the codes and
        as the centroids compare it, and the scores of the lists.
    out_distance, out_position, runs
        Rows of part i are left from the place on that `parts` tells, sorted; runs (2, parts) is
        where they begin and end.
    near, filled
        (k,): the distances of the nearest rows so far, sorted, and how many there are.

    Notes
    -----
    -1 is returned for a query whose scores overflow float32, GAVE_UP where the scan gave up.
    """
    if k <= 0:
        return 0
    dim = query.shape[0]
    as_table = query.reshape(1, dim)
    query_square = squared_norm(query)
    centroids = array_at(parts, 0, CENTROIDS, FLOATS_2D)
    centre = array_at(parts, 0, CENTRE, FLOATS)
    signs = array_at(parts, 0, SIGNS, FLOATS_2D)
    list_codes = array_at(parts, 0, LIST_CODES, BYTES_3D)
    list_factors = array_at(parts, 0, LIST_FACTORS, FLOATS_3D)
    nlist = centroids.shape[0]
    size = signs.shape[1]
    turned = aimed[:size]
    unit = aimed[size : size + dim]
    list_scores = aimed[size + dim + 1 :]
    # -- scratch
    sums = np.empty(BLOCK, np.uint16)
    scores = np.empty(BLOCK, np.float32)
    mask_scratch = np.empty(BLOCK, np.int64)
    stack = np.empty(MAX_DEPTH, np.uint64)
    rows = np.empty(RUN + BLOCK, np.int64)
    exact_bounds = np.empty(RUN + BLOCK, np.float64)
    four_rows = np.empty(4, np.int64)
    four_values = np.empty(4, np.float32)
    upper_bounds = np.empty(k, np.float32)
    out_tie = np.empty(k, np.int64)
    rough = np.empty(list_codes.shape[0] * BLOCK, np.float32)
    taken = np.empty(nlist, np.uint8)
    spare = np.empty(2 * SAMPLE, np.float32)
    before = np.empty(COUNTERS, np.int64)
    capacity = max(_FOUND, 4 * k)
    found_rows = np.empty(capacity, np.int64)
    found_low = np.empty(capacity, np.float32)
    found_high = np.empty(capacity, np.float32)
    total = 0
    for part in range(parts.shape[0]):
        vectors = array_at(parts, part, VECTORS, FLOATS_2D)
        number = parts[part, PLACE, 0]
        start = parts[part, PLACE, 1]
        runs[0, number] = start
        runs[1, number] = start
        most = min(k, vectors.shape[0])
        if most == 0:
            continue
        reach = radius
        inclusive = radius_inclusive
        if filled == k and near[k - 1] < radius:
            reach = near[k - 1]
            inclusive = True
        largest = score_of(metric, np.float64(reach)) if reach < np.inf else np.inf
        # -- the coarse step: all centroids by their sign bits, the best of them exactly
        given = order[nlist + 1]
        least_lists = min_lists
        most_lists = max_lists
        if given > 0:
            least_lists = nlist
            most_lists = nlist
            open_all(metric, unit, centroids, order, list_scores, given)
        else:
            turn_step, offset = aim_query(
                metric, as_table, query_square, centre, signs, turned, tables, unit
            )
            if not abs(offset) < LARGEST_SCORE:
                return -1
            aimed[size + dim] = turn_step
            middle = turn_step * MIDDLE * size
            score_centroids(
                list_codes, list_factors, tables, middle, -turn_step, offset, sums, rough
            )
        step = np.float64(aimed[size + dim])
        chunk = max(
            _CHUNK_LISTS, _IN_ORDER * least_lists, int(min(_IN_ORDER * expected, 1.0 * nlist))
        )
        if nlist <= BLOCK:
            chunk = nlist
        # -- the predicate
        ops = array_at(parts, part, OPS, INTEGERS_2D)
        low = array_at(parts, part, LOW, INTEGERS)
        high = array_at(parts, part, HIGH, INTEGERS)
        bounds = array_at(parts, part, BUCKET_BOUNDS, INTEGERS_3D)
        spans = np.empty((span_count(bounds, low), SPAN_FIELDS), np.int64)
        fill_spans(bounds, ops, INTERVALS, low, high, spans)
        sets = np.empty(ops.shape[0], np.int64)
        for i in range(COUNTERS):
            before[i] = counters[i]
        while True:
            for i in range(nlist):
                taken[i] = 0
            status, found, sure = sieve_lists(
                metric,
                vectors.shape[0],
                array_at(parts, part, LIST_OFFSETS, INTEGERS),
                array_at(parts, part, LIST_RADIUS, FLOATS),
                centroids,
                array_at(parts, part, CODES, BYTES_3D),
                array_at(parts, part, FACTORS, FLOATS_3D),
                array_at(parts, part, FINE, BYTES_2D),
                array_at(parts, part, FINE_FACTORS, FLOATS_2D),
                array_at(parts, part, KEYS, INTEGERS_2D),
                array_at(parts, part, ZONES, INTEGERS_3D),
                array_at(parts, part, LIST_ZONES, INTEGERS_3D),
                array_at(parts, part, ALIVE, WORDS),
                ops,
                low,
                high,
                array_at(parts, part, BITS, WORDS),
                array_at(parts, part, BUCKETS, NUMBERS_2D),
                spans,
                ladder_share,
                ladder_lists,
                ladder_least,
                enough,
                gamma,
                global_share,
                least_lists,
                most_lists,
                epsilon,
                most,
                unit,
                turned,
                tables,
                step,
                largest,
                chunk,
                rough,
                taken,
                order,
                list_scores,
                spare,
                given,
                sets,
                sums,
                scores,
                mask_scratch,
                stack,
                rows,
                upper_bounds[:most],
                found_rows,
                found_low,
                found_high,
                counters,
            )
            if status != FULL:
                break
            # Seldom: more rows than expected are as near as the k-th.
            capacity *= 4
            found_rows = np.empty(capacity, np.int64)
            found_low = np.empty(capacity, np.float32)
            found_high = np.empty(capacity, np.float32)
            for i in range(COUNTERS):
                counters[i] = before[i]
        if status != DONE:
            return status
        kept = read_vectors(
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
            array_at(parts, part, TIE, INTEGERS),
            reach,
            inclusive,
            most,
            out_distance[start : start + most],
            out_tie[:most],
            out_position[start : start + most],
            counters,
        )
        if given == 0 and order[nlist] == 0:
            order[nlist + 1] = counters[LISTS_VISITED] - before[LISTS_VISITED]
        runs[1, number] = start + kept
        total += kept
        filled = keep_nearest(near, filled, out_distance, start, start + kept)
    return total
