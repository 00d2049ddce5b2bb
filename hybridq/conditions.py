"""Conditions of a WHERE, free of any parser's types, in the shapes an index can evaluate.

A condition is a tree of `AllOf` and `AnyOf` over tests. Negation stands at the tests alone, as the
`Truth` that a row must give them: SQL's logic has three values, and of NOT, IS TRUE and their like
each asks for another part of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

ParameterName: TypeAlias = str
"""`hq1`, `hq2` … for `?` and `$1`; the name itself for `$name` and `:name`."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value known only when the statement runs."""

    name: ParameterName


class LiteralKind(enum.Enum):
    """How a constant was written, which decides how DuckDB casts it."""

    STRING = "string"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    NULL = "null"
    DATE = "date"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of the statement, as text."""

    kind: LiteralKind
    text: str


Value: TypeAlias = Parameter | Constant


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A constant expression, which DuckDB evaluates: `10 + 5`, `DATE '2024-01-01' + ?`."""

    text: str


Operand: TypeAlias = Value | Evaluated


class Truth(enum.Enum):
    """What a condition must be for a row to pass."""

    TRUE = "true"
    FALSE = "false"
    NOT_TRUE = "false or NULL"
    NOT_FALSE = "true or NULL"

    @property
    def opposite(self) -> Truth:
        """What the negated condition must be."""
        return _OPPOSITE[self]

    def holds(self, value: bool | None) -> bool:
        """Tell whether `value` is it."""
        match self:
            case Truth.TRUE:
                return value is True
            case Truth.FALSE:
                return value is False
            case Truth.NOT_TRUE:
                return value is not True
            case Truth.NOT_FALSE:
                return value is not False


_OPPOSITE = {
    Truth.TRUE: Truth.FALSE,
    Truth.FALSE: Truth.TRUE,
    Truth.NOT_TRUE: Truth.NOT_FALSE,
    Truth.NOT_FALSE: Truth.NOT_TRUE,
}


@dataclass(frozen=True, slots=True)
class Compare:
    """`column op value`.

    op is one of = <> < <= > >=, `is` (IS NOT DISTINCT FROM), `is not` (IS DISTINCT FROM), `like`.
    """

    column: str
    op: str
    value: Operand


@dataclass(frozen=True, slots=True)
class Between:
    """`column BETWEEN low AND high`, both included."""

    column: str
    low: Operand
    high: Operand


@dataclass(frozen=True, slots=True)
class InList:
    """`column IN (values)`."""

    column: str
    values: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    """`column IS NULL`, or IS NOT NULL."""

    column: str
    negated: bool


Leaf: TypeAlias = Compare | Between | InList | IsNull


@dataclass(frozen=True, slots=True)
class Expression:
    """SQL text that DuckDB can evaluate alone, and the functions it calls, in lower case.

    It may be evaluated ahead of the statement only if none of the functions is volatile.
    """

    text: str
    functions: frozenset[str]


@dataclass(frozen=True, slots=True)
class ColumnTest:
    """A condition over one column: the leaf it is, if it is one, and the text, where it is known.

    DuckDB evaluates the text over the values of the column where the leaf does not serve.
    """

    column: str
    truth: Truth
    leaf: Leaf | None
    expression: Expression | None


@dataclass(frozen=True, slots=True)
class Given:
    """A condition without columns: it is the same for every row.

    `is_null` is the value that is tested, where the condition is `value IS NULL`.
    """

    truth: Truth
    expression: Expression
    is_null: Value | None = None


@dataclass(frozen=True, slots=True)
class InQuery:
    """`column IN (query)`, where the query does not depend on the row.

    With `once` it stands for a join, which is the same unless a value comes several times.
    """

    column: str
    truth: Truth
    query: str
    once: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """Every row passes, or none does."""

    value: bool


@dataclass(frozen=True, slots=True)
class Opaque:
    """A condition only DuckDB can evaluate; `expression` where it depends on its row alone."""

    reason: str
    expression: Expression | None = None


@dataclass(frozen=True, slots=True)
class AllOf:
    """Rows that pass every part."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Rows that pass at least one part."""

    parts: tuple[Condition, ...]


Condition: TypeAlias = ColumnTest | Given | InQuery | Known | Opaque | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class Conjunct:
    """One AND-ed part of a WHERE: its text, its condition, the columns it names."""

    text: str
    condition: Condition
    columns: frozenset[str]


def calls_of(condition: Condition) -> frozenset[str] | None:
    """Return the functions a condition calls; None if it may depend on more than its row."""
    match condition:
        case Known():
            return frozenset()
        case InQuery():
            return None
        case AllOf(parts) | AnyOf(parts):
            found: frozenset[str] = frozenset()
            for part in parts:
                calls = calls_of(part)
                if calls is None:
                    return None
                found |= calls
            return found
        case ColumnTest(expression=expression) | Opaque(expression=expression):
            return None if expression is None else expression.functions
        case Given(expression=expression):
            return expression.functions
