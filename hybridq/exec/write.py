"""INSERT, UPDATE and DELETE of an indexed table: run, checked, and their keys captured.

The statement runs verbatim with `RETURNING key` appended. In the same transaction its vectors are
checked (dimension, finite), so that what an index could not hold never commits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from hybridq.errors import Error
from hybridq.exec.result import Field, Row
from hybridq.exec.transaction import Transaction
from hybridq.index.attributes import cannot_hold, reserved_value
from hybridq.index.ivf import IndexSpec
from hybridq.index.maintain import key_arrays, plain_keys
from hybridq.index.rows import not_finite, shown_key, wrong_dimension
from hybridq.index.state import IndexState
from hybridq.nodes import Write, quote

Execute = Callable[[str, Any], duckdb.DuckDBPyConnection]


@dataclass(frozen=True, slots=True)
class Written:
    """What a write gave: rows of the user's own RETURNING (None without), and their count."""

    fields: tuple[Field, ...] | None
    rows: list[Row]
    count: int


def run_captured(
    execute: Execute,
    write: Write,
    text: str,
    parameters: Any,
    states: Sequence[IndexState],
    transaction: Transaction,
) -> Written:
    """Run a write of a table with indexes and record the keys it changed."""
    items: list[str] = []
    slots: list[tuple[IndexState, int, int]] = []
    for state in states:
        slots.append((state, len(items), len(items) + state.spec.key_count))
        items.extend(quote(c.name) for c in state.spec.key_columns)
        items.append("NULL" if write.kind == "DELETE" else _check(state.spec))
    appended = ", ".join(f"{item} AS __hybridq_{i}" for i, item in enumerate(items))
    body = text.rstrip().rstrip(";")
    joiner = ", " if write.has_returning else " RETURNING "
    duck = execute(body + "\n" + joiner + appended, parameters)
    description = duck.description or []
    rows: list[Row] = duck.fetchall()
    width = len(description) - len(items)
    for state, start, stop in slots:
        _refuse_bad(execute, state.spec, rows, width + start, width + stop)
        if rows:
            keys = [row[width + start : width + stop] for row in rows]
            transaction.record(state, key_arrays(state.spec, keys))
    if not write.has_returning:
        return Written(None, [], len(rows))
    fields = tuple(Field(d[0], str(d[1])) for d in description[:width])
    return Written(fields, [row[:width] for row in rows], len(rows))


_FIRST_UNCOMMITTED = 36_028_797_018_960_000
"""Row ids of rows that a transaction inserted and has not committed begin here."""


class Inserted:
    """Rows that one statement of a transaction inserts: those with uncommitted row ids."""

    def __init__(
        self, duck: duckdb.DuckDBPyConnection, spec: IndexSpec, transaction: Transaction
    ) -> None:
        self._duck = duck
        self._spec = spec
        self._last = _FIRST_UNCOMMITTED - 1
        if transaction.explicit:  # it may have inserted before
            row = duck.execute(
                f"SELECT max(rowid) FROM {spec.table_name.sql()} WHERE rowid > {self._last}"
            ).fetchall()[0]
            self._last = max(self._last, row[0] or 0)

    def keys(self, count: int) -> list[pa.Array] | None:
        """Return the keys of the rows inserted since, None if they are not `count`.

        Raises DataError for a vector that the index cannot hold.
        """
        spec = self._spec
        names = ", ".join(f"{quote(c.name)} AS k{i}" for i, c in enumerate(spec.key_columns))
        table = self._duck.sql(
            f"SELECT {names}, {_check(spec)} AS bad FROM {spec.table_name.sql()} "
            f"WHERE rowid > {self._last}"
        ).to_arrow_table()
        if table.num_rows != count:
            return None
        bad = table.column("bad")
        if bad.null_count < table.num_rows:
            check_table(self._duck, spec)
        return plain_keys(table, spec)


def _check(spec: IndexSpec) -> str:
    """Return SQL: NULL for a row the index can hold, else the verdict `_refusal` explains.

    Minus its length for a vector of another dimension, 1 for one with a component that is NULL or
    not finite, 2 + i for a value that column i cannot have.
    """
    vector = f"CAST({quote(spec.column)} AS FLOAT[])"
    attributes = "".join(
        f"WHEN {quote(c.name)} = '{reserved_value(c.type)}'::{c.type.sql} THEN {2 + i} "
        for i, c in enumerate(spec.columns)
        if reserved_value(c.type) is not None
    )
    return (
        f"CASE {attributes}WHEN {quote(spec.column)} IS NULL THEN NULL "
        f"WHEN len({vector}) <> {spec.dim} THEN -len({vector}) "
        f"WHEN list_aggregate({vector}, 'count') <> {spec.dim} THEN 1 "
        f"WHEN NOT COALESCE(isfinite(list_sum(CAST({vector} AS DOUBLE[]))), false) THEN 1 END"
    )


def _refuse_bad(execute: Execute, spec: IndexSpec, rows: list[Row], start: int, stop: int) -> None:
    bad = next((row for row in rows if row[stop] is not None), None)
    if bad is not None:
        raise _refusal(execute, spec, bad[start:stop], int(bad[stop]))


def _refusal(execute: Execute, spec: IndexSpec, key: Row, verdict: int) -> Error:
    shown = shown_key(key)
    if verdict >= 2:
        return cannot_hold(spec.columns[verdict - 2].type)
    if verdict <= 0:
        return wrong_dimension(spec, -verdict, shown)
    condition = " AND ".join(f"{quote(c.name)} = ?" for c in spec.key_columns)
    rows = execute(
        f"SELECT CAST({quote(spec.column)} AS FLOAT[]) FROM {spec.table_name.sql()} "
        f"WHERE {condition}",
        list(key),
    ).fetchall()
    values = np.array([np.nan if v is None else v for v in rows[0][0]])
    component = int(np.argmin(np.isfinite(values)))
    return not_finite(spec, shown, component, float(values[component]))


def check_table(duck: duckdb.DuckDBPyConnection, spec: IndexSpec) -> None:
    """Check every vector of a table after a write whose rows are unknown; raises DataError."""
    keys = ", ".join(quote(c.name) for c in spec.key_columns)
    rows = duck.execute(
        f"SELECT {keys}, {_check(spec)} AS bad FROM {spec.table_name.sql()} "
        "WHERE bad IS NOT NULL LIMIT 1"
    ).fetchall()
    _refuse_bad(lambda text, given: duck.execute(text, given), spec, rows, 0, spec.key_count)
