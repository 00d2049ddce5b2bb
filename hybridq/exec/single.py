"""INSERT of one row of parameters: one statement writes the row and logs its key.

    INSERT INTO t VALUES (?, ?, ?)
    ->  WITH x AS MATERIALIZED (INSERT INTO t VALUES (?, ?, ?) RETURNING key)
        INSERT INTO hybridq.changes_i SELECT ?::UUID, * FROM x

Where the parameters are what the table will hold, the index need not be told: its row is checked
and coded before the statement runs, which is then its own transaction, and its COMMIT the only one.
Whatever is not so certain (a value that is computed or cast, a vector that will be refused) is for
the general way, which answers None here.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import duckdb
import numpy as np

from hybridq.exec import transaction as tx
from hybridq.exec.host import Host
from hybridq.exec.result import Result
from hybridq.exec.tracking import tracking_of
from hybridq.exec.transaction import Transaction
from hybridq.index.attributes import NULL_KEY, Kind, float_key
from hybridq.index.delta import Change
from hybridq.index.ivf import Float32s
from hybridq.index.state import IndexState
from hybridq.index.tail import OneRow
from hybridq.nodes import Metric, SingleValues, Write, quote
from hybridq.sql import lexical
from hybridq.storage import manifest
from hybridq.storage.manifest import TableInfo

_VECTOR = re.compile(r"FLOAT\[\d*\]")
_EXACT_IN_FLOAT = 1 << 24
_EXACT_IN_DOUBLE = 1 << 53
_BEYOND = 1 << 63
_FLOAT = struct.Struct("f")
_NUMBERS = {float, int}
_LOGGED_AS = "__hybridq_tx"
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, slots=True)
class _Target:
    """One index of the table: which parameters are its columns, and which one is its vector."""

    state: IndexState
    columns: tuple[tuple[_KeyOf, int | str], ...]
    vector: int | str

    def row(self, given: Any) -> OneRow | None:
        """Return the row that the table will hold, None if that is not certain."""
        vector = _vector(given[self.vector], self.state.spec.dim)
        if vector is None:
            return None
        if self.state.spec.metric is Metric.COSINE and not vector.any():
            return None
        try:
            keys = [key_of(given[at]) for key_of, at in self.columns]
        except _Uncertain:
            return None
        return OneRow(keys, vector)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one INSERT is run: a statement that DuckDB has parsed; `epoch` is when."""

    targets: tuple[_Target, ...]
    statement: duckdb.Statement
    parameters: int | frozenset[str]
    epoch: int

    def with_names(self, given: Any, names: Sequence[uuid.UUID]) -> Any:
        """Return the statement's parameters: each index's name of the transaction is one, too."""
        if isinstance(given, Mapping):
            return {**given, **{_LOGGED_AS + str(i): name for i, name in enumerate(names)}}
        return [*given, *names]

    def rows(self, given: Any) -> list[OneRow] | None:
        """Return the row of each index, None if one of them is not certain."""
        if isinstance(self.parameters, int):
            if not isinstance(given, list) or len(given) != self.parameters:
                return None
        elif not isinstance(given, Mapping) or given.keys() != self.parameters:
            return None
        found = [target.row(given) for target in self.targets]
        return None if None in found else [row for row in found if row is not None]


def insert_one(session: Host, write: Write, given: Any) -> Result | None:
    """Run the INSERT if it is one of these, else return None with nothing done."""
    values = write.single_values
    if values is None or values.given is None or write.has_returning or write.rewritten:
        return None
    if not write.adds_only or not session.instance.indexes or not session.at_home:
        return None
    plan = session.planned_insert(write, lambda: _plan(session, write, values))
    rows = plan.rows(given) if plan is not None else None
    if plan is None or rows is None:
        return None
    try:
        if session.transaction is not None:
            return _inside(session, session.transaction, plan, rows, given)
        return _alone(session, plan, rows, given)
    except duckdb.Error as error:
        own = session.failed(error)
        if own.position is not None:
            own.position = own.position[0] - 1, own.position[1]
        raise own from error


# -- what is known of a statement -----------------------------------------------------


def _plan(session: Host, write: Write, values: SingleValues) -> Plan | None:
    table = session.describe(write.table)
    tracking = tracking_of(session, write)
    if table is None or table.generated or table.calls or tracking.opaque is not None:
        return None
    if table.collated:
        return None  # DuckDB's hash of a text depends on it
    if not tracking.states or tracking.beside:
        return None
    names = write.columns if write.columns is not None else [c.name for c in table.columns]
    assert values.given is not None
    if len(names) != len(values.given):
        return None
    places = {n.lower(): at for n, at in zip(names, values.given, strict=True) if at is not None}
    targets = [_target(state, table, places) for state in tracking.states]
    found = tuple(target for target in targets if target is not None)
    used = {at for at in values.given if at is not None}
    numbers = [at for at in used if isinstance(at, int)]
    if len(found) < len(targets) or (numbers and len(numbers) < len(used)):
        return None
    parameters = max(numbers) + 1 if numbers else frozenset(map(str, used))
    insert = write.text.rstrip().rstrip(";")
    marks = _marks(insert, parameters, len(found))
    if marks is None:
        return None
    return Plan(
        targets=found,
        statement=_parsed(session, _text(insert, [t.state for t in found], marks)),
        parameters=parameters,
        epoch=session.instance.epoch,
    )


def _target(state: IndexState, table: TableInfo, places: Mapping[str, int | str]) -> _Target | None:
    spec = state.spec
    vector = table.column(spec.column)
    if vector is None or _VECTOR.fullmatch(vector.type) is None:
        return None
    if any(c.type.kind not in _KEYS or c.name.lower() not in places for c in spec.columns):
        return None
    if spec.column.lower() not in places:
        return None
    columns = tuple((_KEYS[c.type.kind], places[c.name.lower()]) for c in spec.columns)
    return _Target(state, columns, places[spec.column.lower()])


def _marks(insert: str, parameters: int | frozenset[str], count: int) -> list[str] | None:
    """Return how `count` more parameters are spelled, None if the spelling is mixed."""
    if isinstance(parameters, frozenset):
        return [f"${_LOGGED_AS}{i}" for i in range(count)]
    spelled = {insert[p.start : p.end + 1] for p in lexical.placeholders(lexical.piece_of(insert))}
    if all(mark[0] == "?" and not mark[1:].isdigit() for mark in spelled):
        return ["?"] * count
    if all(mark[0] == "$" for mark in spelled):
        return [f"${parameters + 1 + i}" for i in range(count)]
    return None


def _parsed(session: Host, text: str) -> duckdb.Statement:
    """Parse a statement once for all its rows: that is a tenth of the time one takes."""
    (statement,) = session.duck.extract_statements(text)
    return statement


def _text(insert: str, states: Sequence[IndexState], marks: Sequence[str]) -> str:
    """Return the statement that runs `insert` and logs the key for each index."""
    keys = [[quote(c.name) for c in s.spec.key_columns] for s in states]
    returned = ", ".join(key for names in keys for key in names)
    aliases = ", ".join(f"k{i}" for i in range(sum(map(len, keys))))
    # On a line of its own, so that positions in errors are those of the text but for the line.
    text = f"WITH __hybridq_row({aliases}) AS MATERIALIZED (\n{insert}\nRETURNING {returned})"
    first = 0
    for i, (state, names) in enumerate(zip(states, keys, strict=True)):
        log = manifest.changes_table(state.name)
        chosen = ", ".join(f"k{first + j}" for j in range(len(names)))
        first += len(names)
        last = i == len(states) - 1
        text += " " if last else f", __hybridq_log{i} AS MATERIALIZED ("
        text += f"INSERT INTO {log} SELECT {marks[i]}::UUID, {chosen} FROM __hybridq_row"
        text += "" if last else ")"
    return text


# -- what is certain of the values ----------------------------------------------------


class _Uncertain(Exception):  # noqa: N818 - nobody outside sees it
    """What a column will hold when given a value is for the database to say."""


def _integer(value: Any) -> int:
    if type(value) is int and -_BEYOND < value < _BEYOND:
        return value
    return _null(value)


def _unsigned(value: Any) -> int:
    if type(value) is int and 0 <= value < 2 * _BEYOND - 1:
        return value - _BEYOND + 1
    return _null(value)


def _boolean(value: Any) -> int:
    return int(value) if type(value) is bool else _null(value)


def _double(value: Any) -> int:
    if type(value) is int and -_EXACT_IN_DOUBLE <= value <= _EXACT_IN_DOUBLE:
        return float_key(float(value))
    return float_key(value) if type(value) is float else _null(value)


def _float(value: Any) -> int:
    if type(value) is int and -_EXACT_IN_FLOAT <= value <= _EXACT_IN_FLOAT:
        return float_key(float(value))
    if type(value) is not float:
        return _null(value)
    try:
        (held,) = _FLOAT.unpack(_FLOAT.pack(value))
    except OverflowError:
        raise _Uncertain from None
    return float_key(held)


def _text_itself(value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is not str or "\0" in value:
        raise _Uncertain
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Uncertain from None
    return value


def _null(value: Any) -> int:
    if value is not None:
        raise _Uncertain
    return NULL_KEY


_KeyOf: TypeAlias = Callable[[Any], int | str | None]
_KEYS: Mapping[Kind, _KeyOf] = {
    Kind.INTEGER: _integer,
    Kind.UBIGINT: _unsigned,
    Kind.BOOLEAN: _boolean,
    Kind.FLOAT: _float,
    Kind.DOUBLE: _double,
    Kind.TEXT: _text_itself,
}
"""The key of what a column of a kind will hold when given a value; _Uncertain raised otherwise."""


def _vector(value: Any, dim: int) -> Float32s | None:
    """Return a vector as the table will hold it, None if an index may refuse it."""
    if type(value) is list:
        kinds = set(map(type, value))
        if len(value) != dim or not kinds <= _NUMBERS:
            return None
        if int in kinds and not -_EXACT_IN_DOUBLE <= min(value) <= max(value) <= _EXACT_IN_DOUBLE:
            return None
        try:
            vector = np.frombuffer(struct.pack(f"{dim}f", *value), np.float32)
        except OverflowError:
            return None
    elif isinstance(value, np.ndarray):
        if value.dtype not in _FLOATS or value.shape != (dim,):
            return None
        with np.errstate(over="ignore"):
            vector = value.astype(np.float32)
    else:
        return None
    # As bytes, for it is the same and reducing costs more.
    return None if 0 in np.isfinite(vector).tobytes() else vector


# -- running it -----------------------------------------------------------------------


def _inside(
    session: Host, transaction: Transaction, plan: Plan, rows: Sequence[OneRow], given: Any
) -> Result | None:
    """Run it in the open transaction, which logs and publishes nothing of it again."""
    states = [target.state for target in plan.targets]
    if any(not transaction.knows(state) for state in states):
        return None
    for state in states:
        transaction.begin_write(state, session)
    with session.instance.lock:  # a rebuild that began before we took the index ends first
        if session.instance.epoch != plan.epoch:
            return None
    transaction.wrote = True
    names = [transaction.log_name(state) for state in states]
    _run(session, plan.statement, plan.with_names(given, names))
    for state, row in zip(states, rows, strict=True):
        transaction.record_row(state, row)
    return Result(None, [], rowcount=1)


def _alone(session: Host, plan: Plan, rows: Sequence[OneRow], given: Any) -> Result | None:
    """Run it as a transaction of its own."""
    instance, transaction = session.instance, Transaction(explicit=False)
    states = [target.state for target in plan.targets]
    try:
        for state in states:
            transaction.lock(state, session)
        with instance.lock:
            if instance.epoch != plan.epoch or any(s.publishing is not None for s in states):
                return None
            names = [manifest.new_transaction() for _ in states]
            prepared = [
                instance.folded(state, Change([], None, fresh=True, row=row), name, 1)
                for state, row, name in zip(states, rows, names, strict=True)
            ]
            for state in states:
                state.publishing = transaction
            try:
                _run(session, plan.statement, plan.with_names(given, names))
            except duckdb.InterruptException:
                raise  # nobody knows when it came: before the statement committed, or after
            except duckdb.Error:
                for state in states:
                    state.publishing = None
                raise
            for one in prepared:
                instance.publish(one)
            for state in states:
                state.publishing = None
    finally:
        tx.release(transaction, instance)
    return Result(None, [], rowcount=1)


def _run(session: Host, statement: duckdb.Statement, given: Any) -> None:
    session.duck.execute(statement, given).fetchall()
