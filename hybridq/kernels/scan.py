"""Top-k over inverted lists, with the predicate inside the scan.

A block of 64 rows of one list goes through three sieves: the mask of its attributes, a
float32 lower bound of the distance, and the distance itself (`distance.distance`). The lower
bound never drops a row that belongs in the answer:

- n-term float32 sums of products differ from the real sum by at most (n + 2) u times the sum
  of the absolute terms, u = 2**-24, in any order, fused or not; `_MARGIN` (d + 16) 2u covers
  this twice over, and the roundings of the kept distance with it.
- Squares and products below 2**-126 lose precision: each loses at most 2**-149, covered by
  the absolute term d 2**-140.
- A sum that overflowed or is NaN proves nothing: the bound is minus infinity.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import BLOCK, popcount, prefetch
from hybridq.kernels._jit import (
    boolean,
    entry,
    f32,
    f64,
    i64,
    in_f32,
    in_f32_2d,
    in_f64,
    in_i64,
    in_i64_2d,
    in_i64_3d,
    in_u16_2d,
    in_u64,
    kernel,
    out_f32,
    out_i64,
    strict_kernel,
)
from hybridq.kernels.buckets import SPAN_FIELDS, fill_spans, span_count
from hybridq.kernels.distance import IP, L2, fast_dot, fast_squared_l2, four_distances, squared_norm
from hybridq.kernels.lists import lists_needed
from hybridq.kernels.predicate import INTERVALS, append_rows, block_word
from hybridq.kernels.topk import offer, sort

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Uint16s = npt.NDArray[np.uint16]
Uint64s = npt.NDArray[np.uint64]

LISTS_VISITED = 0
ROWS_EXAMINED = 1
BLOCKS = 2
BLOCKS_SKIPPED = 3
FAST_DISTANCES = 4
EXACT_DISTANCES = 5
ROWS_PASSING = 6
LISTS_SKIPPED = 7
CODES = 8
FINE_CODES = 9
COUNTERS = 10

_RUN = 512
"""Rows gathered, at least, before their distances are computed; fewer at the end of a list."""

_LINE = 16  # float32 values in a cache line
_AHEAD_LINES = 32  # cache lines asked for before they are needed
_UNIT = 2.0**-23  # twice the rounding unit of float32
_TINY = 2.0**-140
_LARGEST = float(np.finfo(np.float32).max)


@strict_kernel
def _margin(dimension: int) -> float:
    return (dimension + 16) * _UNIT


@strict_kernel
def _threshold(metric: int, bound: float, dimension: int) -> float:
    """Return what a lower bound of `_lower_bounds` must exceed to prove distance > bound."""
    if metric == L2:
        return bound * bound * (1.0 + _margin(dimension)) + dimension * _TINY
    return float(bound + abs(bound) * _UNIT)


@strict_kernel
def _lower_bound_dot(
    metric: int, dot: float, square: float, query_norm: float, dimension: int
) -> float:
    """Return a lower bound of the COSINE or IP distance from float32 sums."""
    if not (abs(dot) <= _LARGEST and square <= _LARGEST):
        return -np.inf
    margin = _margin(dimension)
    if metric == IP:
        row_norm = float(np.sqrt(square + dimension * _TINY))
        return -dot - margin * query_norm * row_norm - dimension * _TINY
    norms = query_norm * float(np.sqrt(square))
    if square < dimension * 2.0**-100 or norms < dimension * 2.0**-100:
        return -np.inf
    return 1.0 - dot / norms - margin


@kernel
def _lower_bounds(
    metric: int,
    query: Float32s,
    query_norm: float,
    vectors: Float32s,
    rows: Int64s,
    count: int,
    out: Float64s,
) -> None:
    """Write what the float32 sums prove of each row's distance; for L2, of its square."""
    dimension = query.shape[0]
    lines = (dimension + _LINE - 1) // _LINE
    ahead = max(1, _AHEAD_LINES // lines)
    lines = min(lines, _AHEAD_LINES)
    for i in range(min(ahead, count)):
        for line in range(lines):
            prefetch(vectors, rows[i], line * _LINE)
    for i in range(count):
        if i + ahead < count and rows[i + ahead] != rows[i + ahead - 1] + 1:
            for line in range(lines):
                prefetch(vectors, rows[i + ahead], line * _LINE)
        if metric == L2:
            square = fast_squared_l2(query, vectors, rows[i])
            out[i] = square if square <= _LARGEST else -np.inf
        else:
            dot, square = fast_dot(query, vectors, rows[i])
            out[i] = _lower_bound_dot(metric, dot, square, query_norm, dimension)


@kernel
def offer_rows(
    metric: int,
    query: Float32s,
    query_square: float,
    vectors: Float32s,
    rows: Int64s,
    count: int,
    bounds: Float64s,
    four_rows: Int64s,
    four_values: Float32s,
    tie: Int64s,
    radius: float,
    radius_inclusive: bool,
    k: int,
    filled: int,
    out_distance: Float32s,
    out_tie: Int64s,
    out_position: Int64s,
    counters: Int64s,
) -> int:
    """Offer the first `count` of `rows` to the heap; return how many entries are in use.

    `bounds` (count,), `four_rows` and `four_values` (4,) are scratch.
    """
    dimension = query.shape[0]
    inclusive = radius_inclusive or radius == np.inf
    query_norm = float(np.sqrt(query_square))
    _lower_bounds(metric, query, query_norm, vectors, rows, count, bounds)
    counters[FAST_DISTANCES] += count
    nearest = np.float64(radius)
    if filled == k:
        nearest = min(nearest, np.float64(out_distance[0]))
    threshold = _threshold(metric, nearest, dimension)
    pending = 0
    for i in range(count):
        if not bounds[i] > threshold:
            four_rows[pending] = rows[i]
            pending += 1
        if pending < 4 and (pending == 0 or i + 1 < count):
            continue
        for spare in range(pending, 4):
            four_rows[spare] = four_rows[0]
        four_distances(metric, query, query_square, vectors, four_rows, four_values)
        counters[EXACT_DISTANCES] += pending
        for j in range(pending):
            value = four_values[j]
            if value < radius or (value == radius and inclusive):  # not NaN
                row = four_rows[j]
                filled = offer(value, tie[row], row, out_distance, out_tie, out_position, filled, k)
        pending = 0
        if filled == k and out_distance[0] < nearest:
            nearest = np.float64(out_distance[0])
            threshold = _threshold(metric, nearest, dimension)
    return filled


@entry(
    *(i64, in_f32, in_f32_2d, in_i64, in_i64, in_f32),
    *(in_i64_2d, in_i64_3d, in_u64, in_i64_2d, in_i64, in_i64, in_u64),
    *(in_u16_2d, in_i64_3d, in_i64),
    *(f32, boolean, in_f64, in_f64, f64, f64, i64),
    *(i64, out_f32, out_i64, out_i64, out_i64),
    returns=i64,
)
def probe(
    metric: int,
    query: Float32s,
    vectors: Float32s,
    list_offsets: Int64s,
    order: Int64s,
    lower: Float32s,
    keys: Int64s,
    zones: Int64s,
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
    gamma: float,
    global_share: float,
    min_lists: int,
    k: int,
    out_distance: Float32s,
    out_tie: Int64s,
    out_position: Int64s,
    counters: Int64s,
) -> int:
    """Find the k nearest live, passing rows in the lists of `order`; return how many there are.

    Rows leave in `out_distance`, `out_tie`, `out_position` (k,) sorted by (distance, tie);
    a NaN distance never leaves. `counters` (COUNTERS,) is added to.

    Parameters
    ----------
    metric, query, vectors
        As in `distance.distance`; `vectors` (n, d) in list order.
    list_offsets
        (nlist + 1,): list c is the rows list_offsets[c] .. list_offsets[c + 1].
    order, lower
        (m,): the lists to visit, nearest first, and for each a lower bound of its rows'
        distances (-inf: unknown). A list whose bound exceeds the radius, or the k-th distance
        of a full heap, is skipped; that never changes the answer.
    keys, zones, alive, ops, low, high, bits, numbers, bounds
        As in `predicate` and `buckets`; keys (A, n), alive a bit a row.
    tie
        (n,): orders rows of equal distance.
    radius, radius_inclusive
        Only distance < radius (<= if inclusive); +inf for no radius.
    ladder_share, ladder_lists, gamma, global_share, min_lists
        The stopping rule, see below.

    Notes
    -----
    After each list, s = (passing + global_share / 2) / (scanned + 1/2) over the rows so far.
    The scan ends when the heap is full and the lists visited (skipped ones included) reach
    both `min_lists` and exp(interp(log s, ladder_share, ladder_lists)) * max(1, global_share /
    s)**gamma. The ladder holds natural logarithms, ascending shares, and is clamped at its
    ends; an empty one leaves `min_lists` alone to decide. A heap that is not full goes on to
    the end of `order`; min_lists = len(order) never stops early.
    """
    if k <= 0:
        return 0
    query_square = squared_norm(query)
    stack = np.empty(ops.shape[0] + 1, np.uint64)
    scratch = np.empty(BLOCK, np.int64)
    spans = np.empty((span_count(bounds, low), SPAN_FIELDS), np.int64)
    fill_spans(bounds, ops, INTERVALS, low, high, spans)
    rows = np.empty(_RUN + BLOCK, np.int64)
    exact_bounds = np.empty(_RUN + BLOCK, np.float64)
    four_rows = np.empty(4, np.int64)
    four_values = np.empty(4, np.float32)
    filled = 0
    scanned = 0
    passed = 0
    for visit in range(order.shape[0]):
        counters[LISTS_VISITED] += 1
        if lower[visit] > radius or (filled == k and lower[visit] > out_distance[0]):
            counters[LISTS_SKIPPED] += 1
        else:
            begin = list_offsets[order[visit]]
            end = list_offsets[order[visit] + 1]
            scanned += end - begin
            found = 0
            for first in range(begin, end, BLOCK):
                count = min(BLOCK, end - first)
                word = block_word(
                    keys,
                    zones,
                    first,
                    count,
                    alive,
                    ops,
                    low,
                    high,
                    bits,
                    numbers,
                    spans,
                    stack,
                    scratch,
                )
                counters[BLOCKS] += 1
                if word == 0:
                    counters[BLOCKS_SKIPPED] += 1
                passed += popcount(word)
                found = append_rows(word, first, rows, found)
                if found >= _RUN or (found > 0 and first + BLOCK >= end):
                    filled = offer_rows(
                        metric,
                        query,
                        query_square,
                        vectors,
                        rows,
                        found,
                        exact_bounds,
                        four_rows,
                        four_values,
                        tie,
                        radius,
                        radius_inclusive,
                        k,
                        filled,
                        out_distance,
                        out_tie,
                        out_position,
                        counters,
                    )
                    found = 0
        if filled == k and visit + 1 >= min_lists:
            if ladder_share.shape[0] == 0:
                break
            share = (passed + 0.5 * global_share) / (scanned + 0.5)
            needed = lists_needed(share, ladder_share, ladder_lists, gamma, global_share)
            if visit + 1 >= needed:
                break
    counters[ROWS_EXAMINED] += scanned
    counters[ROWS_PASSING] += passed
    sort(out_distance, out_tie, out_position, filled)
    return filled


@entry(
    *(i64, in_f32, in_f32_2d, in_i64, in_i64, f32, boolean),
    *(i64, out_f32, out_i64, out_i64, out_i64),
    returns=i64,
)
def gather(
    metric: int,
    query: Float32s,
    vectors: Float32s,
    positions: Int64s,
    tie: Int64s,
    radius: float,
    radius_inclusive: bool,
    k: int,
    out_distance: Float32s,
    out_tie: Int64s,
    out_position: Int64s,
    counters: Int64s,
) -> int:
    """Find the k nearest of the rows `positions` (m,); return how many there are.

    The arguments and the result are those of `probe`; every position counts as passing.
    """
    if k <= 0:
        return 0
    query_square = squared_norm(query)
    rows = np.empty(_RUN, np.int64)
    bounds = np.empty(_RUN, np.float64)
    four_rows = np.empty(4, np.int64)
    four_values = np.empty(4, np.float32)
    filled = 0
    for first in range(0, positions.shape[0], _RUN):
        count = min(_RUN, positions.shape[0] - first)
        for i in range(count):
            rows[i] = positions[first + i]
        filled = offer_rows(
            metric,
            query,
            query_square,
            vectors,
            rows,
            count,
            bounds,
            four_rows,
            four_values,
            tie,
            radius,
            radius_inclusive,
            k,
            filled,
            out_distance,
            out_tie,
            out_position,
            counters,
        )
    counters[ROWS_PASSING] += positions.shape[0]
    sort(out_distance, out_tie, out_position, filled)
    return filled
