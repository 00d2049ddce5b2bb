"""`hybridq_recall`: the recall that an index reaches on the user's own rows.

    SELECT * FROM hybridq_recall('index_name', queries := 100, k := 10, filter := 'price < 10')

A table macro over a function of ours, so that it may stand wherever DuckDB takes a table. Rows of
the index serve as held-out queries: each leaves itself out of its own answer. The function runs
inside DuckDB, whose connection is busy then, so it works on a session of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import numpy as np

from hybridq.arrow import pa
from hybridq.errors import ProgrammingError
from hybridq.exec.bind import BoundTopK, bind
from hybridq.exec.decide import decide, target_of
from hybridq.exec.evaluate import Ahead
from hybridq.exec.executor import Run, execute
from hybridq.exec.host import Host
from hybridq.exec.opaque import ByDuckDB, rest_of
from hybridq.exec.prepare import Unbound, prepare
from hybridq.exec.result import translate
from hybridq.functions import Functions
from hybridq.index.hits import Hits
from hybridq.index.ivf import Float32s, Snapshot
from hybridq.index.state import IndexState
from hybridq.nodes import Metric, Passthrough, TopK, quote
from hybridq.plan.physical import Decision, Exact, Prefilter
from hybridq.progress import Progress
from hybridq.settings import Settings, hinted, with_setting
from hybridq.sql import parse

OpenSession = Callable[[], AbstractContextManager[Host]]

_FUNCTION = "__hybridq_recall"
_QUERY = "hybridq_query"
_DISTANCES = {
    Metric.L2: "l2_distance",
    Metric.COSINE: "cosine_distance",
    Metric.IP: "negative_inner_product",
}
_COLUMNS = {
    "index": "VARCHAR",
    "k": "BIGINT",
    "queries": "BIGINT",
    "target": "DOUBLE",
    "recall": "DOUBLE",
    "recall_p5": "DOUBLE",
    "lists": "DOUBLE",
    "seconds_approximate": "DOUBLE",
    "seconds_exact": "DOUBLE",
    "speedup": "DOUBLE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Recall is the mean over the queries, seconds are medians; None where there was no query."""

    index: str
    k: int
    queries: int
    target: float
    recall: float | None
    recall_p5: float | None
    lists: float | None
    seconds_approximate: float | None
    seconds_exact: float | None
    speedup: float | None


def register(functions: Functions, open_session: OpenSession) -> None:
    """Add the function and the table macro to a database, once."""
    if functions.knows(_FUNCTION):
        return

    def measured(*columns: pa.Array) -> pa.Array:
        rows = zip(*(c.to_pylist() for c in columns), strict=True)
        context = functions.context
        with open_session() as session:
            session.settings = context.settings
            found = [asdict(_measure(session, context.progress, *row)) for row in rows]
        kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}
        return pa.array(found, pa.struct([(n, kinds[t]) for n, t in _COLUMNS.items()]))

    functions.scalar(
        _FUNCTION,
        measured,
        parameters=("VARCHAR", "BIGINT", "BIGINT", "VARCHAR", "DOUBLE"),
        returns="STRUCT(" + ", ".join(f"{quote(n)} {t}" for n, t in _COLUMNS.items()) + ")",
        volatile=True,
    )
    columns = ", ".join(f"r.{quote(n)} AS {quote(n)}" for n in _COLUMNS)
    functions.macro(
        "hybridq_recall",
        ('"index"', "queries := 100", "k := 10", "filter := NULL", "recall := NULL"),
        # MATERIALIZED, or the function would run once for each column.
        f'WITH m AS MATERIALIZED (SELECT {_FUNCTION}(CAST("index" AS VARCHAR), '
        "CAST(queries AS BIGINT), CAST(k AS BIGINT), CAST(filter AS VARCHAR), "
        f"CAST(recall AS DOUBLE)) AS r) SELECT {columns} FROM m",
        table=True,
    )


def _measure(
    session: Host,
    progress: Progress,
    name: str | None,
    queries: int | None,
    k: int | None,
    condition: str | None,
    recall: float | None,
) -> Measured:
    if name is None:
        raise ProgrammingError("hybridq_recall takes the name of a vector index, not NULL")
    state = session.instance.index_named(name)
    if state is None:
        known = ", ".join(sorted(s.name for s in session.instance.indexes.values())) or "none"
        raise ProgrammingError(
            f'vector index "{name}" does not exist', hint=f"vector indexes: {known}"
        )
    for what, count in (("queries", queries), ("k", k)):
        if count is None or count < 1:
            shown = "NULL" if count is None else count
            raise ProgrammingError(f"{what} must be a whole number from 1 on, not {shown}")
    assert queries is not None
    assert k is not None
    if recall is not None:
        with_setting(session.settings, "recall", recall)  # raises for what is none
    topk = _topk(session, state, k, condition, recall)
    measured = _Measurement(session, state, topk).run(progress, queries, k)
    if condition is None:
        state.measured = measured.recall
    return measured


def _topk(
    session: Host, state: IndexState, k: int, condition: str | None, recall: float | None
) -> TopK:
    """Return the select to measure; one row more than k, for each query finds itself."""
    spec = state.spec
    table = spec.table_name.sql()
    hint = f" /*+ recall({recall}) */" if recall is not None else ""
    where = f"WHERE (\n{condition}\n) " if condition is not None else ""
    # A filter that ends the select, or the statement, is none: nothing runs before that is known.
    parsed = parse.parse_script(
        f"SELECT{hint} {quote(spec.key_columns[0].name)} FROM {table} {where}ORDER BY "
        f"{_DISTANCES[spec.metric]}({quote(spec.column)}, ${_QUERY}) LIMIT {k + 1}"
    )
    statement = parsed[0].statement
    if len(parsed) != 1 or not isinstance(statement, TopK | Passthrough):
        raise ProgrammingError(f"filter {condition!r} is not a condition")
    if condition is not None:
        try:
            session.query(f"SELECT 1 FROM {table} {where}LIMIT 0", None)
        except (duckdb.Error, RuntimeError) as error:
            own = translate(error)
            message = f"filter {condition!r} cannot be used: {own.message}"
            raise type(own)(message, hint=own.hint) from error
    if not isinstance(statement, TopK):
        raise ProgrammingError(f"filter {condition!r} is not a condition")
    return statement


class _Measurement:
    """Runs queries twice, at the settings and exactly, over one snapshot."""

    def __init__(self, session: Host, state: IndexState, topk: TopK) -> None:
        self.session = session
        self.topk = topk
        self.settings = hinted(session.settings, topk.hints) if topk.hints else session.settings
        self.exact = hinted(self.settings, (("recall", 1.0), ("nprobe", None), ("plan", "auto")))
        self.snapshot: Snapshot = session.instance.snapshot(state)
        prepared = prepare(topk, session.describe(topk.table), [state])
        if isinstance(prepared, Unbound):
            raise ProgrammingError(f"the index cannot be measured: {prepared.reason}")
        self.prepared = prepared

    def run(self, progress: Progress, queries: int, k: int) -> Measured:
        """Measure with rows of the index, the same ones every time."""
        rows = _draw(self.snapshot, queries)
        recalls, lists = [], []
        fast: list[float] = []
        slow: list[float] = []
        target = self.settings.recall
        progress.start("measure recall", len(rows))
        try:
            if rows:  # kernels may have to be compiled
                self._search(rows[0], self.settings)
                self._search(rows[0], self.exact)
            for row in rows:
                found, seconds, visited, target = self._search(row, self.settings)
                fast.append(seconds)
                lists.append(visited)
                truth, seconds, _, _ = self._search(row, self.exact)
                slow.append(seconds)
                recalls.append(_recall(_others(found, row, k), _others(truth, row, k)))
                progress.advance(1)
        finally:
            progress.finish()
        some = bool(rows)
        approximate = float(np.median(fast)) if some else None
        exact = float(np.median(slow)) if some else None
        return Measured(
            index=self.prepared.spec.name,
            k=k,
            queries=len(rows),
            target=target,
            recall=float(np.mean(recalls)) if some else None,
            recall_p5=float(np.percentile(recalls, 5)) if some else None,
            lists=float(np.mean(lists)) if some else None,
            seconds_approximate=approximate,
            seconds_exact=exact,
            speedup=exact / approximate if exact is not None and approximate else None,
        )

    def _search(self, row: tuple[int, int], settings: Settings) -> tuple[Hits, float, int, float]:
        """Return the hits, the seconds, the lists visited and the recall aimed at."""
        part, position = row
        vector: Float32s = self.snapshot.parts[part].vectors[position]
        run = Run()
        start = time.perf_counter()
        bound = self._bound(vector)
        bound = bound.first(bound.limit)  # no deeper: that is what is measured
        rest = rest_of(self.session, bound)
        plan = self._plan(decide(bound, settings, self.session.instance.unit, rest))
        hits = execute(plan, bound, ByDuckDB(self.session, bound), run)
        seconds = time.perf_counter() - start
        return hits, seconds, run.counters.counts().lists, target_of(bound, settings)

    def _bound(self, vector: Float32s) -> BoundTopK:
        values: dict[str, Any] = {_QUERY: vector}
        evaluator = Ahead(self.session, values, self.topk)
        bound = bind(
            self.prepared,
            values,
            lambda _: None,
            lambda: self.snapshot,
            evaluator,
            self.session.environment.token,
            threads=self.session.threads,
        )
        if isinstance(bound, Unbound):
            raise ProgrammingError(f"the index cannot be measured: {bound.reason}")
        return bound

    def _plan(self, decision: Decision) -> Any:
        plan = decision.plan
        if isinstance(plan, Exact) and plan.by_duckdb:
            # DuckDB would answer, exactly: the same rows at about the same cost.
            return Prefilter(source="duckdb", estimated_rows=0)
        return plan


def _draw(snapshot: Snapshot, queries: int) -> list[tuple[int, int]]:
    """Return (part, position) of rows that have a distance."""
    live = [p.live() for p in snapshot.parts]
    alive = [r[r < p.n_vectors] for r, p in zip(live, snapshot.parts, strict=True)]
    part = np.repeat(np.arange(len(alive)), [len(a) for a in alive])
    position = np.concatenate(alive)
    chosen = np.arange(len(part))
    if len(part) > queries:
        chosen = np.sort(np.random.default_rng(0).choice(len(part), queries, replace=False))
    return list(zip(part[chosen].tolist(), position[chosen].tolist(), strict=True))


def _others(hits: Hits, row: tuple[int, int], k: int) -> Float32s:
    """Return the distances of the nearest k rows but for the query's own."""
    own = (hits.part == row[0]) & (hits.position == row[1])
    nearest: Float32s = hits.distance[~own & np.isfinite(hits.distance)][:k]
    return nearest


def _recall(found: Float32s, truth: Float32s) -> float:
    """Return the share of the truth that was found; equals of the last one are right."""
    if len(truth) == 0:
        return 1.0
    return float(np.count_nonzero(found <= truth[-1]) / len(truth))
