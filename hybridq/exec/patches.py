"""UPDATEs that leave keys and vectors alone: only the attributes of their rows are read.

With RETURNING, DuckDB would write all of each row anew. So keys are read before, by the condition
of the UPDATE, and attributes afterwards, by these keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import duckdb

from hybridq.arrow import pa, pc
from hybridq.exec.host import named_values
from hybridq.exec.transaction import Transaction
from hybridq.index import maintain
from hybridq.index.attributes import PLAIN, cannot_hold, reserved_value
from hybridq.index.capture import Attributes, Captured
from hybridq.index.ivf import IndexColumn, IndexSpec
from hybridq.index.maintain import key_arrays, plain_keys
from hybridq.index.state import IndexState
from hybridq.nodes import quote
from hybridq.sql import lexical
from hybridq.storage.manifest import changes_table


def run_patch(
    duck: duckdb.DuckDBPyConnection,
    source: str,
    text: str,
    parameters: Any,
    states: Sequence[IndexState],
    transaction: Transaction,
    *,
    logs: bool,
) -> int:
    """Run an UPDATE of the rows of `source` and record them; return how many there are.

    Should the keys not be those of the rows updated, the write is opaque. If it `logs`, keys are
    logged as they are read.
    """
    values = named_values(parameters)
    used = {name: values[name] for name in lexical.used_parameters(source)}
    if logs:
        before = [_logged(duck, state, source, used, transaction) for state in states]
    else:
        before = [_keys(duck, state.spec, source, used) for state in states]
    count = int(duck.execute(text, parameters).fetchall()[0][0])
    for state, keys in zip(states, before, strict=True):
        if count != len(keys[0]):
            transaction.record_opaque(state)
        elif count:
            captured = _captured(duck, state.spec, keys)
            transaction.record(state, replace(captured, logged=logs))
    return count


def _logged(
    duck: duckdb.DuckDBPyConnection,
    state: IndexState,
    source: str,
    used: dict[str, Any],
    transaction: Transaction,
) -> list[pa.Array]:
    columns = state.spec.key_columns
    names = ", ".join(quote(c.name) for c in columns)
    query = (
        f"INSERT INTO {changes_table(state.name)} "
        f"SELECT '{transaction.log_name(state, 0)}'::UUID, {names} {source} "
        f"RETURNING {', '.join(f'k{i}' for i in range(len(columns)))}"
    )
    keys = plain_keys(duck.sql(query, params=used or None).to_arrow_table(), state.spec)
    transaction.log_name(state, len(keys[0]))
    return keys


def _keys(
    duck: duckdb.DuckDBPyConnection, spec: IndexSpec, source: str, used: dict[str, Any]
) -> list[pa.Array]:
    names = ", ".join(quote(c.name) for c in spec.key_columns)
    query = f"SELECT {names} {source}"
    if is_plain(spec):
        some = f"{query} LIMIT {maintain.FEW_KEYS + 1}"
        rows = duck.execute(some, used or None).fetchall()
        if len(rows) <= maintain.FEW_KEYS:
            return key_arrays(spec, rows)
    return plain_keys(duck.sql(query, params=used or None).to_arrow_table(), spec)


def is_plain(spec: IndexSpec) -> bool:
    """Tell whether Python's values are the database's: of a few rows, they come faster."""
    return all(c.type.kind in PLAIN for c in spec.columns)


def _captured(
    duck: duckdb.DuckDBPyConnection, spec: IndexSpec, keys: Sequence[pa.Array]
) -> Captured:
    columns = maintain.row_columns(spec)[: len(spec.columns)]
    if len(keys[0]) <= maintain.FEW_KEYS and is_plain(spec):
        query, given = maintain.few_query(spec, keys, columns)
        rows = duck.execute(query, given).fetchall()
        for i, column in enumerate(spec.columns):
            reserved = reserved_value(column.type)
            if reserved is not None and any(row[i] == reserved for row in rows):
                raise cannot_hold(column.type)
        return Captured(key_arrays(spec, rows), Attributes(rows))
    table = maintain.read_attributes(duck, spec, keys)
    for i, column in enumerate(spec.columns):
        if has_reserved(column, table.column(f"c{i}")):
            raise cannot_hold(column.type)
    return Captured(plain_keys(table, spec), Attributes(table))


def has_reserved(column: IndexColumn, values: pa.ChunkedArray) -> bool:
    """Tell whether a column has the value that its index keeps for NULL."""
    reserved = reserved_value(column.type)
    if reserved is None:
        return False
    return bool(pc.any(pc.equal(values, pa.scalar(reserved, values.type))).as_py())
