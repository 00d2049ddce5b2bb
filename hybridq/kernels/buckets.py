"""Buckets: attribute keys in sixteen bits, so that a scan reads a quarter of their bytes.

The keys of a column fall into at most MOST buckets, which ascend as keys do; `numbers` (A, padded)
uint16 has the bucket of every row, `bounds` (A, 2, buckets) the least and the greatest key there is
in each. A column of fewer values has a bucket for each of them. An interval of keys is an interval
of buckets, of which at most the first and the last hold keys outside it: only rows of those two
need their keys looked at. (The VA-file's idea of approximations, Weber et al., VLDB 1998, section
4, for a single attribute.) Rows are padded so that 64 may be read from any of them.

With no columns in `bounds`, keys are always looked at.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import BLOCK, bucket_between, trailing_zeros
from hybridq.kernels._jit import kernel

Int64s = npt.NDArray[np.int64]
Uint16s = npt.NDArray[np.uint16]

MOST = 4096
"""Buckets of a column: so many are searched fast, and few rows are in the first and the last."""

MOST_INTERVALS = 256
"""Intervals of a program that are turned into buckets."""

LEAST = 0
GREATEST = 1

# What `spans` tells of an interval.
FROM = 0
TO = 1
EDGES = 2
SPAN_FIELDS = 3

_LOW_EDGE = 1
_HIGH_EDGE = 2


def make_buckets(keys: Int64s, permutations: Int64s, most: int = MOST) -> tuple[Uint16s, Int64s]:
    """Return (numbers, bounds) of `keys` (A, n); `permutations` (A, n) put each column in order.

    No column has more than `most` (3 at least) buckets.
    """
    columns, n = keys.shape
    numbers = np.zeros((columns, (-(-n // BLOCK) + 1) * BLOCK), np.uint16)
    found: list[tuple[Int64s, Int64s]] = []
    for column in range(columns):
        ordered = keys[column, permutations[column]]
        starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1) != 0)
        if len(starts) > most:
            # As even as equal keys allow; NULL, the least key, never shares a bucket.
            even = np.arange(1, most - 1) * n // (most - 1)
            chosen = np.searchsorted(starts, even, side="right") - 1
            starts = starts[np.unique(np.concatenate([[0, 1], chosen]))]
        least = ordered[starts]
        greatest = ordered[np.append(starts[1:], n) - 1] if n else ordered
        numbers[column, :n] = np.searchsorted(least, keys[column], side="right") - 1
        found.append((least, greatest))
    bounds = np.full(
        (columns, 2, max((len(least) for least, _ in found), default=0)), np.iinfo(np.int64).max
    )
    for column, (least, greatest) in enumerate(found):
        bounds[column, LEAST, : len(least)] = least
        bounds[column, GREATEST, : len(greatest)] = greatest
    return numbers, bounds


@kernel
def span_count(bounds: Int64s, low: Int64s) -> int:
    """Return how many intervals have spans: all of them, or none."""
    if bounds.shape[0] == 0 or low.shape[0] > MOST_INTERVALS:
        return 0
    return int(low.shape[0])


@kernel
def _first(bounds: Int64s, column: int, which: int, key: int) -> int:
    """Return the first bucket whose bound is not below `key`, or how many buckets there are."""
    begin = 0
    length = bounds.shape[2]
    while length > 0:
        half = length // 2
        if bounds[column, which, begin + half] < key:
            begin += half + 1
            length -= half + 1
        else:
            length = half
    return begin


@kernel
def fill_spans(
    bounds: Int64s, ops: Int64s, intervals_op: int, low: Int64s, high: Int64s, spans: Int64s
) -> None:
    """Write the spans of the intervals of a program into `spans` (intervals, SPAN_FIELDS).

    FROM > TO where no row is in it. `intervals_op` is the opcode of intervals. Does nothing where
    `spans` is empty.
    """
    if spans.shape[0] == 0:
        return
    for at in range(ops.shape[0]):
        if ops[at, 0] != intervals_op:
            continue
        column = ops[at, 1]
        for t in range(ops[at, 2], ops[at, 3]):
            begin = _first(bounds, column, GREATEST, low[t])
            end = _first(bounds, column, LEAST, high[t])
            # `end` may begin at `high` itself, or behind it.
            if end == bounds.shape[2] or bounds[column, LEAST, end] > high[t]:
                end -= 1
            edges = 0
            if begin <= end:
                if bounds[column, LEAST, begin] < low[t]:
                    edges |= _LOW_EDGE
                if bounds[column, GREATEST, end] > high[t]:
                    edges |= _HIGH_EDGE
            spans[t, FROM] = begin
            spans[t, TO] = end
            spans[t, EDGES] = edges


@kernel
def span_word(
    numbers: Uint16s,
    keys: Int64s,
    column: int,
    first: int,
    low: int,
    high: int,
    spans: Int64s,
    t: int,
    relevant: np.uint64,
) -> np.uint64:
    """Return the word of low <= key <= high for the 64 keys from `first`; interval t is theirs.

    Only `relevant` rows count.
    """
    begin = spans[t, FROM]
    end = spans[t, TO]
    edges = spans[t, EDGES]
    word = np.uint64(0)
    if begin > end:
        return word
    word |= bucket_between(numbers, column, first, begin, end)
    if edges != 0:
        rest = np.uint64(0)
        if edges & _LOW_EDGE:
            rest |= bucket_between(numbers, column, first, begin, begin)
        if edges & _HIGH_EDGE:
            rest |= bucket_between(numbers, column, first, end, end)
        rest &= relevant
        while rest != 0:
            v = trailing_zeros(rest)
            rest &= rest - np.uint64(1)
            key = keys[column, first + v]
            if key < low or key > high:
                word &= ~(np.uint64(1) << np.uint64(v))
    return word
