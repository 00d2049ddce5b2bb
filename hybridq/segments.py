"""Segment files of a database: build, name in the manifest, map, calibrate, remove.

A file is written, synced and renamed before the manifest names it, and removed only when the
manifest no longer does: what the manifest names is there, whenever the process ends.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np

from hybridq.definition import spec_to_json
from hybridq.errors import Error, OperationalError
from hybridq.index import maintain
from hybridq.index.build import build_segment_file
from hybridq.index.generation import Generation
from hybridq.index.ivf import IndexSpec, Part, Uint64s, all_live
from hybridq.index.recall import calibrate, ladder_from_json, ladder_to_json
from hybridq.index.state import IndexState
from hybridq.index.stored import open_part
from hybridq.progress import Progress
from hybridq.storage import manifest
from hybridq.storage.files import TEMPORARY_SUFFIX, Files
from hybridq.storage.manifest import Duck, IndexRow, SegmentRow

SUFFIX = ".seg"


@dataclass(slots=True)
class Store:
    """Where the indexes of one database are; `lock` guards what is published of them."""

    duck: duckdb.DuckDBPyConnection
    files: Files
    directory: Path
    lock: threading.RLock

    @contextlib.contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a connection with an open transaction, rolled back unless it was committed."""
        with self.duck.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield cursor
            finally:
                with contextlib.suppress(duckdb.Error):
                    cursor.execute("ROLLBACK")

    def new_path(self, spec: IndexSpec) -> Path:
        """Return the path of a new segment."""
        self.files.make_dir(self.directory)
        return self.directory / f"{_file_stem(spec.name)}-{uuid.uuid4().hex[:12]}{SUFFIX}"

    def remove(self, names: Collection[str]) -> None:
        """Remove segments that the manifest does not name; what fails is removed at an open."""
        for name in names:
            with contextlib.suppress(Error):
                self.files.remove(self.directory / name)


def build_segment(
    duck: Duck, spec: IndexSpec, store: Store, progress: Progress, *, total: int | None
) -> tuple[Part, Generation]:
    """Write the rows of a table, about `total`, as the segment of a new index.

    The manifest does not name it yet; a failure leaves no file.
    """
    path = store.new_path(spec)
    try:
        # Closed at once on an error: an open result would block the connection.
        with contextlib.closing(maintain.read_rows(duck, maintain.rows_query(spec))) as rows:
            build_segment_file(spec, rows, store.files, path, progress, total=total)
        part, generation = open_part(spec, store.files, path)
    except BaseException:
        store.remove([path.name])
        raise
    return replace(part, unverified=None), generation  # as we just wrote it


def name_segment(duck: Duck, part: Part) -> None:
    """Have the manifest name a new index with its only segment, in the caller's transaction."""
    spec = part.spec
    manifest.create_manifest(duck)
    row = IndexRow(spec.name, spec_to_json(spec), duckdb.__version__)
    manifest.put_index(duck, row, part.segment, [c.type.sql for c in spec.key_columns])


def load_parts(duck: Duck, spec: IndexSpec, store: Store) -> tuple[list[Part], Generation]:
    """Map the segments of an index, largest first, without the rows that were dead at its merge.

    Raises OperationalError for a missing, damaged or foreign file.
    """
    parts: list[Part] = []
    generations: dict[str, Generation] = {}
    for row in manifest.segments(duck, spec.name):
        path = store.directory / row.segment
        part, generation = open_part(spec, store.files, path)
        if row.deleted is not None:
            part = _without_deleted(part, row.deleted, path)
        parts.append(part)
        generations[generation.id] = generation
    if len(generations) != 1:
        what = "no segment" if not generations else "segments of several generations"
        raise OperationalError(f'index "{spec.name}" has {what}')
    generation = generations[parts[0].generation]
    known = manifest.ladder(duck, spec.name, generation.id)
    if known is not None:
        ladder = ladder_from_json(known)
        generation = replace(generation, ladder=ladder)
        parts = [replace(p, ladder=ladder) for p in parts]
    return in_order(parts), generation


def in_order(parts: Sequence[Part]) -> list[Part]:
    """Return segments, the largest first, then parts in memory as they come."""
    stored = [p for p in parts if p.segment is not None]
    stored.sort(key=lambda p: (p.dead - p.rows, p.segment))
    return [*stored, *(p for p in parts if p.segment is None)]


def deleted_bits(part: Part) -> bytes | None:
    """Return the dead rows of a segment as the manifest keeps them, None if there are none."""
    if part.dead == 0:
        return None
    words: Uint64s = all_live(part.rows) & ~part.alive
    return zlib.compress(words.astype("<u8").tobytes(), 1)


def _without_deleted(part: Part, deleted: bytes, path: Path) -> Part:
    try:
        words = np.frombuffer(zlib.decompress(deleted), "<u8")
    except (zlib.error, ValueError):
        words = np.empty(0, np.uint64)
    if len(words) != len(part.alive):
        raise OperationalError(f'the deleted rows of segment "{path}" cannot be read')
    alive = part.alive & ~words
    return replace(part, alive=alive, dead=part.rows - int(np.bitwise_count(alive).sum()))


def segment_rows(parts: Sequence[Part]) -> list[SegmentRow]:
    """Return the rows of the manifest for the segments among `parts`."""
    return [SegmentRow(p.segment, deleted_bits(p)) for p in parts if p.segment is not None]


def recalibrate(store: Store, state: IndexState, progress: Progress) -> None:
    """Calibrate an index's stopping rule on its largest segment; record and publish it.

    Searches go on while the rule is calibrated.
    """
    generation, part = state.snapshot.generation, state.snapshot.parts[0]
    if part.generation != generation.id:
        return
    live = part.live()
    live = live[live < part.n_vectors]
    labels = np.repeat(np.arange(part.nlist, dtype=np.int32), np.diff(part.list_offsets))
    whole = len(live) == part.n_vectors
    ladder = calibrate(
        part.vectors if whole else part.vectors[live],
        labels if whole else labels[live],
        part.centroids,
        part.spec.metric,
        progress,
    )
    with store.lock, store.duck.cursor() as cursor:
        snapshot = state.snapshot
        if snapshot.generation is generation:  # not trained anew meanwhile
            manifest.put_ladder(cursor, state.name, generation.id, ladder_to_json(ladder))
            parts = [
                replace(p, ladder=ladder) if p.generation == generation.id else p
                for p in snapshot.parts
            ]
            state.snapshot = replace(
                snapshot, parts=tuple(parts), generation=replace(generation, ladder=ladder)
            )


def remove_leftovers(duck: Duck, store: Store) -> None:
    """Remove segments that no index names: a crash came between the file and the manifest."""
    named = manifest.all_segments(duck) if manifest.version(duck) is not None else set()
    for name in store.files.list(store.directory):
        if name.endswith((SUFFIX, TEMPORARY_SUFFIX)) and name not in named:
            store.remove([name])


def _file_stem(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
