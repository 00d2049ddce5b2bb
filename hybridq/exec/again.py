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
from hybridq.exec.result import Result
from hybridq.exec.values import finite_vector
from hybridq.exec.where import key_of
from hybridq.index.counters import Counters
from hybridq.index.hits import Hits, merge
from hybridq.index.ivf import Int64s
from hybridq.index.search import Search, gather_part, scan_parts
from hybridq.nodes import Metric, Parameter, QueryValue
from hybridq.plan.physical import Decision, Fused, Prefilter

_KEPT = 64
_KEPT_POSITIONS = 1 << 16


def _validity(session: Host) -> tuple[object, ...]:
    # Objects that are replaced when they change; compared by identity first.
    return (session.environment.token, session.settings, session.instance.unit)


def answer_again(session: Host, prepared: Prepared, parameters: Parameters) -> Result | None:
    """Answer as the last time, with another vector; None if anything else is not the same."""
    kept = prepared.again
    if not kept.known or session.transaction is not None or not session.standard_order:
        return None
    if not isinstance(parameters, list) or len(parameters) != len(prepared.topk.parameters):
        return None
    find = kept.known.get(key_of([parameters[i] for i in kept.where_at]))
    given = parameters[kept.vector_at]
    if find is None or given is None or prepared.state.stale or prepared.state.damage is not None:
        return None
    snapshot = session.instance.snapshot(prepared.state)
    if snapshot is not kept.snapshot or kept.valid_for != _validity(session):
        kept.reset()
        return None
    vector = finite_vector(given)
    spec, counts = prepared.spec, prepared.counts
    if len(vector) != spec.dim or (spec.metric is Metric.COSINE and not vector.any()):
        return None
    assert counts is not None
    hits = find(Search(query=vector, k=kept.depth))
    if hits is None or len(hits) < counts[0]:
        return None
    hits = hits.cut(0, counts[0])
    try:
        return Result(prepared.fields, covered(prepared, snapshot, hits))
    except OverflowError:
        return None  # DuckDB has dates that Python has not


def remember(session: Host, bound: BoundTopK, decision: Decision) -> None:
    """Keep what `answer_again` needs, if the statement is of its kind."""
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
        # Where a decision depends on the vector, it is not the first one that was made.
        or bound.where.decisions.get(bound.search.k) is not decision
        or decision.ask_near
    ):
        return
    kept, valid_for = prepared.again, _validity(session)
    if kept.snapshot is not snapshot or kept.valid_for != valid_for:
        query, names = topk.distance.query, prepared.wheres.names
        if not isinstance(query, QueryValue) or not isinstance(query.value, Parameter):
            return
        vector = query.value.name
        if not PLACES.keys() >= {*names, vector} or {*names, vector} != set(topk.parameters):
            return
        kept.reset()
        kept.valid_for = valid_for
        kept.depth = bound.search.k
        kept.snapshot = snapshot
        kept.where_at = tuple(PLACES[name] for name in names)
        kept.vector_at = PLACES[vector]
    key = key_of([bound.parameters[name] for name in prepared.wheres.names])
    if key is None:
        return
    if len(kept.known) >= _KEPT or kept.positions > _KEPT_POSITIONS:
        kept.known.clear()
        kept.positions = 0
    kept.known[key] = _finder(bound, plan, kept) if key in kept.known else None


def _finder(bound: BoundTopK, plan: Fused | Prefilter, kept: Again) -> Finder | None:
    snapshot, programs = bound.snapshot, bound.programs
    counters = _Uncounted()
    if isinstance(plan, Prefilter):
        if plan.estimated_rows > _KEPT_POSITIONS:
            return None
        pairs = zip(snapshot.parts, programs, strict=True)
        chosen = [positions_of(part, program, plan.source) for part, program in pairs]
        kept.positions += sum(map(len, chosen))

        def gather(search: Search) -> Hits:
            together = zip(snapshot.parts, chosen, strict=True)
            found = [gather_part(part, p, search, counters) for part, p in together]
            return merge(snapshot, found, search.k)

        return gather
    if plan.target is None:
        return None  # threads may share it
    effort = effort_of(plan)

    def scan(search: Search) -> Hits | None:
        found = scan_parts(snapshot.parts, programs, search, counters, effort)
        return None if found is None else merge(snapshot, found, search.k)

    return scan


class _Uncounted(Counters):
    """Counts nothing: no one asks."""

    __slots__ = ()

    def add(self, raw: Int64s) -> None:
        """Forget the counters of a kernel."""
