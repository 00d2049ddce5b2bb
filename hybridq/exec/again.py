"""A statement that came before: the same text on the same snapshot, with another vector.

That is how a search service asks, thousands of times over. What the general way (bind, decide,
execute, assemble) finds out anew each time is kept here, for the statements whose answer is a scan
or a few distances and nothing else; what the values of its WHERE settle is kept by these values,
and new ones are bound and planned (see `finders`). Whatever is not as it was goes the general way,
and so does an answer of less than k rows.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from hybridq.exec.bind import BoundTopK
from hybridq.exec.finders import MOST_POSITIONS, Afresh, lasting
from hybridq.exec.host import PLACES, Host, Parameters, settings_of
from hybridq.exec.prepare import Again, Finder, Prepared
from hybridq.exec.result import Result
from hybridq.exec.values import finite_vector
from hybridq.exec.where import key_of
from hybridq.index.ivf import Float32s, Snapshot
from hybridq.index.state import IndexState
from hybridq.nodes import Metric, Parameter, QueryValue, TopK
from hybridq.plan.physical import Decision, Fused, Prefilter

_KEPT = 64
_KEPT_TEXTS = 256
_KEPT_ONCE = 1024
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
        if prepared.again.valid_for:
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
    if parameters[kept.vector_at] is None:
        return None
    key = key_of([parameters[i] for i in kept.where_at])
    find = kept.known.get(key)
    if find is None and (key is None or kept.afresh is None):
        return None
    vector = finite_vector(parameters[kept.vector_at])
    if len(vector) != kept.dim or (state.spec.metric is Metric.COSINE and not vector.any()):
        return None
    if find is None:
        find = _find_afresh(kept, key, vector, parameters)
    if find is None:
        return None
    try:
        rows = find(vector)
    except OverflowError:
        return None  # DuckDB has dates that Python has not
    return None if rows is None else Result(kept.fields, rows)


def remember(session: Host, bound: BoundTopK, decision: Decision) -> None:
    """Keep what `Repeats` needs, if the statement is of its kind."""
    prepared, topk, snapshot = bound.prepared, bound.topk, bound.snapshot
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
        or not isinstance(decision.plan, Fused | Prefilter)
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
    elif kept.afresh is None and kept.where_at:
        kept.afresh = Afresh(bound, settings_of(session, topk), session.instance.unit)
    key = key_of([bound.parameters[name] for name in prepared.wheres.names])
    if key is not None:
        _note(kept, key, bound, decision)


def _find_afresh(
    kept: Again, key: Hashable, vector: Float32s, parameters: list[Any]
) -> Finder | None:
    """Return how to find the rows for values that are new, or have come but once."""
    assert kept.afresh is not None
    found = kept.afresh.bind(vector, parameters)
    if found is None:
        return None
    bound, decision = found
    return _note(kept, key, bound, decision) or kept.afresh.finder(bound, decision)


def _note(kept: Again, key: Hashable, bound: BoundTopK, decision: Decision) -> Finder | None:
    """Keep how to find the rows, from the second time on, if it is the same for every vector."""
    plan = decision.plan
    if not isinstance(plan, Fused | Prefilter):
        return None
    if not (_whatever_the_vector(bound, decision) or _few_rows(plan)):
        return None
    if key not in kept.once:
        if len(kept.once) >= _KEPT_ONCE:
            kept.once.clear()
        kept.once.add(key)
        return None
    find, positions = lasting(bound, plan)
    if find is not None:
        if len(kept.known) >= _KEPT or kept.positions > MOST_POSITIONS:
            kept.known.clear()
            kept.positions = 0
        kept.known[key] = find
        kept.positions += positions
    return find


def _whatever_the_vector(bound: BoundTopK, decision: Decision) -> bool:
    # Where a decision depends on the vector, it is not the first one that was made.
    return bound.where.decisions.get(bound.search.k) is decision and not decision.ask_near


def _few_rows(plan: Fused | Prefilter) -> bool:
    # Once their positions are known, nothing is cheaper than their distances.
    return isinstance(plan, Prefilter) and plan.estimated_rows <= _FEW_ROWS
