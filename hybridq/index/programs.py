"""Conditions bound to the parts of an index, and the programs they become.

    condition  --bind-->  verdict, one per part  --assemble-->  Program (see kernels.predicate)

A verdict is the set of rows that pass, see index.verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hybridq.conditions import (
    AllOf,
    AnyOf,
    Between,
    ColumnTest,
    Compare,
    Condition,
    Evaluated,
    Expression,
    Given,
    InList,
    IsNull,
    Known,
    Leaf,
    Opaque,
    Truth,
)
from hybridq.index.attributes import Kind
from hybridq.index.bounds import bound_of
from hybridq.index.intervals import Interval
from hybridq.index.ivf import Int64s, Part, Snapshot
from hybridq.index.leaves import intervals
from hybridq.index.verdicts import (
    Codes,
    Flags,
    Joined,
    Ranges,
    Rows,
    Uint64s,
    Verdict,
    depth,
    join,
    of_codes,
    of_ranges,
)
from hybridq.kernels import predicate as kernel

UNKNOWN = object()
"""What an evaluator returns for an expression that cannot be evaluated ahead."""


class Evaluator(Protocol):
    """DuckDB, for what has no second implementation here; see exec.evaluate."""

    def constant(self, expression: Expression | str) -> Any:
        """Return the value of an expression without columns, or UNKNOWN."""

    def flags(
        self, position: int, expression: Expression, truth: Truth, parts: Sequence[Part]
    ) -> list[Flags] | None:
        """Return, per part, whether an expression of one column is `truth` for each of its values.

        That is a flag for NULL, then one for each code. None if it cannot be told.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Arrays of `kernels.predicate`; how many leaves there are, how deep the stack becomes.

    `narrowing` are the instructions whose intervals hold every passing row's key.
    """

    ops: Int64s
    low: Int64s
    high: Int64s
    bits: Uint64s
    leaves: int
    depth: int
    narrowing: tuple[int, ...]

    @property
    def arrays(self) -> tuple[Int64s, Int64s, Int64s, Uint64s]:
        """The arrays as kernels take them."""
        return self.ops, self.low, self.high, self.bits

    @property
    def by_position(self) -> bool:
        """Tell whether it asks for a row's position, and so cannot run on a sample of keys."""
        return bool((self.ops[:, 0] == kernel.POSITION_BITS).any())


# -- conditions to verdicts ----------------------------------------------------


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


def _given(given: Given, parameters: Mapping[str, Any], evaluator: Evaluator) -> bool | None:
    if given.is_null is not None:
        return given.truth.holds(bound_of(given.is_null, parameters).value is None)
    value = evaluator.constant(given.expression)
    return given.truth.holds(value) if value is None or isinstance(value, bool) else None


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
        return None
    column = snapshot.spec.columns[position]
    if collated and column.type.kind is Kind.TEXT and not isinstance(test.leaf, IsNull):
        return None
    if test.leaf is not None:
        found = _leaf(test, test.leaf, position, snapshot, parameters, evaluator)
        if found is not None:
            return [*found]
    if test.expression is None or column.type.kind not in (
        Kind.TEXT,
        Kind.UUID,
        Kind.ENUM,
        Kind.BOOLEAN,
    ):
        return None
    flags = evaluator.flags(position, test.expression, test.truth, snapshot.parts)
    return None if flags is None else [of_codes(position, f) for f in flags]


def _leaf(
    test: ColumnTest,
    leaf: Leaf,
    position: int,
    snapshot: Snapshot,
    parameters: Mapping[str, Any],
    evaluator: Evaluator,
) -> list[Verdict] | None:
    known = _with_values(leaf, parameters, evaluator)
    if known is None:
        return None
    kind = snapshot.spec.columns[position].type
    verdicts: list[Verdict] = []
    for part in snapshot.parts:
        dictionary = part.dictionaries[position]
        if dictionary is None and verdicts:
            verdicts.append(verdicts[0])
            continue
        found = intervals(leaf, kind, dictionary, known, test.truth)
        if found is None:
            return None
        verdicts.append(of_ranges(position, found))
    return verdicts


def _with_values(
    leaf: Leaf, parameters: Mapping[str, Any], evaluator: Evaluator
) -> Mapping[str, Any] | None:
    """Return the parameters and, under their texts, the values of the leaf's expressions."""
    match leaf:
        case Compare(value=value):
            operands = [value]
        case Between(low=low, high=high):
            operands = [low, high]
        case InList(values=values):
            operands = list(values)
        case IsNull():
            operands = []
    found = dict.fromkeys(o.text for o in operands if isinstance(o, Evaluated))
    if not found:
        return parameters
    for text in found:
        value = evaluator.constant(text)
        if value is UNKNOWN:
            return None
        found[text] = value
    return {**parameters, **found}


# -- verdicts to programs ------------------------------------------------------


class _Assembler:
    def __init__(self) -> None:
        self.ops: list[list[int]] = []
        self.intervals: list[Interval] = []
        self.words: list[Uint64s] = []
        self.size = 0
        self.leaves = 0

    def add(self, verdict: Verdict) -> None:
        match verdict:
            case bool():
                assert not verdict, "a program of all rows is empty"
                self._ranges(0, [])
            case Ranges(column, found):
                self._ranges(column, found)
            case Codes(column, flags):
                self._bits(kernel.KEY_BITS, column, packed(flags))
            case Rows(words):
                self._bits(kernel.POSITION_BITS, 0, words)
            case Joined(every, parts, _):
                self.joined(every, parts)

    def _ranges(self, column: int, found: Sequence[Interval]) -> None:
        begin = len(self.intervals)
        self.intervals.extend(found)
        self.ops.append([kernel.INTERVALS, column, begin, len(self.intervals)])
        self.leaves += 1

    def _bits(self, opcode: int, column: int, words: Uint64s) -> None:
        self.ops.append([opcode, column, self.size, self.size + len(words)])
        self.words.append(words)
        self.size += len(words)
        self.leaves += 1

    def joined(self, every: bool, parts: Sequence[Verdict]) -> list[int]:
        """Add parts and what joins them; return where each begins."""
        skip = kernel.SKIP_IF_NONE if every else kernel.SKIP_IF_ALL
        skips: list[int] = []
        begins = [len(self.ops)]
        self.add(parts[0])
        for part in parts[1:]:
            skips.append(len(self.ops))
            self.ops.append([skip, 0, 0, 0])
            begins.append(len(self.ops))
            self.add(part)
            self.ops.append([kernel.AND if every else kernel.OR, 0, 0, 0])
        for at in skips:
            self.ops[at][2] = len(self.ops)
        return begins


def packed(flags: Flags) -> Uint64s:
    """Return flags as words, the first in the lowest bit of the first word."""
    padded = np.zeros(-(-len(flags) // 64) * 64, np.bool_)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little").view(np.uint64)


def assemble(verdict: Verdict) -> Program:
    """Return the program of a verdict."""
    out = _Assembler()
    narrowing: tuple[int, ...] = ()
    if isinstance(verdict, Joined) and verdict.every:
        begins = out.joined(True, verdict.parts)
        together = zip(begins, verdict.parts, strict=True)
        narrowing = tuple(at for at, part in together if isinstance(part, Ranges))
    elif verdict is not True:
        out.add(verdict)
        narrowing = (0,) if isinstance(verdict, bool | Ranges) else ()
    return Program(
        ops=np.array(out.ops, np.int64).reshape(-1, 4),
        low=np.array([low for low, _ in out.intervals], np.int64),
        high=np.array([high for _, high in out.intervals], np.int64),
        bits=np.concatenate(out.words) if out.words else np.empty(0, np.uint64),
        leaves=out.leaves,
        depth=depth(verdict),
        narrowing=narrowing,
    )
