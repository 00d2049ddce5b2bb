"""UPDATE and DELETE of the row with a key: one statement changes it and logs the key.

    DELETE FROM t WHERE id = ?
    ->  WITH l AS MATERIALIZED (INSERT INTO hybridq.changes_i VALUES (?, ?))
        DELETE FROM t WHERE id = ?

The index knows whether there is such a row, and of it what is not assigned; what is assigned must
be certain (see `certain`). So nothing is read back, and the statement is its own transaction, as in
`single`. RETURNING would make DuckDB write all of an updated row anew.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from hybridq.arrow import pa
from hybridq.errors import DamagedError
from hybridq.exec import given as parameters
from hybridq.exec import transaction as tx
from hybridq.exec.alone import Ready, parsed, run_alone
from hybridq.exec.certain import FOUND_BY, KEYS, KeyOf, Uncertain, is_vector, vector_of
from hybridq.exec.host import Host
from hybridq.exec.patches import is_plain
from hybridq.exec.result import Result
from hybridq.exec.tracking import Tracking, tracking_of
from hybridq.exec.transaction import Transaction
from hybridq.index.capture import Captured, OneByOne
from hybridq.index.delta import Change
from hybridq.index.ivf import Float32s, Part
from hybridq.index.patch import OneKey, keys_at, place_of, vector_at
from hybridq.index.state import IndexState
from hybridq.index.tail import OneRow
from hybridq.instance import Prepared
from hybridq.nodes import ByKey, Constant, Given, LiteralKind, Write, quote
from hybridq.storage import manifest
from hybridq.storage.manifest import TableInfo


@dataclass(frozen=True, slots=True)
class _Target:
    """One index of the table: what its key is compared with, and what is assigned of it.

    `columns` are places among the index's columns. `vector` is None if that stays as it is.
    """

    state: IndexState
    key: tuple[tuple[KeyOf, Given], ...]
    columns: tuple[tuple[int, KeyOf, Given], ...] = ()
    vector: Given | None = None

    def key_given(self, given: Any) -> OneKey:
        """Return the key of the row; Uncertain if other keys may be found, too."""
        values = [_value(at, given) for _, at in self.key]
        if None in values:
            raise Uncertain
        keys = [key_of(value) for (key_of, _), value in zip(self.key, values, strict=True)]
        return OneKey(self.state.spec, values, keys)

    def assigned(self, given: Any) -> _Assigned:
        """Return what the statement assigns; Uncertain if the database has to say, or to refuse."""
        vector = None
        if self.vector is not None:
            vector = vector_of(_value(self.vector, given), self.state.spec)
        return _Assigned({i: key_of(_value(at, given)) for i, key_of, at in self.columns}, vector)


@dataclass(frozen=True, slots=True)
class _Assigned:
    """Keys by the place of their column, as `OneRow` has them, and a vector if there is one."""

    keys: Mapping[int, int | str | None]
    vector: Float32s | None

    def row(self, part: Part, position: int) -> OneRow:
        """Return the row there with what is assigned; Uncertain if the table has to say."""
        vector = self.vector
        if vector is None:
            try:
                vector = vector_at(part, position)
            except DamagedError:
                raise Uncertain from None
            if vector is None:  # NULL, or zero
                raise Uncertain
        keys = [self.keys.get(i, known) for i, known in enumerate(keys_at(part, position))]
        return OneRow(keys, vector)


class _Log(enum.Enum):
    """Whether a statement logs the key: it is there, or it is not, or the table shall say."""

    KEY = "key"
    NOTHING = "nothing"
    IF_THERE = "if there"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one UPDATE or DELETE is run, `text` being it; `epoch` is when.

    `beside` are the indexes of which it writes no column. `marks` are how the parameters are
    spelled that log the key; `statements` DuckDB has parsed.
    """

    text: str
    deletes: bool
    targets: tuple[_Target, ...]
    beside: tuple[IndexState, ...]
    known: parameters.Known
    marks: Sequence[str]
    binary: bool
    epoch: int
    statements: dict[_Log, duckdb.Statement] = field(default_factory=dict)

    @property
    def states(self) -> list[IndexState]:
        """All indexes of the table."""
        return [*(target.state for target in self.targets), *self.beside]

    def statement(self, session: Host, log: _Log) -> duckdb.Statement:
        """Return the statement with what logs the key."""
        found = self.statements.get(log)
        if found is None:
            found = self.statements[log] = parsed(session, self._logging(log))
        return found

    def _logging(self, log: _Log) -> str:
        marks = iter(self.marks)
        logs: list[str] = []
        for i, target in enumerate(self.targets if log is not _Log.NOTHING else ()):
            spec = target.state.spec
            columns = [quote(c.name) for c in spec.key_columns]
            name, *values = (next(marks) for _ in range(1 + len(columns)))
            rows = f"VALUES ({', '.join([name, *values])})"
            if log is _Log.IF_THERE:
                same = (f"{column} = {mark}" for column, mark in zip(columns, values, strict=True))
                rows = f"SELECT {name}::UUID, {', '.join(columns)} FROM {spec.table_name.sql()} "
                rows += f"WHERE {' AND '.join(same)}"
            into = manifest.changes_table(target.state.name)
            logs.append(f"__hybridq_log{i} AS MATERIALIZED (INSERT INTO {into} {rows})")
        # On a line of its own, so that positions in errors are those of the text but for the line.
        return f"{'WITH ' if logs else ''}{', '.join(logs)}\n{self.text}"

    def given_with(self, given: Any, names: Sequence[object], edits: Sequence[_Edit]) -> Any:
        """Return the parameters of a statement that logs the keys."""
        more = [
            v for name, edit in zip(names, edits, strict=True) for v in (name, *edit.key.values)
        ]
        first = bool(self.marks) and self.marks[0] == "?"
        return parameters.with_more(given, more, first=first)


@dataclass(frozen=True, slots=True)
class _Edit:
    """What one statement does to one index."""

    state: IndexState
    key: OneKey
    assigned: _Assigned


def write_by_key(session: Host, write: Write, given: Any) -> Result | None:
    """Run an UPDATE or DELETE if it is one of these, else return None with nothing done."""
    statement = write.by_key
    if statement is None or write.has_returning or write.rewritten:
        return None
    if not session.instance.indexes or not session.at_home:
        return None
    plan = session.planned(write, lambda: _plan(session, write, statement))
    if plan is None or not parameters.fits(plan.known, given):
        return None
    if not plan.binary and not session.standard_order:
        return None  # a default collation may find other keys
    try:
        edits = [_Edit(t.state, t.key_given(given), t.assigned(given)) for t in plan.targets]
        if session.transaction is not None:
            return _inside(session, session.transaction, plan, edits, given)
        return run_alone(
            session, plan.states, plan.epoch, lambda: _ready(session, plan, edits, given)
        )
    except Uncertain:
        return None
    except duckdb.Error as error:
        own = session.failed(error)
        if own.position is not None:
            own.position = own.position[0] - 1, own.position[1]
        raise own from error


def _value(at: Given, given: Any) -> Any:
    return _CONSTANTS[at.kind](at.text) if isinstance(at, Constant) else given[at]


_CONSTANTS: Mapping[LiteralKind, Callable[[str], Any]] = {
    LiteralKind.STRING: str,
    LiteralKind.INTEGER: int,
    LiteralKind.BOOLEAN: "true".__eq__,
    LiteralKind.NULL: lambda _: None,
}


# -- what is known of a statement -----------------------------------------------------


def _plan(session: Host, write: Write, statement: ByKey) -> Plan | None:
    table = session.describe(write.table)
    tracking = tracking_of(session, write)
    known = parameters.known_of(statement.used)
    if table is None or known is None or tracking.opaque is not None or not tracking.all:
        return None
    deletes = write.kind == "DELETE"
    # A check that is a function of Python's may come back to us.
    if table.collated or table.generated or (table.calls and not deletes):
        return None
    targets = _targets(table, tracking, statement)
    if targets is None:
        return None
    text = write.text.rstrip().rstrip(";")
    marks = parameters.marks(text, known, sum(1 + len(target.key) for target in targets))
    if marks is None:
        return None
    return Plan(
        text=text,
        deletes=deletes,
        targets=targets,
        beside=tracking.beside,
        known=known,
        marks=marks,
        binary=not any(c.type.has_dictionary for c in tracking.all[0].spec.key_columns),
        epoch=session.instance.epoch,
    )


def _targets(table: TableInfo, tracking: Tracking, statement: ByKey) -> tuple[_Target, ...] | None:
    """Return what the statement changes of each index, None if that cannot be told."""
    tests = {name.lower(): at for name, at in statement.tests}
    assigned = {name.lower(): at for name, at in statement.assigned}
    if len(tests) < len(statement.tests) or len(assigned) < len(statement.assigned):
        return None
    found: list[_Target] = []
    for state in tracking.all:
        columns = state.spec.key_columns
        if {c.name.lower() for c in columns} != tests.keys():
            return None
        if any(c.type.kind not in FOUND_BY for c in columns):
            return None
        if state in tracking.beside:
            continue
        target = _target(table, state, tests, assigned)
        if target is None:
            return None
        found.append(target)
    return tuple(found)


def _target(
    table: TableInfo,
    state: IndexState,
    tests: Mapping[str, Given],
    assigned: Mapping[str, Given | None],
) -> _Target | None:
    spec = state.spec
    columns: list[tuple[int, KeyOf, Given]] = []
    for i, column in enumerate(spec.columns):
        if column.name.lower() not in assigned:
            continue
        at = assigned[column.name.lower()]
        if at is None or column.type.kind not in KEYS:
            return None
        columns.append((i, KEYS[column.type.kind], at))
    vector = None
    if spec.column.lower() in assigned:
        vector = assigned[spec.column.lower()]
        if vector is None or not is_vector(table, spec):
            return None
    key = tuple((FOUND_BY[c.type.kind], tests[c.name.lower()]) for c in spec.key_columns)
    return _Target(state, key, tuple(columns), vector)


# -- running it -----------------------------------------------------------------------


def _ready(session: Host, plan: Plan, edits: Sequence[_Edit], given: Any) -> Ready:
    """Find the row in each index, and what that will be: a change, if there is such a row."""
    names = [manifest.new_transaction() for _ in edits]
    changes: list[Prepared] = []
    for edit, name in zip(edits, names, strict=True):
        place = place_of(edit.state.snapshot, edit.key)
        if place is None:
            continue
        row = None if plan.deletes else edit.assigned.row(*place)
        change = Change(edit.key.texts, None, row=row, codes=edit.key.codes)
        changes.append(session.instance.folded(edit.state, change, name, 1))
    if len(changes) not in (0, len(edits)):
        raise Uncertain
    if changes:
        statement = plan.statement(session, _Log.KEY)
        given = plan.given_with(given, names, edits)
        return Ready(statement, given, changes, beside=plan.beside)
    statement = plan.statement(session, _Log.NOTHING)
    return Ready(statement, given, (), count=0 if edits else None, beside=plan.beside)


def _inside(
    session: Host, transaction: Transaction, plan: Plan, edits: Sequence[_Edit], given: Any
) -> Result | None:
    """Run it in the open transaction, which logs and publishes nothing of it again."""
    if any(not transaction.knows(state) for state in plan.states):
        return None
    for state in plan.states:
        transaction.begin_write(state, session)
    with session.instance.lock:  # a rebuild that began before we took the index ends first
        if session.instance.epoch != plan.epoch:
            return None
    after = [_after(session, transaction, edit, deletes=plan.deletes) for edit in edits]
    there = {each.there for each in after}
    log = _Log.IF_THERE
    if len(there) < 2 and None not in there:
        log = _Log.KEY if True in there else _Log.NOTHING
    transaction.wrote = True
    names = [transaction.log_name(edit.state, 0) for edit in edits]
    statement = plan.statement(session, log)
    if log is not _Log.NOTHING:
        given = plan.given_with(given, names, edits)
    count = session.duck.execute(statement, given).fetchall()[0][0]
    for state in plan.beside if count else ():
        transaction.record_beside(state)
    for edit, each in zip(edits, after, strict=True):
        if each.there is not None and count != each.there:
            transaction.record_opaque(edit.state)
        elif count:
            transaction.log_name(edit.state, count)
            transaction.record(edit.state, Captured(edit.key.arrays(), each.row, logged=True))
    return Result(None, [], rowcount=count)


@dataclass(frozen=True, slots=True)
class _After:
    """Whether a row is there, None if that is not known; and as what, None if the table tells."""

    there: bool | None
    row: pa.Table | OneByOne | None


def _after(session: Host, transaction: Transaction, edit: _Edit, *, deletes: bool) -> _After:
    gone = pa.table({}) if deletes else None
    snapshot = tx.seen(transaction, edit.state, session.instance)
    if snapshot is None:
        return _After(None, gone)
    place = place_of(snapshot, edit.key)
    spec = edit.state.spec
    if place is None or deletes or not is_plain(spec):
        return _After(place is not None, gone)
    return _After(True, OneByOne(spec, [edit.assigned.row(*place)]))
