"""The sieves a row passes on its way into the answer of a coded scan; see `coded`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import BLOCK, at_most, lowest_bits, popcount, prefetch
from hybridq.kernels._jit import kernel
from hybridq.kernels.distance import IP, L2, fast_squared_l2
from hybridq.kernels.lists import by_share, cut, lists_needed, take_lists
from hybridq.kernels.predicate import INTERVALS, append_rows, block_word
from hybridq.kernels.rabitq import MIDDLE, SIGN_NOISE, fine_dot
from hybridq.kernels.rerank import RUN, compact
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
from hybridq.kernels.tables import MIDDLE as QUERY_MIDDLE
from hybridq.kernels.tables import block_scores
from hybridq.kernels.topk import push_bound
from hybridq.kernels.zones import fill_sets, may_pass

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]
Uint16s = npt.NDArray[np.uint16]
Uint64s = npt.NDArray[np.uint64]

GAVE_UP = -2
FULL = -3
DONE = 0

_FEW = 3
"""Up to this many rows of a block are looked at one by one, without their sign bits."""

_ELSEWHERE = 4.0
"""If so many times fewer rows pass than do on the whole, the nearest lists tell nothing of where
the passing rows are."""

_EARLY = 8
"""Lists, at least, that tell whether to give up."""


@kernel
def _ask_for(
    row: int, codes: Uint8s, factors: Float32s, keys: Int64s, numbers: Uint16s, ops: Int64s
) -> None:
    """Have what is read of a list that begins at `row` there when its turn comes."""
    for i in range(ops.shape[0]):
        if ops[i, 0] == INTERVALS:
            if numbers.shape[1] > 0:
                prefetch(numbers, ops[i, 1], row)
                prefetch(numbers, ops[i, 1], row + BLOCK // 2)
            else:
                for first in range(0, BLOCK, 8):
                    prefetch(keys, ops[i, 1], row + first)
    block = row // BLOCK
    for i in range(codes.shape[1]):
        prefetch(codes, block, i * BLOCK)
    for first in range(0, factors.shape[1] * BLOCK, 16):
        prefetch(factors, block, first)


@kernel
def sieve_lists(
    metric: int,
    n: int,
    list_offsets: Int64s,
    list_radius: Float32s,
    centroids: Float32s,
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
    spans: Int64s,
    ladder_share: Float64s,
    ladder_lists: Float64s,
    ladder_least: Float64s,
    enough: float,
    gamma: float,
    global_share: float,
    min_lists: int,
    max_lists: int,
    epsilon: float,
    k: int,
    unit: Float32s,
    turned: Float32s,
    tables: Uint8s,
    step: float,
    largest: float,
    chunk: int,
    rough: Float32s,
    taken: Uint8s,
    order: Int64s,
    order_score: Float32s,
    spare: Float32s,
    given: int,
    sets: Int64s,
    sums: Uint16s,
    scores: Float32s,
    mask_scratch: Int64s,
    stack: Uint64s,
    rows: Int64s,
    upper_bounds: Float32s,
    found_rows: Int64s,
    found_low: Float32s,
    found_high: Float32s,
    counters: Int64s,
) -> tuple[int, int, float]:
    """Visit lists, nearest first, and write the rows that may be among the k nearest.

    Returns (status, rows found, the k-th least upper bound): DONE, GAVE_UP, or FULL where the
    arrays `found_…` (equally long) cannot hold them. No row's score exceeds `largest`. With `given`
    above 0, the first so many entries of `order` are visited, all of them and no others. Kernels
    may not allocate: the arguments from `unit` on are what `coded.probe_coded` prepares, and
    scratch.
    """
    nlist = centroids.shape[0]
    capacity = found_rows.shape[0]
    slope = -step
    middle = step * QUERY_MIDDLE * turned.shape[0]
    rounding = step * step * turned.shape[0] / 12.0
    turned_sum = np.float64(0.0)
    for j in range(turned.shape[0]):
        turned_sum += np.float64(turned[j])
    tau = np.float32(largest)
    found = 0
    filled = 0
    ready = 0
    at = 0
    scanned = 0
    passed = 0
    by_set = fill_sets(ops, low, high, sets) and zones.shape[1] > 0
    by_list = ops.shape[0] > 0 and list_zones.shape[1] > 0
    everywhere = min_lists >= nlist
    elsewhere = False
    last_chunk = False
    if given > 0:
        ready = given
        last_chunk = True
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
        if at < ready and order[at] >= 0:
            _ask_for(list_offsets[order[at]], codes, factors, keys, numbers, ops)
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
                    keys,
                    zones,
                    first,
                    size_here,
                    alive,
                    ops,
                    low,
                    high,
                    bits,
                    numbers,
                    spans,
                    stack,
                    mask_scratch,
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
                    codes, factors, block, tables, list_score, shift, slope, sums, scores, 0
                )
                counters[CODES] += BLOCK
                word &= at_most(scores, 0, float(tau))
            before = count
            count = append_rows(word, first, rows, count)
            for i in range(before, count):
                # Asked for now, there when the list has been gone through.
                prefetch(fine, rows[i], 0)
                prefetch(fine_factors, rows[i], 0)
            if count >= RUN or (count > 0 and first + BLOCK >= end):
                counters[FINE_CODES] += count
                for i in range(count):
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
                            return FULL, found, float(tau)
                    found_rows[found] = row
                    found_low[found] = lower
                    found_high[found] = upper
                    found += 1
                    filled = push_bound(upper_bounds, filled, float(upper))
                    if filled == k and upper_bounds[0] < tau:
                        tau = upper_bounds[0]
                count = 0
        seldom = passed + 2.0 * np.sqrt(passed + 1.0) < global_share * scanned / _ELSEWHERE
        lost = seldom and enough <= 0.0
        if max_lists < nlist and visited >= _EARLY and (lost or opened > max_lists):
            counters[LISTS_VISITED] += visited
            counters[ROWS_EXAMINED] += scanned
            counters[ROWS_PASSING] += passed
            return GAVE_UP, found, float(tau)
        if filled == k and visited >= min_lists and not everywhere:
            if ladder_share.shape[0] == 0:
                break
            if lost:
                everywhere = True
                chunk = nlist
                continue
            # What lies at once behind a chunk of lists is not known: one more of them is visited.
            next_score = 0.0
            if at < ready:
                next_score = max(0.0, np.float64(order_score[at]))
            # Once the nearest lists told nothing, it is the distance alone that says enough.
            elsewhere = elsewhere or seldom
            if elsewhere:
                if next_score > enough * tau:
                    break
                continue
            share = (passed + 0.5 * global_share) / (scanned + 0.5)
            needed = lists_needed(share, ladder_share, ladder_lists, gamma, global_share)
            if visited >= needed:
                least = by_share(share, ladder_share, ladder_least)
                if least <= 0.0 or next_score >= least * tau:
                    break
    order[nlist] = everywhere
    counters[LISTS_VISITED] += visited
    counters[ROWS_EXAMINED] += scanned
    counters[ROWS_PASSING] += passed
    return DONE, found, float(tau)
