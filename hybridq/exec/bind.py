"""Bind a prepared TopK to a snapshot of its index and to parameter values.

`bind` returns a BoundTopK the planner can price, or an Unbound that says why DuckDB must answer
(a query vector that is NULL, a bound of the distance that is no number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hybridq.conditions import Conjunct, InQuery, Opaque
from hybridq.errors import DataError
from hybridq.exec.pages import depth_for
from hybridq.exec.prepare import Prepared, Unbound
from hybridq.exec.values import Evaluate, count_of, query_vector, same_query
from hybridq.exec.where import Where, bind_where
from hybridq.index.binding import Evaluator
from hybridq.index.bounds import bound_of
from hybridq.index.hits import SortColumn
from hybridq.index.ivf import Float32s, IndexSpec, Snapshot
from hybridq.index.programs import Program
from hybridq.index.rows import wrong_dimension
from hybridq.index.search import Search
from hybridq.index.verdicts import Verdict
from hybridq.nodes import Metric, TopK, quote


@dataclass(slots=True)
class BoundTopK:
    """A TopK with values.

    Made for each query, so not frozen, which would double what it costs; nothing writes to it.
    """

    prepared: Prepared
    snapshot: Snapshot
    search: Search
    limit: int
    offset: int
    where: Where
    conjuncts: tuple[Conjunct, ...]
    parameters: Mapping[str, Any]

    @property
    def topk(self) -> TopK:
        """The statement."""
        return self.prepared.topk

    @property
    def spec(self) -> IndexSpec:
        """The index searched."""
        return self.prepared.spec

    @property
    def programs(self) -> tuple[Program, ...]:
        """For each part of the snapshot, what compiles of the WHERE."""
        return self.where.programs

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What the programs are made of."""
        return self.where.verdicts

    @property
    def opaque(self) -> tuple[Conjunct, ...]:
        """What does not compile, and only DuckDB can evaluate."""
        return self.where.opaque

    @property
    def sort_columns(self) -> tuple[SortColumn, ...]:
        """What orders rows of equal distance, before their keys."""
        return self.prepared.sort_columns

    @property
    def source(self) -> str:
        """The table as a FROM clause has it: with its alias, if the statement gave it one."""
        alias = self.topk.table.alias
        name = self.spec.table_name.sql()
        return name if alias is None else f"{name} AS {quote(alias)}"

    @property
    def compiled(self) -> bool:
        """Tell whether the programs are all of the WHERE."""
        return not self.opaque

    @property
    def wanted(self) -> int:
        """Rows to find before OFFSET is cut; the search goes as deep or deeper."""
        return self.limit + self.offset

    def first(self, rows: int) -> BoundTopK:
        """Return a search for so many rows, without OFFSET."""
        return replace(self, limit=rows, offset=0, search=replace(self.search, k=rows))


_NO_RADIUS = (math.inf, False)


def bind(
    prepared: Prepared,
    parameters: Mapping[str, Any],
    evaluate: Evaluate,
    take_snapshot: Callable[[], Snapshot],
    evaluator: Evaluator,
    environment: object,
    *,
    threads: int = 1,
) -> BoundTopK | Unbound:
    """Bind to values; the snapshot is taken last, and only if the index can answer.

    Raises DataError for a query vector of another dimension or with NaN.
    """
    topk, spec = prepared.topk, prepared.spec
    counts = prepared.counts if prepared.counts is not None else _counts(topk, parameters)
    if isinstance(counts, Unbound):
        return counts
    limit, offset = counts
    vector = query_vector(topk.distance.query, parameters, evaluate)
    if vector is None:
        return Unbound("the query vector is NULL")
    if len(vector) != spec.dim:
        error = wrong_dimension(spec, len(vector), None)
        raise DataError(error.message.replace("the vector", "the query vector"), hint=None)
    if spec.metric is Metric.COSINE and not vector.any():
        return Unbound("a zero vector has no cosine distance")
    conjuncts, radius = topk.conjuncts, _NO_RADIUS
    if topk.radius is not None:
        conjuncts, found = _radius(topk, parameters, vector)
        if isinstance(found, Unbound):
            return found
        radius = found
    if topk.limit is None and radius == _NO_RADIUS:
        return Unbound("nothing bounds the distance")
    if prepared.refused is not None:
        return prepared.refused
    snapshot = take_snapshot()
    collated = prepared.table.collated
    if conjuncts is topk.conjuncts:
        where = prepared.wheres.bound(snapshot, conjuncts, parameters, evaluator, environment)
    else:
        where = bind_where(snapshot, conjuncts, parameters, evaluator, collated=collated)
    if any(isinstance(c.condition, InQuery) and c.condition.once for c in where.opaque):
        return Unbound(
            "a row may join several rows of another table, which has too many, or joins them by a "
            "column that the index has not"
        )
    return BoundTopK(
        prepared,
        snapshot,
        Search(
            query=vector,
            k=limit if topk.limit is None else depth_for(limit + offset),
            radius=radius[0],
            radius_inclusive=radius[1],
            threads=threads,
        ),
        limit,
        offset,
        where,
        conjuncts,
        parameters,
    )


def _counts(topk: TopK, parameters: Mapping[str, Any]) -> tuple[int, int] | Unbound:
    assert topk.limit is not None
    limit = count_of(topk.limit, parameters, "LIMIT")
    offset = 0 if topk.offset is None else count_of(topk.offset, parameters, "OFFSET")
    if limit is None:
        return Unbound("LIMIT NULL means no limit")
    return limit, offset or 0


def _radius(
    topk: TopK, parameters: Mapping[str, Any], vector: Float32s
) -> tuple[tuple[Conjunct, ...], tuple[float, bool] | Unbound]:
    assert topk.radius is not None
    if not same_query(topk.radius.distance.query, topk.distance.query, parameters, vector):
        # A bound on the distance to another vector is a condition like any other.
        extra = Conjunct(topk.radius.text, Opaque("a distance to another vector"), frozenset())
        return (*topk.conjuncts, extra), (math.inf, False)
    value = bound_of(topk.radius.value, parameters).value
    if value is None:
        return topk.conjuncts, (-math.inf, False)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return topk.conjuncts, Unbound("the bound of the distance is not a number")
    if math.isnan(number):
        return topk.conjuncts, Unbound("the bound of the distance is NaN")
    if not isinstance(value, float) and abs(number) > float(np.finfo(np.float32).max):
        return topk.conjuncts, Unbound("the bound of the distance is too large for a FLOAT")
    return topk.conjuncts, _float32_bound(number, inclusive=topk.radius.inclusive, value=value)


def _float32_bound(number: float, *, inclusive: bool, value: Any) -> tuple[float, bool]:
    """Return the bound in float32: DuckDB compares with a DOUBLE as DOUBLE, else rounds it.

    (inf, False) is left to mean no bound.
    """
    if number == math.inf and not inclusive:
        return float(np.finfo(np.float32).max), True
    with np.errstate(over="ignore"):
        rounded = np.float32(number)
    if not isinstance(value, float) or float(rounded) == number:
        return float(rounded), inclusive
    # d < x and d <= x agree for a float32 d when x is none: take the next float32 below x.
    below = rounded if float(rounded) < number else np.nextafter(rounded, np.float32(-np.inf))
    return float(below), True
