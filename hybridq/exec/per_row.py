"""A TopK for each outer row: LATERAL selects and NEAREST joins, answered in one go.

    FROM queries q, LATERAL (SELECT t.id, t.v <-> q.v AS d FROM items t … ORDER BY d LIMIT 5) n

    distinct outer values      one query over what stands before LATERAL
    a search for each          bound one after the other, run on as many threads as DuckDB has
    the select in its place    the hits whose outer values are those of the row: DuckDB joins them

Rows that the index cannot answer (a NULL vector) DuckDB does. A row whose values were not seen
when they were read raises `CHANGED` instead of going without its hits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hybridq.arrow import pa, pc
from hybridq.exec.bind import BoundTopK, bind
from hybridq.exec.evaluate import Ahead
from hybridq.exec.executor import Run
from hybridq.exec.host import Host, given_for, settings_of
from hybridq.exec.opaque import ByDuckDB
from hybridq.exec.outer import Outer, read_outer
from hybridq.exec.prepare import FromIndex, FromTable, IfSameQuery, Prepared, TheDistance, Unbound
from hybridq.exec.query import not_usable, snapshot_of
from hybridq.exec.ranged import decided, find
from hybridq.exec.result import Field, arrow_column
from hybridq.index.attributes import AttributeType
from hybridq.index.hits import Hits, column_values
from hybridq.index.ivf import Int64s, Snapshot
from hybridq.index.maintain import key_arrays
from hybridq.nodes import PerRow, quote
from hybridq.plan.physical import Decision, Exact, Postfilter
from hybridq.settings import Settings
from hybridq.sql import lateral, lexical

CHANGED = "the rows before LATERAL changed while they were read"

_MIN_FOR_THREADS = 64
_CHUNK = 16
_BATCH = 4096
_POSITIONS = 8


@dataclass(frozen=True, slots=True)
class Searches:
    """The searches of outer rows: one `example` with its plan, and the rows searched for.

    `left` are the rows that the index does not answer; `runs` tell what happened, if asked for.
    """

    prepared: Prepared
    snapshot: Snapshot
    outer: Outer
    example: list[tuple[BoundTopK, Decision]]
    ordinals: list[int]
    left: list[int]
    runs: list[Run]


Bound = list[tuple[int, BoundTopK, Decision]]
"""(outer row, what its search is bound to, its plan)."""


def prepare_searches(
    session: Host, node: PerRow, values: Mapping[str, Any], *, first: bool = False
) -> Searches | Unbound:
    """Read the outer rows (or the `first` ones alone) and bind a search to the first of them."""
    prepared = _usable(session, node)
    if isinstance(prepared, Unbound):
        return prepared
    outer = read_outer(session, node, values, first=first)
    if isinstance(outer, Unbound):
        return outer
    snapshot = snapshot_of(session, prepared.state)
    done = Searches(prepared, snapshot, outer, [], [], [], [])
    for i in range(len(outer.rows)):
        bound = _bound_rows(session, node, values, done, range(i, i + 1))
        if isinstance(bound, Unbound):
            return bound
        if bound:
            done.example.append(bound[0][1:])
            break
    done.left.clear()
    return done


def _bound_rows(
    session: Host, node: PerRow, values: Mapping[str, Any], done: Searches, rows: range
) -> Bound | Unbound:
    """Bind a search to each of `rows`; those that cannot be are noted as left."""
    found: Bound = []
    # Few searches share the threads one after the other, many run beside each other.
    threads = session.threads if len(done.outer.rows) < _MIN_FOR_THREADS else 1
    for i in rows:
        given = {**values, **done.outer.rows[i]}
        bound = _bound(session, done.prepared, done.snapshot, given, threads)
        if isinstance(bound, Unbound):
            done.left.append(i)
            continue
        decision = _shared(decided(session, bound), settings_of(session, node.topk))
        if not bound.compiled:
            if any(lateral.reads_outer(c.text) for c in bound.opaque):
                return Unbound("a part of the WHERE that only DuckDB evaluates reads the outer row")
            if isinstance(decision.plan, Exact):
                return Unbound(decision.reason)
        found.append((i, bound, decision))
    return found


def _shared(decision: Decision, settings: Settings) -> Decision:
    """Return the decision for one of many rows: they share a bitmap, but no candidates."""
    if settings.plan != "auto" or not isinstance(decision.plan, Postfilter):
        return decision
    return replace(
        decision,
        plan=decision.plan.otherwise,
        name="bitmap",
        because=lambda: "one bitmap of the rows that pass serves every row",
    )


def _usable(session: Host, node: PerRow) -> Prepared | Unbound:
    if not session.standard_order:
        return Unbound("default_order, default_null_order or default_collation is changed")
    prepared = session.prepared(node.topk)
    if isinstance(prepared, Unbound):
        return prepared
    if any(prepared.table.column(c.qualifier) is not None for c in node.outer):
        return Unbound("a name of the rows around it is also a column of its table")
    return not_usable(session, prepared) or prepared


class _Shared(Ahead):
    """Evaluates for many rows."""

    def members(self, query: str, kind: AttributeType, *, once: bool) -> pa.Array | None:
        """Leave it to one bitmap, which serves every row."""
        return None


def _bound(
    session: Host,
    prepared: Prepared,
    snapshot: Snapshot,
    values: Mapping[str, Any],
    threads: int,
) -> BoundTopK | Unbound:
    def evaluate(expression: str) -> Any:
        text = f"SELECT {expression}"
        row = session.query(text, given_for(text, values))[1]
        return row[0][0] if row else None

    evaluator = _Shared(session, values, prepared.topk)
    token = session.environment.token
    return bind(prepared, values, evaluate, lambda: snapshot, evaluator, token, threads=threads)


def answer_per_row(
    session: Host, node: PerRow, values: Mapping[str, Any], number: int, *, keep: bool = False
) -> tuple[str, Searches] | Unbound:
    """Return the select to stand in the LATERAL's place, its rows registered.

    With `keep` what happened is kept.
    """
    done = prepare_searches(session, node, values)
    if isinstance(done, Unbound):
        return done
    hits = _search(session, node, values, done, keep=keep)
    if isinstance(hits, Unbound):
        return hits
    counts = np.array([len(h) for h in hits], np.int64)
    ordinal = np.repeat(np.array(done.ordinals, np.int64), counts)
    view = f"__hybridq_outer{number}"
    session.register_view(view, done.outer.keys)
    found = _columns(session, node, values, done, _joined(hits), ordinal, view)
    if isinstance(found, Unbound):
        return found
    fields, columns = found
    names = [f"c{i}" for i in range(len(fields))]
    table = pa.table([pa.array(ordinal), *columns], ["ord", *names])
    session.register_view(f"__hybridq_hits{number}", table)
    casts = ", ".join(f"CAST({n} AS {f.type}) AS {n}" for n, f in zip(names, fields, strict=True))
    rows = f"SELECT ord, {casts} FROM __hybridq_hits{number}"
    if done.left:
        others = _by_duckdb(session, node, values, done, names)
        session.register_view(f"__hybridq_left{number}", others)
        rows += f" UNION ALL SELECT ord, {casts} FROM __hybridq_left{number}"
    output = ", ".join(
        f"__hybridq_h.{n} AS {quote(f.name)}" for n, f in zip(names, fields, strict=True)
    )
    known = " AND ".join(f"({text})" for text in done.outer.conditions) or "true"
    changed = f"CASE WHEN {known} THEN CAST(error('{CHANGED}') AS BIGINT) ELSE -1 END"
    return (
        f"SELECT {output} FROM (SELECT COALESCE(max(__hybridq_ord), {changed}) AS __hybridq_ord "
        f"FROM {view} WHERE {done.outer.match}) AS __hybridq_o "
        f"JOIN ({rows}) AS __hybridq_h ON __hybridq_h.ord = __hybridq_o.__hybridq_ord",
        done,
    )


# -- searching -----------------------------------------------------------------


def _search(
    session: Host, node: PerRow, values: Mapping[str, Any], done: Searches, *, keep: bool
) -> list[Hits] | Unbound:
    """Search for every outer row, some at a time; `done` tells for which."""
    count = len(done.outer.rows)
    threads = session.threads if count >= _MIN_FOR_THREADS else 1
    hits: list[Hits] = []
    with ThreadPoolExecutor(threads) as pool:  # starts threads when they are first needed
        for start in range(0, count, _BATCH):
            rows = range(start, min(start + _BATCH, count))
            bound = _bound_rows(session, node, values, done, rows)
            if isinstance(bound, Unbound):
                return bound
            runs = [Run() for _ in bound]
            alone = threads == 1 or not all(b.compiled for _, b, _ in bound)
            found = _found(session, bound, runs, None if alone else pool)
            some = [h for h in found if h is not None]
            if len(some) < len(found):
                return Unbound("too many rows are within the radius")
            if any(
                not b.compiled and not ByDuckDB(session, b).is_current() for _, b, _ in bound[:1]
            ):
                return Unbound("the table changed while it was searched")
            hits.extend(some)
            done.ordinals.extend(i for i, _, _ in bound)
            if keep:
                done.runs.extend(runs)
    return hits


def _found(
    session: Host, bound: Bound, runs: Sequence[Run], pool: ThreadPoolExecutor | None
) -> list[Hits | None]:
    """Run searches; kernels release the GIL, but what asks DuckDB stays on this thread."""
    tables: dict[int, ByDuckDB] = {}

    def table(one: BoundTopK) -> ByDuckDB:
        # What DuckDB evaluates does not read the outer row: it is the same for the same WHERE.
        key = id(one.where)
        if key not in tables:
            if len(tables) >= _POSITIONS:
                tables.clear()
            tables[key] = ByDuckDB(session, one)
        return tables[key]

    def search(rows: range) -> list[Hits | None]:
        return [find(bound[i][2], bound[i][1], table(bound[i][1]), runs[i]) for i in rows]

    # The first alone, so that kernels compile once.
    chunks = [range(min(1, len(bound)))]
    chunks += [range(i, min(i + _CHUNK, len(bound))) for i in range(1, len(bound), _CHUNK)]
    hits = search(chunks[0])
    others = map(search, chunks[1:]) if pool is None else pool.map(search, chunks[1:])
    for found in others:
        hits.extend(found)
        session.progress.advance(len(found))
    return hits


def _joined(hits: Sequence[Hits]) -> Hits:
    if not hits:
        none = np.empty(0, np.int64)
        return Hits(np.empty(0, np.float32), none, none)
    return Hits(
        np.concatenate([h.distance for h in hits]),
        np.concatenate([h.part for h in hits]),
        np.concatenate([h.position for h in hits]),
    )


# -- output --------------------------------------------------------------------


def _columns(
    session: Host,
    node: PerRow,
    values: Mapping[str, Any],
    done: Searches,
    hits: Hits,
    ordinal: Int64s,
    view: str,
) -> tuple[list[Field], list[pa.Array]] | Unbound:
    """Return the output of all hits: from the index, from the outer row, from the table."""
    outer = done.outer
    sources = [o.other if isinstance(o, IfSameQuery) else o for o in done.prepared.outputs]
    by_name = {f"${c.name}": i for i, c in enumerate(node.outer)}
    wanted = [s for s in sources if isinstance(s, FromTable) and s.text not in by_name]
    fetched: tuple[Sequence[Field], pa.Table] = (), None
    if wanted:
        found = _fetched(session, node, values, done, hits, ordinal, view, wanted)
        if isinstance(found, Unbound):
            return found
        fetched = found
    fields: list[Field] = []
    columns: list[pa.Array] = []
    at = 0
    for source in sources:
        match source:
            case FromIndex(label, kind, column):
                fields.append(Field(label, kind))
                read = column_values(done.snapshot, hits, column)
                columns.append(arrow_column(read, fields[-1]))
            case TheDistance(label, negated):
                fields.append(Field(label, "FLOAT"))
                distance = -hits.distance if negated else hits.distance
                columns.append(pa.array(distance, mask=np.isnan(distance)))
            case FromTable(label, text) if text in by_name:
                i = by_name[text]
                fields.append(Field(label or node.outer[i].text, outer.types[i]))
                columns.append(outer.values[i].take(pa.array(ordinal)))
            case FromTable(label, _):
                field, array = fetched[0][at], fetched[1].column(at)
                fields.append(Field(label or field.name, field.type))
                columns.append(array)
                at += 1
    return fields, columns


def _fetched(
    session: Host,
    node: PerRow,
    values: Mapping[str, Any],
    done: Searches,
    hits: Hits,
    ordinal: Int64s,
    view: str,
    wanted: Sequence[FromTable],
) -> tuple[Sequence[Field], pa.Table] | Unbound:
    """Let DuckDB compute select items over the rows found; Unbound if one of them is gone."""
    spec, outer = done.prepared.spec, done.outer
    keys = [column_values(done.snapshot, hits, i) for i in range(spec.key_count)]
    arrays = key_arrays(spec, list(zip(*keys, strict=True)))
    table = pa.table(
        [pa.array(np.arange(len(hits))), pa.array(ordinal), *arrays],
        ["__hybridq_n", "__hybridq_ord", *(f"__hybridq_key{i}" for i in range(len(arrays)))],
    )
    session.register_view("__hybridq_fetch", table)
    alias = quote(node.topk.table.alias or node.topk.table.name)
    match = " AND ".join(
        f"{alias}.{quote(c.name)} = CAST(__hybridq_f.__hybridq_key{i} AS {c.type.sql})"
        for i, c in enumerate(spec.key_columns)
    )
    items = ", ".join(
        lateral.as_written(s.text, node.outer, outer.stored)
        + (f" AS {quote(s.label)}" if s.label is not None else "")
        for s in wanted
    )
    name = spec.table_name.sql()
    text = (
        f"SELECT {items}, __hybridq_f.__hybridq_n FROM __hybridq_fetch AS __hybridq_f "
        f"JOIN {view} AS __hybridq_o ON __hybridq_o.__hybridq_ord = __hybridq_f.__hybridq_ord "
        f"JOIN {name} AS {alias} ON ({match})"
    )
    result = session.run_duck(text, given_for(text, values) or None, read=True)
    fields = result.fields or ()
    rows: pa.Table = result.frame("to_arrow_table", session.duck)
    session.free_connection()
    if rows.num_rows != len(hits):
        return Unbound("a row left the table since the scan")
    order = pc.sort_indices(rows.column(rows.num_columns - 1))
    return fields[:-1], rows.take(order)


def _by_duckdb(
    session: Host, node: PerRow, values: Mapping[str, Any], done: Searches, names: Sequence[str]
) -> pa.Table:
    """Return the rows of outer rows that the index does not answer, as DuckDB does."""
    tables = []
    alias = quote(node.topk.table.alias or node.topk.table.name)
    keys = [f"{alias}.{quote(c.name)} ASC" for c in done.prepared.spec.key_columns]
    casts = [
        f"CAST(${c.name} AS {kind})" for c, kind in zip(node.outer, done.outer.types, strict=True)
    ]
    text = lateral.as_written(lexical.with_sort_keys(node.topk.fallback, keys), node.outer, casts)
    for i in done.left:
        given = given_for(text, {**values, **done.outer.plain(i)})
        rows = session.query_arrow(text, given).rename_columns(list(names))
        tables.append(rows.add_column(0, "ord", pa.array(np.full(rows.num_rows, i))))
    return pa.concat_tables(tables, promote_options="permissive")
