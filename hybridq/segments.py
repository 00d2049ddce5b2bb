"""Segment files of a database: build, name in the manifest, map, calibrate, remove."""

from __future__ import annotations

import contextlib
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np

from hybridq.definition import spec_to_json
from hybridq.errors import Error
from hybridq.index import maintain
from hybridq.index.build import open_part, write_part
from hybridq.index.ivf import IndexSpec, Part
from hybridq.index.recall import calibrate, ladder_from_json, ladder_to_json
from hybridq.index.state import IndexState
from hybridq.progress import Progress
from hybridq.storage import manifest
from hybridq.storage.files import TEMPORARY_SUFFIX, Files
from hybridq.storage.manifest import IndexRow

SUFFIX = ".seg"


def build_segment(
    duck: duckdb.DuckDBPyConnection,
    spec: IndexSpec,
    files: Files,
    directory: Path,
    progress: Progress,
) -> tuple[Part, int, str]:
    """Write the segment, then name it in the manifest: in this order none is ever missing.

    Returns the mapped part, the file's size in bytes and its name. A failure leaves no file.
    """
    files.make_dir(directory)
    segment = f"{_file_stem(spec.name)}-{uuid.uuid4().hex[:12]}{SUFFIX}"
    path = directory / segment
    total = manifest.first_row(duck, f"SELECT count(*) FROM {spec.table_name.sql()}")
    try:
        # Closed at once on an error: an open result would block the connection.
        with contextlib.closing(maintain.read_rows(duck, maintain.rows_query(spec))) as rows:
            write_part(spec, rows, files, path, progress, total=int(total[0]) if total else None)
        part, size = open_part(spec, files, path)
        row = IndexRow(spec.name, spec_to_json(spec), segment, duckdb.__version__)
        manifest.create_manifest(duck)
        duck.execute("BEGIN")
        try:
            manifest.put_index(duck, row, [c.type.sql for c in spec.key_columns])
            duck.execute("COMMIT")
        except BaseException:
            duck.execute("ROLLBACK")
            raise
    except BaseException:
        if path.exists():
            files.remove(path)
        raise
    return part, size, segment


def load_part(
    duck: duckdb.DuckDBPyConnection, spec: IndexSpec, files: Files, path: Path
) -> tuple[Part, int]:
    """Map a segment, with the stopping rule that was calibrated last; see `open_part`."""
    part, size = open_part(spec, files, path)
    known = manifest.ladder(duck, path.name)
    return (part if known is None else replace(part, ladder=ladder_from_json(known))), size


def recalibrate(
    duck: duckdb.DuckDBPyConnection, lock: threading.RLock, state: IndexState, progress: Progress
) -> None:
    """Calibrate an index's stopping rule on the rows its segment still has; record and publish it.

    `lock` guards what is published; searches go on while the rule is calibrated.
    """
    segment, part = state.segment, state.snapshot.parts[0]
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
    with lock, duck.cursor() as cursor:
        if state.segment == segment:  # not rebuilt meanwhile
            manifest.put_ladder(cursor, segment, ladder_to_json(ladder))
            base, *deltas = state.snapshot.parts
            state.snapshot = replace(state.snapshot, parts=(replace(base, ladder=ladder), *deltas))


def remove_leftovers(duck: duckdb.DuckDBPyConnection, files: Files, directory: Path) -> None:
    """Remove segments that no index names: a crash came between the file and the manifest."""
    known = manifest.indexes(duck) if manifest.has_manifest(duck) else []
    named = {row.segment for row in known}
    for name in files.list(directory):
        if name.endswith((SUFFIX, TEMPORARY_SUFFIX)) and name not in named:
            with contextlib.suppress(Error):
                files.remove(directory / name)


def _file_stem(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
