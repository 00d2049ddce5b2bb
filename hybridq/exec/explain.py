"""EXPLAIN: every TopK with its candidates; what is DuckDB's is explained by DuckDB."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace

from hybridq.exec.bind import BoundTopK
from hybridq.exec.decide import target_of
from hybridq.exec.embedded import validate
from hybridq.exec.executor import Run
from hybridq.exec.host import Host, Parameters, named_values, settings_of
from hybridq.exec.output import is_covered
from hybridq.exec.per_row import Searches, answer_per_row, prepare_searches
from hybridq.exec.prepare import Unbound
from hybridq.exec.query import answer, plan
from hybridq.exec.result import Field, Result, Row
from hybridq.exec.tracking import told, tracking_of
from hybridq.nodes import Embedded, Explain, Passthrough, PerRow, TopK, Write
from hybridq.plan.choose import by_duckdb
from hybridq.plan.explain import Actual, Explained, as_json, as_text
from hybridq.plan.physical import Bitmap, Decision, Exact, Fused, Postfilter, is_exact
from hybridq.sql import lateral


def explain(session: Host, node: Explain, parameters: Parameters) -> Result:
    """EXPLAIN: every TopK with its candidates; what is DuckDB's is explained by DuckDB."""
    statement = node.statement
    if isinstance(statement, TopK):
        topks: tuple[TopK | PerRow, ...] = (statement,)
    elif isinstance(statement, Embedded):
        topks = statement.topks
        if any(isinstance(select, PerRow) for select in topks):
            validate(session, statement, named_values(parameters))
    else:
        return _explain_other(session, node, parameters)
    explained = [
        _explain_per_row(session, t, parameters, analyze=node.analyze)
        if isinstance(t, PerRow)
        else _explain_topk(session, t, parameters, analyze=node.analyze)
        for t in topks
    ]
    text = as_json(explained) if node.json else as_text(explained)
    fields = [Field("explain_key", "VARCHAR"), Field("explain_value", "VARCHAR")]
    return Result(fields, [("hybridq_plan", text)])


def _explain_other(session: Host, node: Explain, parameters: Parameters) -> Result:
    statement = node.statement
    if isinstance(statement, Passthrough) and statement.writes is None:
        result = session.run_statement(
            replace(statement, text=_options(node) + statement.text), parameters
        )
        if statement.why_not is None or node.json or result.fields is None:
            return result
        note = f"Not a TopK of a vector index: {statement.why_not}. DuckDB answers exactly."
        rows: list[Row] = [("hybridq_plan", note), *result.fetch(None)]
        return Result(result.fields, rows)
    if node.analyze and isinstance(statement, Write | Passthrough):
        # It writes, as DuckDB's does.
        run = Passthrough(
            text=_options(node) + statement.text,
            writes=statement.table if isinstance(statement, Write) else statement.writes,
            schema_change=isinstance(statement, Passthrough) and statement.schema_change,
            rewritten=statement.rewritten,
            returns=True,
            why_opaque="EXPLAIN ANALYZE does not return its keys",
        )
        return session.run_statement(run, parameters)
    result = session.run_verbatim(node.text, parameters)
    lines = told(tracking_of(session, statement))
    if not lines or node.json or result.fields is None:
        return result
    rows = result.fetch(None)
    return Result(result.fields, [("hybridq_write", "\n".join(lines)), *rows])


def _options(node: Explain) -> str:
    if node.json:
        return f"EXPLAIN ({'ANALYZE, ' if node.analyze else ''}FORMAT JSON) "
    return "EXPLAIN " + ("ANALYZE " if node.analyze else "")


def _explain_topk(session: Host, topk: TopK, parameters: Parameters, *, analyze: bool) -> Explained:
    bound, decision = plan(session, topk, parameters)
    run = Run()
    if analyze:
        if bound is not None and not _by_duckdb(decision):
            answer(session, bound, decision, run)
        else:
            run = _run_by_duckdb(session, topk, parameters)
    elif _by_duckdb(decision):
        # Names that do not exist are DuckDB's to explain.
        given = {name: named_values(parameters)[name] for name in topk.parameters}
        session.run_duck(f"EXPLAIN {topk.fallback}", given or None, read=True).drain()
        session.free_connection()
    return _explained(session, topk, bound, decision, [run] if analyze else None)


def _explain_per_row(
    session: Host, node: PerRow, parameters: Parameters, *, analyze: bool
) -> Explained:
    """Explain the search of one outer row; with ANALYZE, what happened for all of them."""
    values = named_values(parameters)
    start = time.perf_counter()
    done: Searches | Unbound
    if analyze:
        answered = answer_per_row(session, node, values, 0, keep=True)
        done = answered if isinstance(answered, Unbound) else answered[1]
    else:
        done = prepare_searches(session, node, values, first=True)
    seconds = time.perf_counter() - start
    bound, decision = None, None
    if not isinstance(done, Unbound) and done.example:
        bound, decision = done.example[0]
    if decision is None:
        reason = done.reason if isinstance(done, Unbound) else "no row before it has a vector"
        decision = by_duckdb(reason, settings_of(session, node.topk), forced_allowed=False)
    runs = done.runs if analyze and not isinstance(done, Unbound) else None
    explained = _explained(session, node.topk, bound, decision, runs, seconds=seconds)
    shown = [
        lateral.as_written(f, node.outer, [c.text for c in node.outer]) for f in explained.filters
    ]
    return replace(explained, for_each=node.source, filters=shown)


def _explained(
    session: Host,
    topk: TopK,
    bound: BoundTopK | None,
    decision: Decision,
    runs: Sequence[Run] | None,
    *,
    seconds: float | None = None,
) -> Explained:
    return Explained(
        table=topk.table.sql(),
        index=bound.spec.name if bound is not None else None,
        metric=topk.distance.metric.name.lower(),
        limit=bound.limit if bound is not None and topk.limit is not None else None,
        offset=bound.offset if bound is not None else 0,
        depths=(*(depth for depth, _ in decision.before), bound.search.k if bound else 0),
        filters=[re.sub(r"\$hq\d+", "?", c.text) for c in topk.conjuncts],
        covered=bound is not None and not _by_duckdb(decision) and is_covered(bound),
        decision=decision,
        actual=_actual(runs, seconds) if runs is not None else None,
        recall=_recall(session, bound, decision),
        hints=topk.hints,
    )


def _actual(runs: Sequence[Run], seconds: float | None) -> Actual:
    counts = [run.counters.counts() for run in runs]
    examined = sum(c.examined for c in counts)
    return Actual(
        seconds=sum(run.seconds for run in runs) if seconds is None else seconds,
        rows=sum(run.rows for run in runs),
        selectivity=sum(c.passing for c in counts) / examined if examined else None,
        lists=sum(c.lists for c in counts),
        blocks=sum(c.blocks for c in counts),
        blocks_skipped=sum(c.blocks_skipped for c in counts),
        codes=sum(c.codes for c in counts),
        reranked=sum(c.fast_distances for c in counts),
        switched=any(run.switched for run in runs),
    )


def _recall(session: Host, bound: BoundTopK | None, decision: Decision) -> float | None:
    """Return the recall that a plan promises; a fixed number of lists promises none."""
    plans = [decision.plan, *(plan for _, plan in decision.before)]
    if bound is None or all(map(is_exact, plans)):
        return 1.0
    if any(isinstance(p, Fused | Bitmap | Postfilter) and p.nprobe is not None for p in plans):
        return None
    return target_of(bound, settings_of(session, bound.topk))


def _by_duckdb(decision: Decision) -> bool:
    return isinstance(decision.plan, Exact) and decision.plan.by_duckdb


def _run_by_duckdb(session: Host, topk: TopK, parameters: Parameters) -> Run:
    start = time.perf_counter()
    rows = session.run_statement(topk, parameters).fetch(None)
    return Run(rows=len(rows), seconds=time.perf_counter() - start)
