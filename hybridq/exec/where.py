"""The WHERE of a statement with values, on one snapshot: what no query vector changes.

A statement mostly comes back with values it has had (a category, a price limit), so what follows
from them is kept with the statement: the programs, their selectivity, and the plans chosen.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, TypeAlias

from hybridq.arrow import pa
from hybridq.conditions import Conjunct, Expression, InQuery, Truth
from hybridq.index.attributes import AttributeType
from hybridq.index.binding import UNKNOWN, Evaluator, Test, bind_condition, test_of
from hybridq.index.bitmaps import Bitmap
from hybridq.index.ivf import IndexSpec, Int64s, Part, Snapshot
from hybridq.index.programs import Program, assemble
from hybridq.index.selectivity import Selectivity, selectivity, share_among
from hybridq.index.verdicts import Verdict, join
from hybridq.plan.physical import Decision

_KEPT = 64
_SIMPLE = frozenset(
    (
        *(int, float, str, bool, bytes, type(None), Decimal, uuid.UUID),
        *(dt.date, dt.datetime, dt.time, dt.timedelta),
    )
)
"""Types whose values are told apart by what `repr` makes of them: 0.0 and -0.0, 1.0 and 1.00."""

_Key: TypeAlias = tuple[tuple[type, ...], tuple[str, ...]]


def key_of(values: Sequence[Any]) -> _Key | None:
    """Return what tells values apart, None if any is of a type for which nothing does."""
    kinds = tuple(map(type, values))
    return (kinds, tuple(map(repr, values))) if _SIMPLE.issuperset(kinds) else None


@dataclass(slots=True)
class Where:
    """A conjunction with values.

    `programs` hold, for each part of the snapshot, the conjuncts that compile, as do `verdicts`;
    `opaque` are the others, which only DuckDB can evaluate, `bitmap_keys` what bitmaps of them are
    kept under (see exec.opaque). `selectivity` is that of the programs; `decisions` are the plans
    chosen, by what they depend on, for one setting and unit costs. `checked` is how many candidates
    of the last search passed the opaque conjuncts, and how many there were. It is `momentary` if
    rows of other tables went into it: the next statement may find others.
    """

    programs: tuple[Program, ...]
    verdicts: tuple[Verdict, ...]
    opaque: tuple[Conjunct, ...]
    selectivity: Selectivity
    bitmap_keys: tuple[Hashable, Hashable] | None = None
    checked: tuple[int, int] | None = None
    momentary: bool = False
    decisions: dict[Hashable, Decision] = field(default_factory=dict)
    decided_for: tuple[object, object] = (None, None)


@dataclass(slots=True)
class Wheres:
    """The last values of the parameters `names` of one statement's WHERE.

    Kept for one version of the index and one environment: expressions of the WHERE may depend on
    macros and settings.
    """

    names: tuple[str, ...]
    collated: bool
    _known: dict[_Key, Where] = field(default_factory=dict)
    _valid_for: tuple[object, object] = (None, None)

    def bound(
        self,
        snapshot: Snapshot,
        conjuncts: Sequence[Conjunct],
        parameters: Mapping[str, Any],
        evaluator: Evaluator,
        environment: object,
    ) -> Where:
        """Return `conjuncts` bound to `parameters`."""
        values = [parameters[name] for name in self.names]
        key = key_of(values)
        if key is None:
            return self._bind(snapshot, conjuncts, parameters, evaluator)
        valid_for = (snapshot.stamp, environment)
        if self._valid_for != valid_for:
            self._known.clear()
            self._valid_for = valid_for
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = self._bind(snapshot, conjuncts, parameters, evaluator)
            if not known.momentary:
                self._known[key] = known
        return known

    def _bind(
        self,
        snapshot: Snapshot,
        conjuncts: Sequence[Conjunct],
        parameters: Mapping[str, Any],
        evaluator: Evaluator,
    ) -> Where:
        return bind_where(snapshot, conjuncts, parameters, evaluator, collated=self.collated)


def bind_where(
    snapshot: Snapshot,
    conjuncts: Sequence[Conjunct],
    parameters: Mapping[str, Any],
    evaluator: Evaluator,
    *,
    collated: bool,
) -> Where:
    """Return which rows of each part pass the conjuncts that compile, and the other conjuncts."""
    verdicts, opaque = _verdicts(snapshot, conjuncts, parameters, evaluator, collated=collated)
    programs = tuple(assemble(verdict) for verdict in verdicts)
    known = selectivity(snapshot.parts[0], programs[0])
    momentary = any(
        isinstance(c.condition, InQuery) and (c.condition.once or c not in opaque)
        for c in conjuncts
    )
    return Where(programs, verdicts, opaque, known, momentary=momentary)


def _verdicts(
    snapshot: Snapshot,
    conjuncts: Sequence[Conjunct],
    parameters: Mapping[str, Any],
    evaluator: Evaluator,
    *,
    collated: bool,
) -> tuple[tuple[Verdict, ...], tuple[Conjunct, ...]]:
    """Return a verdict per part, and the conjuncts that are not in it."""
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
    parts = range(len(snapshot.parts))
    joined = tuple(join(True, [found[i] for found in columns]) for i in parts)
    return joined, tuple(opaque)


class _NoOne:
    """Evaluates nothing."""

    def condition(self, expression: Expression) -> Any:
        return UNKNOWN

    def constant(self, text: str, kind: AttributeType) -> Any:
        return UNKNOWN

    def over_values(
        self, position: int, expression: Expression, truth: Truth, parts: Sequence[Part]
    ) -> list[Verdict] | None:
        return None

    def members(self, query: str, kind: AttributeType, *, once: bool) -> pa.Array | None:
        return None


def carried(
    where: Where,
    uids: Sequence[int],
    snapshot: Snapshot,
    conjuncts: Sequence[Conjunct],
    parameters: Mapping[str, Any],
    *,
    collated: bool,
) -> Where | None:
    """Return a WHERE that was bound for the parts `uids`, for those of a newer snapshot.

    Its first part is the same one. None if DuckDB must be asked about a new part.
    """
    known = dict(zip(uids, zip(where.programs, where.verdicts, strict=True), strict=True))
    fresh = tuple(part for part in snapshot.parts if part.uid not in known)
    if fresh:
        spec = snapshot.spec
        if any(_has_dictionary(spec, column) for c in conjuncts for column in c.columns):
            new = replace(snapshot, parts=fresh)
            verdicts, opaque = _verdicts(new, conjuncts, parameters, _NoOne(), collated=collated)
            if opaque:
                return None
            found = [(assemble(verdict), verdict) for verdict in verdicts]
        else:
            # Keys mean the same in every part.
            found = [(where.programs[0], where.verdicts[0])] * len(fresh)
        known.update(zip((part.uid for part in fresh), found, strict=True))
    both = [known[part.uid] for part in snapshot.parts]
    programs, verdicts = zip(*both, strict=True)
    return Where(programs, verdicts, (), where.selectivity)


def _has_dictionary(spec: IndexSpec, column: str) -> bool:
    position = spec.position_of(column)
    return position is None or spec.columns[position].type.has_dictionary


def tests_of(snapshot: Snapshot, conjuncts: Sequence[Conjunct]) -> list[Test] | None:
    """Return the conjuncts as tests, None if one of them is more than that."""
    tests = [test_of(conjunct.condition, snapshot) for conjunct in conjuncts]
    return None if None in tests else [test for test in tests if test is not None]


def bind_tests(
    snapshot: Snapshot, tests: Sequence[Test], parameters: Mapping[str, Any]
) -> Where | None:
    """Do as `bind_where` for the conjuncts that became `tests`; None if one does not compile."""
    verdicts: list[Verdict] = []
    for test in tests:
        verdict = test.bind(parameters)
        if verdict is None:
            return None
        verdicts.append(verdict)
    joined, count = join(True, verdicts), len(snapshot.parts)
    program = assemble(joined)
    known = selectivity(snapshot.parts[0], program)
    return Where((program,) * count, (joined,) * count, (), known)


@dataclass(slots=True)
class Completed:
    """Programs, per part, for all of a WHERE, and the share of the base part that passes.

    `positions` are what the programs let pass, where that was asked for and is not much.
    """

    programs: tuple[Program, ...]
    share: float
    positions: list[Int64s] | None = None


def completed(where: Where, snapshot: Snapshot, bitmap: Bitmap, *, whole: bool) -> Completed:
    """Add to the programs of a WHERE a bitmap of its other conjuncts, or of the `whole` of it."""
    known: tuple[Where, Completed] | None = bitmap.completed.get(id(where))
    if known is not None and known[0] is where:
        return known[1]
    verdicts: Sequence[Verdict] = bitmap.verdicts
    share = bitmap.rows / max(1, snapshot.parts[0].rows)
    if not whole and where.programs[0].leaves:
        pairs = zip(where.verdicts, verdicts, strict=True)
        verdicts = [join(True, pair) for pair in pairs]
        share *= share_among(snapshot.parts[0], where.programs[0], bitmap.sample)
    made = Completed(tuple(assemble(v) for v in verdicts), share)
    bitmap.keep(id(where), (where, made))
    return made
