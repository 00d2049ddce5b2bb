"""Rows as writes gave them, become a change of an index.

The last write of a key counts. Where a write did not tell the rows, they are read from the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybridq.arrow import pa
from hybridq.errors import DamagedError
from hybridq.index import maintain
from hybridq.index.attributes import encode, plain_key_of, plain_keys_of
from hybridq.index.delta import Change, flat_part, part_of
from hybridq.index.ivf import IndexSpec, Int64s, Part, Snapshot
from hybridq.index.patch import patched
from hybridq.index.rows import Rows
from hybridq.index.tail import FLAT_ROWS, UNHASHED, OneRow
from hybridq.nodes import Metric
from hybridq.progress import NoProgress
from hybridq.storage.manifest import Duck


@dataclass(frozen=True, slots=True)
class Captured:
    """What one statement changed: keys (an array per key column), and their rows after it.

    `rows` has the columns of `maintain.row_columns`, row i having key i; None if it is not known,
    and no rows if they were deleted. `fresh` keys were not in the table before, and differ. Keys
    are `logged` if the statement did that itself; of such rows they need not be given.
    """

    named: list[pa.Array] | None
    rows: pa.Table | FewRows | OneByOne | Attributes | None
    fresh: bool = False
    logged: bool = False

    @property
    def keys(self) -> list[pa.Array]:
        """The keys."""
        if self.named is None:
            assert isinstance(self.rows, OneByOne)
            return maintain.key_arrays(self.rows.spec, self.rows.few().rows)
        return self.named

    def table(self) -> pa.Table | None:
        """Return the rows as a table, None if they are not known."""
        rows = self.rows.few() if isinstance(self.rows, OneByOne) else self.rows
        if isinstance(rows, Attributes):
            return None
        return rows.table() if isinstance(rows, FewRows) else rows


@dataclass(frozen=True, slots=True)
class Attributes:
    """The columns of the index of rows whose vectors are what they were.

    A table with columns c0 …, or a few rows as Python's values, if these are the database's.
    """

    rows: pa.Table | Sequence[Sequence[Any]]

    def keys(self, spec: IndexSpec) -> tuple[Int64s, tuple[pa.Array | None, ...]]:
        """Return the keys (A, n) of all columns, and their dictionaries."""
        rows = self.rows
        if isinstance(rows, pa.Table):
            encoded = [encode(rows.column(f"c{i}"), c.type) for i, c in enumerate(spec.columns)]
            found = [(e.keys, e.dictionary) for e in encoded]
        else:
            columns = zip(zip(*rows, strict=True), spec.columns, strict=True)
            found = [plain_keys_of([*values], c.type) for values, c in columns]
        return np.array([keys for keys, _ in found]), tuple(d for _, d in found)


@dataclass(frozen=True, slots=True)
class OneByOne:
    """Rows that statements inserted one after the other, or the one that a statement updated."""

    spec: IndexSpec
    rows: list[OneRow]

    def few(self) -> FewRows:
        """Return them as rows of values."""
        return FewRows(
            self.spec, [(*row.values(self.spec), row.vector, row.hash) for row in self.rows]
        )


@dataclass(frozen=True, slots=True)
class FewRows:
    """Whole rows as Python's values: the columns of the index, then vector and hash.

    Only for kinds of which Python's values are the database's, see `PLAIN`; and a few rows, for
    which Arrow would cost more than all else.
    """

    spec: IndexSpec
    rows: Sequence[Sequence[Any]]

    def table(self) -> pa.Table:
        """Return them as a table."""
        columns = list(zip(*self.rows, strict=True))
        table: dict[str, pa.Array] = {
            f"c{i}": pa.array(columns[i], maintain.arrow_type(c.type.kind, c.type.scale))
            for i, c in enumerate(self.spec.columns)
        }
        table["v"] = pa.array(columns[-2], pa.list_(pa.float32()))
        table["h"] = pa.array(columns[-1], pa.uint64())
        return pa.table(table)

    def part(self) -> Part:
        """Return them as a part without lists."""
        spec, width = self.spec, len(self.spec.columns)
        near = [row for row in self.rows if self._has_distance(row[width])]
        ordered = near if len(near) == len(self.rows) else self._far_last(near)
        keys = np.empty((width, len(ordered)), np.int64)
        dictionaries: list[pa.Array | None] = []
        for i, column in enumerate(spec.columns):
            keys[i], dictionary = plain_keys_of([row[i] for row in ordered], column.type)
            dictionaries.append(dictionary)
        vectors = np.array([row[width] for row in near], np.float32).reshape(-1, spec.dim)
        hashes = np.array([row[width + 1] for row in ordered], np.uint64)
        return flat_part(spec, vectors, keys, tuple(dictionaries), hashes)

    def one(self) -> OneRow | None:
        """Return the only row, None if it has no distance."""
        (row,) = self.rows
        width = len(self.spec.columns)
        if not self._has_distance(row[width]):
            return None
        keys = [
            value if c.type.has_dictionary else plain_key_of(value, c.type)
            for value, c in zip(row[:width], self.spec.columns, strict=True)
        ]
        return OneRow(keys, np.asarray(row[width], np.float32), row[width + 1] or UNHASHED)

    def _has_distance(self, vector: Any) -> bool:
        if vector is None:
            return False
        return self.spec.metric is not Metric.COSINE or any(vector)

    def _far_last(self, near: list[Sequence[Any]]) -> list[Sequence[Any]]:
        kept = {id(row) for row in near}
        return [*near, *(row for row in self.rows if id(row) not in kept)]


def change_of(duck: Duck, snapshot: Snapshot, captured: Sequence[Captured]) -> Change:
    """Return the change that statements made, one after the other, as `duck` sees them."""
    spec = snapshot.spec
    if len(captured) == 1:
        one = _patched(captured[0], snapshot) or _few(captured[0], snapshot)
        if one is not None:
            return one
    known = _last_of_each(spec, captured)
    if known is None:
        keys = maintain.distinct_keys(spec, [c.keys for c in captured])
        return maintain.read_change(duck, snapshot, keys)
    keys, tables = known
    if len(tables) > 1:  # they may come by ways that know types of other widths
        tables = [_plain(spec, table) for table in tables]
    batches = [batch for table in tables for batch in table.combine_chunks().to_batches()]
    part = part_of(Rows(spec, batches, NoProgress()), snapshot.generation)
    return Change(keys, part, fresh=all(c.fresh for c in captured) and len(captured) == 1)


def _patched(captured: Captured, snapshot: Snapshot) -> Change | None:
    """Return the change of rows that the snapshot has the vectors of."""
    if not isinstance(captured.rows, Attributes):
        return None
    try:
        rows = patched(snapshot, captured.keys, *captured.rows.keys(snapshot.spec))
    except DamagedError:
        return None  # the table has them, too
    if isinstance(rows, OneRow):
        return Change(captured.keys, None, row=rows)
    return None if rows is None else Change(captured.keys, rows)


def _few(captured: Captured, snapshot: Snapshot) -> Change | None:
    """Return the change of a few rows in one list, None if there are many, or none are known."""
    rows, fresh = captured.rows, captured.fresh
    if isinstance(rows, OneByOne):
        if len(rows.rows) == 1:
            keys = captured.named if captured.named is not None else []
            return Change(keys, None, fresh=fresh, row=rows.rows[0])
        if len(rows.rows) > FLAT_ROWS:
            return None
        return Change([], rows.few().part(), fresh=fresh)
    if isinstance(rows, pa.Table) and not rows.num_rows:
        return Change(captured.keys, None)
    if not isinstance(rows, FewRows) or len(rows.rows) != 1:
        return None
    row = rows.one()
    return Change(captured.keys, rows.part() if row is None else None, fresh=fresh, row=row)


def _plain(spec: IndexSpec, table: pa.Table) -> pa.Table:
    columns = {
        f"c{i}": maintain.plain_column(table.column(f"c{i}").combine_chunks(), spec, i)
        for i in range(len(spec.columns))
    }
    return pa.table({**columns, "v": table.column("v"), "h": table.column("h")})


def _last_of_each(
    spec: IndexSpec, captured: Sequence[Captured]
) -> tuple[list[pa.Array], list[pa.Table]] | None:
    """Return the distinct keys, and of each the row it has after all; None if that is not known."""
    known: list[pa.Table] = []
    for c in captured:
        rows = c.table()
        if rows is None:
            return None
        known.append(rows)
    if len(captured) == 1 and (captured[0].fresh or len(captured[0].keys[0]) == 1):
        return captured[0].keys, [known[0]] if known[0].num_rows else []
    names = [f"k{i}" for i in range(spec.key_count)]
    sizes = [len(c.keys[0]) for c in captured]
    together = pa.concat_tables(
        [pa.table(dict(zip(names, c.keys, strict=True))) for c in captured],
        promote_options="permissive",
    )
    together = together.append_column(
        "statement", pa.array(np.repeat(np.arange(len(sizes)), sizes))
    )
    together = together.append_column("at", pa.array(np.arange(len(together))))
    found = together.group_by([*names, "statement"]).aggregate([("at", "max")])
    if len(found) < len(together):
        return None  # a statement that names a row twice does not say what became of it
    if len(captured) > 1:
        found = together.group_by(names).aggregate([("at", "max")])
    keys = [found.column(n).combine_chunks() for n in names]
    last = np.sort(np.asarray(found.column("at_max")))
    tables: list[pa.Table] = []
    start = 0
    for rows, size in zip(known, sizes, strict=True):
        inside = last[(last >= start) & (last < start + size)] - start
        start += size
        if rows.num_rows == 0:
            continue
        tables.append(rows if len(inside) == size else rows.take(pa.array(inside)))
    return keys, tables
