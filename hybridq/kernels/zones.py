"""Zones: what the keys of a group of rows can be, so that a scan may pass the group over.

A zone is [least key, greatest key, set], the set having bit k % 64 for each key k. It tells apart
the values of a column with few of them even where groups hold several.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import (
    entry,
    i64,
    in_i64,
    in_i64_2d,
    in_i64_3d,
    kernel,
    out_i64_3d,
)
from hybridq.kernels.predicate import AND, INTERVALS, OR, POSITION_BITS, SKIP_IF_NONE

Int64s = npt.NDArray[np.int64]

LEAST = 0
GREATEST = 1
SET = 2
FIELDS = 3

ANY = -1
"""The set of which every key may be a member."""

_INTERVALS = 16  # of more intervals no set is made


@entry(in_i64_2d, in_i64, out_i64_3d)
def fill_zones(keys: Int64s, offsets: Int64s, out: Int64s) -> None:
    """Write the zones of the groups offsets[g] … offsets[g + 1] into `out` (A, groups, FIELDS).

    `keys` is (A, n). An empty group has a zone that no key lies in.
    """
    for column in range(keys.shape[0]):
        for g in range(offsets.shape[0] - 1):
            least = np.int64(np.iinfo(np.int64).max)
            greatest = np.int64(np.iinfo(np.int64).min)
            members = np.uint64(0)
            for row in range(offsets[g], offsets[g + 1]):
                key = keys[column, row]
                least = min(least, key)
                greatest = max(greatest, key)
                members |= np.uint64(1) << np.uint64(key & 63)
            out[column, g, LEAST] = least
            out[column, g, GREATEST] = greatest
            out[column, g, SET] = np.int64(members)


@kernel
def _members(low: Int64s, high: Int64s, begin: int, end: int) -> int:
    """Return the set of the keys in the intervals begin … end - 1, ANY if they are many."""
    members = np.uint64(0)
    if end - begin > _INTERVALS:
        return ANY
    for t in range(begin, end):
        # Unsigned, for the width of an interval may not fit.
        if np.uint64(high[t]) - np.uint64(low[t]) >= np.uint64(63):
            return ANY
        for key in range(low[t], high[t] + 1):
            members |= np.uint64(1) << np.uint64(key & 63)
    return int(np.int64(members))


@kernel
def fill_sets(ops: Int64s, low: Int64s, high: Int64s, sets: Int64s) -> bool:
    """Write the set of each instruction's keys into `sets` (m,); tell whether one is not ANY."""
    some = False
    for at in range(ops.shape[0]):
        sets[at] = ANY
        if ops[at, 0] == INTERVALS:
            sets[at] = _members(low, high, ops[at, 2], ops[at, 3])
            some |= sets[at] != ANY
    return some


@kernel
def may_pass(
    zones: Int64s, group: int, ops: Int64s, low: Int64s, high: Int64s, sets: Int64s
) -> bool:
    """Tell whether the zones of a group let one of its rows pass the program; see `predicate`."""
    one = np.uint64(1)
    state = np.uint64(1)  # the stack, its topmost entry in bit 0
    at = 0
    while at < ops.shape[0]:
        code = ops[at, 0]
        if code == INTERVALS:
            column = ops[at, 1]
            hit = (sets[at] & zones[column, group, SET]) != 0
            if hit:
                least = zones[column, group, LEAST]
                greatest = zones[column, group, GREATEST]
                hit = False
                for t in range(ops[at, 2], ops[at, 3]):
                    if low[t] <= greatest and high[t] >= least:
                        hit = True
                        break
            state = (state << one) | np.uint64(hit)
        elif code <= POSITION_BITS:
            state = (state << one) | one
        elif code == AND:
            state = (state >> one) & (state | ~one)
        elif code == OR:
            state = (state >> one) | (state & one)
        elif (code == SKIP_IF_NONE) == (state & one == 0):
            at = ops[at, 2]
            continue
        at += 1
    return bool(state & one)


@kernel
def _is_conjunction(ops: Int64s) -> bool:
    """Tell whether the program joins intervals, one a leaf, by AND alone."""
    for at in range(ops.shape[0]):
        code = ops[at, 0]
        single = code == INTERVALS and ops[at, 3] - ops[at, 2] == 1
        if not (single or code in (AND, SKIP_IF_NONE)):
            return False
    return bool(ops.shape[0] > 0)


@entry(in_i64_3d, i64, in_i64_2d, in_i64, in_i64, returns=i64, checked=False)
def count_open(zones: Int64s, step: int, ops: Int64s, low: Int64s, high: Int64s) -> int:
    """Count the groups, of every `step`-th one, that may have a row that passes the program."""
    sets = np.empty(ops.shape[0], np.int64)
    fill_sets(ops, low, high, sets)
    found = 0
    if _is_conjunction(ops):  # the most common program, without a branch
        for group in range(0, zones.shape[1], step):
            every = True
            for at in range(ops.shape[0]):
                if ops[at, 0] == INTERVALS:
                    column, t = ops[at, 1], ops[at, 2]
                    every &= zones[column, group, LEAST] <= high[t]
                    every &= zones[column, group, GREATEST] >= low[t]
                    every &= (sets[at] & zones[column, group, SET]) != 0
            found += every
        return found
    for group in range(0, zones.shape[1], step):
        if may_pass(zones, group, ops, low, high, sets):
            found += 1
    return found
