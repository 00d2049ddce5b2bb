"""A statement that came before: the same text, with another vector.

That is how a search service asks, thousands of times over. What the general way (bind, decide,
execute, assemble) finds out anew each time is kept here, for the statements whose answer is a scan
or a few distances and nothing else; what the values of its WHERE settle is kept by these values,
and new ones are bound and planned (see `finders`). A commit makes a new snapshot: what was settled
is carried over. Whatever else is not as it was goes the general way, and so does an answer of less
than k rows.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from hybridq.exec.bind import BoundTopK
from hybridq.exec.finders import MOST_POSITIONS, Finders, Settled
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


def _validity(session: Host) -> tuple[object, ...]:
    # Objects that are replaced when they change; compared by identity first.
    return (session.settings, session.instance.unit, session.environment.token)


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
        return self._answer(kept, parameters)

    def keep(self, text: str, topk: TopK) -> None:
        """Know the text of a statement that was just run."""
        session = self._session
        if session.transaction is not None:
            return
        prepared = session.prepared(topk)
        if not isinstance(prepared, Prepared):
            return
        self._let_go(prepared.state)
        if prepared.again.valid_for:
            if len(self._known) >= _KEPT_TEXTS:
                self._known.clear()
            self._known[text] = prepared.again

    def _let_go(self, state: IndexState) -> None:
        """Have all follow to the newest snapshot: files of older ones would stay on disk."""
        snapshot = state.snapshot
        if self._last is snapshot:
            return
        self._last = snapshot
        for text, kept in list(self._known.items()):
            if kept.state is state and kept.follow(snapshot) is None:
                del self._known[text]

    def _answer(self, kept: Again, parameters: Parameters) -> Result | None:
        session, state, finders = self._session, kept.state, kept.finders
        if (
            state is None
            or finders is None
            or session.transaction is not None
            or type(parameters) is not list
            or len(parameters) != kept.count
            or state.stale
            or state.damage is not None
        ):
            return None
        if kept.valid_for != _validity(session):
            kept.reset()
            return None
        snapshot = state.snapshot
        if finders.snapshot is not snapshot:
            self._let_go(state)
            finders = kept.follow(snapshot)
            if finders is None:
                return None
        if parameters[kept.vector_at] is None:
            return None
        key = key_of([parameters[i] for i in kept.where_at])
        find = kept.known.get(key)
        if find is None and key is None:
            return None
        vector = finite_vector(parameters[kept.vector_at])
        if len(vector) != kept.dim or (state.spec.metric is Metric.COSINE and not vector.any()):
            return None
        if find is None:
            find = _find(kept, finders, key, vector, parameters)
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
        or bound.where.momentary
        or any(part.unverified is not None for part in snapshot.parts)
        or not isinstance(decision.plan, Fused | Prefilter)
    ):
        return
    kept, valid_for = prepared.again, _validity(session)
    if prepared.state.snapshot is not snapshot:
        return  # it was replaced meanwhile
    if kept.valid_for != valid_for or kept.follow(snapshot) is None:
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
        kept.finders = Finders(bound, settings_of(session, topk), session.instance.unit)
    assert kept.finders is not None
    key = key_of([bound.parameters[name] for name in prepared.wheres.names])
    if key is not None:
        _note(kept, kept.finders, key, bound, decision)


def _find(
    kept: Again, finders: Finders, key: Hashable, vector: Float32s, parameters: list[Any]
) -> Finder | None:
    """Return how to find the rows for values that are new here, or have come but once."""
    settled = kept.settled.get(key)
    if settled is not None:
        settled = finders.carried(settled, parameters)
        return None if settled is None else _keep(kept, finders, key, settled)
    found = finders.bind(vector, parameters)
    if found is None:
        return None
    bound, decision = found
    return _note(kept, finders, key, bound, decision) or finders.once(bound, decision)


def _note(
    kept: Again, finders: Finders, key: Hashable, bound: BoundTopK, decision: Decision
) -> Finder | None:
    """Keep how to find the rows, from the second time on, if it is the same for every vector."""
    plan = decision.plan
    if not isinstance(plan, Fused | Prefilter):
        return None
    if not (_whatever_the_vector(bound, decision) or finders.are_few(decision)):
        return None
    if key not in kept.once:
        if len(kept.once) >= _KEPT_ONCE:
            kept.once.clear()
        kept.once.add(key)
        return None
    settled = finders.few(bound.where, decision) or finders.settle(bound.where, plan)
    return _keep(kept, finders, key, settled)


def _keep(kept: Again, finders: Finders, key: Hashable, settled: Settled) -> Finder | None:
    find = finders.lasting(settled)
    if find is not None:
        positions = sum(other.count for other in kept.settled.values())
        if len(kept.settled) >= _KEPT or positions > MOST_POSITIONS:
            kept.known.clear()
            kept.settled.clear()
        kept.known[key] = find
        kept.settled[key] = settled
    return find


def _whatever_the_vector(bound: BoundTopK, decision: Decision) -> bool:
    # Where a decision depends on the vector, it is not the first one that was made.
    return bound.where.decisions.get(bound.search.k) is decision and not decision.ask_near
