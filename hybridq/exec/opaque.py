"""The part of a WHERE that only DuckDB can evaluate, over the table or over a few rows of it.

Alone, such conditions give a bitmap that holds whatever the rest of the WHERE is. But DuckDB may
meet rows then that the rest would have kept from them: where that could matter, because a function
is costly or because a failure would end a transaction, DuckDB gets the whole WHERE.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from hybridq.conditions import Conjunct, calls_of
from hybridq.exec.bind import BoundTopK
from hybridq.exec.decide import guess
from hybridq.exec.evaluate import nature_of, told_apart
from hybridq.exec.host import Host, drop_view
from hybridq.exec.keys import key_names, keyed
from hybridq.exec.where import Completed, completed
from hybridq.index.bitmaps import Bitmap, bitmap_of_keys
from hybridq.index.ivf import Int64s
from hybridq.index.maintain import plain_keys
from hybridq.plan.cost import Rest
from hybridq.sql import lexical

_VIEW = "__hybridq_candidates"


@dataclass(frozen=True, slots=True)
class Asked:
    """What DuckDB is asked for: conjuncts, and the key their bitmap is kept under, if it is."""

    conjuncts: tuple[Conjunct, ...]
    key: Hashable | None


class ByDuckDB:
    """Asks DuckDB on behalf of one search."""

    def __init__(self, session: Host, bound: BoundTopK) -> None:
        self._session = session
        self._bound = bound
        self._completed: Completed | None = None

    def known(self) -> Rest:
        """Return what can be told of the conjuncts that do not compile without asking DuckDB."""
        bound = self._bound
        kept = kept_bitmap(self._session, bound)
        cheap = is_cheap(self._session, bound)
        if kept is None:
            lasting = _questions(self._session, bound)[0].key is not None
            return guess(len(bound.opaque), bound.where.checked, cheap=cheap, lasting=lasting)
        share = self._complete(*kept).share / max(bound.where.selectivity.share, 1e-9)
        return Rest(share=min(1.0, share), kept=True, cheap=cheap)

    def completed(self) -> Completed:
        """Return programs for all of the WHERE, and the share that passes."""
        if self._completed is None:
            self._completed = self._complete(*self._bitmap())
        return self._completed

    def _complete(self, asked: Asked, bitmap: Bitmap) -> Completed:
        bound = self._bound
        whole = asked.conjuncts is bound.conjuncts
        return completed(bound.where, bound.snapshot, bitmap, whole=whole)

    def _bitmap(self) -> tuple[Asked, Bitmap]:
        kept = kept_bitmap(self._session, self._bound)
        if kept is not None:
            return kept
        for asked in _questions(self._session, self._bound):
            try:
                bitmap = self._ask(asked)
            except (duckdb.Error, RuntimeError) as error:
                last = asked.conjuncts is self._bound.conjuncts
                if last or isinstance(error, duckdb.InterruptException):
                    raise
                self._session.instance.functions.take_failure()
                continue
            if asked.key is not None:
                self._bound.prepared.state.bitmaps.keep(asked.key, bitmap)
            return asked, bitmap
        raise AssertionError("the last question is the whole WHERE")

    def _ask(self, asked: Asked) -> Bitmap:
        bound = self._bound
        keys = ", ".join(f"{name} AS k{i}" for i, name in enumerate(key_names(bound)))
        where = " AND ".join(f"({c.text})" for c in asked.conjuncts)
        text = f"{bound.topk.with_text}SELECT {keys} FROM {bound.source} WHERE {where}"
        found = self._session.query_arrow(text, _given(bound, text))
        return bitmap_of_keys(bound.snapshot, plain_keys(found, bound.spec))

    def passing(self, part: int, positions: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which rows of a part satisfy the conjuncts that do not compile."""
        bound, session = self._bound, self._session
        snapshot = bound.snapshot.parts[part]
        keys = [snapshot.values(i, positions) for i in range(bound.spec.key_count)]
        names = key_names(bound)
        verdict = "true"
        for conjunct in reversed(bound.opaque):  # one after the other, as in a WHERE
            verdict = f"CASE WHEN ({conjunct.text}) THEN {verdict} ELSE false END"
        rows_of = keyed(bound, keys, _VIEW, session.register_view)
        select = f"{bound.topk.with_text}SELECT {', '.join(names)}, {verdict}"
        text = f"{select} FROM {rows_of.source}{rows_of.where}"
        try:
            rows = session.query(text, {**_given(bound, select), **rows_of.given})[1]
        finally:
            if not rows_of.where:
                drop_view(session, _VIEW)
        passed = {row[:-1] for row in rows if row[-1]}
        return np.array([key in passed for key in zip(*keys, strict=True)], np.bool_)

    def is_current(self) -> bool:
        """Tell whether DuckDB saw the rows that the snapshot has."""
        if self._session.transaction is not None:
            return True  # both are of its own snapshot
        return self._bound.prepared.state.is_at(self._bound.snapshot.version)


def rest_of(session: Host, bound: BoundTopK) -> Rest | None:
    """Return what is known of the conjuncts that do not compile, None if there are none."""
    return ByDuckDB(session, bound).known() if bound.opaque else None


def kept_bitmap(session: Host, bound: BoundTopK) -> tuple[Asked, Bitmap] | None:
    """Return a bitmap that is at hand, and what it answers."""
    for asked in _both(session, bound):
        if asked.key is not None:
            found = bound.prepared.state.bitmaps.get(asked.key, bound.snapshot.stamp)
            if found is not None:
                return asked, found
    return None


def _both(session: Host, bound: BoundTopK) -> tuple[Asked, Asked]:
    """Return what can be asked: the conjuncts that do not compile, and the whole WHERE."""
    where = bound.where
    if where.bitmap_keys is None:
        where.bitmap_keys = (
            _key(session, bound, bound.opaque),
            _key(session, bound, bound.conjuncts),
        )
    alone, whole = where.bitmap_keys
    return Asked(bound.opaque, alone), Asked(bound.conjuncts, whole)


def _questions(session: Host, bound: BoundTopK) -> Sequence[Asked]:
    """Return what to ask, in turn, should one fail."""
    alone, whole = _both(session, bound)
    mixed = len(bound.opaque) < len(bound.conjuncts)
    known = all(calls_of(c.condition) is not None for c in bound.opaque)
    if mixed and known and session.transaction is None and is_cheap(session, bound):
        return alone, whole
    return (whole,)


def is_cheap(session: Host, bound: BoundTopK) -> bool:
    """Tell whether the conjuncts that do not compile call, as far as known, DuckDB's functions."""
    calls = [calls_of(c.condition) for c in bound.opaque]
    return all(c is None or nature_of(session, c).built_in for c in calls)


def _key(session: Host, bound: BoundTopK, conjuncts: Sequence[Conjunct]) -> Hashable | None:
    """Return what the rows that pass depend on, beside the table; None if that is not known."""
    table = bound.prepared.table
    for conjunct in conjuncts:
        calls = calls_of(conjunct.condition)
        if calls is None or not nature_of(session, calls).deterministic:
            return None
        if any(table.column(name) is None for name in conjunct.columns):
            return None  # rowid, which no write but a checkpoint changes
    texts = tuple(c.text for c in conjuncts)
    values = told_apart(_given(bound, " ".join(texts)))
    if values is None:
        return None
    return session.environment.token, bound.source, texts, values


def _given(bound: BoundTopK, text: str) -> Mapping[str, Any]:
    return {name: bound.parameters[name] for name in lexical.used_parameters(text)}
