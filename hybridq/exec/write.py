"""INSERT, UPDATE and DELETE of an indexed table: run, checked, and their rows captured.

The statement runs verbatim, and RETURNING is appended to it with what the index keeps of a row. In
the same transaction its vectors are checked (dimension, finite), so that what an index could not
hold never commits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from hybridq.arrow import pa, pc
from hybridq.errors import Error
from hybridq.exec.host import Host
from hybridq.exec.patches import has_reserved, is_plain, run_patch
from hybridq.exec.result import Field, Row
from hybridq.exec.tracking import Tracking
from hybridq.exec.transaction import Transaction
from hybridq.index import maintain
from hybridq.index.attributes import cannot_hold, reserved_value
from hybridq.index.capture import Captured, FewRows
from hybridq.index.ivf import IndexSpec
from hybridq.index.maintain import key_arrays, plain_keys
from hybridq.index.rows import not_finite, shown_key, wrong_dimension
from hybridq.index.state import IndexState
from hybridq.nodes import Write, quote
from hybridq.storage import manifest

Execute = Callable[[str, Any], duckdb.DuckDBPyConnection]


@dataclass(frozen=True, slots=True)
class Written:
    """What a write gave: rows of the user's own RETURNING (None without), and their count."""

    fields: tuple[Field, ...] | None
    rows: list[Row]
    count: int


def run_captured(
    session: Host,
    write: Write,
    text: str,
    parameters: Any,
    tracking: Tracking,
    transaction: Transaction,
) -> Written:
    """Run a write of a table with indexes and record the rows it changed."""
    duck, states = session.duck, tracking.states
    if not write.has_returning and write.kind in ("UPDATE", "DELETE") and not write.has_with:
        logs = session.at_home and all(may_log(session, s, transaction) for s in states)
        if write.rows is not None and tracking.kept == states:
            count = run_patch(duck, write.rows, text, parameters, states, transaction, logs=logs)
            return Written(None, [], count)
        if write.kind == "DELETE" and logs:
            return Written(None, [], _delete(session, text, parameters, states, transaction))
    items: list[str] = []
    slots: list[_Slot] = []
    for state in states:
        slot = _slot(state.spec, write, len(items))
        items.extend(slot.items)
        slots.append(slot)
    appended = ", ".join(f"{item} AS __hybridq_{i}" for i, item in enumerate(items))
    body = text.rstrip().rstrip(";")
    joiner = ", " if write.has_returning else " RETURNING "
    text = body + "\n" + joiner + appended
    if write.has_returning or write.single_values is not None:
        result = duck.execute(text, parameters)
        description = result.description or []
        rows: list[Row] = result.fetchall()
        width = len(description) - len(items)
        for state, slot in zip(states, slots, strict=True):
            own = [row[width + slot.start : width + slot.start + len(slot.items)] for row in rows]
            if slot.whole:
                own = [(*row[:-1], _verdict(slot.spec, row)) for row in own]
            _refuse_bad(duck.execute, slot.spec, own)
            if own:
                transaction.record(state, _captured_rows(slot, write, own))
        if not write.has_returning:
            return Written(None, [], len(rows))
        fields = tuple(Field(d[0], str(d[1])) for d in description[:width])
        return Written(fields, [row[:width] for row in rows], len(rows))
    table = duck.sql(text, params=parameters).to_arrow_table()
    for state, slot in zip(states, slots, strict=True):
        own_table = table.select(range(slot.start, slot.start + len(slot.items)))
        _refuse_bad_columns(duck.execute, slot.spec, own_table)
        if own_table.num_rows:
            transaction.record(state, _captured_columns(slot, write, own_table))
    return Written(None, [], table.num_rows)


def _delete(
    session: Host,
    text: str,
    parameters: Any,
    states: Sequence[IndexState],
    transaction: Transaction,
) -> int:
    """Run a DELETE that logs the keys itself; return how many rows it deleted."""
    columns = states[0].spec.key_columns
    names = ", ".join(f"k{i}" for i in range(len(columns)))
    logs = [
        f"INSERT INTO {manifest.changes_table(state.name)} "
        f"SELECT '{transaction.log_name(state, 0)}'::UUID, {names} FROM __hybridq_gone"
        for state in states
    ]
    others = (f", __hybridq_log{i} AS MATERIALIZED ({log})" for i, log in enumerate(logs[1:]))
    returned = ", ".join(quote(c.name) for c in columns)
    # On a line of its own, so that positions in errors are those of the text but for the line.
    text = (
        f"WITH __hybridq_gone({names}) AS MATERIALIZED (\n{text.rstrip().rstrip(';')}\n"
        f"RETURNING {returned}){''.join(others)} {logs[0]} RETURNING {names}"
    )
    try:
        table = session.duck.sql(text, params=parameters).to_arrow_table()
    except duckdb.Error as error:
        own = session.failed(error)
        if own.position is not None:
            own.position = own.position[0] - 1, own.position[1]
        raise own from error
    for state in states if table.num_rows else ():
        transaction.log_name(state, table.num_rows)
        keys = plain_keys(table, state.spec)
        transaction.record(state, Captured(keys, pa.table({}), logged=True))
    return int(table.num_rows)


def may_log(session: Host, state: IndexState, transaction: Transaction) -> bool:
    """Tell whether the transaction's snapshot has the log that the index has now."""
    # A rebuild that began before we took the index for writing ends before we get the lock.
    with session.instance.lock:
        return session.instance.index_named(state.name) is state and transaction.knows(state)


@dataclass(frozen=True, slots=True)
class _Slot:
    """What RETURNING gives for one index, from column `start`: its `names`, the verdict last.

    Without `whole` rows only the key is returned.
    """

    spec: IndexSpec
    start: int
    items: list[str]
    names: list[str]
    whole: bool
    fresh: bool


def _slot(spec: IndexSpec, write: Write, start: int) -> _Slot:
    columns = maintain.row_columns(spec)
    # Vectors of many rows are not for Python's lists.
    whole = write.kind in ("INSERT", "UPDATE")
    whole = whole and (write.single_values is not None or not write.has_returning)
    by_row = write.has_returning or write.single_values is not None
    if by_row:
        whole = whole and is_plain(spec)
    if not whole:
        columns = columns[: spec.key_count]
    # Whole rows that come as Python's values are checked as such.
    verdict = "NULL" if write.kind == "DELETE" or (whole and by_row) else _check(spec)
    items = [*(expression for expression, _ in columns), verdict]
    names = [*(name for _, name in columns), "verdict"]
    fresh = write.adds_only
    return _Slot(spec, start, items, names, whole, fresh)


def _verdict(spec: IndexSpec, row: Row) -> int | None:
    """Return what `_check` would of a whole row."""
    for i, column in enumerate(spec.columns):
        reserved = reserved_value(column.type)
        if reserved is not None and row[i] == reserved:
            return 2 + i
    vector = row[len(spec.columns)]
    if vector is None:
        return None
    if len(vector) != spec.dim:
        return -len(vector)
    return None if None not in vector and np.isfinite(vector).all() else 1


def _captured_rows(slot: _Slot, write: Write, rows: Sequence[Row]) -> Captured:
    spec = slot.spec
    keys = key_arrays(spec, rows)
    if write.kind == "DELETE":
        return Captured(keys, pa.table({}))
    if not slot.whole:
        return Captured(keys, None)
    return Captured(keys, FewRows(spec, [row[:-1] for row in rows]), slot.fresh)


def _captured_columns(slot: _Slot, write: Write, table: pa.Table) -> Captured:
    keys = plain_keys(table, slot.spec)
    if write.kind == "DELETE":
        return Captured(keys, pa.table({}))
    if not slot.whole:
        return Captured(keys, None)
    return Captured(keys, table.rename_columns(slot.names).drop_columns(["verdict"]), slot.fresh)


def _refuse_bad_columns(execute: Execute, spec: IndexSpec, table: pa.Table) -> None:
    verdicts = table.column(table.num_columns - 1)
    if verdicts.null_count == table.num_rows:
        return
    bad = int(np.argmax(np.asarray(verdicts.is_valid())))
    row = table.slice(bad, 1)
    values = [row.column(i)[0].as_py() for i in range(spec.key_count)]
    raise _refusal(execute, spec, tuple(values), int(verdicts[bad].as_py()))


_FIRST_UNCOMMITTED = 36_028_797_018_960_000
"""Row ids of rows that a transaction inserted and has not committed begin here."""


class Inserted:
    """Rows that one statement of a transaction inserts: those with uncommitted row ids."""

    def __init__(self, session: Host, state: IndexState, transaction: Transaction) -> None:
        self._session = session
        self._state = state
        self._transaction = transaction
        self._last = _FIRST_UNCOMMITTED - 1
        if transaction.explicit:  # it may have inserted before
            row = session.duck.execute(
                f"SELECT max(rowid) FROM {state.spec.table_name.sql()} WHERE rowid > {self._last}"
            ).fetchall()[0]
            self._last = max(self._last, row[0] or 0)

    def rows(self, count: int) -> Captured | None:
        """Return the rows inserted since, None if they are not `count`; log their keys.

        Raises DataError for a vector that the index cannot hold.
        """
        spec, duck = self._state.spec, self._session.duck
        names = ", ".join(f"{self._read(e, n)} AS {n}" for e, n in maintain.row_columns(spec))
        source = f"FROM {spec.table_name.sql()} WHERE rowid > {self._last}"
        table = duck.sql(f"SELECT {names} {source}").to_arrow_table()
        if table.num_rows != count:
            return None
        if not _holds(spec, table):
            check_table(duck, spec)
        logged = self._session.at_home and may_log(self._session, self._state, self._transaction)
        if logged and count:
            tx = self._transaction.log_name(self._state, count)
            maintain.log_rows(duck, spec, tx, source)
        return Captured(plain_keys(table, spec), table, fresh=True, logged=logged)

    def _read(self, expression: str, name: str) -> str:
        """Return how a column is read: vectors of a fixed length of floats as they are."""
        spec = self._state.spec
        table = self._session.describe(spec.table_name) if name == "v" else None
        column = table.column(spec.column) if table is not None else None
        plain = column is not None and column.type == f"FLOAT[{spec.dim}]"
        return quote(spec.column) if plain else expression


def _holds(spec: IndexSpec, table: pa.Table) -> bool:
    """Tell whether an index can hold the rows of a table, see `_check`."""
    if any(has_reserved(c, table.column(f"c{i}")) for i, c in enumerate(spec.columns)):
        return False
    return all(_vectors_fit(spec, vectors) for vectors in table.column("v").chunks)


def _vectors_fit(spec: IndexSpec, vectors: pa.Array) -> bool:
    present = vectors.drop_null() if vectors.null_count else vectors
    if not pa.types.is_fixed_size_list(present.type):
        if not (np.asarray(pc.list_value_length(present)) == spec.dim).all():
            return False
    elif len(present) and present.type.list_size != spec.dim:
        return False
    components = present.flatten()
    return components.null_count == 0 and bool(np.isfinite(np.asarray(components)).all())


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


def _refuse_bad(execute: Execute, spec: IndexSpec, rows: Sequence[Row]) -> None:
    """Raise for the first row with a verdict; rows begin with the key and end with the verdict."""
    bad = next((row for row in rows if row[-1] is not None), None)
    if bad is not None:
        raise _refusal(execute, spec, bad[: spec.key_count], int(bad[-1]))


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
    _refuse_bad(duck.execute, spec, rows)
