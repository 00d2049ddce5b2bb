"""The index as data: what it is over (`IndexSpec`), its parts (`Part`), a version (`Snapshot`).

    index = one base part (a segment file: inverted lists)
          + delta parts (rows committed since, one list each, in memory)

A part holds n rows in list order. Rows 0 … n_vectors-1 have a vector; the rest have none (NULL, or
a zero vector under cosine), so no distance: they come last in any order. Every column kept in the
index (the key first, then the attributes) is a row of `keys` (A, n), see `attributes`.

`alive` has a bit for each row, set if it is still current: bit r % 64 of word r // 64. A changed
row is dead in the part that had it and alive in the newest delta; parts are immutable, so a change
makes a new Part that shares all arrays but `alive`. `tie` is the rank of a row's key within its
part, `zones` and `list_zones` what the keys of 64 rows and of a list can be (see kernels.zones),
`buckets` and `bucket_bounds` the keys in sixteen bits (see kernels.buckets), or empty. `known`
keeps what DuckDB has said of the dictionaries' values.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hybridq.index.attributes import AttributeType, decode, encode, find_codes
from hybridq.index.codes import Codes
from hybridq.index.places import Places
from hybridq.nodes import Metric, TableName

Float32s: TypeAlias = npt.NDArray[np.float32]
Int64s: TypeAlias = npt.NDArray[np.int64]
Uint64s: TypeAlias = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """A column kept in the index."""

    name: str
    type: AttributeType


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """What an index is over; `columns` are the key columns, then the attributes.

    `catalog` is what DuckDB calls the file while it is open.
    """

    name: str
    schema: str
    table: str
    column: str
    metric: Metric
    dim: int
    key_count: int
    columns: tuple[IndexColumn, ...]
    nlist: int | None = None
    recall: float | None = None
    catalog: str | None = None

    @property
    def key_columns(self) -> tuple[IndexColumn, ...]:
        """The columns that identify a row."""
        return self.columns[: self.key_count]

    @property
    def table_name(self) -> TableName:
        """The table, with its schema."""
        return TableName(name=self.table, schema=self.schema, catalog=self.catalog)

    def position_of(self, column: str) -> int | None:
        """Return the place of `column` (case-insensitive) among the columns."""
        wanted = column.lower()
        for i, candidate in enumerate(self.columns):
            if candidate.name.lower() == wanted:
                return i
        return None


_KEPT = 256
_ONE = np.uint64(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Lists to visit by k, target recall and share of passing rows, as natural logarithms.

    `lists` is (len(ks), len(targets), len(shares)); shares ascend, targets ascend. Calibrated on
    random subsamples of the table; `gamma` corrects for shares that differ near the query.
    """

    ks: Int64s
    targets: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    lists: npt.NDArray[np.float64]
    gamma: float
    _known: dict[tuple[int, float], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = (
        field(default_factory=dict, compare=False, repr=False)
    )
    _lines: dict[tuple[int, float], tuple[list[float], list[float]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def for_query(
        self, k: int, target: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (shares, lists) for one query, interpolated in k and target."""
        known = self._known.get((k, target))
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
                self._lines.clear()
            known = self._known[k, target] = self._interpolated(k, target)
        return known

    def at(self, k: int, target: float, share: float) -> float:
        """Return the logarithm of the lists to visit, interpolated in the logarithm `share`."""
        known = self._lines.get((k, target))
        if known is None:
            shares, lists = self.for_query(k, target)
            known = self._lines[k, target] = shares.tolist(), lists.tolist()
        x, y = known
        # What np.interp does, at a tenth of its cost for a single value.
        right = bisect.bisect_right(x, share)
        if right == 0:
            return y[0]
        if right == len(x):
            return y[-1]
        slope = (y[right] - y[right - 1]) / (x[right] - x[right - 1])
        return y[right - 1] + slope * (share - x[right - 1])

    def _interpolated(
        self, k: int, target: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        if k > self.ks[-1]:
            # As many lists hold k of a share as hold ks[-1] of a share that much smaller.
            shares, lists = self.for_query(int(self.ks[-1]), target)
            return shares + np.log(k / self.ks[-1]), lists
        by_k = [
            np.array([np.interp(target, self.targets, row) for row in self.lists[i].T])
            for i in range(len(self.ks))
        ]
        position = float(np.interp(np.log(k), np.log(self.ks), np.arange(len(self.ks))))
        below = int(position)
        above = min(below + 1, len(self.ks) - 1)
        weight = position - below
        return self.shares, by_k[below] * (1 - weight) + by_k[above] * weight


def all_live(rows: int) -> Uint64s:
    """Return `Part.alive` of a part whose rows are all current."""
    words = np.full(-(-rows // 64), ~np.uint64(0))
    if rows % 64:
        words[-1] = (_ONE << np.uint64(rows % 64)) - _ONE
    return words


def _no_zones() -> Int64s:
    return np.empty((0, 0, 3), np.int64)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some rows of an index, in list order; see the module's text."""

    spec: IndexSpec
    vectors: Float32s
    keys: Int64s
    dictionaries: tuple[pa.Array | None, ...]
    centroids: Float32s
    list_offsets: Int64s
    list_radius: Float32s
    tie: Int64s
    row_hash: Uint64s
    alive: Uint64s
    permutations: Int64s | None = None
    ladder: Ladder | None = None
    codes: Codes | None = None
    dead: int = 0
    sample: Int64s = field(default_factory=lambda: np.empty((0, 0), np.int64))
    zones: Int64s = field(default_factory=_no_zones)
    list_zones: Int64s = field(default_factory=_no_zones)
    buckets: npt.NDArray[np.uint16] = field(default_factory=lambda: np.empty((0, 0), np.uint16))
    bucket_bounds: Int64s = field(default_factory=_no_zones)
    known: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def rows(self) -> int:
        """Rows, dead ones included."""
        return int(self.keys.shape[1])

    @cached_property
    def n_vectors(self) -> int:
        """Rows that have a distance, dead ones included."""
        return int(self.vectors.shape[0])

    @cached_property
    def nlist(self) -> int:
        """Inverted lists."""
        return int(self.list_offsets.shape[0]) - 1

    @cached_property
    def _places(self) -> Places:
        return Places(self.keys[: self.spec.key_count], self.permutations)

    def find(self, key: Sequence[pa.Array]) -> Int64s:
        """Return the position of each key (an array per key column), -1 where there is none."""
        if self.rows == 0:
            return np.full(len(key[0]), -1, np.int64)
        codes = np.empty((len(key), len(key[0])), np.int64)
        for i, (column, values) in enumerate(zip(self.spec.key_columns, key, strict=True)):
            dictionary = self.dictionaries[i]
            if dictionary is not None:
                codes[i] = find_codes(values, dictionary)
            else:
                codes[i] = encode(values, column.type).keys
        return self._places.find(codes)

    def without(self, positions: Int64s) -> Part:
        """Return this part with the rows at `positions` dead."""
        positions = np.unique(positions[self.is_live(positions)])
        if len(positions) == 0:
            return self
        alive = self.alive.copy()
        np.bitwise_and.at(alive, positions >> 6, ~(_ONE << (positions & 63).astype(np.uint64)))
        return replace(self, alive=alive, dead=self.dead + len(positions))

    def is_live(self, positions: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which positions are those of live rows; -1 is none."""
        if self.rows == 0:
            return np.zeros(len(positions), np.bool_)
        bits = self.alive[positions >> 6] >> (positions & 63).astype(np.uint64)
        found: npt.NDArray[np.bool_] = (positions >= 0) & ((bits & _ONE) != 0)
        return found

    def live(self) -> Int64s:
        """Return the positions of all live rows, ascending."""
        if self.dead == 0:
            return np.arange(self.rows)
        bits = np.unpackbits(self.alive.view(np.uint8), count=self.rows, bitorder="little")
        return np.flatnonzero(bits)

    def values(self, column: int, positions: Int64s) -> list[Any]:
        """Return Python values of one column at `positions`."""
        return decode(
            self.keys[column].take(positions),
            self.spec.columns[column].type,
            self.dictionaries[column],
        )

    def key_values(self, positions: Int64s) -> list[tuple[Any, ...]]:
        """Return the keys at `positions` as tuples that compare in key order."""
        columns: list[list[Any]] = []
        for i, column in enumerate(self.spec.key_columns):
            if self.dictionaries[i] is not None:
                columns.append(self.values(i, positions))
            else:
                columns.append(self.keys[i, positions].tolist())
            assert column.type.identifies
        return list(zip(*columns, strict=True))


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The parts of an index at one version, the base part first."""

    spec: IndexSpec
    parts: tuple[Part, ...]
    version: int
    size_bytes: int

    @cached_property
    def live_rows(self) -> int:
        """Rows that are current."""
        return sum(p.rows - p.dead for p in self.parts)

    @cached_property
    def delta_rows(self) -> int:
        """Current rows outside the base part."""
        return sum(p.rows - p.dead for p in self.parts[1:])
