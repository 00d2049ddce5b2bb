"""When parts of an index are merged: which of them, and whether into a file.

    delta parts     merged in memory, but for the youngest, which writers merge
    delta too large into a new segment, with the segments that are not several times larger
    many dead rows  the segment is written anew without them
    drifted         all parts, for a new generation: rows outgrew its lists, or lie away from them

Pure functions of a snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybridq.index.build import MIN_ROWS_FOR_LISTS
from hybridq.index.delta import AT_ONCE_ROWS
from hybridq.index.generation import skew_of
from hybridq.index.ivf import Part, Snapshot

DELTA_BYTES = 64 << 20
"""Vectors that wait in memory before they become a segment."""

DELTA_ROWS = 1 << 18

LOG_ROWS = 1 << 18
"""Keys in the change log before it is trimmed: they are read again at the next open."""

_RATIO = 16
"""So many times the rows of the younger ones leave a part in memory as it is.

That is hardly ever so: a search pays for each part, and moving a row takes half a microsecond.
"""

_SEGMENT_RATIO = 4
_ROWS_TO_SPLIT = 4
_DEAD_SHARE = 0.25
_DEAD_ROWS = 1_000
_OUTGROWN = 4
_SPREAD = 1.25
_SPREAD_OF_NEW = 1.5
_NEW_SHARE = 0.1
_SKEW = 3.0
_ROWS_PER_LIST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Parts to merge, in memory or into a file; `retrain`: for a new generation; and why."""

    parts: tuple[Part, ...]
    to_file: bool
    retrain: bool
    why: str


def live(part: Part) -> int:
    """Return the rows of a part that are current."""
    return part.rows - part.dead


def split(snapshot: Snapshot) -> tuple[list[Part], list[Part]]:
    """Return the segments, and the parts in memory, oldest first."""
    stored = [p for p in snapshot.parts if p.segment is not None]
    return stored, [p for p in snapshot.parts if p.segment is None]


def next_job(
    snapshot: Snapshot, *, logged_rows: int = 0, memory_bytes: int | None = None
) -> Job | None:
    """Return what is to be merged, None if all is well.

    `memory_bytes` bounds what a merge may take: segments that are too large stay as they are.
    """
    why = drifted(snapshot)
    if why is not None and fits(snapshot.parts, memory_bytes):
        return Job(parts=snapshot.parts, to_file=True, retrain=True, why=why)
    return pressing(snapshot, logged_rows=logged_rows, memory_bytes=memory_bytes)


def pressing(
    snapshot: Snapshot, *, logged_rows: int = 0, memory_bytes: int | None = None
) -> Job | None:
    """Return what is to be merged, drift aside: that takes microseconds to know."""
    stored, young = split(snapshot)
    waiting = sum(map(live, young))
    full = waiting * 4 * snapshot.spec.dim >= DELTA_BYTES or waiting >= DELTA_ROWS
    if full or logged_rows >= LOG_ROWS:
        chosen = _taken_in(stored, young, memory_bytes)
        return Job(parts=(*chosen, *young), to_file=True, retrain=False, why="delta full")
    for part in stored:
        if part.dead >= _DEAD_ROWS and part.dead > _DEAD_SHARE * part.rows:
            parts = (part, *young)
            if fits(parts, memory_bytes):
                return Job(parts=parts, to_file=True, retrain=False, why="many dead rows")
    suffix = _suffix(young)
    if len(suffix) > 1:
        return Job(parts=tuple(suffix), to_file=False, retrain=False, why="many delta parts")
    return None


def settled(snapshot: Snapshot) -> Job | None:
    """Return the merge of all parts in memory into one, None if there is but one."""
    _, young = split(snapshot)
    if len(young) < 2:
        return None
    return Job(parts=tuple(young), to_file=False, retrain=False, why="nobody writes")


def whole(snapshot: Snapshot, memory_bytes: int | None = None) -> Job | None:
    """Return the merge of all parts into one segment, None if that is what there is."""
    why = drifted(snapshot)
    stored, young = split(snapshot)
    if not young and len(stored) == 1 and stored[0].dead == 0 and why is None:
        return None
    chosen = snapshot.parts if fits(snapshot.parts, memory_bytes) else tuple(young)
    if not chosen:
        return None
    return Job(
        parts=chosen,
        to_file=True,
        retrain=why is not None and len(chosen) == len(snapshot.parts),
        why=why or "asked for",
    )


def _taken_in(
    stored: Sequence[Part], young: Sequence[Part], memory_bytes: int | None
) -> list[Part]:
    """Return the segments that a delta is merged with, smallest first."""
    chosen: list[Part] = []
    total = sum(map(live, young))
    for part in sorted(stored, key=live):
        if live(part) >= _SEGMENT_RATIO * total or not fits([*chosen, part, *young], memory_bytes):
            break
        chosen.append(part)
        total += live(part)
    return chosen


def _suffix(young: Sequence[Part]) -> list[Part]:
    """Return the parts that are to become one, without the youngest, which writers merge."""
    end, waiting = len(young), 0
    while end and waiting + live(young[end - 1]) <= AT_ONCE_ROWS:
        end -= 1
        waiting += live(young[end])
    begin, total = end, 0
    while begin and (not total or live(young[begin - 1]) < _RATIO * total):
        begin -= 1
        total += live(young[begin])
    return list(young[begin:end])


def fits(parts: Sequence[Part], memory_bytes: int | None) -> bool:
    """Tell whether a merge of `parts` stays within `memory_bytes`."""
    return memory_bytes is None or needed_bytes(parts) <= memory_bytes


def needed_bytes(parts: Sequence[Part]) -> int:
    """Return what a merge of `parts` into a file holds in memory, at most."""
    if not parts:
        return 0
    columns = len(parts[0].spec.columns)
    # Keys, their permutations and buckets; order, labels, hashes, ranks.
    return sum(map(live, parts)) * (18 * columns + 64)


def drifted(snapshot: Snapshot) -> str | None:
    """Return why the index should be trained anew, None if its lists still suit its rows."""
    generation, spec = snapshot.generation, snapshot.spec
    trained = generation.trained
    rows = sum(p.n_vectors * live(p) // max(1, p.rows) for p in snapshot.parts)
    if rows < MIN_ROWS_FOR_LISTS and not (spec.nlist or 0) > generation.nlist:
        return None
    wants_more = spec.nlist is None or generation.nlist < min(spec.nlist, rows // _ROWS_TO_SPLIT)
    if wants_more and rows >= _OUTGROWN * max(trained.rows, MIN_ROWS_FOR_LISTS // _OUTGROWN):
        return "rows outgrew the lists"
    if not generation.coded or trained.rows == 0:
        return None
    coded = [p for p in snapshot.parts if p.generation == generation.id]
    total = sum(map(live, coded))
    spread = sum(p.spread * live(p) for p in coded) / max(1, total)
    if spread > _SPREAD * trained.spread > 0:
        return "rows drifted away from the centroids"
    new = [p for p in coded if p.segment is None]
    many = sum(map(live, new))
    if many > _NEW_SHARE * total:
        spread = sum(p.spread * live(p) for p in new) / many
        if spread > _SPREAD_OF_NEW * trained.spread > 0:
            return "rows drifted away from the centroids"
    sizes = np.sum([np.diff(p.list_offsets) for p in coded], axis=0)
    if rows >= _ROWS_PER_LIST * generation.nlist and skew_of(sizes) > _SKEW * trained.skew:
        return "lists became uneven"
    return None
