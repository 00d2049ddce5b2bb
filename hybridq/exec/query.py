"""TopK queries: bind, plan, run on the index; or DuckDB, exactly, for a reason EXPLAIN tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybridq.errors import ProgrammingError
from hybridq.exec.again import remember
from hybridq.exec.bind import BoundTopK, bind
from hybridq.exec.evaluate import Ahead
from hybridq.exec.executor import Run
from hybridq.exec.host import (
    Host,
    Parameters,
    named_values,
    settings_of,
    shown_parameter,
)
from hybridq.exec.opaque import ByDuckDB
from hybridq.exec.output import assemble, output_labels
from hybridq.exec.prepare import Prepared, Unbound
from hybridq.exec.ranged import decided, find
from hybridq.exec.result import Field, Result, Row
from hybridq.exec.transaction import replay, view
from hybridq.index.ivf import Snapshot
from hybridq.index.state import IndexState
from hybridq.nodes import DistanceItem, Parameter, QueryValue, TopK, quote
from hybridq.plan.choose import by_duckdb
from hybridq.plan.physical import Decision, Exact
from hybridq.sql import lexical
from hybridq.storage.manifest import TableInfo


def run_topk(session: Host, topk: TopK, parameters: Parameters) -> Result:
    """Answer a TopK from the index, or from DuckDB."""
    values = named_values(parameters)
    bound, decision = plan(session, topk, values)
    _refuse_spare(topk, values)
    if bound is not None and not (isinstance(decision.plan, Exact) and decision.plan.by_duckdb):
        answered = answer(session, bound, decision, Run())
        if answered is not None:
            remember(session, bound, decision)
            return Result(answered[0], answered[1])
        if not ByDuckDB(session, bound).is_current():
            # Another one committed meanwhile: once more, with its snapshot and ours pinned.
            return session.in_transaction(lambda _: run_topk(session, topk, parameters))
    elif bound is None:
        session.instance.fell_back(session.describe(topk.table))
    return _fallback(session, topk, values)


def _refuse_spare(topk: TopK, values: Mapping[str, Any]) -> None:
    if len(values) == len(topk.parameters):
        return  # none is missing, so none is spare
    spare = [name for name in values if name not in topk.parameters]
    if spare and all(name in values for name in topk.parameters):
        raise ProgrammingError(
            f"parameter {shown_parameter(spare[0])} is not used",
            hint=f"the statement has {len(topk.parameters)} parameters",
        )


def with_lists(topk: TopK, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give query vectors written '{1,2}' as DuckDB reads them: '[1,2]'."""
    distances = [topk.distance, *(i.distance for i in topk.items if isinstance(i, DistanceItem))]
    queries = [d.query.value for d in distances if isinstance(d.query, QueryValue)]
    braced = {
        q.name: "[" + text[1:-1] + "]"
        for q in queries
        if isinstance(q, Parameter)
        and isinstance(text := values.get(q.name), str)
        and text.startswith("{")
        and text.endswith("}")
    }
    return {**values, **braced}


def plan(session: Host, topk: TopK, parameters: Parameters) -> tuple[BoundTopK | None, Decision]:
    """Bind and plan a TopK; no binding means that DuckDB answers, for the decision's reason."""
    bound = bind_topk(session, topk, named_values(parameters))
    if isinstance(bound, Unbound):
        return None, by_duckdb(bound.reason, settings_of(session, topk), forced_allowed=False)
    return bound, decided(session, bound)


def bind_topk(session: Host, topk: TopK, values: Mapping[str, Any]) -> BoundTopK | Unbound:
    """Bind a TopK to values, or say why DuckDB must answer."""
    for name in topk.parameters:
        if name not in values:
            raise ProgrammingError(
                f"parameter {shown_parameter(name)} has no value",
                hint=f"the statement has {len(topk.parameters)} parameters",
            )
    if not session.standard_order:
        return Unbound("default_order, default_null_order or default_collation is changed")
    prepared = session.prepared(topk)
    if isinstance(prepared, Unbound):
        return prepared
    unusable = not_usable(session, prepared)
    if unusable is not None:
        return unusable

    def evaluate(expression: str) -> Any:
        text = f"{topk.with_text}SELECT {expression}"
        given = {name: values[name] for name in lexical.used_parameters(text)}
        row = session.query(text, given)[1]
        return row[0][0] if row else None

    evaluator = Ahead(session, values, topk)
    return bind(
        prepared,
        values,
        evaluate,
        lambda: snapshot_of(session, prepared.state),
        evaluator,
        session.environment.token,
        threads=session.threads,
    )


def not_usable(session: Host, prepared: Prepared) -> Unbound | None:
    """Tell why the index has not the rows that the session sees, None if it has them."""
    state, transaction = prepared.state, session.transaction
    if state.damage is not None:
        return Unbound(f'index "{state.name}" is damaged and being rebuilt')
    if transaction is None:
        if not state.stale or replay(state, session.instance):
            return None
        return Unbound("the index is stale until it can be compared with its table")
    if transaction.sees(state):
        return None
    return Unbound(f"index {state.name} is not that of the transaction's snapshot")


def snapshot_of(session: Host, state: IndexState) -> Snapshot:
    """Return the index's rows as the session sees them."""
    if session.transaction is None:
        return session.instance.snapshot(state)
    return view(session.duck, session.transaction, state, session.instance)


def answer(
    session: Host, bound: BoundTopK, decision: Decision, run: Run
) -> tuple[Sequence[Field], list[Row]] | None:
    """Run the plan on the index and return fields and rows; None if DuckDB must answer."""
    table = ByDuckDB(session, bound)
    hits = find(decision, bound, table, run)
    if hits is None:
        return None
    answered = assemble(bound, hits, session.query, session.register_view)
    # What came from DuckDB must be of the same state of the table.
    mixed = bound.opaque or bound.where.momentary or bound.prepared.fields is None
    return None if mixed and not table.is_current() else answered


def _fallback(session: Host, topk: TopK, parameters: Parameters) -> Result:
    values = with_lists(topk, named_values(parameters))
    given = {name: values[name] for name in topk.parameters}
    # Describing a table takes the connection, so it comes before the result that stays there.
    table = session.describe(topk.table)
    text = with_key_order(session, topk, table)
    result = session.run_duck(text, given or None, read=True)
    return _renamed(result, topk, table)


def with_key_order(session: Host, topk: TopK, table: TableInfo | None) -> str:
    """Return the fallback; over an indexed table, ordered by key where all else is equal."""
    states = session.instance.indexes_of(table) if table is not None else []
    if not states:
        return topk.fallback
    alias = quote(topk.table.alias or topk.table.name)
    keys = [f"{alias}.{quote(c.name)} ASC" for c in states[0].spec.key_columns]
    return lexical.with_sort_keys(topk.fallback, keys)


def _renamed(result: Result, topk: TopK, table: TableInfo | None) -> Result:
    """Give distances the names the index would have given them."""
    labels = output_labels(topk, table)
    if result.fields is not None and len(labels) == len(result.fields):
        result.fields = tuple(
            Field(label if label is not None else f.name, f.type)
            for label, f in zip(labels, result.fields, strict=True)
        )
    return result
