"""Zones: what the keys of a group of rows can be, so that a scan may pass the group over.

A zone is [least key, greatest key, set], the set having bit k % 64 for each key k. It tells apart
the values of a column with few of them even where groups hold several.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import entry, in_i64, in_i64_2d, kernel, out_i64_3d

Int64s = npt.NDArray[np.int64]

LEAST = 0
GREATEST = 1
SET = 2
FIELDS = 3

ANY = -1
"""The set of which every key may be a member."""


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
def members_of(low: Int64s, high: Int64s, begin: int, end: int) -> int:
    """Return the set of the keys in the intervals begin … end - 1, ANY if they are many."""
    members = np.uint64(0)
    for t in range(begin, end):
        # Unsigned, for the width of an interval may not fit.
        if np.uint64(high[t]) - np.uint64(low[t]) >= np.uint64(63):
            return ANY
        for key in range(low[t], high[t] + 1):
            members |= np.uint64(1) << np.uint64(key & 63)
    return int(np.int64(members))
