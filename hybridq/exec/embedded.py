"""Statements with TopK selects inside: the index answers those, and DuckDB the rest over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import duckdb

from hybridq.errors import Error
from hybridq.exec.bind import BoundTopK
from hybridq.exec.executor import Run
from hybridq.exec.host import Host, Parameters, given_for, named_values, settings_of
from hybridq.exec.per_row import CHANGED, answer_per_row
from hybridq.exec.prepare import Unbound
from hybridq.exec.query import answer, bind_topk, with_key_order, with_lists
from hybridq.exec.ranged import decided
from hybridq.exec.result import Result, typed_select
from hybridq.index.state import IndexState
from hybridq.nodes import Embedded, PerRow, TopK
from hybridq.plan.choose import by_duckdb
from hybridq.plan.physical import Exact


def run_embedded(session: Host, statement: Embedded, parameters: Parameters) -> Result:
    """Answer each TopK inside a statement, and let DuckDB run the rest over their rows."""
    seen: Seen = []
    result = _run(session, statement, parameters, seen)
    if session.transaction is not None or all(state.is_at(version) for state, version in seen):
        return result
    # Another one committed meanwhile: once more, with its snapshot and ours pinned.
    result.discard()
    session.free_connection()
    return session.in_transaction(lambda _: _run(session, statement, parameters, []))


Seen: TypeAlias = list[tuple[IndexState, int]]
"""Indexes that were searched, and their versions."""


def _run(session: Host, statement: Embedded, parameters: Parameters, seen: Seen) -> Result:
    values = named_values(parameters)
    for select in statement.topks:
        if isinstance(select, TopK):
            values = with_lists(select, values)
    text, steady, answered = statement.pieces[0], True, 0
    for i, (select, piece) in enumerate(zip(statement.topks, statement.pieces[1:], strict=True)):
        if isinstance(select, PerRow):
            validate(session, statement, values)
            per_row = answer_per_row(session, select, values, i)
            if isinstance(per_row, Unbound):
                _refuse_hint(session, select.topk, per_row)
                text += select.text + piece
                continue
            steady = steady and per_row[1].outer.steady
            seen.append((per_row[1].prepared.state, per_row[1].snapshot.version))
            text += per_row[0] + piece
            answered += 1
            continue
        found = _answer(session, select, values, f"__hybridq_topk{i}", seen)
        if found is not None:
            answered += 1
            text += found + piece
        else:
            # It stays where it is: it may mention names of the statement around it.
            text += with_key_order(session, select, session.describe(select.table)) + piece
    if answered == 0 and any(isinstance(select, PerRow) for select in statement.topks):
        text = statement.fallback
    if steady:
        return session.run_duck(text, given_for(text, values) or None, read=True)
    return _checked(session, statement, text, values)


def _answer(
    session: Host, topk: TopK, values: Mapping[str, Any], view: str, seen: Seen
) -> str | None:
    """Return the select to stand in the place of a TopK, None where DuckDB answers it."""
    bound = bind_topk(session, topk, values)
    if not isinstance(bound, BoundTopK):
        _refuse_hint(session, topk, bound)
        return None
    decision = decided(session, bound)
    if isinstance(decision.plan, Exact) and decision.plan.by_duckdb:
        return None
    answered = answer(session, bound, decision, Run())
    seen.append((bound.prepared.state, bound.snapshot.version))
    return typed_select(session.duck, view, *answered) if answered is not None else None


def _refuse_hint(session: Host, topk: TopK, why: Unbound) -> None:
    """Raise for a hint of a plan that cannot be had."""
    if any(name == "plan" for name, _ in topk.hints):
        by_duckdb(why.reason, settings_of(session, topk), forced_allowed=False)


def validate(session: Host, statement: Embedded, values: Mapping[str, Any]) -> None:
    """Let DuckDB find what is wrong with the whole: it does not see the selects we answer."""
    given = given_for(statement.fallback, values)
    key = ("valid", statement.fallback, tuple(map(type, given.values())))
    if session.environment.get(key) is None:
        session.run_duck(f"EXPLAIN {statement.fallback}", given or None, read=True).drain()
        session.free_connection()
        session.environment.keep(key, True)


def _checked(session: Host, statement: Embedded, text: str, values: Mapping[str, Any]) -> Result:
    """Run a statement whose outer rows may be others when read again; then DuckDB answers all."""
    try:
        result = session.run_duck(text, given_for(text, values) or None, read=True)
        result.drain()
        return result
    except (duckdb.Error, RuntimeError, Error) as error:
        if CHANGED not in str(error):
            raise
    session.free_connection()
    given = given_for(statement.fallback, values)
    return session.run_duck(statement.fallback, given or None, read=True)
