"""Keep an index current: read its rows, find what changed.

SQL here is generated from the spec alone. Key columns are named k0, k1 … and all columns of the
index c0, c1 … so that no user's name can clash.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from hybridq.arrow import pa, pc
from hybridq.index.attributes import NULL_KEY, Kind
from hybridq.index.delta import Change, fold, part_of
from hybridq.index.ivf import IndexColumn, IndexSpec, Int64s, Part, Snapshot
from hybridq.index.rows import Rows
from hybridq.index.tail import UNHASHED
from hybridq.nodes import quote
from hybridq.progress import NoProgress
from hybridq.storage.manifest import Duck, changes_table, describe

_KEYS_VIEW = "__hybridq_keys"
_LOG_VIEW = "__hybridq_log"
_HASH_VIEW = "__hybridq_hash"
_BATCH_ROWS = 16_384
FEW_KEYS = 4
"""So many rows are read and logged faster as Python's values."""


def row_hash(spec: IndexSpec) -> str:
    """Return the SQL of a row's hash: over everything the index keeps of it."""
    names = [quote(c.name) for c in spec.columns]
    return f"hash({', '.join(names)}, {quote(spec.column)})"


def row_columns(spec: IndexSpec) -> list[tuple[str, str]]:
    """Return (expression, name) of what the index reads of a row: c0 …, v (vector), h (hash)."""
    columns = [(quote(c.name), f"c{i}") for i, c in enumerate(spec.columns)]
    vector = f"CAST({quote(spec.column)} AS FLOAT[])"
    return [*columns, (vector, "v"), (row_hash(spec), "h")]


def rows_query(spec: IndexSpec) -> str:
    """Return the SELECT that reads the index's columns, without a WHERE."""
    columns = ", ".join(f"{expression} AS {name}" for expression, name in row_columns(spec))
    return f"SELECT {columns} FROM {spec.table_name.sql()}"


def read_rows(duck: Duck, query: str) -> Generator[pa.RecordBatch, None, None]:
    """Yield the rows of `query` in batches of bounded size; closing it frees the connection."""
    with duck.sql(query).to_arrow_reader(_BATCH_ROWS) as reader:
        yield from reader


def read_keys(duck: Duck, spec: IndexSpec, keys: Sequence[pa.Array]) -> Iterator[pa.RecordBatch]:
    """Yield the current rows of the given keys."""
    yield from _of_keys(duck, spec, keys, row_columns(spec)).to_batches()


def read_attributes(duck: Duck, spec: IndexSpec, keys: Sequence[pa.Array]) -> pa.Table:
    """Return the columns of the index, c0 …, of the given keys as they are now."""
    return _of_keys(duck, spec, keys, row_columns(spec)[: len(spec.columns)])


def _of_keys(
    duck: Duck, spec: IndexSpec, keys: Sequence[pa.Array], columns: Sequence[tuple[str, str]]
) -> pa.Table:
    names = ", ".join(f"{expression} AS {name}" for expression, name in columns)
    query = f"SELECT {names} FROM {spec.table_name.sql()} AS t"
    if len(keys[0]) <= FEW_KEYS:
        few, given = few_query(spec, keys, columns)
        return duck.sql(few, params=given or None).to_arrow_table()
    duck.register(_KEYS_VIEW, pa.table({f"k{i}": k for i, k in enumerate(keys)}))
    try:
        match = " AND ".join(_same_key(c, f"q.k{i}") for i, c in enumerate(spec.key_columns))
        return duck.sql(f"{query} SEMI JOIN {_KEYS_VIEW} AS q ON ({match})").to_arrow_table()
    finally:
        duck.unregister(_KEYS_VIEW)


def few_query(
    spec: IndexSpec, keys: Sequence[pa.Array], columns: Sequence[tuple[str, str]]
) -> tuple[str, dict[str, Any]]:
    """Return the query of the rows of a few keys, and its parameters."""
    names = ", ".join(f"{expression} AS {name}" for expression, name in columns)
    given: dict[str, Any] = {}
    conditions: list[str] = []
    for row, values in enumerate(zip(*(k.to_pylist() for k in keys), strict=True)):
        given |= {f"k{i}_{row}": value for i, value in enumerate(values)}
        each = (_same_key(c, f"$k{i}_{row}") for i, c in enumerate(spec.key_columns))
        conditions.append(f"({' AND '.join(each)})")
    where = " OR ".join(conditions) or "false"
    return f"SELECT {names} FROM {spec.table_name.sql()} AS t WHERE {where}", given


def _same_key(column: IndexColumn, value: str) -> str:
    name, given = f"t.{quote(column.name)}", f"CAST({value} AS {column.type.sql})"
    if column.type.kind is Kind.TEXT:
        # A collation finds 'A' for 'a'; they are two keys.
        return f"{name} = {given} AND encode({name}) = encode({given})"
    return f"{name} = {given}"


def key_arrays(spec: IndexSpec, rows: Sequence[Sequence[Any]]) -> list[pa.Array]:
    """Turn key tuples, as DuckDB's client gives them, into one array per key column."""
    arrays: list[pa.Array] = []
    for i, column in enumerate(spec.key_columns):
        values = [row[i] for row in rows]
        if column.type.kind is Kind.UUID:
            values = [str(v) for v in values]
        arrays.append(pa.array(values, arrow_type(column.type.kind, column.type.scale)))
    return arrays


def arrow_type(kind: Kind, scale: int) -> pa.DataType:
    """Return the Arrow type that holds values of `kind`."""
    match kind:
        case Kind.BOOLEAN:
            return pa.bool_()
        case Kind.INTEGER:
            return pa.int64()
        case Kind.UBIGINT:
            return pa.uint64()
        case Kind.FLOAT | Kind.DOUBLE:
            return pa.float64()
        case Kind.DECIMAL:
            return pa.decimal128(18, scale)
        case Kind.DATE:
            return pa.date32()
        case Kind.TIME:
            return pa.time64("us")
        case Kind.TIMESTAMP:
            return pa.timestamp("us")
        case Kind.TIMESTAMPTZ:
            return pa.timestamp("us", tz="UTC")
        case Kind.TEXT | Kind.UUID | Kind.ENUM:
            return pa.string()


def distinct_keys(spec: IndexSpec, logs: Sequence[Sequence[pa.Array]]) -> list[pa.Array]:
    """Concatenate key logs and drop repetitions."""
    names = [f"k{i}" for i in range(spec.key_count)]
    tables = [pa.table(dict(zip(names, log, strict=True))) for log in logs]
    merged = pa.concat_tables(tables, promote_options="permissive")
    grouped = merged.group_by(names).aggregate([])
    return [grouped.column(n).combine_chunks() for n in names]


def read_change(duck: Duck, snapshot: Snapshot, keys: Sequence[pa.Array]) -> Change:
    """Return a change of `keys` with their rows as `duck` sees them now."""
    spec = snapshot.spec
    rows = Rows(spec, read_keys(duck, spec, keys), NoProgress())
    return Change(keys, part_of(rows, snapshot.generation))


def log_keys(duck: Duck, index: str, tx: uuid.UUID, keys: Sequence[pa.Array]) -> None:
    """Write changed keys to an index's log, in the caller's transaction."""
    if len(keys[0]) <= FEW_KEYS:  # a view takes longer to register
        row = f"(?{', ?' * len(keys)})"
        values = zip(*(k.to_pylist() for k in keys), strict=True)
        duck.execute(
            f"INSERT INTO {changes_table(index)} VALUES {', '.join([row] * len(keys[0]))}",
            [value for row_values in values for value in (str(tx), *row_values)],
        )
        return
    duck.register(_LOG_VIEW, pa.table({f"k{i}": k for i, k in enumerate(keys)}))
    try:
        duck.execute(
            f"INSERT INTO {changes_table(index)} SELECT CAST(? AS UUID), * FROM {_LOG_VIEW}",
            [str(tx)],
        )
    finally:
        duck.unregister(_LOG_VIEW)


def log_rows(duck: Duck, spec: IndexSpec, tx: uuid.UUID, source: str) -> None:
    """Write the keys of the rows that `source`, a FROM clause, gives to the log of an index."""
    keys = ", ".join(quote(c.name) for c in spec.key_columns)
    duck.execute(
        f"INSERT INTO {changes_table(spec.name)} SELECT '{tx}'::UUID, {keys} {source}"
    ).fetchall()


def apply_changes(
    duck: Duck, snapshot: Snapshot, keys: Sequence[pa.Array], version: int
) -> Snapshot:
    """Return the snapshot with the current rows of `keys`."""
    return fold(snapshot, read_change(duck, snapshot, keys), version)


_TIMES = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ)


def _column_of(part: Part, column: int, rows: Int64s) -> pa.Array:
    """Return the values of a column at `rows`; Python's dates end where DuckDB's do not."""
    kind = part.spec.columns[column].type
    wanted = arrow_type(kind.kind, kind.scale)
    if kind.kind in _TIMES:
        keys = part.keys[column].take(rows)
        null = keys == NULL_KEY
        whole = np.where(null, 0, keys)
        if kind.kind is Kind.DATE:
            return pa.array(whole.astype(np.int32), mask=null).cast(wanted)
        return pa.array(whole, mask=null).cast(wanted)
    values = part.values(column, rows)
    if kind.kind is Kind.UUID:
        values = [v if v is None else str(v) for v in values]
    return pa.array(values, wanted)


def fill_hashes(duck: Duck, part: Part) -> None:
    """Compute the hashes that rows of a part in memory were written without, of what it holds.

    Rows without a distance have no vector.
    """
    if part.segment is not None:
        return
    rows = np.flatnonzero(part.row_hash == UNHASHED)
    if len(rows) == 0:
        return
    spec = part.spec
    table = describe(duck, spec.table_name)
    column = table.column(spec.column) if table is not None else None
    if column is None:
        return
    held = {f"c{i}": _column_of(part, i, rows) for i in range(len(spec.columns))}
    near = rows[: np.searchsorted(rows, part.n_vectors)]
    flat = pa.array(np.ascontiguousarray(part.vectors[near]).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, spec.dim)
    nulls = pa.nulls(len(rows) - len(near), vectors.type)
    held |= {"v": pa.concat_arrays([vectors, nulls]), "place": pa.array(rows)}
    columns = [f"CAST(c{i} AS {c.type.sql})" for i, c in enumerate(spec.columns)]
    duck.register(_HASH_VIEW, pa.table(held))
    try:
        found = duck.sql(
            f"SELECT place, hash({', '.join(columns)}, CAST(v AS {column.type})) AS h "
            f"FROM {_HASH_VIEW}"
        ).to_arrow_table()
    finally:
        duck.unregister(_HASH_VIEW)
    part.row_hash[np.asarray(found.column("place"))] = np.asarray(found.column("h"))


def difference(duck: Duck, snapshot: Snapshot) -> list[pa.Array] | None:
    """Return the keys of rows in which the table, as `duck` sees it, differs from the snapshot.

    One pass over the table comparing row hashes; None when nothing differs.
    """
    spec = snapshot.spec
    names = [quote(c.name) for c in spec.key_columns]
    columns = ", ".join(f"{n} AS k{i}" for i, n in enumerate(names))
    query = f"SELECT {columns}, {row_hash(spec)} AS h FROM {spec.table_name.sql()}"
    for part in snapshot.parts:
        fill_hashes(duck, part)
    seen = [np.zeros(p.rows, np.bool_) for p in snapshot.parts]
    changed: list[list[pa.Array]] = []
    for batch in read_rows(duck, query):
        keys = [plain_column(batch.column(f"k{i}"), spec, i) for i in range(spec.key_count)]
        hashes = np.asarray(batch.column("h")).astype(np.uint64)
        same = np.zeros(len(hashes), np.bool_)
        known = np.zeros(len(hashes), np.bool_)  # a key that is alive twice is wrong, too
        for part, marks in zip(snapshot.parts, seen, strict=True):
            positions = part.find(keys)
            found = part.is_live(positions)
            marks[positions[found]] = True
            equal = part.row_hash[positions[found]] == hashes[found]
            same[found] = equal & ~known[found]
            known |= found
        if not same.all():
            rows = pa.array(np.flatnonzero(~same))
            changed.append([pc.take(k, rows) for k in keys])
    for part, marks in zip(snapshot.parts, seen, strict=True):
        live = part.live()
        kept = live[marks[live]]
        if len(kept) < len(live):
            gone = part.without(kept).live()
            changed.append([_column_of(part, i, gone) for i in range(spec.key_count)])
    return distinct_keys(spec, changed) if changed else None


def plain_column(column: pa.Array, spec: IndexSpec, i: int) -> pa.Array:
    """Return column i as the type that `Part.find` takes."""
    kind = spec.columns[i].type
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(arrow_type(kind.kind, kind.scale))


def plain_keys(table: pa.Table, spec: IndexSpec) -> list[pa.Array]:
    """Return the key columns (the first of `table`) as the arrays `Part.find` takes."""
    return [plain_column(table.column(i).combine_chunks(), spec, i) for i in range(spec.key_count)]
