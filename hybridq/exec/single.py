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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from hybridq.errors import Uncertain
from hybridq.exec import given as parameters
from hybridq.exec.alone import Ready, parsed, run_alone
from hybridq.exec.certain import KEYS, KeyOf, is_vector, vector_of
from hybridq.exec.host import Host
from hybridq.exec.result import Result
from hybridq.exec.tracking import tracking_of
from hybridq.exec.transaction import Transaction
from hybridq.index.delta import Change
from hybridq.index.state import IndexState
from hybridq.index.tail import OneRow
from hybridq.nodes import SingleValues, Write, quote
from hybridq.storage import manifest
from hybridq.storage.manifest import TableInfo


@dataclass(frozen=True, slots=True)
class _Target:
    """One index of the table: which parameters are its columns, and which one is its vector."""

    state: IndexState
    columns: tuple[tuple[KeyOf, int | str], ...]
    vector: int | str

    def row(self, given: Any) -> OneRow | None:
        """Return the row that the table will hold, None if that is not certain."""
        try:
            vector = vector_of(given[self.vector], self.state.spec)
            keys = [key_of(given[at]) for key_of, at in self.columns]
        except Uncertain:
            return None
        return OneRow(keys, vector)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one INSERT is run: a statement that DuckDB has parsed; `epoch` is when."""

    targets: tuple[_Target, ...]
    statement: duckdb.Statement
    known: parameters.Known
    epoch: int

    def rows(self, given: Any) -> list[OneRow] | None:
        """Return the row of each index, None if one of them is not certain."""
        if not parameters.fits(self.known, given):
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
    plan = session.planned(write, lambda: _plan(session, write, values))
    rows = plan.rows(given) if plan is not None else None
    if plan is None or rows is None:
        return None
    try:
        if session.transaction is not None:
            return _inside(session, session.transaction, plan, rows, given)
        return run_alone(
            session,
            [t.state for t in plan.targets],
            plan.epoch,
            lambda: _ready(session, plan, rows, given),
        )
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
    known = parameters.known_of(used)
    if len(found) < len(targets) or known is None:
        return None
    insert = write.text.rstrip().rstrip(";")
    marks = parameters.marks(insert, known, len(found))
    if marks is None:
        return None
    return Plan(
        targets=found,
        statement=parsed(session, _text(insert, [t.state for t in found], marks)),
        known=known,
        epoch=session.instance.epoch,
    )


def _target(state: IndexState, table: TableInfo, places: Mapping[str, int | str]) -> _Target | None:
    spec = state.spec
    if not is_vector(table, spec):
        return None
    if any(c.type.kind not in KEYS or c.name.lower() not in places for c in spec.columns):
        return None
    if spec.column.lower() not in places:
        return None
    columns = tuple((KEYS[c.type.kind], places[c.name.lower()]) for c in spec.columns)
    return _Target(state, columns, places[spec.column.lower()])


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
    session.duck.execute(plan.statement, parameters.with_more(given, names)).fetchall()
    for state, row in zip(states, rows, strict=True):
        transaction.record_row(state, row)
    return Result(None, [], rowcount=1)


def _ready(session: Host, plan: Plan, rows: Sequence[OneRow], given: Any) -> Ready:
    names = [manifest.new_transaction() for _ in rows]
    prepared = [
        session.instance.folded(t.state, Change([], None, fresh=True, row=row), name, 1)
        for t, row, name in zip(plan.targets, rows, names, strict=True)
    ]
    return Ready(plan.statement, parameters.with_more(given, names), prepared)
