"""From keys to positions: where in a part the row with a key lies.

A key is looked up by one number. For a single column that is the column's code; the codes of a
composite key are joined into one number where their ranges allow it, else hashed as bytes.
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.kernels import places

Int64s: TypeAlias = npt.NDArray[np.int64]

_SPREAD = 4
"""Numbers per row, at most, for which a table of all of them is kept."""

_LARGEST = 2**62


class Places:
    """Positions of the keys (columns, rows) of a part, each of them there once.

    `orders` may have, per column, the positions in order of its codes.
    """

    def __init__(self, keys: Int64s, orders: Int64s | None) -> None:
        self._keys = keys
        self._orders = orders

    def find(self, codes: Int64s) -> Int64s:
        """Return the position of each key of `codes` (columns, m), -1 where there is none."""
        if self._ranges is None:
            packed = np.ascontiguousarray(codes.T)
            table = self._by_bytes
            return np.array([table.get(row.tobytes(), -1) for row in packed], np.int64)
        low, high = self._ranges
        if len(codes) == 1 and self._table is not None:
            out = np.empty(codes.shape[1], np.int64)
            places.look_up(codes[0], int(low[0]), self._table, out)
            return out
        inside = np.ones(codes.shape[1], np.bool_)
        for column, codes_of in enumerate(codes):
            inside &= (codes_of >= low[column]) & (codes_of <= high[column])
        numbers = self._numbers(np.where(inside, codes, low[:, None]))
        return np.where(inside, self._lookup(numbers), -1).astype(np.int64, copy=False)

    def _lookup(self, numbers: Int64s) -> npt.NDArray[np.signedinteger]:
        if self._table is not None:
            return self._table[numbers]
        positions, ordered = self._ordered
        at = np.minimum(np.searchsorted(ordered, numbers), len(ordered) - 1)
        return np.where(ordered[at] == numbers, positions[at], -1)

    @cached_property
    def _ranges(self) -> tuple[Int64s, Int64s] | None:
        """The least and the greatest code per column; None if they do not fit one number."""
        low, high = self._keys.min(axis=1), self._keys.max(axis=1)
        sizes = [int(b) - int(a) + 1 for a, b in zip(low, high, strict=True)]
        product = 1
        for size in sizes:
            product *= size
        return (low, high) if product < _LARGEST else None

    def _numbers(self, codes: Int64s) -> Int64s:
        """Return one number from 0 on per key whose codes are within the ranges."""
        assert self._ranges is not None
        low, high = self._ranges
        numbers = codes[0] - low[0]
        for column in range(1, len(codes)):
            numbers = numbers * (high[column] - low[column] + 1) + (codes[column] - low[column])
        return np.asarray(numbers, np.int64)

    @cached_property
    def _table(self) -> npt.NDArray[np.int32] | None:
        """The position by number, where there are not many more numbers than rows."""
        assert self._ranges is not None
        low, high = self._ranges
        numbers = 1
        for a, b in zip(low.tolist(), high.tolist(), strict=True):
            numbers *= b - a + 1
        rows = self._keys.shape[1]
        if numbers > _SPREAD * rows + 64 or rows > np.iinfo(np.int32).max:
            return None
        table = np.full(numbers, -1, np.int32)
        table[self._numbers(self._keys)] = np.arange(rows, dtype=np.int32)
        return table

    @cached_property
    def _ordered(self) -> tuple[Int64s, Int64s]:
        """(positions, their numbers) in order of the numbers."""
        numbers = self._numbers(self._keys)
        alone = len(self._keys) == 1 and self._orders is not None
        order = self._orders[0] if alone and self._orders is not None else np.argsort(numbers)
        return order, numbers[order]

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        packed = np.ascontiguousarray(self._keys.T)
        return {row.tobytes(): i for i, row in enumerate(packed)}
