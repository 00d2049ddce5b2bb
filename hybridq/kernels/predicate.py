"""Predicate programs over attribute keys, evaluated 64 rows at a time.

A program is postfix code over words, a word being the verdict on 64 rows. `ops` (m, 4) holds its
instructions, each [opcode, column, begin, end]:

    INTERVALS      push: the key of `column` lies in one of the closed intervals low[t] .. high[t],
                   t in begin .. end; they are sorted and disjoint
    KEY_BITS       push: the bit of the key's code in words begin .. end of `bits` is set; NULL is
                   bit 0, code c is bit c + 1
    POSITION_BITS  push: the row's own bit is set; row r is bit r % 64 of word begin + r // 64
    AND, OR        pop two words, push what they make
    SKIP_IF_NONE   go on at instruction `begin` if no row of the topmost word is left
    SKIP_IF_ALL    go on at instruction `begin` if every row is in the topmost word already

The skips stand before the right side of an AND or an OR and lead past that operator: they save
work and never change the outcome. No instruction: every row passes. Keys are (columns, rows)
int64; NULL is the int64 minimum, and only an interval that contains it lets it pass.

`zones` (columns, blocks, 2) has the least and the greatest key of every aligned block of 64 rows;
with no blocks in it, keys are always looked at. Intervals are tested by buckets where there are
some, see `buckets`. No program is deeper than MAX_DEPTH words.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import (
    BLOCK,
    between,
    in_word,
    lowest_bits,
    popcount,
    trailing_zeros,
)
from hybridq.kernels._jit import kernel
from hybridq.kernels.buckets import span_word

Int64s = npt.NDArray[np.int64]
Uint16s = npt.NDArray[np.uint16]
Uint64s = npt.NDArray[np.uint64]

INTERVALS = 0
KEY_BITS = 1
POSITION_BITS = 2
AND = 3
OR = 4
SKIP_IF_NONE = 5
SKIP_IF_ALL = 6

MAX_DEPTH = 60
"""Words on the stack at once; `passes` keeps one bit of each in a single word."""

_EVERY = np.uint64(0xFFFFFFFFFFFFFFFF)

_LINEAR = 4
"""Up to this many intervals (more where many rows are left) are tested one by one."""

_TOGETHER = 16
"""From this many rows on, all 64 are looked at rather than each of them."""


@kernel
def within(key: int, low: Int64s, high: Int64s, begin: int, end: int) -> bool:
    """Tell whether `key` lies in one of the intervals `begin` .. `end`."""
    if begin == end:
        return False
    at = _not_before(key, high, begin, end)
    return bool(low[at] <= key and key <= high[at])


@kernel
def _not_before(key: int, high: Int64s, begin: int, end: int) -> int:
    """Return the first of the intervals that does not end before `key`, or the last of all."""
    length = end - begin
    while length > 1:  # without a branch
        half = length // 2
        begin += half * int(high[begin + half - 1] < key)
        length -= half
    return begin


@kernel
def _has_bit(key: int, bits: Uint64s, begin: int) -> bool:
    """Tell whether the bit of a key's code is set."""
    bit = np.uint64(max(key + 1, 0))  # NULL, the least integer, becomes 0
    word = bits[np.uint64(begin) + (bit >> np.uint64(6))]
    return bool((word >> (bit & np.uint64(63))) & np.uint64(1))


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
def _intervals_word(
    keys: Int64s,
    zones: Int64s,
    column: int,
    first: int,
    low: Int64s,
    high: Int64s,
    begin: int,
    end: int,
    numbers: Uint16s,
    spans: Int64s,
    relevant: np.uint64,
    scratch: Int64s,
) -> np.uint64:
    """Return the word of `within` for the 64 keys from `first`; only `relevant` rows count."""
    if begin == end:
        return np.uint64(0)
    if zones.shape[1] > 0 and first % BLOCK == 0:
        least = zones[column, first // BLOCK, 0]
        most = zones[column, first // BLOCK, 1]
        begin = _not_before(least, high, begin, end)
        if high[begin] < least or low[begin] > most:
            return np.uint64(0)
        if low[begin] <= least and most <= high[begin]:
            return _EVERY
        end = min(end, _not_before(most, high, begin, end) + 1)
    word = np.uint64(0)
    if end - begin <= _LINEAR or end - begin <= popcount(relevant) // 2:
        for t in range(begin, end):
            if spans.shape[0] > 0:
                word |= span_word(numbers, keys, column, first, low[t], high[t], spans, t, relevant)
            else:
                word |= between(keys, column, first, low[t], high[t])
    elif popcount(relevant) >= _TOGETHER:
        word |= _block_within(keys, column, first, low, high, begin, end, scratch)
    else:
        rest = relevant
        while rest != 0:
            v = trailing_zeros(rest)
            rest &= rest - np.uint64(1)
            if within(keys[column, first + v], low, high, begin, end):
                word |= np.uint64(1) << np.uint64(v)
    return word


@kernel
def _bits_word(
    keys: Int64s,
    zones: Int64s,
    column: int,
    first: int,
    bits: Uint64s,
    begin: int,
    end: int,
    relevant: np.uint64,
) -> np.uint64:
    """Return the word of `_has_bit` for the 64 keys from `first`; only `relevant` rows count."""
    if zones.shape[1] > 0 and first % BLOCK == 0:
        least = zones[column, first // BLOCK, 0]
        if least == zones[column, first // BLOCK, 1]:
            return _EVERY if _has_bit(least, bits, begin) else np.uint64(0)
    word = np.uint64(0)
    if end - begin == 1:
        word |= in_word(keys, column, first, bits[begin])
    elif popcount(relevant) >= _TOGETHER:
        for v in range(BLOCK):
            word |= np.uint64(_has_bit(keys[column, first + v], bits, begin)) << np.uint64(v)
    else:
        rest = relevant
        while rest != 0:
            v = trailing_zeros(rest)
            rest &= rest - np.uint64(1)
            if _has_bit(keys[column, first + v], bits, begin):
                word |= np.uint64(1) << np.uint64(v)
    return word


@kernel
def _positions_word(first: int, bits: Uint64s, begin: int, end: int) -> np.uint64:
    """Return the word of the positions from `first`."""
    at = begin + first // BLOCK
    shift = first % BLOCK
    word = np.uint64(bits[at] >> np.uint64(shift))
    if shift > 0 and at + 1 < end:
        word |= bits[at + 1] << np.uint64(BLOCK - shift)
    return word


@kernel
def passes(keys: Int64s, row: int, ops: Int64s, low: Int64s, high: Int64s, bits: Uint64s) -> bool:
    """Tell whether one row passes the program."""
    state = np.uint64(1)  # the stack, its topmost entry in bit 0
    one = np.uint64(1)
    at = 0
    while at < ops.shape[0]:
        code = ops[at, 0]
        begin = ops[at, 2]
        if code == INTERVALS:
            hit = within(keys[ops[at, 1], row], low, high, begin, ops[at, 3])
            state = (state << one) | np.uint64(hit)
        elif code == KEY_BITS:
            hit = _has_bit(keys[ops[at, 1], row], bits, begin)
            state = (state << one) | np.uint64(hit)
        elif code == POSITION_BITS:
            own = bits[begin + row // BLOCK] >> np.uint64(row % BLOCK)
            state = (state << one) | (own & one)
        elif code == AND:
            state = (state >> one) & (state | ~one)
        elif code == OR:
            state = (state >> one) | (state & one)
        elif (code == SKIP_IF_NONE) == (state & one == 0):
            at = begin
            continue
        at += 1
    return bool(state & one)


@kernel
def block_word(
    keys: Int64s,
    zones: Int64s,
    first: int,
    count: int,
    alive: Uint64s,
    ops: Int64s,
    low: Int64s,
    high: Int64s,
    bits: Uint64s,
    numbers: Uint16s,
    spans: Int64s,
    stack: Uint64s,
    scratch: Int64s,
) -> np.uint64:
    """Return the word of the rows first .. first + count (1 to 64) that live and pass.

    `stack` has as many entries as the program is deep, at least; `scratch` has BLOCK. Zones serve
    where `first` is a multiple of 64. `numbers` and `spans` are those of `buckets`, or empty.
    """
    top = np.uint64(0)
    living = _positions_word(first, alive, 0, alive.shape[0]) & lowest_bits(count)
    if living == 0:
        return living
    if first + BLOCK > keys.shape[1]:  # a whole block would end after the arrays
        for v in range(count):
            own = (living >> np.uint64(v)) & np.uint64(1)
            if own != 0 and passes(keys, first + v, ops, low, high, bits):
                top |= np.uint64(1) << np.uint64(v)
        return top
    top |= living
    relevant = living
    depth = 0
    at = 0
    while at < ops.shape[0]:
        code = ops[at, 0]
        if code <= POSITION_BITS:
            stack[depth] = top
            depth += 1
            column = ops[at, 1]
            begin = ops[at, 2]
            end = ops[at, 3]
            top = living
            if code == INTERVALS:
                top &= _intervals_word(
                    keys,
                    zones,
                    column,
                    first,
                    low,
                    high,
                    begin,
                    end,
                    numbers,
                    spans,
                    relevant,
                    scratch,
                )
            elif code == KEY_BITS:
                top &= _bits_word(keys, zones, column, first, bits, begin, end, relevant)
            else:
                top &= _positions_word(first, bits, begin, end)
            relevant = living
        elif code == AND:
            depth -= 1
            top &= stack[depth]
        elif code == OR:
            depth -= 1
            top |= stack[depth]
        elif code == SKIP_IF_NONE:
            if top == 0:
                at = ops[at, 2]
                continue
            relevant = top
        else:
            if top == living:
                at = ops[at, 2]
                continue
            relevant = living & ~top
        at += 1
    return top


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
