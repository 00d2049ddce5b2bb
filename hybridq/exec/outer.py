"""The values of outer columns: what a LATERAL select reads of the rows before it.

They are read once, apart from the statement, so only where reading them twice gives the same; and
only types are taken whose values mean the same to DuckDB as parameters.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from hybridq.arrow import pa
from hybridq.exec.evaluate import CONSTANTS, INFINITE
from hybridq.exec.host import Host, given_for
from hybridq.exec.prepare import Unbound
from hybridq.nodes import OuterColumn, PerRow, literal

_VECTOR = re.compile(r"(FLOAT|DOUBLE)\[\d*\]")
_DECIMAL = re.compile(r"DECIMAL\((\d+),\d+\)")


@dataclass(frozen=True, slots=True)
class Outer:
    """Distinct values of the outer columns.

    `keys` is (__hybridq_k0, …, __hybridq_ord) as DuckDB compares them by `match`; `stored` gives
    the columns back from it, `values` are Arrow's, `rows` parameters by name. `conditions` are the
    part of the WHERE that was applied; `steady` tells that a second reading gives the same rows.
    """

    types: list[str]
    keys: pa.Table
    values: list[pa.Array]
    rows: list[dict[str, Any]]
    match: str
    stored: list[str]
    conditions: tuple[str, ...]
    steady: bool

    def plain(self, i: int) -> dict[str, Any]:
        """Return the values of row `i` as DuckDB's client takes them."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self.rows[i].items()
        }


def read_outer(
    session: Host, node: PerRow, values: Mapping[str, Any], *, first: bool = False
) -> Outer | Unbound:
    """Read the distinct values of the outer columns, or of the `first` rows alone."""
    steady = _steady(session, node)
    if isinstance(steady, Unbound):
        return steady
    bound = _bound(session, node, values)
    if isinstance(bound, Unbound):
        return bound
    types, conditions = bound
    for column, kind in zip(node.outer, types, strict=True):
        if not _usable(kind):
            return Unbound(f"{column.text} is of type {kind}")
    collated = _collated(session, node, types, conditions, values)
    if collated is not None:
        return Unbound(f"{collated} has a collation")
    keys = [_key(c, kind) for c, kind in zip(node.outer, types, strict=True)]
    names = [f"__hybridq_k{i}" for i in range(len(keys))]
    items = ", ".join(f"{key} AS {name}" for key, name in zip(keys, names, strict=True))
    text = f"{node.with_text}SELECT DISTINCT {items} FROM {node.source}{_where(conditions)}"
    if first:
        text += " LIMIT 64"
    table: pa.Table = session.query_arrow(text, given_for(text, values)).combine_chunks()
    columns = [_column(table.column(i), kind) for i, kind in enumerate(types)]
    if any(_infinite(column) for column in columns):
        return Unbound("a date of the rows before it is infinite")
    return Outer(
        types=types,
        keys=table.append_column("__hybridq_ord", pa.array(np.arange(table.num_rows))),
        values=[_array(table.column(i), kind) for i, kind in enumerate(types)],
        rows=[
            {c.name: column[i] for c, column in zip(node.outer, columns, strict=True)}
            for i in range(table.num_rows)
        ],
        match=" AND ".join(
            f"{name} IS NOT DISTINCT FROM {key}" for key, name in zip(keys, names, strict=True)
        ),
        stored=[_back(f"__hybridq_o.{n}", kind) for n, kind in zip(names, types, strict=True)],
        conditions=conditions,
        steady=steady,
    )


def _steady(session: Host, node: PerRow) -> bool | Unbound:
    """Tell whether the source is tables alone; Unbound if reading it twice is out of question."""
    if node.functions:
        names = ", ".join(literal(name) for name in sorted(node.functions))
        text = (
            "SELECT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE' "
            f"AND lower(function_name) IN ({names})"
        )
        volatile = session.query(text, None)[1]
        if volatile:
            return Unbound(f"{volatile[0][0]}() before it may give other rows when read twice")
    steady = not (node.with_text or node.functions or node.some)
    for table in node.tables:
        if table.schema is None and table.name.lower() in session.once:
            return Unbound(f"{table.name} can be read only once")
        steady = steady and session.describe(table) is not None
    if not steady and session.transaction is not None:
        return Unbound("inside a transaction what stands before it must be tables")
    return steady


def _bound(
    session: Host, node: PerRow, values: Mapping[str, Any]
) -> tuple[list[str], tuple[str, ...]] | Unbound:
    """Return the types of the outer columns, and the conditions that hold of the source alone."""
    items = ", ".join(c.text for c in node.outer)
    tried = [node.where]
    if node.perhaps and session.transaction is None:
        tried.insert(0, (*node.where, *node.perhaps))
    for conditions in tried:
        text = f"{node.with_text}SELECT {items} FROM {node.source}{_where(conditions)} LIMIT 0"
        try:
            if session.transaction is not None:  # there a failure would end it
                with session.instance.duck.cursor() as cursor:
                    cursor.execute(text, given_for(text, values) or None).fetchall()
            fields, _ = session.query(text, given_for(text, values))
        except (duckdb.Error, RuntimeError) as error:
            if isinstance(error, duckdb.InterruptException):
                raise
            session.instance.functions.take_failure()
            continue
        return [f.type for f in fields], conditions
    return Unbound("the rows before it cannot be read alone")


def _collated(
    session: Host,
    node: PerRow,
    types: list[str],
    conditions: tuple[str, ...],
    values: Mapping[str, Any],
) -> str | None:
    """Return a column of text that has a collation, for a parameter has none."""
    columns = [c.text for c, kind in zip(node.outer, types, strict=True) if kind == "VARCHAR"]
    if not columns:
        return None
    # The type of CASE has the column's collation; without one both tests are false.
    typed = "CASE WHEN false THEN {} ELSE '{}' END"
    tests = ", ".join(
        f"'a' < {typed.format(c, 'B')} OR 'á' = {typed.format(c, 'a')}" for c in columns
    )
    text = f"{node.with_text}SELECT {tests} FROM {node.source}{_where(conditions)} LIMIT 1"
    rows = session.query(text, given_for(text, values))[1]
    return next((c for row in rows for c, found in zip(columns, row, strict=True) if found), None)


def _where(conditions: tuple[str, ...]) -> str:
    return " WHERE " + " AND ".join(f"({c})" for c in conditions) if conditions else ""


def _usable(kind: str) -> bool:
    decimal = _DECIMAL.fullmatch(kind)
    if decimal is not None:
        return int(decimal[1]) <= 18
    return kind in CONSTANTS or _VECTOR.fullmatch(kind) is not None


def _key(column: OuterColumn, kind: str) -> str:
    """Return what is compared: text by its bytes, for a collation would find others equal."""
    if kind == "VARCHAR":
        return f"encode({column.text})"
    return f"CAST({column.text} AS VARCHAR)" if kind == "UUID" else column.text


def _back(text: str, kind: str) -> str:
    if kind == "VARCHAR":
        return f"decode({text})"
    return f"CAST({text} AS UUID)" if kind == "UUID" else text


def _array(column: pa.ChunkedArray, kind: str) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0)
    return array.cast(pa.string()) if kind == "VARCHAR" else array


def _column(column: pa.ChunkedArray, kind: str) -> list[Any]:
    """Return the values as parameters: vectors as numpy, the rest as DuckDB's client has them."""
    array = _array(column, kind)
    if _VECTOR.fullmatch(kind) is not None:
        return _vectors(array)
    values: list[Any] = array.to_pylist()
    if kind == "UUID":
        return [None if v is None else uuid.UUID(v) for v in values]
    return values


def _vectors(array: pa.Array) -> list[Any]:
    if len(array) == 0:
        return []
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        starts = (np.arange(len(array)) + array.offset) * size
        stops = starts + size
    else:
        offsets = array.offsets.to_numpy()
        starts, stops = offsets[:-1], offsets[1:]
    if array.values.null_count:
        rows: list[Any] = array.to_pylist()
        return rows  # a list with NULL inside is an error that names it
    flat = array.values.to_numpy()
    null = array.is_null().to_pylist()
    return [
        None if none else flat[start:stop]
        for none, start, stop in zip(null, starts.tolist(), stops.tolist(), strict=True)
    ]


def _infinite(values: list[Any]) -> bool:
    return any(isinstance(v, dt.date) and v in INFINITE for v in values)
