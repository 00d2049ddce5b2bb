"""What is known of an UPDATE or DELETE by key before it runs; see `by_key`."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from hybridq.errors import DamagedError, Uncertain
from hybridq.exec import given as parameters
from hybridq.exec.alone import parsed
from hybridq.exec.certain import FOUND_BY, KEYS, KeyOf, is_vector, vector_of
from hybridq.exec.host import Host, named_values
from hybridq.exec.patches import is_plain
from hybridq.exec.tracking import Tracking, tracking_of
from hybridq.index.attributes import reserved_value
from hybridq.index.capture import FewRows, OneByOne
from hybridq.index.ivf import Float32s, IndexSpec, Part
from hybridq.index.patch import OneKey, keys_at, vector_at
from hybridq.index.state import IndexState
from hybridq.index.tail import UNHASHED, OneRow
from hybridq.nodes import ByKey, Computed, Constant, Given, LiteralKind, Metric, Write, quote
from hybridq.sql import lexical
from hybridq.storage import manifest
from hybridq.storage.manifest import TableInfo

_KEY = "__hybridq_k"
_OF_EXPRESSIONS = frozenset(
    ["case", "when", "then", "else", "end", "and", "or", "not", "is", "null", "true", "false"]
)


@dataclass(frozen=True, slots=True)
class Target:
    """One index of the table: what its key is compared with, and what is assigned of it.

    `columns` are places among the index's columns. `vector` is None if that stays as it is.
    """

    state: IndexState
    key: tuple[tuple[KeyOf, Given], ...]
    columns: tuple[tuple[int, KeyOf, Given | Computed], ...] = ()
    vector: Given | Computed | None = None

    def key_given(self, given: Any) -> OneKey:
        """Return the key of the row; Uncertain if other keys may be found, too."""
        values = [value_of(at, given) for _, at in self.key]
        if None in values:
            raise Uncertain
        keys = [key_of(value) for (key_of, _), value in zip(self.key, values, strict=True)]
        return OneKey(self.state.spec, values, keys)

    def assigned(self, given: Any, computed: Mapping[str, Any] | None) -> Assigned:
        """Return what the statement assigns; Uncertain if the database has to say, or to refuse.

        `computed` are the values of expressions; without them nothing is said of these columns.
        """
        spec, keys = self.state.spec, {}
        for i, key_of, at in self.columns:
            if not isinstance(at, Computed):
                keys[i] = key_of(value_of(at, given))
            elif computed is not None:
                keys[i] = key_of(computed[spec.columns[i].name.lower()])
            elif reserved_value(spec.columns[i].type) is not None:
                raise Uncertain
        vector = self.vector
        if vector is None:
            return Assigned(spec, keys)
        if not isinstance(vector, Computed):
            value = value_of(vector, given)
        elif computed is not None:
            value = computed[spec.column.lower()]
        else:
            raise Uncertain
        if value is None:
            return Assigned(spec, keys, no_vector=True)
        return Assigned(spec, keys, vector_of(list(value) if type(value) is tuple else value, spec))


@dataclass(frozen=True, slots=True)
class Assigned:
    """Keys by the place of their column, as `OneRow` has them, and a vector if one is assigned."""

    spec: IndexSpec
    keys: Mapping[int, int | str | None]
    vector: Float32s | None = None
    no_vector: bool = False

    def row(self, part: Part, position: int) -> OneByOne | FewRows:
        """Return the row there with what is assigned; Uncertain if the table has to say."""
        vector = self.vector
        if vector is None and not self.no_vector:
            try:
                vector = vector_at(part, position)
            except DamagedError:
                raise Uncertain from None
            if vector is None and self.spec.metric is Metric.COSINE:  # NULL, or zero
                raise Uncertain
        keys = [self.keys.get(i, known) for i, known in enumerate(keys_at(part, position))]
        if vector is not None:
            return OneByOne(self.spec, [OneRow(keys, vector)])
        if not is_plain(self.spec):
            raise Uncertain
        values = OneRow(keys, part.vectors[:0]).values(self.spec)
        return FewRows(self.spec, [(*values, None, UNHASHED)])


class Log(enum.Enum):
    """Whether a statement logs the key: it is there, or it is not, or the table shall say."""

    KEY = "key"
    NOTHING = "nothing"
    IF_THERE = "if there"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one UPDATE or DELETE is run, `text` being it; `epoch` is when.

    `beside` are the indexes of which it writes no column. `marks` are how the parameters are
    spelled that log the key; `statements` DuckDB has parsed. `computes` is the query of the values
    of the expressions `computed`, if there are any that an index keeps.
    """

    text: str
    deletes: bool
    targets: tuple[Target, ...]
    beside: tuple[IndexState, ...]
    known: parameters.Known
    marks: Sequence[str]
    binary: bool
    computed: tuple[str, ...]
    computes: str
    epoch: int
    statements: dict[Log | None, duckdb.Statement] = field(default_factory=dict)

    @property
    def states(self) -> list[IndexState]:
        """All indexes of the table."""
        return [*(target.state for target in self.targets), *self.beside]

    def statement(self, session: Host, log: Log) -> duckdb.Statement:
        """Return the statement with what logs the key."""
        return self._parsed(session, log, lambda: self._logging(log))

    def _parsed(self, session: Host, what: Log | None, text: Callable[[], str]) -> duckdb.Statement:
        found = self.statements.get(what)
        if found is None:
            found = self.statements[what] = parsed(session, text())
        return found

    def _logging(self, log: Log) -> str:
        marks = iter(self.marks)
        logs: list[str] = []
        for i, target in enumerate(self.targets if log is not Log.NOTHING else ()):
            spec = target.state.spec
            columns = [quote(c.name) for c in spec.key_columns]
            name, *values = (next(marks) for _ in range(1 + len(columns)))
            rows = f"VALUES ({', '.join([name, *values])})"
            if log is Log.IF_THERE:
                same = (f"{column} = {mark}" for column, mark in zip(columns, values, strict=True))
                rows = f"SELECT {name}::UUID, {', '.join(columns)} FROM {spec.table_name.sql()} "
                rows += f"WHERE {' AND '.join(same)}"
            into = manifest.changes_table(target.state.name)
            logs.append(f"__hybridq_log{i} AS MATERIALIZED (INSERT INTO {into} {rows})")
        # On a line of its own, so that positions in errors are those of the text but for the line.
        return f"{'WITH ' if logs else ''}{', '.join(logs)}\n{self.text}"

    def given_with(self, given: Any, names: Sequence[object], keys: Sequence[OneKey]) -> Any:
        """Return the parameters of a statement that logs the keys."""
        more = [v for name, key in zip(names, keys, strict=True) for v in (name, *key.values)]
        first = bool(self.marks) and self.marks[0] == "?"
        return parameters.with_more(given, more, first=first)

    def compute(self, session: Host, given: Any, key: OneKey) -> Mapping[str, Any] | None:
        """Return what is computed by column, None if there is no row; Uncertain on an error.

        The table is the writer's: nobody changes the row before the statement runs.
        """
        values = {**named_values(given), **{f"{_KEY}{i}": v for i, v in enumerate(key.values)}}
        used = {name: values[name] for name in lexical.used_parameters(self.computes)}
        try:
            query = self._parsed(session, None, lambda: self.computes)
            rows = session.duck.execute(query, used).fetchall()
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            raise Uncertain from None
        return dict(zip(self.computed, rows[0], strict=True)) if rows else None


def value_of(at: Given, given: Any) -> Any:
    """Return the value of a parameter or a constant."""
    return _CONSTANTS[at.kind](at.text) if isinstance(at, Constant) else given[at]


_CONSTANTS: Mapping[LiteralKind, Callable[[str], Any]] = {
    LiteralKind.STRING: str,
    LiteralKind.INTEGER: int,
    LiteralKind.BOOLEAN: "true".__eq__,
    LiteralKind.NULL: lambda _: None,
}


def plan_of(session: Host, write: Write, statement: ByKey) -> Plan | None:
    """Return how the statement is run, None if that is for the general way."""
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
    computed = _computed(table, targets, statement)
    if marks is None or computed is None:
        return None
    spec = tracking.all[0].spec
    same = (f"{quote(c.name)} = ${_KEY}{i}" for i, c in enumerate(spec.key_columns))
    source = f"FROM {spec.table_name.sql()} WHERE {' AND '.join(same)}"
    return Plan(
        text=text,
        deletes=deletes,
        targets=targets,
        beside=tracking.beside,
        known=known,
        marks=marks,
        binary=not any(c.type.has_dictionary for c in spec.key_columns),
        computed=tuple(computed),
        computes=f"SELECT {', '.join(computed.values())} {source}",
        epoch=session.instance.epoch,
    )


def _targets(table: TableInfo, tracking: Tracking, statement: ByKey) -> tuple[Target, ...] | None:
    """Return what the statement changes of each index, None if that cannot be told."""
    tests = {name.lower(): at for name, at in statement.tests}
    assigned = {name.lower(): at for name, at in statement.assigned}
    if len(tests) < len(statement.tests) or len(assigned) < len(statement.assigned):
        return None
    found: list[Target] = []
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
    assigned: Mapping[str, Given | Computed],
) -> Target | None:
    spec = state.spec
    columns: list[tuple[int, KeyOf, Given | Computed]] = []
    for i, column in enumerate(spec.columns):
        at = assigned.get(column.name.lower())
        if at is None:
            continue
        if column.type.kind not in KEYS:
            return None
        columns.append((i, KEYS[column.type.kind], at))
    vector = assigned.get(spec.column.lower())
    if vector is not None and not is_vector(table, spec):
        return None
    key = tuple((FOUND_BY[c.type.kind], tests[c.name.lower()]) for c in spec.key_columns)
    return Target(state, key, tuple(columns), vector)


def _computed(
    table: TableInfo, targets: Sequence[Target], statement: ByKey
) -> dict[str, str] | None:
    """Return SQL of what columns of indexes are assigned, where it is of the row's columns alone.

    None if it is not: the second time it might be something else.
    """
    kept = {
        target.state.spec.columns[i].name.lower()
        for target in targets
        for i, _, _ in target.columns
    }
    kept |= {target.state.spec.column.lower() for target in targets}
    words = {column.name.lower() for column in table.columns} | _OF_EXPRESSIONS
    found: dict[str, str] = {}
    for name, value in statement.assigned:
        column = table.column(name)
        if not isinstance(value, Computed) or name.lower() not in kept or column is None:
            continue
        if not value.words <= words:
            return None
        found[name.lower()] = f"CAST({value.text} AS {column.type})"
    return found
