"""From hits to rows: columns the index covers, the distance, and what only the table has.

Covered columns and the distance need no DuckDB at all. Other select items are computed by one query
over the primary key of the k rows: `key IN (…)` uses its ART index.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from hybridq.exec.bind import BoundTopK, same_query
from hybridq.exec.result import Field, Row
from hybridq.index.attributes import Kind
from hybridq.index.hits import Hits, column_values
from hybridq.index.maintain import key_arrays
from hybridq.nodes import (
    ColumnItem,
    DistanceItem,
    ExpressionItem,
    Metric,
    Parameter,
    QueryText,
    Star,
    TopK,
    Value,
    literal,
    quote,
)
from hybridq.sql.lexical import used_parameters
from hybridq.storage.manifest import TableInfo

RunQuery = Callable[[str, Mapping[str, Any]], tuple[Sequence[Field], list[Row]]]
"""Runs a query in DuckDB with named parameters."""

Register = Callable[[str, pa.Table], None]

_IN_LIST = 256
_FUNCTION = {
    Metric.L2: "l2_distance",
    Metric.COSINE: "cosine_distance",
    Metric.IP: "negative_inner_product",
}


@dataclass(frozen=True, slots=True)
class _FromIndex:
    label: str
    type: str
    column: int


@dataclass(frozen=True, slots=True)
class _TheDistance:
    label: str
    negated: bool


@dataclass(frozen=True, slots=True)
class _FromTable:
    label: str | None
    text: str


_Source: TypeAlias = _FromIndex | _TheDistance | _FromTable


def sources(bound: BoundTopK) -> list[_Source]:
    """Return where each output column comes from."""
    out: list[_Source] = []
    for item in bound.topk.items:
        match item:
            case Star():
                out.extend(_column(bound, c.name, None) for c in bound.table.columns)
            case ColumnItem(column, label):
                out.append(_column(bound, column, label))
            case DistanceItem(distance, label):
                same = distance.column.lower() == bound.spec.column.lower()
                same = same and distance.metric is bound.spec.metric
                if same and same_query(
                    distance.query, bound.topk.distance.query, bound.parameters, bound.search.query
                ):
                    out.append(_TheDistance(label, distance.negated))
                else:
                    name = "inner_product" if distance.negated else _FUNCTION[distance.metric]
                    query = distance.query
                    text = query.text if isinstance(query, QueryText) else _value_text(query.value)
                    out.append(_FromTable(label, f"{name}({quote(distance.column)}, {text})"))
            case ExpressionItem(text, label):
                out.append(_FromTable(label, text))
    return out


def _value_text(value: Value) -> str:
    if isinstance(value, Parameter):
        return f"${value.name}"
    return literal(value.text) + "::FLOAT[]"


def _column(bound: BoundTopK, name: str, label: str | None) -> _Source:
    column = bound.table.column(name)
    shown = label if label is not None else (column.name if column is not None else name)
    position = bound.spec.position_of(name)
    if position is not None and column is not None:
        kind = bound.spec.columns[position].type
        if kind.covered:
            return _FromIndex(shown, column.type, position)
    alias = bound.topk.table.alias or bound.topk.table.name
    return _FromTable(shown, f"{quote(alias)}.{quote(name)}")


def is_covered(bound: BoundTopK) -> bool:
    """Tell whether DuckDB is not needed for the output."""
    return not any(isinstance(s, _FromTable) for s in sources(bound))


def assemble(
    bound: BoundTopK, hits: Hits, run_query: RunQuery, register: Register
) -> tuple[list[Field], list[Row]] | None:
    """Return the output's fields and rows.

    None if the index cannot give them after all: a row left the table since the scan, or a date
    lies beyond Python's calendar. DuckDB answers exactly then.
    """
    plan = sources(bound)
    wanted = [s for s in plan if isinstance(s, _FromTable)]
    fields: list[Field] = []
    columns: list[Sequence[Any]] = []
    try:
        fetched_fields, fetched = (
            _fetch(bound, hits, wanted, run_query, register) if wanted else ([], [])
        )
        at = 0
        for source in plan:
            match source:
                case _FromIndex(label, sql_type, column):
                    fields.append(Field(label, sql_type))
                    columns.append(column_values(bound.snapshot, hits, column))
                case _TheDistance(label, negated):
                    fields.append(Field(label, "FLOAT"))
                    columns.append(_distances(hits, negated=negated))
                case _FromTable(label, _):
                    found = fetched_fields[at]
                    fields.append(Field(label if label is not None else found.name, found.type))
                    columns.append([row[at] for row in fetched])
                    at += 1
    except (OverflowError, KeyError):
        return None
    return fields, list(zip(*columns, strict=True)) if columns else []


def _distances(hits: Hits, *, negated: bool) -> list[float | None]:
    values = hits.distance.tolist()
    sign = -1.0 if negated else 1.0
    return [None if math.isnan(v) else sign * v for v in values]


def _fetch(
    bound: BoundTopK,
    hits: Hits,
    wanted: Sequence[_FromTable],
    run_query: RunQuery,
    register: Register,
) -> tuple[Sequence[Field], list[Row]]:
    """Fetch the given expressions for each hit in their order; KeyError if a row is gone."""
    spec, table = bound.spec, bound.topk.table
    alias = table.alias or table.name
    keys = [column_values(bound.snapshot, hits, i) for i in range(spec.key_count)]
    items = ", ".join(
        s.text if s.label is None else f"{s.text} AS {quote(s.label)}" for s in wanted
    )
    names = [f"{quote(alias)}.{quote(c.name)}" for c in spec.key_columns]
    key_items = ", ".join(f"{n} AS __hybridq_key{i}" for i, n in enumerate(names))
    source = bound.source
    given: dict[str, Any] = {}
    if len(names) == 1 and 0 < len(hits) <= _IN_LIST:
        for i, key in enumerate(keys[0]):
            given[f"hqkey{i}"] = str(key) if spec.columns[0].type.kind is Kind.UUID else key
        marks = ", ".join(f"CAST(${n} AS {spec.columns[0].type.sql})" for n in given)
        condition = f" WHERE {names[0]} IN ({marks})"
    else:
        rows = list(zip(*keys, strict=True))
        arrays = key_arrays(spec, rows)
        register("__hybridq_fetch", pa.table({f"k{i}": a for i, a in enumerate(arrays)}))
        match = " AND ".join(
            f"{n} = CAST(__hybridq_fetch.k{i} AS {spec.columns[i].type.sql})"
            for i, n in enumerate(names)
        )
        source += f" SEMI JOIN __hybridq_fetch ON ({match})"
        condition = ""
    text = f"{bound.topk.with_text}SELECT {items}, {key_items} FROM {source}{condition}"
    for name in used_parameters(f"{bound.topk.with_text}SELECT {items}"):
        given[name] = bound.parameters[name]
    fields, rows = run_query(text, given)
    width = len(wanted)
    by_key = {row[width:]: row for row in rows}
    return fields[:width], [by_key[key] for key in zip(*keys, strict=True)]


def output_labels(topk: TopK, table: TableInfo | None) -> list[str | None]:
    """Return each output column's label where it is ours to give, None where DuckDB's."""
    labels: list[str | None] = []
    for item in topk.items:
        match item:
            case Star():
                labels.extend(None for _ in (table.columns if table is not None else ()))
            case DistanceItem(_, label):
                labels.append(label)
            case ColumnItem() | ExpressionItem():
                labels.append(None)
    return labels
