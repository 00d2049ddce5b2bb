"""The delta: rows committed since the last merge, coded when they are written.

A change becomes a part of its own. Parts in memory are kept few: the writer merges small ones, and
what has grown too large for that goes into a larger one in the background. Rows of which there are
few lie in one list and are scanned as they are; a single row is put behind them (`tail`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybridq.arrow import pa
from hybridq.index.codes import encode_part
from hybridq.index.generation import Generation, Trained
from hybridq.index.ivf import (
    Float32s,
    IndexSpec,
    Int64s,
    Part,
    Snapshot,
    Uint64s,
    key_codes,
)
from hybridq.index.layout import Layout
from hybridq.index.memory import memory_part
from hybridq.index.merge import Merge
from hybridq.index.rows import Rows
from hybridq.index.scans import addresses_of
from hybridq.index.tail import FLAT_ROWS, OneRow, first_of, grown, grows
from hybridq.progress import NoProgress

FLAT_PARTS = 3
"""So many small parts wait for the next to be merged with it: to merge takes as long as to code.

Where there are lists they wait until they have FLAT_ROWS rows together, at most.
"""

AT_ONCE_ROWS = 8_192
"""Merges of up to so many rows are a matter of milliseconds: the writer does them."""

RATIO = 8
"""A part is merged with younger ones at once unless it has so many times their rows.

A search pays for each part as it does for a list or ten, and to move a row takes half a
microsecond.
"""

MEANWHILE_ROWS = 32_768
"""Up to so many it merges while a large merge goes on, beside which there is no other."""

_MEANWHILE_RATIO = 2


@dataclass(frozen=True, slots=True)
class Change:
    """Keys that a transaction changed (an array per key column), and a part with their rows.

    No part has a row with one of the keys yet if they are `fresh`. Of a single row there may be
    the `row` in the place of the part; if there is neither, the row is gone. `codes` are those of
    the keys if they are known: then only keys with a text need be given.
    """

    keys: Sequence[pa.Array]
    part: Part | None
    fresh: bool = False
    row: OneRow | None = None
    codes: Int64s | None = None


def flat_generation(spec: IndexSpec) -> Generation:
    """Return the generation of parts without lists."""
    return Generation(
        id="",
        metric=spec.metric,
        centroids=np.zeros((1, spec.dim), np.float32),
        ladder=None,
        trained=Trained(rows=0, spread=0.0, skew=1.0),
    )


def generation_for(spec: IndexSpec, rows: int, generation: Generation) -> Generation:
    """Return the generation of a part in memory of so many rows: without lists, if they are few."""
    return flat_generation(spec) if rows <= FLAT_ROWS or not generation.coded else generation


def part_of(rows: Rows, generation: Generation) -> Part:
    """Return rows as a part in memory, coded unless they are few or the index has no lists."""
    if len(rows.vectors) <= FLAT_ROWS or not generation.coded:
        return _flat(rows)
    labels = generation.assign(rows.vectors)
    layout = Layout(rows, generation.centroids, labels)
    codes = encode_part(
        layout.chunks(rows), layout.labels, generation.frame, rows.spec.metric, NoProgress()
    )
    return memory_part(
        rows.spec,
        generation,
        vectors=np.ascontiguousarray(rows.vectors[layout.vector_order]),
        keys=layout.keys,
        dictionaries=rows.dictionaries,
        list_offsets=layout.list_offsets,
        list_radius=layout.list_radius,
        row_hash=layout.hash,
        codes=codes,
        spread=layout.spread,
    )


def _flat(rows: Rows) -> Part:
    """Return rows as a part without lists, those with a vector first."""
    order = np.concatenate([np.flatnonzero(rows.valid), np.flatnonzero(~rows.valid)])
    keys = rows.keys if rows.valid.all() else np.ascontiguousarray(rows.keys[:, order])
    return flat_part(rows.spec, rows.vectors, keys, rows.dictionaries, rows.hash[order])


def flat_part(
    spec: IndexSpec,
    vectors: Float32s,
    keys: Int64s,
    dictionaries: tuple[pa.Array | None, ...],
    row_hash: Uint64s,
) -> Part:
    """Return a part of rows in one list, those with a vector first."""
    return memory_part(
        spec,
        flat_generation(spec),
        vectors=vectors,
        keys=keys,
        dictionaries=dictionaries,
        list_offsets=np.array([0, len(vectors)], np.int64),
        list_radius=np.full(1, np.inf, np.float32),
        row_hash=row_hash,
        codes=None,
        spread=0.0,
    )


def _of_row(spec: IndexSpec, row: OneRow) -> Part:
    empty = flat_part(
        spec,
        np.empty((0, spec.dim), np.float32),
        np.empty((len(spec.columns), 0), np.int64),
        (None,) * len(spec.columns),
        np.empty(0, np.uint64),
    )
    return first_of(spec, empty, row)


def fold(snapshot: Snapshot, change: Change, version: int, busy: Collection[int] = ()) -> Snapshot:
    """Return the snapshot with a change in it; the parts `busy` are being merged by others."""
    parts = [*snapshot.parts]
    if not change.fresh:
        codes = change.codes
        if codes is None:
            codes = key_codes(snapshot.spec, change.keys)
        parts = [part.without(part.find(change.keys, codes)) for part in parts]
    stored = [p for p in parts if p.segment is not None]
    young = [p for p in parts if p.segment is None and p.rows > p.dead]
    if change.row is None and change.part is None:
        return replace(snapshot, parts=(*stored, *young), version=version)
    flat = [p for p in young if p.codes is None]
    waiting = sum(p.rows for p in flat)
    if change.row is not None and waiting < FLAT_ROWS and young:
        last = young[-1]
        if last.uid not in busy and grows(last, change.row):
            young[-1] = grown(last, change.row)
            return replace(snapshot, parts=(*stored, *young), version=version)
    fresh = change.part if change.row is None else _of_row(snapshot.spec, change.row)
    assert fresh is not None
    waits = len(flat) < FLAT_PARTS
    if snapshot.generation.coded:
        waits = waits and waiting + fresh.rows <= FLAT_ROWS
    if fresh.codes is None and fresh.rows and waits:
        return replace(snapshot, parts=(*stored, *young, fresh), version=version)
    taken, total = [fresh], _live(fresh)
    most = MEANWHILE_ROWS if busy else AT_ONCE_ROWS
    while young and young[-1].uid not in busy:
        both, both_flat = total + _live(young[-1]), young[-1].codes is None and fresh.codes is None
        if both > most:
            break
        ratio = RATIO if both <= AT_ONCE_ROWS else _MEANWHILE_RATIO
        if not both_flat and _live(young[-1]) >= ratio * total:
            break
        taken.append(young.pop())
        total = both
    if len(taken) > 1:
        fresh = merged(snapshot.spec, taken[::-1], snapshot.generation)
    if fresh.rows:
        young.append(fresh)
        if fresh.codes is not None:
            addresses_of(fresh)  # or the next search finds them out
    return replace(snapshot, parts=(*stored, *young), version=version)


def merged(spec: IndexSpec, parts: Sequence[Part], generation: Generation) -> Part:
    """Return one part in memory with the live rows of several."""
    return Merge(spec, parts, generation_for(spec, sum(map(_live, parts)), generation)).part()


def _live(part: Part) -> int:
    return part.rows - part.dead
