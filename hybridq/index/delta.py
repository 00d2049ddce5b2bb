"""The delta: rows committed since the last merge, coded when they are written.

A change becomes a part of its own. Parts in memory are kept few and growing: one takes in the
younger ones until it is several times larger than they are, small ones at once, large ones in the
background. Rows of which there are few lie in one list and are scanned as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from hybridq.index.codes import encode_part
from hybridq.index.generation import Generation, Trained
from hybridq.index.ivf import IndexSpec, Part, Snapshot
from hybridq.index.layout import Layout
from hybridq.index.merge import Merge, memory_part
from hybridq.index.rows import Rows
from hybridq.progress import NoProgress

FLAT_ROWS = 256
"""Up to so many rows are scanned without codes."""

RATIO = 4
"""A part is merged with a younger one unless it has so many times its rows."""

AT_ONCE_ROWS = 8_192
"""Merges of up to so many rows are a matter of milliseconds: the writer does them."""


@dataclass(frozen=True, slots=True)
class Change:
    """Keys that a transaction changed (an array per key column), and a part with their rows."""

    keys: Sequence[pa.Array]
    part: Part


def flat_generation(spec: IndexSpec) -> Generation:
    """Return the generation of parts without lists."""
    return Generation(
        id="",
        metric=spec.metric,
        centroids=np.zeros((1, spec.dim), np.float32),
        ladder=None,
        trained=Trained(rows=0, spread=0.0, skew=1.0),
    )


def part_of(rows: Rows, generation: Generation) -> Part:
    """Return rows as a part in memory, coded unless they are few or the index has no lists."""
    count = len(rows.vectors)
    if count <= FLAT_ROWS or not generation.coded:
        generation = flat_generation(rows.spec)
    labels = generation.assign(rows.vectors)
    layout = Layout(rows, generation.centroids, labels)
    codes = None
    if generation.coded:
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
        spread=layout.spread if generation.coded else 0.0,
    )


def fold(snapshot: Snapshot, change: Change, version: int, busy: Collection[int] = ()) -> Snapshot:
    """Return the snapshot with a change in it; the parts `busy` are being merged by others."""
    parts = [part.without(part.find(change.keys)) for part in snapshot.parts]
    fresh = change.part
    stored = [p for p in parts if p.segment is not None]
    young = [p for p in parts if p.segment is None and p.rows > p.dead]
    while young and _live(young[-1]) < RATIO * _live(fresh):
        if _live(young[-1]) + _live(fresh) > AT_ONCE_ROWS or young[-1].uid in busy:
            break
        fresh = merged(snapshot.spec, [young.pop(), fresh], snapshot.generation)
    if fresh.rows:
        young.append(fresh)
    return replace(snapshot, parts=(*stored, *young), version=version)


def merged(spec: IndexSpec, parts: Sequence[Part], generation: Generation) -> Part:
    """Return one part in memory with the live rows of several."""
    if sum(map(_live, parts)) <= FLAT_ROWS or not generation.coded:
        generation = flat_generation(spec)
    return Merge(spec, parts, generation).part()


def _live(part: Part) -> int:
    return part.rows - part.dead
