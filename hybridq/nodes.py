"""What the SQL front makes of a statement: frozen nodes, free of any parser's types."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeAlias

from hybridq.conditions import Conjunct as Conjunct
from hybridq.conditions import Constant as Constant
from hybridq.conditions import LiteralKind as LiteralKind
from hybridq.conditions import Parameter as Parameter
from hybridq.conditions import ParameterName as ParameterName
from hybridq.conditions import Value as Value


class Metric(enum.IntEnum):
    """Distance of an index; the values are the kernels' metric codes."""

    L2 = 0
    COSINE = 1
    IP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TableName:
    """A table as written: parts that were not written are None."""

    name: str
    schema: str | None = None
    catalog: str | None = None
    alias: str | None = None

    def sql(self) -> str:
        """Return the quoted, dotted name without the alias."""
        parts = [p for p in (self.catalog, self.schema, self.name) if p is not None]
        return ".".join(quote(p) for p in parts)


def quote(identifier: str) -> str:
    """Return `identifier` as a quoted SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return `text` as a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class QueryText:
    """A query vector only DuckDB can evaluate: a subquery, a function of a parameter."""

    text: str


@dataclass(frozen=True, slots=True)
class QueryValue:
    """A query vector given as a parameter or a string or array literal."""

    value: Value


QueryVector: TypeAlias = QueryText | QueryValue


@dataclass(frozen=True, slots=True)
class Distance:
    """A distance between a column and a constant query vector.

    `negated` marks inner_product, which is minus the ip distance.
    """

    metric: Metric
    column: str
    query: QueryVector
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Radius:
    """`distance < value` or `distance <= value` in the WHERE, and its text."""

    distance: Distance
    value: Value
    inclusive: bool
    text: str


@dataclass(frozen=True, slots=True)
class Star:
    """`*` or `t.*`: every column of the table in order."""


@dataclass(frozen=True, slots=True)
class ColumnItem:
    """A plain column of the table in the select list; `label` None means the column's own name."""

    column: str
    label: str | None


@dataclass(frozen=True, slots=True)
class DistanceItem:
    """A distance in the select list."""

    distance: Distance
    label: str


@dataclass(frozen=True, slots=True)
class ExpressionItem:
    """Anything else in the select list: its text without alias, columns it names."""

    text: str
    label: str | None


Item: TypeAlias = Star | ColumnItem | DistanceItem | ExpressionItem


@dataclass(frozen=True, slots=True)
class SortKey:
    """A further sort key after the distance: a plain column."""

    column: str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """`SELECT items FROM table WHERE … ORDER BY distance, sort_keys LIMIT limit OFFSET offset`.

    Without a limit (None) it is every row within the radius, which then is not None.

    Texts have their parameters named ($hq1 …). `fallback` is the whole statement in DuckDB's
    SQL with distance operators as functions; `with_text` the WITH clause before it, if any.
    `where_aliases` are aliases the WHERE was read to mean: a column of that name would win. Joins
    with the tables `others` have become conditions.
    `hints` are settings of this select alone.
    """

    table: TableName
    items: tuple[Item, ...]
    conjuncts: tuple[Conjunct, ...]
    radius: Radius | None
    distance: Distance
    sort_keys: tuple[SortKey, ...]
    limit: Value | None
    offset: Value | None
    fallback: str
    with_text: str
    parameters: tuple[ParameterName, ...]
    unqualified: frozenset[str]
    where_aliases: frozenset[str]
    others: tuple[TableName, ...] = ()
    hints: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class OuterColumn:
    """A column of the rows before a LATERAL, as written, and the parameter in its place."""

    name: ParameterName
    text: str
    qualifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PerRow:
    """`FROM source, LATERAL (TopK)`: a TopK for each row of what stands before it.

    In `topk` columns of those rows are parameters; `text` is the select as DuckDB has it. `source`
    is the FROM before it, of `tables`, with `with_text` before that; it calls `functions`. Of the
    WHERE around it `where` are conjuncts over the source alone; those of `perhaps` may be. `some`
    marks a source with LIMIT or the like: which rows it gives may be left open.
    """

    topk: TopK
    outer: tuple[OuterColumn, ...]
    text: str
    with_text: str
    source: str
    tables: tuple[TableName, ...]
    functions: frozenset[str]
    some: bool
    where: tuple[str, ...]
    perhaps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A statement with TopK selects inside: the text between them, and they themselves.

    `pieces` has one more entry than `topks`; the i-th select stands between pieces i and i+1.
    `fallback` is the whole of it in DuckDB's SQL.
    """

    pieces: tuple[str, ...]
    topks: tuple[TopK | PerRow, ...]
    fallback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Passthrough:
    """SQL that is DuckDB's: passed on as written.

    `writes` says whether an indexed table may change: None for no, a table if it is known which,
    AnyTable otherwise. `schema_change` is set for DDL, `keeps_rows` for DDL that leaves the rows of
    tables that stay as they are, `inserts` where rows are inserted and nothing else happens.
    `counts` is set where the one row of the result is the number of rows written, `returns` where
    the result is rows whatever their names, and `why_opaque` says why keys cannot be told.
    """

    text: str
    writes: TableName | AnyTable | None = None
    schema_change: bool = False
    keeps_rows: bool = False
    inserts: bool = False
    rewritten: bool = False
    counts: bool = False
    returns: bool = False
    why_not: str | None = None
    why_opaque: str = "it may write any table"


@dataclass(frozen=True, slots=True)
class AnyTable:
    """A write whose target cannot be told from its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """INSERT, UPDATE, DELETE or MERGE of one table; `text` has no RETURNING appended yet.

    `assigned` are the columns that existing rows may get new values in, "*" standing for all;
    `adds_only` tells an INSERT that leaves existing rows alone, `inserts_query` that its rows are
    those of a query. `rows` is `FROM … WHERE …` of the rows that an UPDATE changes, its parameters
    named, where that calls no functions and reads no other rows.
    """

    kind: str
    table: TableName
    text: str
    has_returning: bool
    assigned: frozenset[str]
    adds_only: bool
    inserts_query: bool
    has_with: bool
    columns: tuple[str, ...] | None
    single_values: SingleValues | None
    rewritten: bool = False
    rows: str | None = None
    by_key: ByKey | None = None


Given: TypeAlias = int | str | Constant
"""A parameter (its place from 0 on, or its name), or a constant."""


@dataclass(frozen=True, slots=True)
class Computed:
    """An expression without calls, its parameters named, and the words in it."""

    text: str
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class ByKey:
    """An UPDATE or DELETE `WHERE a = ? AND b = ?`: its tests, what it assigns, all parameters."""

    tests: tuple[tuple[str, Given], ...]
    assigned: tuple[tuple[str, Given | Computed], ...]
    used: frozenset[int | str]


@dataclass(frozen=True, slots=True)
class SingleValues:
    """`INSERT … VALUES (one row)`: the text before VALUES, the row itself, the text after.

    `given` tells of each value which parameter it is (its place from 0 on, or its name), and None
    of a constant; it is None as a whole if a value is computed, or if anything follows the row.
    """

    head: str
    row: str
    tail: str
    given: tuple[int | str | None, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateIndex:
    """CREATE INDEX … USING ann | ivfflat | hnsw."""

    name: str | None
    table: TableName
    column: str
    metric: str | None
    include: tuple[str, ...] | None
    options: tuple[tuple[str, object], ...]
    if_not_exists: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIndex:
    """DROP INDEX, of ours or of DuckDB's: only the catalog can tell."""

    name: str
    if_exists: bool
    text: str


@dataclass(frozen=True, slots=True)
class Reindex:
    """REINDEX INDEX name | TABLE name | name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Analyze:
    """ANALYZE [table]."""

    table: TableName | None
    text: str


@dataclass(frozen=True, slots=True)
class CreateExtension:
    """CREATE EXTENSION [IF NOT EXISTS] name."""

    name: str
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class SetSetting:
    """SET name = value, of ours or of DuckDB's."""

    name: str
    value: object
    text: str


@dataclass(frozen=True, slots=True)
class ResetSetting:
    """RESET name."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Show:
    """SHOW name: one of our settings, INDEXES, SETTINGS; otherwise DuckDB's."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """BEGIN, COMMIT or ROLLBACK."""

    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """EXPLAIN [ANALYZE] [(options)] statement."""

    statement: Statement
    analyze: bool
    json: bool
    text: str


Statement: TypeAlias = (
    TopK
    | Embedded
    | Passthrough
    | Write
    | CreateIndex
    | DropIndex
    | Reindex
    | Analyze
    | CreateExtension
    | SetSetting
    | ResetSetting
    | Show
    | Transaction
    | Explain
)
