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

from hybridq.kernels._intrinsics import BLOCK, at_most, lowest_bits, popcount, prefetch
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
    in_u64,
    in_u64_3d,
    out_f32,
    out_i64,
)
from hybridq.kernels.distance import COSINE, IP, L2, fast_squared_l2, squared_norm
from hybridq.kernels.lists import SAMPLE, cut, lists_needed, score_centroids, take_lists
from hybridq.kernels.predicate import MAX_DEPTH, append_rows, block_word
from hybridq.kernels.rabitq import (
    LARGEST_SCORE,
    MIDDLE,
    PLANES,
    SIGN_NOISE,
    block_scores,
    fine_dot,
    split_query,
    turn_one,
)
from hybridq.kernels.rerank import RUN, compact, read_vectors, score_of
from hybridq.kernels.scan import (
    BLOCKS,
    BLOCKS_SKIPPED,
    CODES,
    FINE_CODES,
    LISTS_SKIPPED,
    LISTS_VISITED,
    ROWS_EXAMINED,
    ROWS_PASSING,
)
from hybridq.kernels.topk import push_bound
from hybridq.kernels.zones import fill_sets, may_pass

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]
Uint64s = npt.NDArray[np.uint64]

_FEW = 5
"""Up to this many rows of a block are looked at one by one, without their sign bits."""

_CHUNK_LISTS = 32
"""Lists, at least, that are put in order at a time."""

_ELSEWHERE = 4.0
"""If so many times fewer rows pass than do on the whole, the nearest lists tell nothing of where
the passing rows are: all lists that may hold some are visited."""

_EARLY = 8
"""Lists, at least, that tell whether to give up."""

GAVE_UP = -2

_AHEAD = 8  # rows whose codes are asked for before they are needed


@entry(
    *(i64, in_f32, in_f32_2d, in_i64, in_f32),
    *(in_f32_2d, in_f32, in_f32_2d, in_u64_3d, in_f32_3d),
    *(in_u64_3d, in_f32_3d, in_u8_2d, in_f32_2d),
    *(in_i64_2d, in_i64_3d, in_i64_3d, in_u64, in_i64_2d, in_i64, in_i64, in_u64, in_i64),
    *(f32, boolean, in_f64, in_f64, f64, f64, i64, i64, f64),
    *(i64, out_f32, out_i64, out_i64, out_i64),
    returns=i64,
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
    list_codes: Uint64s,
    list_factors: Float32s,
    codes: Uint64s,
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
    tie: Int64s,
    radius: float,
    radius_inclusive: bool,
    ladder_share: Float64s,
    ladder_lists: Float64s,
    gamma: float,
    global_share: float,
    min_lists: int,
    max_lists: int,
    epsilon: float,
    k: int,
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
    max_lists
        With fewer than nlist, another way to the answer is known, that costs as much as to scan so
        many lists. The scan gives up as soon as it would have to look everywhere, or at more.
    epsilon
        Deviations by which sign bits and four-bit codes may be wrong.

    Notes
    -----
    -1 is returned for a query whose scores overflow float32, GAVE_UP where the scan gave up.
    """
    if k <= 0:
        return 0
    dim = query.shape[0]
    size = signs.shape[1]
    nlist = centroids.shape[0]
    n = vectors.shape[0]
    query_square = squared_norm(query)
    length = 1.0
    if metric == COSINE:
        length = np.sqrt(query_square)
    # -- the query, rotated, as floats and as planes of bits
    turned = np.empty(size, np.float32)
    as_table = query.reshape(1, dim)
    turn_one(as_table, 0, length, centre, signs, turned)
    planes = np.empty((size // 64, PLANES), np.uint64)
    step = split_query(turned, planes)
    turned_sum = np.float64(0.0)
    for j in range(size):
        turned_sum += np.float64(turned[j])
    unit = np.empty(dim, np.float32)
    for j in range(dim):
        unit[j] = np.float32(np.float64(query[j]) / length)
    slope = -step
    middle = step * MIDDLE * size
    rounding = step * step * size / 12.0
    # -- scratch
    differing = np.empty(BLOCK, np.int64)
    scores = np.empty(BLOCK, np.float32)
    mask_scratch = np.empty(BLOCK, np.int64)
    stack = np.empty(MAX_DEPTH, np.uint64)
    rows = np.empty(RUN + BLOCK, np.int64)
    exact_bounds = np.empty(RUN + BLOCK, np.float64)
    four_rows = np.empty(4, np.int64)
    four_values = np.empty(4, np.float32)
    bounds = np.empty(k, np.float32)
    capacity = max(1024, 4 * k)
    found_rows = np.empty(capacity, np.int64)
    found_low = np.empty(capacity, np.float32)
    found_high = np.empty(capacity, np.float32)
    found = 0
    filled = 0
    tau = np.float32(score_of(metric, np.float64(radius)) if radius < np.inf else np.inf)
    # -- the coarse step: all centroids by their sign bits, the best of them exactly
    rough = np.empty(list_codes.shape[0] * BLOCK, np.float32)
    offset = np.float64(0.0)
    for j in range(dim):
        if metric == IP:
            offset -= np.float64(unit[j]) * np.float64(centre[j])
        else:
            difference = np.float64(unit[j]) - np.float64(centre[j])
            offset += difference * difference
    if not abs(offset) < LARGEST_SCORE:
        return -1
    taken = np.zeros(nlist, np.uint8)
    order = np.empty(nlist, np.int64)
    order_score = np.empty(nlist, np.float32)
    score_centroids(list_codes, list_factors, planes, middle, slope, offset, differing, rough)
    chunk = max(_CHUNK_LISTS, 2 * min_lists)
    if ladder_share.shape[0] > 0:
        expected = lists_needed(global_share, ladder_share, ladder_lists, 0.0, global_share)
        chunk = max(chunk, int(min(2.0 * expected, 1.0 * nlist)))
    if nlist <= BLOCK:
        chunk = nlist
    spare = np.empty(2 * SAMPLE, np.float32)
    ready = 0
    at = 0
    scanned = 0
    passed = 0
    sets = np.empty(ops.shape[0], np.int64)
    by_set = fill_sets(ops, low, high, sets) and zones.shape[1] > 0
    by_list = ops.shape[0] > 0 and list_zones.shape[1] > 0
    everywhere = min_lists >= nlist
    last_chunk = False
    visited = 0
    opened = 0
    while True:
        if at == ready:
            if last_chunk:
                break
            last_chunk = 2 * chunk >= nlist
            bound = np.inf if last_chunk else cut(rough, nlist, chunk, spare)
            chunk *= 3
            ready = take_lists(
                metric,
                unit,
                centroids,
                rough,
                bound,
                by_list,
                list_zones,
                ops,
                low,
                high,
                sets,
                taken,
                order,
                order_score,
                at,
                not everywhere,
            )
            continue
        c = order[at]
        list_score = np.float64(order_score[at])
        at += 1
        visited += 1
        passed_over = c < 0
        if passed_over:
            counters[LISTS_SKIPPED] += 1
            c = ~c
        begin = list_offsets[c]
        end = list_offsets[c + 1]
        scanned += end - begin
        if passed_over or begin == end:
            end = begin - begin % BLOCK  # no block
        gap = list_score
        if metric == IP and begin < end:
            gap = np.float64(fast_squared_l2(unit, centroids, c))
        gap = np.sqrt(max(gap, 0.0))
        if metric == L2 and filled == k and begin < end:
            near = gap * (1.0 - 1e-5) - np.float64(list_radius[c]) * (1.0 + 1e-5)
            if near > 0.0 and near * near > tau:
                counters[LISTS_SKIPPED] += 1
                end = begin - begin % BLOCK
        # What the rounding of the query adds to the deviation, in the same unit as `gap`.
        reach = np.sqrt(gap * gap + rounding / (SIGN_NOISE * SIGN_NOISE))
        shift = middle + epsilon * SIGN_NOISE * reach
        fine_reach = epsilon * gap
        opened += begin < end
        count = 0
        for block in range(begin // BLOCK, (end + BLOCK - 1) // BLOCK):
            first = block * BLOCK
            size_here = min(BLOCK, n - first)
            word = np.uint64(0)
            if not by_set or may_pass(zones, block, ops, low, high, sets):
                word |= block_word(
                    keys, zones, first, size_here, alive, ops, low, high, bits, stack, mask_scratch
                )
            if first < begin:
                word &= ~lowest_bits(begin - first)
            if first + BLOCK > end:
                word &= lowest_bits(end - first)
            counters[BLOCKS] += 1
            passing = popcount(word)
            passed += passing
            if passing == 0:
                counters[BLOCKS_SKIPPED] += 1
            elif passing > _FEW:
                block_scores(
                    codes, factors, block, planes, list_score, shift, slope, differing, scores, 0
                )
                counters[CODES] += BLOCK
                word &= at_most(scores, 0, float(tau))
            count = append_rows(word, first, rows, count)
            if count >= RUN or (count > 0 and first + BLOCK >= end):
                counters[FINE_CODES] += count
                for i in range(min(_AHEAD, count)):
                    prefetch(fine, rows[i], 0)
                    prefetch(fine_factors, rows[i], 0)
                for i in range(count):
                    if i + _AHEAD < count:
                        prefetch(fine, rows[i + _AHEAD], 0)
                        prefetch(fine_factors, rows[i + _AHEAD], 0)
                    row = rows[i]
                    dot = fine_dot(fine, row, turned) - MIDDLE * turned_sum
                    score = list_score + fine_factors[row, 0] + fine_factors[row, 1] * dot
                    deviation = fine_factors[row, 2] * fine_reach
                    lower = np.float32(score - deviation)
                    if lower > tau:
                        continue
                    upper = np.float32(score + deviation)
                    if not upper < np.inf:  # nor may NaN be taken for a bound
                        upper = np.float32(np.inf)
                    if found == capacity:
                        found = compact(found_rows, found_low, found_high, found, float(tau))
                        if 2 * found > capacity:
                            capacity *= 2
                            more_rows = np.empty(capacity, np.int64)
                            more_low = np.empty(capacity, np.float32)
                            more_high = np.empty(capacity, np.float32)
                            more_rows[:found] = found_rows[:found]
                            more_low[:found] = found_low[:found]
                            more_high[:found] = found_high[:found]
                            found_rows = more_rows
                            found_low = more_low
                            found_high = more_high
                    found_rows[found] = row
                    found_low[found] = lower
                    found_high[found] = upper
                    found += 1
                    filled = push_bound(bounds, filled, float(upper))
                    if filled == k and bounds[0] < tau:
                        tau = bounds[0]
                count = 0
        seldom = passed + 2.0 * np.sqrt(passed + 1.0) < global_share * scanned / _ELSEWHERE
        if max_lists < nlist and visited >= _EARLY and (seldom or opened > max_lists):
            counters[LISTS_VISITED] += visited
            counters[ROWS_EXAMINED] += scanned
            counters[ROWS_PASSING] += passed
            return GAVE_UP
        if filled == k and visited >= min_lists and not everywhere:
            if ladder_share.shape[0] == 0:
                break
            if seldom:
                everywhere = True
                chunk = nlist
                continue
            share = (passed + 0.5 * global_share) / (scanned + 0.5)
            needed = lists_needed(share, ladder_share, ladder_lists, gamma, global_share)
            if visited >= needed:
                break
    counters[LISTS_VISITED] += visited
    counters[ROWS_EXAMINED] += scanned
    counters[ROWS_PASSING] += passed
    return read_vectors(
        metric,
        query,
        query_square,
        vectors,
        found_rows,
        found_low,
        found_high,
        found,
        float(tau),
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
