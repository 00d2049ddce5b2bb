"""Which rows pass a predicate program: count them, filter positions, select from a range.

Programs and their arguments are those of `predicate`, `numbers` and `bounds` those of `buckets`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import BLOCK, lowest_bits, popcount
from hybridq.kernels._jit import (
    entry,
    i64,
    in_i64,
    in_i64_2d,
    in_i64_3d,
    in_u16_2d,
    in_u64,
    out_i64,
)
from hybridq.kernels.buckets import SPAN_FIELDS, fill_spans, span_count
from hybridq.kernels.predicate import INTERVALS, append_rows, block_word, passes

Int64s = npt.NDArray[np.int64]
Uint16s = npt.NDArray[np.uint16]
Uint64s = npt.NDArray[np.uint64]


@entry(in_i64_2d, in_i64, in_i64_2d, in_i64, in_i64, in_u64, returns=i64)
def count_passing(
    keys: Int64s, positions: Int64s, ops: Int64s, low: Int64s, high: Int64s, bits: Uint64s
) -> int:
    """Count the rows among `positions` (m,) that pass the program."""
    passing = 0
    for i in range(positions.shape[0]):
        if passes(keys, positions[i], ops, low, high, bits):
            passing += 1
    return passing


@entry(in_i64_2d, in_i64, in_i64_2d, in_i64, in_i64, in_u64, out_i64, returns=i64)
def filter_positions(
    keys: Int64s,
    positions: Int64s,
    ops: Int64s,
    low: Int64s,
    high: Int64s,
    bits: Uint64s,
    out: Int64s,
) -> int:
    """Write those of `positions` (m,) that pass into `out` (m,), in order; return how many."""
    found = 0
    for i in range(positions.shape[0]):
        if passes(keys, positions[i], ops, low, high, bits):
            out[found] = positions[i]
            found += 1
    return found


@entry(
    *(in_i64_2d, in_i64_3d, i64, i64, in_u64),
    *(in_i64_2d, in_i64, in_i64, in_u64, in_u16_2d, in_i64_3d, out_i64),
    returns=i64,
)
def select_passing(
    keys: Int64s,
    zones: Int64s,
    begin: int,
    end: int,
    alive: Uint64s,
    ops: Int64s,
    low: Int64s,
    high: Int64s,
    bits: Uint64s,
    numbers: Uint16s,
    bounds: Int64s,
    out: Int64s,
) -> int:
    """Write the rows in [begin, end) that live and pass into `out`, ascending; return how many.

    `alive` has a bit for each row, set for one that lives; `out` has room for end - begin rows.
    """
    stack = np.empty(ops.shape[0] + 1, np.uint64)
    scratch = np.empty(BLOCK, np.int64)
    spans = np.empty((span_count(bounds, low), SPAN_FIELDS), np.int64)
    fill_spans(bounds, ops, INTERVALS, low, high, spans)
    found = 0
    for first in range(begin - begin % BLOCK, end, BLOCK):
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
        if first < begin:
            word &= ~lowest_bits(begin - first)
        found = append_rows(word, first, out, found)
    return found


@entry(
    *(in_i64_2d, in_i64_3d, in_u64, in_i64_2d, in_i64, in_i64, in_u64, in_u16_2d, in_i64_3d),
    returns=i64,
    checked=False,
)
def count_all(
    keys: Int64s,
    zones: Int64s,
    alive: Uint64s,
    ops: Int64s,
    low: Int64s,
    high: Int64s,
    bits: Uint64s,
    numbers: Uint16s,
    bounds: Int64s,
) -> int:
    """Count all rows that live and pass, as `select_passing` would write."""
    stack = np.empty(ops.shape[0] + 1, np.uint64)
    scratch = np.empty(BLOCK, np.int64)
    spans = np.empty((span_count(bounds, low), SPAN_FIELDS), np.int64)
    fill_spans(bounds, ops, INTERVALS, low, high, spans)
    rows = keys.shape[1]
    found = 0
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
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
        found += popcount(word)
    return found
