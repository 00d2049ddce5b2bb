"""Conditions bound to values: which rows of each part of an index pass.

    condition  --bind-->  verdict, one per part  --assemble-->  program

A verdict is the set of rows that pass, see index.verdicts; programs are of index.programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from hybridq.arrow import pa
from hybridq.conditions import (
    AllOf,
    AnyOf,
    Between,
    ColumnTest,
    Compare,
    Condition,
    Constant,
    Evaluated,
    Expression,
    Given,
    InList,
    InQuery,
    IsNull,
    Known,
    Leaf,
    LiteralKind,
    Opaque,
    Operand,
    Parameter,
    Truth,
)
from hybridq.index.attributes import NULL_KEY, AttributeType, Kind, encode, find_codes
from hybridq.index.bounds import bound_of
from hybridq.index.intervals import ALL, Interval, complement, intersect, union
from hybridq.index.ivf import Part, Snapshot
from hybridq.index.leaves import intervals
from hybridq.index.patterns import matches
from hybridq.index.verdicts import Rows, Verdict, depth, join, of_codes, of_ranges, packed
from hybridq.kernels import predicate as kernel
from hybridq.nodes import Metric, literal

_BY_VALUE = (Kind.TEXT, Kind.UUID, Kind.ENUM, Kind.BOOLEAN)
"""Types whose values are so few, or kept once each, that DuckDB can be asked about every one."""

_V = TypeVar("_V")

UNKNOWN = object()
"""What an evaluator returns for an expression that cannot be evaluated ahead."""


class Evaluator(Protocol):
    """DuckDB, for what has no second implementation here; see exec.evaluate."""

    def condition(self, expression: Expression) -> Any:
        """Return the value, True, False or None, of a condition without columns, or UNKNOWN."""

    def constant(self, text: str, kind: AttributeType) -> Any:
        """Return the value of a constant that is compared with a column of `kind`, or UNKNOWN."""

    def over_values(
        self, position: int, expression: Expression, truth: Truth, parts: Sequence[Part]
    ) -> list[Verdict] | None:
        """Return, per part, the values of a column for which an expression is `truth`.

        None if it cannot be told.
        """

    def members(self, query: str, kind: AttributeType, *, once: bool) -> pa.Array | None:
        """Return the distinct values of a query, NULL among them, for a column of `kind`.

        None if they are too many, do not compare as values of a column do, or are asked to come but
        `once` and do not.
        """


def bind_condition(
    condition: Condition,
    snapshot: Snapshot,
    parameters: Mapping[str, Any],
    evaluator: Evaluator,
    *,
    collated: bool,
) -> list[Verdict] | None:
    """Return which rows of each part pass; None if only DuckDB can tell.

    In a `collated` table text compares in ways that the index, which orders it by its bytes, does
    not know.
    """
    match condition:
        case Opaque():
            return None
        case Known(value):
            return [value] * len(snapshot.parts)
        case Given():
            holds = _given(condition, parameters, evaluator)
            return None if holds is None else [holds] * len(snapshot.parts)
        case InQuery():
            return _in_query(condition, snapshot, evaluator, collated=collated)
        case ColumnTest():
            return _test(condition, snapshot, parameters, evaluator, collated=collated)
        case AllOf(parts) | AnyOf(parts):
            columns: list[list[Verdict]] = []
            for part in parts:
                found = bind_condition(part, snapshot, parameters, evaluator, collated=collated)
                if found is None:
                    return None
                columns.append(found)
            every = isinstance(condition, AllOf)
            joined = [join(every, verdicts) for verdicts in zip(*columns, strict=True)]
            return None if any(depth(v) > kernel.MAX_DEPTH for v in joined) else joined


@dataclass(slots=True)
class Test:
    """A test of one column by values that need no DuckDB, and no dictionary of a part."""

    position: int
    kind: AttributeType
    leaf: Leaf
    truth: Truth

    def bind(self, parameters: Mapping[str, Any]) -> Verdict | None:
        """Return which rows of every part pass, as `bind_condition` does; None if it is asked."""
        found = intervals(self.leaf, self.kind, None, parameters, self.truth)
        return None if found is None else of_ranges(self.position, found)


def test_of(condition: Condition, snapshot: Snapshot) -> Test | None:
    """Return what a condition comes to for any values, if it is such a test."""
    if not isinstance(condition, ColumnTest) or condition.leaf is None:
        return None
    position = snapshot.spec.position_of(condition.column)
    if position is None:
        return None
    kind = snapshot.spec.columns[position].type
    operands = _operands(condition.leaf)
    if kind.has_dictionary or any(isinstance(o, Evaluated) for o in operands):
        return None
    return Test(position, kind, condition.leaf, condition.truth)


def _given(given: Given, parameters: Mapping[str, Any], evaluator: Evaluator) -> bool | None:
    if given.is_null is not None:
        return given.truth.holds(bound_of(given.is_null, parameters).value is None)
    value = evaluator.condition(given.expression)
    return None if value is UNKNOWN else given.truth.holds(value)


def _test(
    test: ColumnTest,
    snapshot: Snapshot,
    parameters: Mapping[str, Any],
    evaluator: Evaluator,
    *,
    collated: bool,
) -> list[Verdict] | None:
    position = snapshot.spec.position_of(test.column)
    if position is None:
        if isinstance(test.leaf, IsNull) and snapshot.spec.is_vector(test.column):
            return _without_vector(test.truth, snapshot)
        return None
    column = snapshot.spec.columns[position]
    if collated and column.type.kind is Kind.TEXT and not isinstance(test.leaf, IsNull):
        return None
    if test.leaf is not None:
        found = _leaf(test, test.leaf, position, snapshot, parameters, evaluator)
        if found is None:
            found = _like(test, test.leaf, position, snapshot, parameters)
        if found is not None:
            return [*found]
    if test.expression is None or column.type.kind not in _BY_VALUE:
        return None
    return evaluator.over_values(position, test.expression, test.truth, snapshot.parts)


def _in_query(
    condition: InQuery, snapshot: Snapshot, evaluator: Evaluator, *, collated: bool
) -> list[Verdict] | None:
    position = snapshot.spec.position_of(condition.column)
    kind = snapshot.spec.columns[position].type if position is not None else None
    values = None
    if kind is not None and not (collated and kind.kind is Kind.TEXT):
        values = evaluator.members(condition.query, kind, once=condition.once)
    if values is None or position is None or kind is None:
        return None
    truth = condition.truth
    return _per_dictionary(
        snapshot, position, lambda known: _among(values, position, kind, known, truth)
    )


def _per_dictionary(
    snapshot: Snapshot, position: int, verdict_of: Callable[[pa.Array | None], _V]
) -> list[_V]:
    """Return a verdict per part; the same one where a column has no dictionary."""
    found: list[_V] = []
    for part in snapshot.parts:
        dictionary = part.dictionaries[position]
        found.append(found[0] if dictionary is None and found else verdict_of(dictionary))
    return found


def _among(
    values: pa.Array,
    position: int,
    kind: AttributeType,
    dictionary: pa.Array | None,
    truth: Truth,
) -> Verdict:
    """Return the keys for which it is `truth` that they are among `values`, which are distinct."""
    if not len(values):
        return truth.holds(False)  # for NULL, too
    hit, miss = truth.holds(True), truth.holds(False if not values.null_count else None)
    null = truth.holds(None)
    present = values.drop_null()
    if dictionary is not None:
        flags = np.full(len(dictionary) + 1, miss)
        codes = find_codes(present, dictionary)
        flags[1 + codes[codes >= 0]] = hit
        flags[0] = null
        return of_codes(position, flags)
    points = union([(key, key) for key in encode(present, kind).keys.tolist()])
    found: list[Interval] = points if hit else []
    if miss:
        found = union([*found, *intersect(ALL, complement(points))])
    return of_ranges(position, union([(NULL_KEY, NULL_KEY), *found]) if null else found)


def _without_vector(truth: Truth, snapshot: Snapshot) -> list[Verdict] | None:
    """Return the rows for which it is `truth` that they have no vector, those being last."""
    null, other = truth.holds(True), truth.holds(False)
    verdicts: list[Verdict] = []
    for part in snapshot.parts:
        if null == other or part.n_vectors == part.rows:
            verdicts.append(other)
        elif snapshot.spec.metric is Metric.COSINE:
            return None  # zero vectors are there, too
        else:
            flags = np.full(part.rows, other)
            flags[part.n_vectors :] = null
            verdicts.append(Rows(packed(flags)))
    return verdicts


def _leaf(
    test: ColumnTest,
    leaf: Leaf,
    position: int,
    snapshot: Snapshot,
    parameters: Mapping[str, Any],
    evaluator: Evaluator,
) -> list[Verdict] | None:
    kind = snapshot.spec.columns[position].type
    known = _with_values(leaf, kind, parameters, evaluator)
    if known is None:
        return None
    ranges = _per_dictionary(
        snapshot, position, lambda values: intervals(leaf, kind, values, known, test.truth)
    )
    found = [of_ranges(position, r) for r in ranges if r is not None]
    if len(found) == len(ranges):
        return found
    cast = _with_casts(leaf, kind, known)
    return None if cast == leaf else _leaf(test, cast, position, snapshot, parameters, evaluator)


def _like(
    test: ColumnTest,
    leaf: Leaf,
    position: int,
    snapshot: Snapshot,
    parameters: Mapping[str, Any],
) -> list[Verdict] | None:
    if not isinstance(leaf, Compare) or leaf.op != "like" or isinstance(leaf.value, Evaluated):
        return None
    pattern, truth = bound_of(leaf.value, parameters).value, test.truth
    if snapshot.spec.columns[position].type.kind is not Kind.TEXT or not isinstance(pattern, str):
        return None

    def verdict(texts: pa.Array | None) -> Verdict | None:
        hits = matches(texts, pattern)
        if hits is None:
            return None
        flags = np.empty(len(hits) + 1, np.bool_)
        flags[0] = truth.holds(None)
        flags[1:] = np.where(hits, truth.holds(True), truth.holds(False))
        return of_codes(position, flags)

    found = [v for v in _per_dictionary(snapshot, position, verdict) if v is not None]
    return found if len(found) == len(snapshot.parts) else None


def _operands(leaf: Leaf) -> tuple[Operand, ...]:
    match leaf:
        case Compare(value=value):
            return (value,)
        case Between(low=low, high=high):
            return (low, high)
        case InList(values=values):
            return values
        case IsNull():
            return ()


def _with_values(
    leaf: Leaf, kind: AttributeType, parameters: Mapping[str, Any], evaluator: Evaluator
) -> Mapping[str, Any] | None:
    """Return the parameters and, under their texts, the values of the leaf's expressions."""
    texts = [o.text for o in _operands(leaf) if isinstance(o, Evaluated)]
    if not texts:
        return parameters
    found = dict(parameters)
    for text in texts:
        found[text] = evaluator.constant(text, kind)
        if found[text] is UNKNOWN:
            return None
    return found


def _with_casts(leaf: Leaf, kind: AttributeType, parameters: Mapping[str, Any]) -> Leaf:
    """Return the leaf with its strings cast to the column's type, as DuckDB does with them.

    It does so where all values are strings; beside others they take the type of those.
    """
    if kind.kind in _BY_VALUE:
        return leaf
    bounds = [bound_of(operand, parameters) for operand in _operands(leaf)]
    bounds = [bound for bound in bounds if bound.value is not None]
    literal_alone = all(b.literal and b.kind is LiteralKind.STRING for b in bounds)
    zoned = kind.kind is Kind.TIMESTAMPTZ
    given_alone = zoned and all(not b.literal and isinstance(b.value, str) for b in bounds)
    if not (literal_alone or given_alone):
        return leaf

    def cast(operand: Operand) -> Operand:
        match operand:
            case Constant(LiteralKind.STRING, text):
                return Evaluated(f"CAST({literal(text)} AS {kind.sql})")
            case Parameter(name) if given_alone:
                return Evaluated(f"CAST(${name} AS {kind.sql})")
            case _:
                return operand

    match leaf:
        case Compare(column, op, value) if op != "like":
            return Compare(column, op, cast(value))
        case Between(column, low, high):
            return Between(column, cast(low), cast(high))
        case InList(column, values):
            return InList(column, tuple(cast(v) for v in values))
        case _:
            return leaf
