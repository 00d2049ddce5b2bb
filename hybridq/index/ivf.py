"""The index as data: what it is over (`IndexSpec`), its parts (`Part`), a version (`Snapshot`).

    index = segments (files: inverted lists)
          + delta parts (rows committed since, in memory; a few of them lie in one list)

Segments and larger delta parts are of one *generation*: they share centroids, rotation and
stopping rule, so that a merge of them moves rows and codes, and nothing is computed anew.

A part holds n rows in list order. Rows 0 … n_vectors-1 have a vector; the rest have none (NULL, or
a zero vector under cosine), so no distance: they come last in any order. Every column kept in the
index (the key first, then the attributes) is a row of `keys` (A, n), see `attributes`.

`alive` has a bit for each row, set if it is still current: bit r % 64 of word r // 64. A changed
row is dead in the part that had it and alive in the newest delta; parts are immutable, so a change
makes a new Part that shares all arrays but `alive`. `tie` is the rank of a row's key within its
part, `zones` and `list_zones` what the keys of 64 rows and of a list can be (see kernels.zones),
`buckets` and `bucket_bounds` the keys in sixteen bits (see kernels.buckets), or empty. `known`
keeps what DuckDB has said of the dictionaries' values, and some of the zones side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa
from hybridq.index.attributes import AttributeType, decode, encode, find_codes
from hybridq.index.codes import Codes
from hybridq.index.generation import Generation
from hybridq.index.ladder import Ladder
from hybridq.index.places import Places
from hybridq.nodes import Metric, TableName
from hybridq.progress import Progress

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

    def is_vector(self, column: str) -> bool:
        """Tell whether `column` (case-insensitive) is that of the vectors."""
        return column.lower() == self.column.lower()

    def position_of(self, column: str) -> int | None:
        """Return the place of `column` (case-insensitive) among the columns."""
        wanted = column.lower()
        for i, candidate in enumerate(self.columns):
            if candidate.name.lower() == wanted:
                return i
        return None


_ONE = np.uint64(1)
_uids = itertools.count(1)


def all_live(rows: int) -> Uint64s:
    """Return `Part.alive` of a part whose rows are all current."""
    words = np.full(-(-rows // 64), ~np.uint64(0))
    if rows % 64:
        words[-1] = (_ONE << np.uint64(rows % 64)) - _ONE
    return words


def key_codes(spec: IndexSpec, key: Sequence[pa.Array]) -> Int64s:
    """Return the codes (columns, m) of keys; those of text are a matter of each part."""
    codes = np.zeros((len(key), len(key[0])), np.int64)
    for i, (column, values) in enumerate(zip(spec.key_columns, key, strict=True)):
        if not column.type.has_dictionary:
            codes[i] = encode(values, column.type).keys
    return codes


def _no_zones() -> Int64s:
    return np.empty((0, 0, 3), np.int64)


class Unverified(Protocol):
    """Vectors of a mapped segment that nobody has read through yet."""

    @property
    def is_damaged(self) -> bool:
        """Tell whether a check failed."""

    def check(self, positions: Int64s) -> None:
        """Raise OperationalError if a vector at one of `positions` is not as it was written."""

    def check_all(self, progress: Progress) -> None:
        """Do the same for all of them."""


@dataclass(slots=True, eq=False)
class Room:
    """Where a part that grows row by row has its rows, see `tail`: vectors (n, d), hashes (n,).

    The first `used` of them belong to some version of the part.
    """

    vectors: Float32s
    hashes: Uint64s
    used: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some rows of an index, in list order; see the module's text.

    `segment` is the name of its file, if it has one; `uid` stays the same while rows of it die.
    `spread` is the mean distance of its rows from their centroids. `places` finds keys, once it
    was asked to, for all that the part becomes while its rows die. `room` is where it can grow.
    """

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
    generation: str = ""
    segment: str | None = None
    size_bytes: int = 0
    spread: float = 0.0
    unverified: Unverified | None = None
    places: list[Places] = field(default_factory=list, compare=False, repr=False)
    room: Room | None = field(default=None, repr=False)
    uid: int = field(default_factory=_uids.__next__)

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

    @property
    def _places(self) -> Places:
        if not self.places:
            self.places.append(Places(self.keys[: self.spec.key_count], self.permutations))
        return self.places[0]

    def find(self, key: Sequence[pa.Array], known: Int64s | None = None) -> Int64s:
        """Return the position of each key (an array per key column), -1 where there is none.

        `known` are its codes as from `key_codes`, for who asks several parts; with them only a key
        that has a text need be given.
        """
        codes = key_codes(self.spec, key) if known is None else known
        if self.rows == 0:
            return np.full(codes.shape[1], -1, np.int64)
        if any(d is not None for d in self.dictionaries[: len(key)]):
            codes = codes.copy()
            for i, values in enumerate(key):
                dictionary = self.dictionaries[i]
                if dictionary is not None:
                    codes[i] = find_codes(values, dictionary)
        return self._places.find(codes)

    def without(self, positions: Int64s) -> Part:
        """Return this part with the rows at `positions` dead."""
        positions = np.unique(positions[self.is_live(positions)])
        if len(positions) == 0:
            return self
        alive = self.alive.copy()
        np.bitwise_and.at(alive, positions >> 6, ~(_ONE << (positions & 63).astype(np.uint64)))
        return replace(self, alive=alive, dead=self.dead + len(positions))

    def with_more(self, **fields: Any) -> Part:
        """Return a part that has other rows, as `fields` say; else like `dataclasses.replace`.

        Which takes thrice the time, and single rows come by the thousand.
        """
        part = object.__new__(Part)
        known = part.__dict__
        known.update(self.__dict__)
        for name in ("rows", "n_vectors", "nlist"):
            known.pop(name, None)
        known.update(fields, known={}, places=[], uid=next(_uids))
        return part

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """The parts of an index at one version, the largest segment first.

    Rows that are written from now on are coded for `generation`. `layout` counts the merges: of
    one version and layout, a position means one row.
    """

    spec: IndexSpec
    parts: tuple[Part, ...]
    version: int
    generation: Generation
    layout: int = 0

    @property
    def stamp(self) -> tuple[int, int]:
        """What positions are valid for."""
        return self.version, self.layout

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of the segment files."""
        return sum(p.size_bytes for p in self.parts)

    @cached_property
    def live_rows(self) -> int:
        """Rows that are current."""
        return sum(p.rows - p.dead for p in self.parts)

    @cached_property
    def delta_rows(self) -> int:
        """Current rows that are in no segment yet."""
        return sum(p.rows - p.dead for p in self.parts if p.segment is None)

    @cached_property
    def flat_rows(self) -> int:
        """Current rows of the parts after the first that are scanned without codes."""
        return sum(p.rows - p.dead for p in self.parts[1:] if p.codes is None)
