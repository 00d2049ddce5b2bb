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

from hybridq.kernels._jit import entry, i64, in_i64, in_i64_2d, in_u8, kernel, out_i64

Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]

BLOCK = 64
"""Rows a mask covers."""

_LINEAR = 4  # intervals a leaf tests one by one, without branches


@kernel
def within(key: int, low: Int64s, high: Int64s, begin: int, end: int) -> bool:
    """Tell whether `key` lies in one of the intervals `begin` .. `end` (binary search)."""
    stop = end
    while begin < stop:  # the first interval that does not end before the key
        middle = (begin + stop) // 2
        if high[middle] < key:
            begin = middle + 1
        else:
            stop = middle
    return begin < end and low[begin] <= key


@kernel
def mask_block(
    keys: Int64s,
    first: int,
    count: int,
    alive: Uint8s,
    leaf_column: Int64s,
    leaf_start: Int64s,
    low: Int64s,
    high: Int64s,
    mask: Uint8s,
    hit: Uint8s,
) -> int:
    """Write into `mask` which of the rows first .. first + count live and pass; return how many.

    `mask` and `hit` (scratch) have BLOCK entries.
    """
    passing = 0
    for v in range(count):
        mask[v] = np.uint8(alive[first + v] != 0)
        passing += int(mask[v])
    for leaf in range(leaf_column.shape[0]):
        if passing == 0:
            break
        column = leaf_column[leaf]
        begin = leaf_start[leaf]
        end = leaf_start[leaf + 1]
        if end - begin > _LINEAR:
            for v in range(count):
                if mask[v] != 0:
                    mask[v] = np.uint8(within(keys[column, first + v], low, high, begin, end))
        else:
            for v in range(count):
                hit[v] = np.uint8(0)
            for t in range(begin, end):
                lowest = low[t]
                highest = high[t]
                for v in range(count):
                    key = keys[column, first + v]
                    hit[v] |= np.uint8((key >= lowest) & (key <= highest))
            for v in range(count):
                mask[v] &= hit[v]
        passing = 0
        for v in range(count):
            passing += int(mask[v])
    return passing


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
        keep = True
        for leaf in range(leaf_column.shape[0]):
            key = keys[leaf_column[leaf], positions[i]]
            if not within(key, low, high, leaf_start[leaf], leaf_start[leaf + 1]):
                keep = False
                break
        if keep:
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
    mask = np.empty(BLOCK, np.uint8)
    hit = np.empty(BLOCK, np.uint8)
    found = 0
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        passing = mask_block(
            keys, first, count, alive, leaf_column, leaf_start, low, high, mask, hit
        )
        if passing == 0:
            continue
        for v in range(count):
            if mask[v] != 0:
                out[found] = first + v
                found += 1
    return found
