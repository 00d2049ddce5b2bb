"""A statement that came before: the same text and WHERE on the same snapshot, another vector.

That is how a search service asks, thousands of times over. What the general way (bind, decide,
execute, assemble) finds out anew each time is kept here, for the statements whose answer is a scan
or a few distances and nothing else. Whatever is not as it was goes the general way, and so does an
answer of less than k rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridq.exec.bind import BoundTopK
from hybridq.exec.executor import positions_of
from hybridq.exec.host import Host, Parameters
from hybridq.exec.prepare import Again, Finder, FromIndex, Prepared, TheDistance
from hybridq.exec.result import Result
from hybridq.exec.values import as_vector
from hybridq.exec.where import key_of
from hybridq.index.counters import Counters
from hybridq.index.hits import Hits, column_values, merge
from hybridq.index.ivf import Int64s, Snapshot
from hybridq.index.search import Effort, Search, gather_part, scan_parts
from hybridq.nodes import Metric, Parameter, QueryValue
from hybridq.plan.physical import Decision, Fused, Prefilter

_KEPT = 64
_KEPT_POSITIONS = 1 << 16

_DISTANCE, _NEGATED = -1, -2


def _validity(session: Host, snapshot: Snapshot) -> tuple[object, ...]:
    # Objects that are replaced when they change; compared by identity first.
    return (snapshot.stamp, session.environment.token, session.settings, session.instance.unit)


def answer_again(session: Host, prepared: Prepared, parameters: Parameters) -> Result | None:
    """Answer as the last time, with another vector; None if anything else is not the same."""
    kept = prepared.again
    if not kept.known or session.transaction is not None or not session.standard_order:
        return None
    if not isinstance(parameters, list) or len(parameters) != kept.count:
        return None
    find = kept.known.get(key_of([parameters[i] for i in kept.where_at]))
    given = parameters[kept.vector_at]
    if find is None or given is None or prepared.state.stale or prepared.state.damage is not None:
        return None
    snapshot = session.instance.snapshot(prepared.state)
    if snapshot is not kept.snapshot or kept.valid_for != _validity(session, snapshot):
        kept.reset()
        return None
    vector = as_vector(given)
    spec = prepared.spec
    if len(vector) != spec.dim or 0 in np.isfinite(vector).tobytes():
        return None
    if spec.metric is Metric.COSINE and not vector.any():
        return None
    hits = find(Search(query=vector, k=kept.k))
    if hits is None or len(hits) < kept.k:
        return None
    columns: list[list[Any]] = []
    for column in kept.columns:
        if column >= 0:
            columns.append(column_values(snapshot, hits, column))
        elif column == _DISTANCE:
            columns.append(hits.distance.tolist())
        else:
            columns.append((-hits.distance).tolist())
    return Result(kept.fields, list(zip(*columns, strict=True)))


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
        or bound.where.decisions.get(bound.wanted) is not decision
        or decision.ask_near
    ):
        return
    query = topk.distance.query
    names = [*prepared.wheres.names]
    places = {name: i for i, name in enumerate(f"hq{i}" for i in range(1, 65))}
    if not isinstance(query, QueryValue) or not isinstance(query.value, Parameter):
        return
    names.append(query.value.name)
    if any(name not in places for name in names) or set(names) != set(topk.parameters):
        return
    kept = prepared.again
    valid_for = _validity(session, snapshot)
    if kept.snapshot is not snapshot or kept.valid_for != valid_for:
        kept.reset()
        kept.valid_for = valid_for
        kept.snapshot = snapshot
        kept.k, kept.count = bound.limit, len(topk.parameters)
        kept.where_at = tuple(places[n] for n in prepared.wheres.names)
        kept.vector_at = places[query.value.name]
        kept.fields = prepared.fields
        kept.columns = tuple(map(_column, prepared.outputs))
    key = key_of([bound.parameters[name] for name in prepared.wheres.names])
    if key is None:
        return
    if len(kept.known) >= _KEPT or kept.positions > _KEPT_POSITIONS:
        kept.known.clear()
        kept.positions = 0
    if key in kept.known:
        kept.known[key] = _finder(bound, plan, kept)
    else:
        kept.known[key] = None


def _column(output: object) -> int:
    if isinstance(output, FromIndex):
        return output.column
    assert isinstance(output, TheDistance)
    return _NEGATED if output.negated else _DISTANCE


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
    effort = Effort(
        share=max(plan.estimated_share, 1e-9),
        target=plan.target,
        nprobe=plan.nprobe,
        max_lists=plan.max_lists,
    )

    def scan(search: Search) -> Hits | None:
        found = scan_parts(snapshot.parts, programs, search, counters, effort)
        return None if found is None else merge(snapshot, found, search.k)

    return scan


class _Uncounted(Counters):
    """Counts nothing: no one asks."""

    __slots__ = ()

    def add(self, raw: Int64s) -> None:
        """Forget the counters of a kernel."""
