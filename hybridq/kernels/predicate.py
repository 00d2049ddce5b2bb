"""Predicate programs over attribute keys, evaluated 64 rows at a time.

A program is a conjunction of leaves. Leaf `i` names a column and the sorted, disjoint closed
intervals `low[t] <= key <= high[t]` for t in leaf_start[i] .. leaf_start[i + 1]; a row passes
if every leaf's key lies in one of the leaf's intervals. No leaf: every row passes. A leaf
without intervals: none does. Keys are (columns, rows) int64; NULL is the int64 minimum, and
only an interval that contains it lets it pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import (
    BLOCK,
    between,
    lowest_bits,
    non_zero,
    popcount,
    trailing_zeros,
)
from hybridq.kernels._jit import entry, i64, in_i64, in_i64_2d, in_u8, kernel, out_i64

Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]

_LINEAR = 4
"""Up to this many intervals (more where many rows are left) are tested one by one."""

_TOGETHER = 16
"""From this many rows on, all 64 are searched for rather than each of them."""


@kernel
def within(key: int, low: Int64s, high: Int64s, begin: int, end: int) -> bool:
    """Tell whether `key` lies in one of the intervals `begin` .. `end`."""
    if begin == end:
        return False
    length = end - begin
    while length > 1:  # the first interval that does not end before the key, without a branch
        half = length // 2
        begin += half * int(high[begin + half - 1] < key)
        length -= half
    return bool(low[begin] <= key and key <= high[begin])


@kernel
def _block_within(
    keys: Int64s,
    column: int,
    first: int,
    low: Int64s,
    high: Int64s,
    begin: int,
    end: int,
    scratch: Int64s,
) -> np.uint64:
    """Return the word of `within` for the 64 keys from `first`; there is an interval.

    The searches advance together: none waits for the reads of another.
    """
    for v in range(BLOCK):
        scratch[v] = begin
    length = end - begin
    while length > 1:
        half = length // 2
        for v in range(BLOCK):
            scratch[v] += half * int(high[scratch[v] + half - 1] < keys[column, first + v])
        length -= half
    word = np.uint64(0)
    for v in range(BLOCK):
        key = keys[column, first + v]
        hit = (low[scratch[v]] <= key) & (key <= high[scratch[v]])
        word |= np.uint64(hit) << np.uint64(v)
    return word


@kernel
def passes(
    keys: Int64s, row: int, leaf_column: Int64s, leaf_start: Int64s, low: Int64s, high: Int64s
) -> bool:
    """Tell whether one row passes the program."""
    for leaf in range(leaf_column.shape[0]):
        key = keys[leaf_column[leaf], row]
        if not within(key, low, high, leaf_start[leaf], leaf_start[leaf + 1]):
            return False
    return True


@kernel
def block_word(
    keys: Int64s,
    first: int,
    count: int,
    alive: Uint8s,
    leaf_column: Int64s,
    leaf_start: Int64s,
    low: Int64s,
    high: Int64s,
    scratch: Int64s,
) -> np.uint64:
    """Return the word of the rows first .. first + count (1 to 64) that live and pass.

    `scratch` has BLOCK entries.
    """
    word = np.uint64(0)
    if first + BLOCK > alive.shape[0]:  # a whole block would end after the arrays
        for v in range(count):
            row = first + v
            if alive[row] != 0 and passes(keys, row, leaf_column, leaf_start, low, high):
                word |= np.uint64(1) << np.uint64(v)
        return word
    word |= non_zero(alive, first) & lowest_bits(count)
    for leaf in range(leaf_column.shape[0]):
        if word == 0:
            break
        column = leaf_column[leaf]
        begin = leaf_start[leaf]
        end = leaf_start[leaf + 1]
        hit = np.uint64(0)
        if end - begin <= _LINEAR or end - begin <= popcount(word) // 2:
            for t in range(begin, end):
                hit |= between(keys, column, first, low[t], high[t])
        elif popcount(word) >= _TOGETHER:
            hit |= _block_within(keys, column, first, low, high, begin, end, scratch)
        else:
            rest = word
            while rest != 0:
                v = trailing_zeros(rest)
                rest &= rest - np.uint64(1)
                if within(keys[column, first + v], low, high, begin, end):
                    hit |= np.uint64(1) << np.uint64(v)
        word &= hit
    return word


@kernel
def append_rows(word: np.uint64, first: int, rows: Int64s, found: int) -> int:
    """Append the rows of `word` to the `found` ones in `rows`; return how many there are."""
    if word == np.uint64(0xFFFFFFFFFFFFFFFF):
        for v in range(BLOCK):
            rows[found + v] = first + v
        return found + BLOCK
    while word != 0:
        rows[found] = first + trailing_zeros(word)
        found += 1
        word &= word - np.uint64(1)
    return found


@entry(in_i64_2d, in_i64, in_i64, in_i64, in_i64, in_i64, returns=i64)
def count_passing(
    keys: Int64s,
    positions: Int64s,
    leaf_column: Int64s,
    leaf_start: Int64s,
    low: Int64s,
    high: Int64s,
) -> int:
    """Count the rows among `positions` (m,) that pass the program."""
    passing = 0
    for i in range(positions.shape[0]):
        if passes(keys, positions[i], leaf_column, leaf_start, low, high):
            passing += 1
    return passing


@entry(in_i64_2d, i64, i64, in_u8, in_i64, in_i64, in_i64, in_i64, out_i64, returns=i64)
def select_passing(
    keys: Int64s,
    begin: int,
    end: int,
    alive: Uint8s,
    leaf_column: Int64s,
    leaf_start: Int64s,
    low: Int64s,
    high: Int64s,
    out: Int64s,
) -> int:
    """Write the rows in [begin, end) that live and pass into `out`, ascending; return how many.

    `alive` (n,) is non-zero for a row that lives; `out` has room for end - begin rows.
    """
    scratch = np.empty(BLOCK, np.int64)
    found = 0
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        word = block_word(keys, first, count, alive, leaf_column, leaf_start, low, high, scratch)
        found = append_rows(word, first, out, found)
    return found
