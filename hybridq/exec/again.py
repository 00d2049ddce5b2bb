"""A statement that came before: the same text and WHERE on the same snapshot, another vector.

That is how a search service asks, thousands of times over. What the general way (bind, decide,
execute, assemble) finds out anew each time is kept here, for the statements whose answer is a scan
or a few distances and nothing else. Whatever is not as it was goes the general way, and so does an
answer of less than k rows.
"""

from __future__ import annotations

from hybridq.exec.bind import BoundTopK
from hybridq.exec.executor import effort_of, positions_of
from hybridq.exec.host import PLACES, Host, Parameters
from hybridq.exec.output import covered
from hybridq.exec.prepare import Again, Finder, Prepared
from hybridq.exec.result import Result, Row
from hybridq.exec.values import finite_vector
from hybridq.exec.where import key_of
from hybridq.index.counters import Counters
from hybridq.index.hits import Hits, merge
from hybridq.index.ivf import Float32s, Int64s, Snapshot
from hybridq.index.repeated import RepeatedScan
from hybridq.index.search import Search, gather_part, scan_parts
from hybridq.index.state import IndexState
from hybridq.nodes import Metric, Parameter, QueryValue, TopK
from hybridq.plan.physical import Decision, Fused, Prefilter

_KEPT = 64
_KEPT_TEXTS = 256
_KEPT_POSITIONS = 1 << 16
_FEW_ROWS = 1024


def _validity(session: Host, state: IndexState) -> tuple[object, ...]:
    # Objects that are replaced when they change; compared by identity first.
    return (state.snapshot, session.settings, session.instance.unit, session.environment.token)


class Repeats:
    """The statements of a session that may come again, by their text."""

    def __init__(self, session: Host) -> None:
        self._session = session
        self._known: dict[str, Again] = {}
        self._last: Snapshot | None = None

    def answer(self, text: str, parameters: Parameters) -> Result | None:
        """Answer a text as the last time, with another vector; None if it must go the long way."""
        kept = self._known.get(text)
        if kept is None:
            return None
        session = self._session
        if not session.autocommit or session.settings.statement_timeout:
            return None
        return _answer(session, kept, parameters)

    def keep(self, text: str, topk: TopK) -> None:
        """Know the text of a statement that was just run."""
        session = self._session
        if session.transaction is not None:
            return
        prepared = session.prepared(topk)
        if not isinstance(prepared, Prepared):
            return
        if self._last is not prepared.state.snapshot:
            self._last = prepared.state.snapshot
            self._forget_old()
        if prepared.again.known:
            if len(self._known) >= _KEPT_TEXTS:
                self._known.clear()
            self._known[text] = prepared.again

    def _forget_old(self) -> None:
        """Let go of snapshots that were replaced: their files would stay on disk."""
        for text, kept in list(self._known.items()):
            state = kept.state
            if state is None or not kept.valid_for or kept.valid_for[0] is not state.snapshot:
                kept.reset()
                del self._known[text]


def _answer(session: Host, kept: Again, parameters: Parameters) -> Result | None:
    state = kept.state
    if (
        state is None
        or session.transaction is not None
        or type(parameters) is not list
        or len(parameters) != kept.count
        or state.stale
        or state.damage is not None
    ):
        return None
    if kept.valid_for != _validity(session, state):
        kept.reset()
        return None
    find = kept.known.get(key_of([parameters[i] for i in kept.where_at]))
    if find is None or parameters[kept.vector_at] is None:
        return None
    vector = finite_vector(parameters[kept.vector_at])
    if len(vector) != kept.dim or (state.spec.metric is Metric.COSINE and not vector.any()):
        return None
    try:
        rows = find(vector)
    except OverflowError:
        return None  # DuckDB has dates that Python has not
    return None if rows is None else Result(kept.fields, rows)


def remember(session: Host, bound: BoundTopK, decision: Decision) -> None:
    """Keep what `Repeats` needs, if the statement is of its kind."""
    prepared, topk, snapshot = bound.prepared, bound.topk, bound.snapshot
    plan = decision.plan
    if (
        session.transaction is not None
        or prepared.fields is None
        or prepared.counts is None
        or bound.offset
        or bound.limit == 0
        or topk.limit is None
        or topk.radius is not None
        or prepared.sort_columns
        or not bound.compiled
        or any(part.unverified is not None for part in snapshot.parts)
        or not isinstance(plan, Fused | Prefilter)
        or not (_whatever_the_vector(bound, decision) or _few_rows(plan))
    ):
        return
    kept, valid_for = prepared.again, _validity(session, prepared.state)
    if valid_for[0] is not snapshot:
        return  # it was replaced meanwhile
    if kept.valid_for != valid_for:
        query, names = topk.distance.query, prepared.wheres.names
        if not isinstance(query, QueryValue) or not isinstance(query.value, Parameter):
            return
        vector = query.value.name
        if not PLACES.keys() >= {*names, vector} or {*names, vector} != set(topk.parameters):
            return
        kept.reset()
        kept.valid_for = valid_for
        kept.state = prepared.state
        kept.fields = prepared.fields
        kept.dim = prepared.spec.dim
        kept.count = len(topk.parameters)
        kept.where_at = tuple(PLACES[name] for name in names)
        kept.vector_at = PLACES[vector]
    key = key_of([bound.parameters[name] for name in prepared.wheres.names])
    if key is None:
        return
    if len(kept.known) >= _KEPT or kept.positions > _KEPT_POSITIONS:
        kept.known.clear()
        kept.positions = 0
    kept.known[key] = _finder(bound, plan, kept) if key in kept.known else None


def _whatever_the_vector(bound: BoundTopK, decision: Decision) -> bool:
    # Where a decision depends on the vector, it is not the first one that was made.
    return bound.where.decisions.get(bound.search.k) is decision and not decision.ask_near


def _few_rows(plan: Fused | Prefilter) -> bool:
    # Once their positions are known, nothing is cheaper than their distances.
    return isinstance(plan, Prefilter) and plan.estimated_rows <= _FEW_ROWS


def _finder(bound: BoundTopK, plan: Fused | Prefilter, kept: Again) -> Finder | None:
    snapshot, programs, k, limit = bound.snapshot, bound.programs, bound.search.k, bound.limit
    parts, prepared, counters = snapshot.parts, bound.prepared, _Uncounted()

    def rows_of(hits: Hits | None) -> list[Row] | None:
        if hits is None or len(hits) < limit:
            return None
        return covered(prepared, snapshot, hits.cut(0, limit))

    if isinstance(plan, Prefilter):
        if plan.estimated_rows > _KEPT_POSITIONS:
            return None
        pairs = zip(parts, programs, strict=True)
        chosen = [positions_of(part, program, plan.source) for part, program in pairs]
        kept.positions += sum(map(len, chosen))

        def gather(query: Float32s) -> list[Row] | None:
            search = Search(query=query, k=k)
            together = zip(parts, chosen, strict=True)
            found = [gather_part(part, p, search, counters) for part, p in together]
            return rows_of(merge(snapshot, found, k))

        return gather
    effort = effort_of(plan)
    if plan.target is None:
        return None  # threads may share it
    if RepeatedScan.suits(parts, k, effort):
        repeated = RepeatedScan(snapshot, programs, k, limit, effort)

        def find(query: Float32s) -> list[Row] | None:
            hits = repeated(query)
            return None if hits is None else covered(prepared, snapshot, hits)

        return find

    def scan(query: Float32s) -> list[Row] | None:
        found = scan_parts(parts, programs, Search(query=query, k=k), counters, effort)
        return None if found is None else rows_of(merge(snapshot, found, k))

    return scan


class _Uncounted(Counters):
    """Counts nothing: no one asks."""

    __slots__ = ()

    def add(self, raw: Int64s) -> None:
        """Forget the counters of a kernel."""
