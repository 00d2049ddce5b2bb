"""Bind a TopK to its table, index and parameter values.

`bind` returns a BoundTopK the planner can price, or an Unbound that says why DuckDB must answer
(no index on the column, another metric, a name that is not the table's).
"""

from __future__ import annotations

import array
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybridq.conditions import Conjunct, Opaque
from hybridq.errors import DataError, ProgrammingError
from hybridq.index.attributes import Kind
from hybridq.index.bounds import bound_of
from hybridq.index.build import wrong_dimension
from hybridq.index.hits import SortColumn
from hybridq.index.ivf import Float32s, IndexSpec, Snapshot
from hybridq.index.programs import (
    Evaluator,
    Program,
    assemble,
    bind_condition,
)
from hybridq.index.search import Search
from hybridq.index.verdicts import Verdict, join
from hybridq.nodes import (
    QueryText,
    QueryVector,
    TopK,
    Value,
    quote,
)
from hybridq.storage.manifest import TableInfo

Evaluate = Callable[[str], Any]
"""Evaluates the text of a scalar expression in DuckDB, with the statement's parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTopK:
    """A TopK with values.

    `programs` hold, for each part of the snapshot, the conjuncts that compile, as do `verdicts`;
    `opaque` are the others, which only DuckDB can evaluate.
    """

    topk: TopK
    table: TableInfo
    spec: IndexSpec
    snapshot: Snapshot
    search: Search
    limit: int
    offset: int
    programs: tuple[Program, ...]
    verdicts: tuple[Verdict, ...]
    opaque: tuple[Conjunct, ...]
    conjuncts: tuple[Conjunct, ...]
    sort_columns: tuple[SortColumn, ...]
    parameters: Mapping[str, Any]
    query_key: bytes

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
        """Rows to find before OFFSET is cut."""
        return self.limit + self.offset


@dataclass(frozen=True, slots=True)
class Unbound:
    """Why the index does not answer."""

    reason: str


def query_vector(
    query: QueryVector, parameters: Mapping[str, Any], evaluate: Evaluate
) -> Float32s | None:
    """Return the query vector (d,) float32, None for NULL; DataError for what is no vector."""
    if isinstance(query, QueryText):
        value = evaluate(f"CAST(({query.text}) AS FLOAT[])")
    else:
        bound = bound_of(query.value, parameters)
        value = bound.value
    if value is None:
        return None
    vector = as_vector(value)
    if not np.isfinite(vector).all():
        component = int(np.argmin(np.isfinite(vector)))
        raise DataError(
            f"component {component + 1} of the query vector is {vector[component]}",
            hint="a query vector holds finite numbers",
        )
    return vector


def as_vector(value: Any) -> Float32s:
    """Return a vector as (d,) float32: a list, numpy, Arrow, pandas, '[1,2]' or '{1,2}'."""
    if isinstance(value, str):
        value = _from_text(value)
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    elif isinstance(value, bytes | bytearray | memoryview):
        raise DataError(
            "a query vector cannot be given as bytes",
            hint="give a list or an array of numbers, or extract_feature(?) for an image",
        )
    elif isinstance(value, array.array):
        value = np.frombuffer(value, value.typecode)
    try:
        vector = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the query vector holds something that is not a number: {error}",
            hint="give a list or an array of numbers",
        ) from error
    if vector.ndim != 1 or vector.size == 0:
        raise DataError(
            f"the query vector has shape {vector.shape}, not one dimension",
            hint="give a list or an array of numbers",
        )
    return np.ascontiguousarray(vector)


def _from_text(text: str) -> list[float]:
    inner = text.strip()
    if (inner[:1], inner[-1:]) not in (("[", "]"), ("{", "}")):
        raise DataError(f"'{text[:40]}' is not a vector", hint="write '[1, 2, 3]' or '{1, 2, 3}'")
    try:
        return [float(component) for component in inner[1:-1].split(",")]
    except ValueError as error:
        raise DataError(
            f"'{text[:40]}' is not a vector: {error}", hint="write '[1, 2, 3]' or '{1, 2, 3}'"
        ) from error


def count_of(value: Value, parameters: Mapping[str, Any], what: str) -> int | None:
    """Return a LIMIT or OFFSET, None for NULL (no limit)."""
    bound = bound_of(value, parameters).value
    if bound is None:
        return None
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        raise ProgrammingError(f"{what} must be a whole number, not {bound!r}")
    if bound < 0 or bound != int(bound):
        raise ProgrammingError(f"{what} must be a whole number from 0 on, not {bound}")
    return int(bound)


def same_query(
    left: QueryVector, right: QueryVector, parameters: Mapping[str, Any], known: Float32s
) -> bool:
    """Tell whether `left` gives the vector `known`, which `right` gave."""
    if left == right:
        return True
    if isinstance(left, QueryText) or isinstance(right, QueryText):
        return False
    value = bound_of(left.value, parameters).value
    if value is None:
        return False
    try:
        vector = as_vector(value)
    except DataError:
        return False
    return vector.shape == known.shape and bool((vector == known).all())


def bind(
    topk: TopK,
    table: TableInfo,
    candidates: Sequence[tuple[IndexSpec, Callable[[], Snapshot]]],
    parameters: Mapping[str, Any],
    evaluate: Evaluate,
    evaluator: Evaluator,
) -> BoundTopK | Unbound:
    """Bind `topk`; `candidates` are the indexes of its table, snapshots taken only if used.

    Raises DataError for a query vector of another dimension or with NaN.
    """
    unknown = sorted(n for n in topk.unqualified if table.column(n) is None)
    if unknown:
        return Unbound(f"{unknown[0]} is no column of {table.name}")
    usable = [
        c
        for c in candidates
        if c[0].column.lower() == topk.distance.column.lower()
        and c[0].metric is topk.distance.metric
    ]
    if not usable:
        column = f"{table.name}.{topk.distance.column}"
        metric = topk.distance.metric.name.lower()
        return Unbound(f"there is no vector index on {column} for {metric} distance")
    spec, take_snapshot = usable[0]
    limit = count_of(topk.limit, parameters, "LIMIT")
    offset = 0 if topk.offset is None else count_of(topk.offset, parameters, "OFFSET")
    if limit is None:
        return Unbound("LIMIT NULL means no limit")
    vector = query_vector(topk.distance.query, parameters, evaluate)
    if vector is None:
        return Unbound("the query vector is NULL")
    if len(vector) != spec.dim:
        error = wrong_dimension(spec, len(vector), None)
        raise DataError(error.message.replace("the vector", "the query vector"), hint=None)
    if topk.distance.metric.name == "COSINE" and not vector.any():
        return Unbound("a zero vector has no cosine distance")
    conjuncts, radius = _radius(topk, parameters, vector)
    if isinstance(radius, Unbound):
        return radius
    sort_columns: list[SortColumn] = []
    for key in topk.sort_keys:
        position = spec.position_of(key.column)
        if position is None or not spec.columns[position].type.covered:
            return Unbound(f"sort key {key.column} is not an attribute of index {spec.name}")
        if table.collated and spec.columns[position].type.kind is Kind.TEXT:
            return Unbound(f"sort key {key.column} may have a collation")
        sort_columns.append((position, key.descending, key.nulls_first))
    snapshot = take_snapshot()
    bound, inclusive = radius
    verdicts, opaque = _verdicts(
        snapshot, conjuncts, parameters, evaluator, collated=table.collated
    )
    return BoundTopK(
        topk=topk,
        table=table,
        spec=spec,
        snapshot=snapshot,
        search=Search(
            query=vector,
            k=limit + (offset or 0),
            radius=bound,
            radius_inclusive=inclusive,
        ),
        limit=limit,
        offset=offset or 0,
        programs=tuple(assemble(verdict) for verdict in verdicts),
        verdicts=tuple(verdicts),
        opaque=opaque,
        conjuncts=conjuncts,
        sort_columns=tuple(sort_columns),
        parameters=parameters,
        query_key=vector.tobytes(),
    )


def _radius(
    topk: TopK, parameters: Mapping[str, Any], vector: Float32s
) -> tuple[tuple[Conjunct, ...], tuple[float, bool] | Unbound]:
    if topk.radius is None:
        return topk.conjuncts, (math.inf, False)
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


def _verdicts(
    snapshot: Snapshot,
    conjuncts: Sequence[Conjunct],
    parameters: Mapping[str, Any],
    evaluator: Evaluator,
    *,
    collated: bool,
) -> tuple[list[Verdict], tuple[Conjunct, ...]]:
    """Return which rows of each part pass the conjuncts that compile, and the other conjuncts."""
    columns: list[list[Verdict]] = []
    opaque: list[Conjunct] = []
    for conjunct in conjuncts:
        found = bind_condition(
            conjunct.condition, snapshot, parameters, evaluator, collated=collated
        )
        if found is None:
            opaque.append(conjunct)
        else:
            columns.append(found)
    joined = [join(True, [found[i] for found in columns]) for i in range(len(snapshot.parts))]
    return joined, tuple(opaque)
