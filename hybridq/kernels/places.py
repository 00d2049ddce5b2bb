"""Positions of keys, and bitmaps of positions: passes over as many keys as a table has rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import entry, i64, in_i32, in_i64, in_u64, out_i64, out_u64

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]


@entry(in_i64, i64, in_i32, out_i64)
def look_up(codes: Int64s, low: int, table: Int32s, out: Int64s) -> None:
    """Write table[code - low] of each code (m,) into `out` (m,), -1 for what lies outside."""
    size = np.uint64(table.shape[0])
    for i in range(codes.shape[0]):
        # Unsigned, so that what is below lies beyond the end; as subtraction wraps, so do both.
        at = np.uint64(codes[i]) - np.uint64(low)
        out[i] = table[np.int64(at)] if at < size else -1


@entry(in_i64, in_u64, out_u64, returns=i64)
def mark(positions: Int64s, alive: Uint64s, words: Uint64s) -> int:
    """Set the bits of those of `positions` (m,) that are alive; return how many. -1 is none."""
    found = 0
    for i in range(positions.shape[0]):
        position = positions[i]
        if position < 0:
            continue
        bit = np.uint64(1) << np.uint64(position & 63)
        if alive[position >> 6] & bit:
            words[position >> 6] |= bit
            found += 1
    return found
