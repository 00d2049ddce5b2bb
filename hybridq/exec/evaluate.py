"""What DuckDB evaluates ahead of a search: constant expressions, and conditions on one column.

A condition on a column with a dictionary is a matter of its distinct values: DuckDB evaluates it
over those, and the scan looks up each row's code. There is no second implementation of LIKE.

What was once evaluated is kept, under everything it may depend on: the text, the parameters, and
the session's environment (macros, settings).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np

from hybridq.arrow import pa
from hybridq.conditions import Expression, Truth
from hybridq.exec.host import Host, drop_view
from hybridq.index.attributes import AttributeType, Kind
from hybridq.index.binding import UNKNOWN
from hybridq.index.ivf import IndexColumn, Part
from hybridq.index.verdicts import Flags, Verdict, of_codes
from hybridq.nodes import TopK, literal, quote
from hybridq.sql import lexical

MAX_VALUES = 200_000
"""Of more distinct values than that, DuckDB filters the table as fast."""

MAX_MEMBERS = 10_000
"""Of more values of an IN, DuckDB looks up each row as fast."""

_INTEGERS = frozenset((
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER",
))  # fmt: skip

_MEMBERS = {
    Kind.INTEGER: "int64",
    Kind.UBIGINT: "uint64",
    Kind.TEXT: "large_string",
    Kind.DATE: "date32",
    Kind.TIMESTAMP: "timestamp[us]",
}
"""Kinds whose values are equal where their keys are; Arrow's types of them."""

_COLLATIONS = """
    SELECT EXISTS (FROM duckdb_tables() WHERE sql ILIKE '%collate%')
        OR EXISTS (FROM duckdb_views() WHERE NOT internal AND sql ILIKE '%collate%')
        OR EXISTS (FROM duckdb_functions() WHERE macro_definition ILIKE '%collate%')
"""

_KEPT = 64
_VIEW = "__hybridq_values"
_ROW = "__hybridq_row"
_SIMPLE = (
    *(type(None), bool, int, float, str, bytes, Decimal, uuid.UUID),
    *(dt.date, dt.datetime, dt.time, dt.timedelta, np.generic),
)
CONSTANTS = frozenset((
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER",
    "DOUBLE", "DATE", "TIME", "TIMESTAMP", "VARCHAR", "UUID",
))  # fmt: skip
"""Types whose values are compared as a parameter of that Python type is."""

INFINITE = (dt.date.max, dt.date.min, dt.datetime.max, dt.datetime.min)
"""What DuckDB's client makes of infinite dates."""
_NO_KEYS = (*INFINITE, -(2**63), 2**64 - 1)


@dataclass(frozen=True, slots=True)
class Nature:
    """What functions are: the same for the same arguments, whenever they run; DuckDB's own."""

    deterministic: bool
    built_in: bool


def nature_of(session: Host, functions: frozenset[str]) -> Nature:
    """Return what all of the functions are."""
    if not functions:
        return Nature(deterministic=True, built_in=True)
    known: Nature | None = session.environment.get(functions)
    if known is None:
        names = ", ".join(literal(name) for name in sorted(functions))
        rows = session.query(
            "SELECT bool_and((function_type = 'scalar' AND stability = 'CONSISTENT') "
            "OR (internal AND function_name IN ('if', 'nullif'))), bool_and(internal) "
            f"FROM duckdb_functions() WHERE lower(function_name) IN ({names}) "
            "GROUP BY lower(function_name)",
            None,
        )[1]
        every = len(rows) == len(functions)
        known = Nature(
            deterministic=every and all(consistent for consistent, _ in rows),
            built_in=every and all(internal for _, internal in rows),
        )
        session.environment.keep(functions, known)
    return known


def told_apart(given: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return a key that differs where the values of parameters do; None if there is none."""
    if not all(isinstance(value, _SIMPLE) for value in given.values()):
        return None
    return tuple((name, type(value), repr(value)) for name, value in given.items())


class Ahead:
    """Evaluates for one statement: its session, its parameters, its table."""

    def __init__(self, session: Host, parameters: Mapping[str, Any], topk: TopK) -> None:
        self.session = session
        self.parameters = parameters
        self.alias = topk.table.alias or topk.table.name
        self._with_text = topk.with_text

    def condition(self, expression: Expression) -> Any:
        """Return the value, True, False or None, of a condition without columns, or UNKNOWN."""
        if not self._deterministic(expression.functions):
            return UNKNOWN
        found = self._value(f"({expression.text}) AND true")
        return UNKNOWN if found is None else found[1]

    def constant(self, text: str, kind: AttributeType) -> Any:
        """Return the value of a constant that is compared with a column of `kind`, or UNKNOWN."""
        found = self._value(text)
        if found is None:
            return UNKNOWN
        own, value = found
        if value is None:  # of another type, it may be one that does not compare at all
            return None if own in ('"NULL"', kind.sql) else UNKNOWN
        return value if _comparable(own, value, kind) else UNKNOWN

    def _value(self, text: str) -> tuple[str, Any] | None:
        """Return the type and the value of a constant expression, None if it has none."""
        key = self._key(text)
        known: tuple[str, Any] | None = None
        if key is not None:
            known = self.session.environment.get(key)
        if known is not None:
            return known
        query = f"SELECT typeof(x), x FROM (SELECT ({text}) AS x)"
        if not self._rehearsed(query):
            return None
        try:
            kind, value = self.session.query(query, self._given(query))[1][0]
        except (duckdb.Error, RuntimeError) as error:
            self._failed(error)
            return None
        if key is not None:
            self.session.environment.keep(key, (kind, value))
        return kind, value

    def over_values(
        self, position: int, expression: Expression, truth: Truth, parts: Sequence[Part]
    ) -> list[Verdict] | None:
        """Return, per part, the values of a column for which an expression is `truth`."""
        if not self._deterministic(expression.functions):
            return None
        column = parts[0].spec.columns[position]
        key = self._key(expression.text)
        if key is not None:
            key = (self.session.environment.token, *key, truth, position, self.alias)
        found = [_kept(part, key, position) for part in parts]
        missing = [i for i, verdict in enumerate(found) if verdict is None]
        if missing:
            values = [_values(parts[i], position, column.type) for i in missing]
            if sum(len(v) for v in values) > MAX_VALUES:
                return None
            evaluated = self._evaluate(column, values, expression.text, truth)
            if evaluated is None:
                return None
            for i, flags in zip(missing, evaluated, strict=True):
                found[i] = verdict = of_codes(position, flags)
                if key is not None:
                    _keep(parts[i], key, position, verdict)
        return [verdict for verdict in found if verdict is not None]

    def members(self, query: str, kind: AttributeType, *, once: bool) -> pa.Array | None:
        """Return the distinct values of a query, NULL among them, for a column of `kind`.

        None if they are too many, do not compare as values of a column do, or are asked to come but
        `once` and do not.
        """
        if kind.kind is Kind.TEXT and ("collate" in query.lower() or self._any_collation()):
            return None
        kept = "*" if once else "DISTINCT *"
        text = f"{self._with_text}SELECT {kept} FROM ({query}) AS q LIMIT {MAX_MEMBERS + 1}"
        if self.session.transaction is not None and not self._rehearsed(f"EXPLAIN {text}"):
            return None
        try:
            fields, rows = self.session.query(text, self._given(text))
        except OverflowError:
            return None  # DuckDB has dates that Python has not
        except (duckdb.Error, RuntimeError) as error:
            self._failed(error)
            return None
        if len(fields) != 1 or not _members_compare(fields[0].type, kind):
            return None
        given = [value for (value,) in rows]
        values = set(given)
        if len(rows) > MAX_MEMBERS or not values.isdisjoint(_NO_KEYS):
            return None
        if once and len(values - {None}) < len(given) - given.count(None):
            return None
        return pa.array(values, pa.type_for_alias(_MEMBERS[kind.kind]))

    def _any_collation(self) -> bool:
        """Tell whether text of any table, view or macro may compare by a collation."""
        known: bool | None = self.session.environment.get(_COLLATIONS)
        if known is None:
            known = self.session.query(_COLLATIONS, None)[1][0][0]
            self.session.environment.keep(_COLLATIONS, known)
        return bool(known)

    def _evaluate(
        self, column: IndexColumn, values: Sequence[pa.Array], text: str, truth: Truth
    ) -> list[Flags] | None:
        """Return, per part, a flag for NULL and for each code; all are evaluated at once."""
        rows = sum(len(v) for v in values)
        table = pa.table({"n": np.arange(rows), "x": pa.concat_arrays(values)})
        wanted = f"({text}) AND true" if truth in (Truth.TRUE, Truth.NOT_TRUE) else f"NOT ({text})"
        query = (
            f"SELECT {_ROW} AS n, TRY(COALESCE({wanted}, false)) AS hit FROM "
            f"(SELECT n AS {_ROW}, CAST(x AS {column.type.sql}) AS {quote(column.name)} "
            f"FROM {_VIEW}) AS {quote(self.alias)}"
        )
        if not self._rehearsed(query.replace(f"FROM {_VIEW}", "FROM (SELECT 0 AS n, NULL AS x)")):
            return None
        try:
            self.session.register_view(_VIEW, table)
            try:
                answer = self.session.query_arrow(query, self._given(query))
            finally:
                drop_view(self.session, _VIEW)
        except (duckdb.Error, RuntimeError) as error:
            self._failed(error)
            return None
        hits = answer.column("hit")
        if hits.null_count:  # an error, which the rows of the table need not meet
            self.session.instance.functions.take_failure()
            return None
        flags = np.empty(rows, np.bool_)
        flags[answer.column("n").to_numpy()] = hits.to_numpy()
        if truth in (Truth.NOT_TRUE, Truth.NOT_FALSE):
            flags = ~flags
        return np.split(flags, np.cumsum([len(v) for v in values])[:-1])

    def _given(self, text: str) -> dict[str, Any]:
        return {name: self.parameters[name] for name in lexical.used_parameters(text)}

    def _key(self, text: str) -> tuple[Any, ...] | None:
        """Return what an evaluation depends on; None if it cannot be told."""
        values = told_apart(self._given(text))
        return None if values is None else (text, values)

    def _deterministic(self, functions: frozenset[str]) -> bool:
        """Tell whether every function gives the same for the same arguments, whenever it runs."""
        return nature_of(self.session, functions).deterministic

    def _rehearsed(self, query: str) -> bool:
        """Tell whether `query` runs, outside the session's transaction: there a failure ends it."""
        if self.session.transaction is None:
            return True
        with self.session.instance.duck.cursor() as cursor:
            try:
                cursor.execute(query, self._given(query) or None).fetchall()
            except (duckdb.Error, RuntimeError):
                self.session.instance.functions.take_failure()
                return False
        return True

    def _failed(self, error: Exception) -> None:
        """Let DuckDB report a failure with the statement, unless it has ended the transaction."""
        if self.session.transaction is not None or isinstance(error, duckdb.InterruptException):
            raise error
        self.session.instance.functions.take_failure()


def _members_compare(own: str, kind: AttributeType) -> bool:
    """Tell whether values of the SQL type `own` are equal to a column's where their keys are."""
    if kind.kind is Kind.INTEGER:
        return own in _INTEGERS
    return kind.kind in _MEMBERS and own == kind.sql


def _comparable(own: str, value: Any, kind: AttributeType) -> bool:
    """Tell whether a constant of the SQL type `own` compares as a parameter of its class does."""
    plain = value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value
    if plain in INFINITE:
        return False
    if own.startswith("DECIMAL("):
        return own == kind.sql or int(own[8:].partition(",")[0]) <= 18
    return own in CONSTANTS or (own == kind.sql and kind.kind is not Kind.ENUM)


def _values(part: Part, position: int, kind: AttributeType) -> pa.Array:
    """Return NULL and then the values behind the codes of a column, as text."""
    if kind.kind is Kind.BOOLEAN:
        words: Any = pa.array(["false", "true"], pa.large_string())
    elif kind.kind is Kind.ENUM:
        words = pa.array(kind.labels, pa.large_string())
    else:
        words = part.dictionaries[position]
    return pa.concat_arrays([pa.nulls(1, pa.large_string()), words.cast(pa.large_string())])


def _kept(part: Part, key: Hashable, position: int) -> Verdict | None:
    dictionary, verdict = part.known.get(key, (None, None))
    same = dictionary is part.dictionaries[position]
    return verdict if same else None


def _keep(part: Part, key: Hashable, position: int, verdict: Verdict) -> None:
    """Keep a verdict beside the dictionary it is of; other threads may do the same."""
    part.known[key] = (part.dictionaries[position], verdict)
    if len(part.known) > _KEPT:
        part.known.pop(next(iter(part.known)), None)
