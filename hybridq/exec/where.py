"""The WHERE of a statement with values, on one snapshot: what no query vector changes.

A statement mostly comes back with values it has had (a category, a price limit), so what follows
from them is kept with the statement: the programs, their selectivity, and the plans chosen.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hybridq.index.attributes import Kind
from hybridq.index.ivf import Snapshot
from hybridq.index.search import Program, Selectivity, bind_program, selectivity
from hybridq.nodes import Conjunct, IsNull, Leaf, Opaque
from hybridq.plan.physical import Decision

_KEPT = 64
_COMPARABLE = frozenset(
    (int, float, str, bool, type(None), dt.date, dt.datetime, dt.time, uuid.UUID)
)
"""Types of which equal values mean the same in a WHERE; of Decimal they do not: 1.0 and 1.00."""

_Key: TypeAlias = tuple[tuple[type, ...], tuple[Any, ...]]


@dataclass(slots=True)
class Where:
    """`programs` per part of the snapshot, None if DuckDB must filter; the plans chosen for it."""

    programs: tuple[Program, ...] | None
    leaves: int
    selectivity: Selectivity | None
    decisions: dict[int, Decision] = field(default_factory=dict)
    decided_for: tuple[object, object] = (None, None)


@dataclass(slots=True)
class Wheres:
    """The last values of the parameters `names` of one statement's WHERE, on one snapshot."""

    names: tuple[str, ...]
    collated: bool
    _known: dict[_Key, Where] = field(default_factory=dict)
    _version: int = -1

    def bound(
        self, snapshot: Snapshot, conjuncts: Sequence[Conjunct], parameters: Mapping[str, Any]
    ) -> Where:
        """Return `conjuncts` bound to `parameters`."""
        values = tuple([parameters[name] for name in self.names])
        kinds = tuple(map(type, values))
        if not _COMPARABLE.issuperset(kinds):
            return bind_where(snapshot, conjuncts, parameters, collated=self.collated)
        if self._version != snapshot.version:
            self._known.clear()
            self._version = snapshot.version
        known = self._known.get((kinds, values))
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = bind_where(snapshot, conjuncts, parameters, collated=self.collated)
            self._known[kinds, values] = known
        return known


def bind_where(
    snapshot: Snapshot,
    conjuncts: Sequence[Conjunct],
    parameters: Mapping[str, Any],
    *,
    collated: bool,
) -> Where:
    """Bind a conjunction to each part; see `Where`."""
    programs = _programs(snapshot, conjuncts, parameters, collated=collated)
    if programs is None:
        return Where(None, len(conjuncts), None)
    return Where(programs, programs[0].leaves, selectivity(snapshot.parts[0], programs[0]))


def _programs(
    snapshot: Snapshot,
    conjuncts: Sequence[Conjunct],
    parameters: Mapping[str, Any],
    *,
    collated: bool,
) -> tuple[Program, ...] | None:
    """Return the conjunction bound to each part, None if it needs DuckDB.

    Comparisons of text do in a `collated` table: the index orders text by its bytes.
    """
    leaves: list[Leaf] = []
    for conjunct in conjuncts:
        if isinstance(conjunct.leaf, Opaque):
            return None
        position = snapshot.spec.position_of(conjunct.leaf.column)
        text = position is not None and snapshot.spec.columns[position].type.kind is Kind.TEXT
        if collated and text and not isinstance(conjunct.leaf, IsNull):
            return None
        leaves.append(conjunct.leaf)
    programs: list[Program] = []
    for part in snapshot.parts:
        program = bind_program(part, leaves, parameters)
        if program is None:
            return None
        programs.append(program)
    return tuple(programs)
