"""What a TopK means on the schema at hand: all of it that no parameter's value can change.

Prepared once per statement and schema, so that a query only binds values: the usable index, the
places of its sort keys and where each output column comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from hybridq.errors import ProgrammingError
from hybridq.exec.result import Field, Row
from hybridq.exec.values import count_of
from hybridq.exec.where import Wheres
from hybridq.index.attributes import Kind
from hybridq.index.hits import SortColumn
from hybridq.index.ivf import Float32s, IndexSpec, Snapshot
from hybridq.index.state import IndexState
from hybridq.nodes import (
    ColumnItem,
    Conjunct,
    Constant,
    DistanceItem,
    ExpressionItem,
    Metric,
    Parameter,
    QueryText,
    QueryVector,
    Star,
    TopK,
    Value,
    literal,
    quote,
)
from hybridq.sql import lexical
from hybridq.storage.manifest import TableInfo

if TYPE_CHECKING:
    from hybridq.exec.finders import Finders, Settled

_FUNCTION = {
    Metric.L2: "l2_distance",
    Metric.COSINE: "cosine_distance",
    Metric.IP: "negative_inner_product",
}


RANGE_ROWS = 1024
"""Rows of a search within a radius to look for first; see `ranged`."""


@dataclass(frozen=True, slots=True)
class Unbound:
    """Why the index does not answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class FromIndex:
    """A column the index keeps."""

    label: str
    type: str
    column: int


@dataclass(frozen=True, slots=True)
class TheDistance:
    """The distance that was searched by."""

    label: str
    negated: bool


@dataclass(frozen=True, slots=True)
class FromTable:
    """An expression that DuckDB computes over the rows found; `label` None leaves it the name."""

    label: str | None
    text: str


@dataclass(frozen=True, slots=True)
class IfSameQuery:
    """A distance to `query`: `same` if its value is the vector searched by, else `other`."""

    query: QueryVector
    same: TheDistance
    other: FromTable


Source: TypeAlias = FromIndex | TheDistance | FromTable


Finder: TypeAlias = Callable[[Float32s], list[Row] | None]
"""Returns the rows of an answer for a query vector, None where they are to be had otherwise."""


@dataclass(slots=True)
class Again:
    """What the last runs of one prepared statement settled; `reset` when it no longer holds.

    `valid_for` is all that the answer depends on beside parameters and the snapshot, which is that
    of `finders`; the vector, of dimension `dim`, is parameter `vector_at` of `count`, the values of
    the WHERE are those `where_at`. By these values, `known` has how to find the rows in this
    snapshot, `settled` what holds in newer ones, too; `once` are values that came but once.
    """

    valid_for: tuple[object, ...] = ()
    state: IndexState | None = None
    fields: tuple[Field, ...] = ()
    dim: int = 0
    count: int = 0
    vector_at: int = 0
    where_at: tuple[int, ...] = ()
    finders: Finders | None = None
    known: dict[Any, Finder] = field(default_factory=dict)
    settled: dict[Any, Settled] = field(default_factory=dict)
    once: set[Any] = field(default_factory=set)

    def reset(self) -> None:
        """Forget everything."""
        self.valid_for = ()
        self.finders = None
        self.known.clear()
        self.settled.clear()
        self.once.clear()

    def follow(self, snapshot: Snapshot) -> Finders | None:
        """Go on with a newer snapshot; None, and all is forgotten, if plans may be others there."""
        finders = self.finders
        if finders is None or finders.snapshot is snapshot:
            return finders
        self.finders = finders.on(snapshot)
        if self.finders is None:
            self.reset()
        self.known.clear()
        return self.finders


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A TopK over an indexed table.

    `states` are all indexes of the table, `state` the one to search; `counts` (LIMIT, OFFSET) where
    both are valid constants. `fields` describe the output if none of it needs the table and none
    depends on a parameter. `refused` says why the index cannot give the order, `wheres` and `again`
    keep what the last runs made.
    """

    topk: TopK
    table: TableInfo
    states: tuple[IndexState, ...]
    state: IndexState
    spec: IndexSpec
    counts: tuple[int, int] | None
    sort_columns: tuple[SortColumn, ...]
    outputs: tuple[Source | IfSameQuery, ...]
    fields: tuple[Field, ...] | None
    refused: Unbound | None
    wheres: Wheres
    again: Again = field(default_factory=Again)


def prepare(
    topk: TopK,
    table: TableInfo | None,
    states: Sequence[IndexState],
    others: Sequence[TableInfo | None] = (),
) -> Prepared | Unbound:
    """Prepare `topk`, whose table name means `table`, with the indexes `states`.

    `others` are what the names of joined tables mean.
    """
    if table is None:
        return Unbound(f"{topk.table.sql()} is not a table of this database")
    if any(table.column(a) is not None for a in topk.where_aliases):
        return Unbound("an alias in the WHERE is also a column")
    unknown = sorted(n for n in topk.unqualified if table.column(n) is None)
    if unknown:
        return Unbound(f"{unknown[0]} is no column of {table.name}")
    for name, other in zip(topk.others, others, strict=True):
        for column in sorted(topk.unqualified):
            if other is None or other.column(column) is not None:
                return Unbound(f"{column} may be a column of {name.sql()}")
    distance = topk.distance
    usable = [
        s for s in states if s.spec.is_vector(distance.column) and s.spec.metric is distance.metric
    ]
    if not usable:
        column = f"{table.name}.{distance.column}"
        metric = distance.metric.name.lower()
        return Unbound(f"there is no vector index on {column} for {metric} distance")
    spec = usable[0].spec
    sort_columns = _sort_columns(topk, table, spec)
    outputs = tuple(_outputs(topk, table, spec))
    return Prepared(
        topk=topk,
        table=table,
        states=tuple(states),
        state=usable[0],
        spec=spec,
        counts=_counts(topk),
        sort_columns=() if isinstance(sort_columns, Unbound) else sort_columns,
        outputs=outputs,
        fields=_fields(outputs),
        refused=sort_columns if isinstance(sort_columns, Unbound) else None,
        wheres=Wheres(_parameters_of(topk.conjuncts), table.collated),
    )


def _parameters_of(conjuncts: Sequence[Conjunct]) -> tuple[str, ...]:
    names = [name for c in conjuncts for name in lexical.used_parameters(c.text)]
    return tuple(dict.fromkeys(names))


def _counts(topk: TopK) -> tuple[int, int] | None:
    """Return LIMIT and OFFSET where both are constants that nothing is wrong with."""
    if topk.limit is None:
        return RANGE_ROWS, 0
    if not isinstance(topk.limit, Constant) or isinstance(topk.offset, Parameter):
        return None
    try:
        limit = count_of(topk.limit, {}, "LIMIT")
        offset = 0 if topk.offset is None else count_of(topk.offset, {}, "OFFSET")
    except ProgrammingError:
        return None
    return None if limit is None else (limit, offset or 0)


def _sort_columns(
    topk: TopK, table: TableInfo, spec: IndexSpec
) -> tuple[SortColumn, ...] | Unbound:
    columns: list[SortColumn] = []
    for key in topk.sort_keys:
        position = spec.position_of(key.column)
        if position is None or not spec.columns[position].type.covered:
            return Unbound(f"sort key {key.column} is not an attribute of index {spec.name}")
        if table.collated and spec.columns[position].type.kind is Kind.TEXT:
            return Unbound(f"sort key {key.column} may have a collation")
        columns.append((position, key.descending, key.nulls_first))
    return tuple(columns)


def _outputs(topk: TopK, table: TableInfo, spec: IndexSpec) -> list[Source | IfSameQuery]:
    out: list[Source | IfSameQuery] = []
    for item in topk.items:
        match item:
            case Star():
                out.extend(_column(topk, table, spec, c.name, None) for c in table.columns)
            case ColumnItem(column, label):
                out.append(_column(topk, table, spec, column, label))
            case DistanceItem():
                out.append(_distance(topk, spec, item))
            case ExpressionItem(text, label):
                out.append(FromTable(label, text))
    return out


def _column(
    topk: TopK, table: TableInfo, spec: IndexSpec, name: str, label: str | None
) -> FromIndex | FromTable:
    column = table.column(name)
    shown = label if label is not None else (column.name if column is not None else name)
    position = spec.position_of(name)
    if position is not None and column is not None and spec.columns[position].type.covered:
        return FromIndex(shown, column.type, position)
    alias = topk.table.alias or topk.table.name
    return FromTable(shown, f"{quote(alias)}.{quote(name)}")


def _distance(topk: TopK, spec: IndexSpec, item: DistanceItem) -> Source | IfSameQuery:
    distance = item.distance
    name = "inner_product" if distance.negated else _FUNCTION[distance.metric]
    query = distance.query
    text = query.text if isinstance(query, QueryText) else _value_text(query.value)
    other = FromTable(item.label, f"{name}({quote(distance.column)}, {text})")
    if not spec.is_vector(distance.column) or distance.metric is not spec.metric:
        return other
    same = TheDistance(item.label, distance.negated)
    return same if query == topk.distance.query else IfSameQuery(query, same, other)


def _value_text(value: Value) -> str:
    if isinstance(value, Parameter):
        return f"${value.name}"
    return literal(value.text) + "::FLOAT[]"


def _fields(outputs: Sequence[Source | IfSameQuery]) -> tuple[Field, ...] | None:
    fields: list[Field] = []
    for output in outputs:
        if not isinstance(output, FromIndex | TheDistance):
            return None
        fields.append(field_of(output))
    return tuple(fields)


def field_of(source: FromIndex | TheDistance) -> Field:
    """Return the name and type of an output column that the index gives."""
    return Field(source.label, source.type if isinstance(source, FromIndex) else "FLOAT")
