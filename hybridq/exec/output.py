"""From hits to rows: columns the index covers, the distance, and what only the table has.

Covered columns and the distance need no DuckDB at all. Other select items are computed by one query
over the primary key of the k rows: `key IN (…)` uses its ART index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hybridq.exec.bind import BoundTopK
from hybridq.exec.keys import Register, key_names, keyed
from hybridq.exec.prepare import (
    FromIndex,
    FromTable,
    IfSameQuery,
    Prepared,
    Source,
    TheDistance,
    field_of,
)
from hybridq.exec.result import Field, Row
from hybridq.exec.values import same_query
from hybridq.index.hits import Hits, column_values
from hybridq.index.ivf import Snapshot
from hybridq.nodes import ColumnItem, DistanceItem, ExpressionItem, Star, TopK, quote
from hybridq.sql import lexical
from hybridq.storage.manifest import TableInfo

RunQuery = Callable[[str, Mapping[str, Any]], tuple[Sequence[Field], list[Row]]]
"""Runs a query in DuckDB with named parameters."""


def sources(bound: BoundTopK) -> tuple[Source, ...]:
    """Return where each output column comes from, for the values at hand."""
    return tuple(
        (output.same if _same(bound, output) else output.other)
        if isinstance(output, IfSameQuery)
        else output
        for output in bound.prepared.outputs
    )


def _same(bound: BoundTopK, output: IfSameQuery) -> bool:
    return same_query(output.query, bound.topk.distance.query, bound.parameters, bound.search.query)


def is_covered(bound: BoundTopK) -> bool:
    """Tell whether DuckDB is not needed for the output."""
    return not any(isinstance(s, FromTable) for s in sources(bound))


def assemble(
    bound: BoundTopK, hits: Hits, run_query: RunQuery, register: Register
) -> tuple[Sequence[Field], list[Row]] | None:
    """Return the output's fields and rows.

    None if the index cannot give them after all: a row left the table since the scan, or a date
    lies beyond Python's calendar. DuckDB answers exactly then.
    """
    try:
        if bound.prepared.fields is not None:
            return bound.prepared.fields, covered(bound.prepared, bound.snapshot, hits)
        return _assemble(bound, hits, run_query, register)
    except (OverflowError, KeyError):
        return None


def covered(prepared: Prepared, snapshot: Snapshot, hits: Hits) -> list[Row]:
    """Return the output's rows where the index has all of it, so that `prepared.fields` are known.

    OverflowError for a date beyond Python's calendar.
    """
    return list(zip(*[_values(snapshot, hits, s) for s in prepared.outputs], strict=True))


def _assemble(
    bound: BoundTopK, hits: Hits, run_query: RunQuery, register: Register
) -> tuple[Sequence[Field], list[Row]]:
    fields: list[Field] = []
    columns: list[Sequence[Any]] = []
    plan = sources(bound)
    wanted = [s for s in plan if isinstance(s, FromTable)]
    fetched_fields, fetched = (
        _fetch(bound, hits, wanted, run_query, register) if wanted else ([], [])
    )
    at = 0
    for source in plan:
        if isinstance(source, FromTable):
            found = fetched_fields[at]
            label = source.label if source.label is not None else found.name
            fields.append(Field(label, found.type))
            columns.append([row[at] for row in fetched])
            at += 1
        else:
            fields.append(field_of(source))
            columns.append(_values(bound.snapshot, hits, source))
    return fields, list(zip(*columns, strict=True)) if columns else []


def _values(snapshot: Snapshot, hits: Hits, source: Source | IfSameQuery) -> list[Any]:
    if isinstance(source, FromIndex):
        return column_values(snapshot, hits, source.column)
    assert isinstance(source, TheDistance)
    return _distances(hits, negated=source.negated)


def _distances(hits: Hits, *, negated: bool) -> list[float | None]:
    values: list[float | None] = hits.distance.tolist()
    if negated:
        values = [None if v is None else -v for v in values]
    # Rows without a distance come last.
    at = len(values)
    while at > 0 and values[at - 1] != values[at - 1]:
        at -= 1
        values[at] = None
    return values


def _fetch(
    bound: BoundTopK,
    hits: Hits,
    wanted: Sequence[FromTable],
    run_query: RunQuery,
    register: Register,
) -> tuple[Sequence[Field], list[Row]]:
    """Fetch the given expressions for each hit in their order; KeyError if a row is gone."""
    keys = [column_values(bound.snapshot, hits, i) for i in range(bound.spec.key_count)]
    items = ", ".join(
        s.text if s.label is None else f"{s.text} AS {quote(s.label)}" for s in wanted
    )
    key_items = ", ".join(f"{n} AS __hybridq_key{i}" for i, n in enumerate(key_names(bound)))
    rows_of = keyed(bound, keys, "__hybridq_fetch", register)
    text = f"{bound.topk.with_text}SELECT {items}, {key_items} FROM {rows_of.source}{rows_of.where}"
    given = dict(rows_of.given)
    for name in lexical.used_parameters(f"{bound.topk.with_text}SELECT {items}"):
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
