"""Build parts from rows: train centroids, sort into lists, encode, write or keep.

`build_part` keeps its arrays in memory (a delta, an in-memory database); `write_part` streams them
into a segment file, and `open_part` maps one. Rows come as Arrow record batches with the columns
k0 … (key), a0 … (attributes), v (vector), h (row hash).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hybridq.errors import OperationalError
from hybridq.index.codes import BLOCK, codes_from, encode_part
from hybridq.index.ivf import Float32s, IndexSpec, Int64s, Ladder, Part, all_live
from hybridq.index.recall import calibrate
from hybridq.index.rows import Rows, in_memory
from hybridq.kernels import buckets, kmeans, zones
from hybridq.nodes import Metric
from hybridq.progress import Progress
from hybridq.storage.files import Files
from hybridq.storage.segment import Chunks, open_segment, write_segment

_FORMAT = 4
_SAMPLE_PER_LIST = 32
_ITERATIONS = 8
_IN_MEMORY_BYTES = 1 << 28
_SORTED_BY = 4
_CHUNK_ROWS = 16_384
SAMPLE_ROWS = 8_192
MIN_ROWS_FOR_LISTS = 1_000


def default_nlist(rows: int) -> int:
    """Return a number of lists for `rows`: about 2 sqrt(n), one list for small tables."""
    if rows < MIN_ROWS_FOR_LISTS:
        return 1
    return max(1, min(65_536, 2 * math.isqrt(rows)))


class _Layout:
    """Where each row goes: the order of rows in the part, and its lists."""

    def __init__(self, rows: Rows, nlist: int, progress: Progress) -> None:
        spec = rows.spec
        with_vector = np.flatnonzero(rows.valid)
        count = len(with_vector)
        nlist = max(1, min(nlist, count))
        self.centroids = _train(rows.vectors, nlist, spec.metric, progress)
        nlist = len(self.centroids)
        labels = np.zeros(count, np.int32)
        if nlist > 1:
            kmeans.assign(rows.vectors, self.centroids, labels, metric=int(spec.metric))
        self.row_labels = labels
        self.vector_order = np.lexsort([*_within_lists(rows, with_vector), labels])
        self.labels = labels[self.vector_order]
        sizes = np.bincount(labels, minlength=nlist)
        self.list_offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.row_order = np.concatenate(
            [with_vector[self.vector_order], np.flatnonzero(~rows.valid)]
        ).astype(np.int64)
        self.keys = np.ascontiguousarray(rows.keys[:, self.row_order])
        self.hash = rows.hash[self.row_order]
        self.list_radius = self._radii(rows, spec)
        self.tie = _ranks(self.keys[: spec.key_count])

    def chunks(self, rows: Rows) -> Iterator[Float32s]:
        """Yield the vectors in list order, a bounded number at a time."""
        for start in range(0, len(self.vector_order), _CHUNK_ROWS):
            yield np.ascontiguousarray(rows.vectors[self.vector_order[start : start + _CHUNK_ROWS]])

    def _radii(self, rows: Rows, spec: IndexSpec) -> Float32s:
        radius = np.zeros(len(self.centroids), np.float32)
        if spec.metric is not Metric.L2:
            radius[:] = np.inf
            return radius
        at = 0
        for chunk in self.chunks(rows):
            labels = self.labels[at : at + len(chunk)]
            with np.errstate(over="ignore"):
                away = np.linalg.norm(chunk - self.centroids[labels], axis=1)
            np.maximum.at(radius, labels, away.astype(np.float32))
            at += len(chunk)
        return np.where(np.isfinite(radius), radius, np.inf).astype(np.float32)


def _within_lists(rows: Rows, chosen: Int64s) -> list[npt.NDArray[Any]]:
    """Return the attributes that order the rows of a list, the first one last.

    Any order would do; equal values side by side let zones tell blocks apart. The fewer values an
    attribute has, the longer are its runs.
    """
    sample = rows.keys[:, chosen[:: max(1, len(chosen) // SAMPLE_ROWS)]]
    first = rows.spec.key_count
    values = {i: len(np.unique(sample[i])) for i in range(first, len(sample))}
    ordered = sorted((i for i in values if values[i] > 1), key=values.__getitem__)
    return [rows.keys[i, chosen] for i in reversed(ordered[:_SORTED_BY])]


def _train(vectors: Float32s, nlist: int, metric: Metric, progress: Progress) -> Float32s:
    if len(vectors) == 0:
        return np.zeros((1, vectors.shape[1]), np.float32)
    if nlist == 1:
        mean: Float32s = vectors.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        return mean
    generator = np.random.default_rng(0)
    wanted = nlist * _SAMPLE_PER_LIST
    sample = vectors
    if len(vectors) > wanted:
        sample = vectors[np.sort(generator.choice(len(vectors), wanted, replace=False))]
    progress.start("train centroids", _ITERATIONS)
    try:
        return kmeans.train(
            sample,
            nlist,
            metric=int(metric),
            iterations=_ITERATIONS,
            on_iteration=lambda _: progress.advance(1),
        )
    finally:
        progress.finish()


def _ranks(keys: Int64s) -> Int64s:
    """Return each row's rank by its (composite) key."""
    order = np.lexsort(keys[::-1])
    ranks = np.empty(keys.shape[1], np.int64)
    ranks[order] = np.arange(keys.shape[1])
    return ranks


def build_part(
    spec: IndexSpec, batches: Iterable[pa.RecordBatch], progress: Progress, *, nlist: int = 1
) -> Part:
    """Build a part in memory."""
    rows = Rows(spec, batches, progress)
    layout = _Layout(rows, nlist, progress)
    vectors = np.ascontiguousarray(rows.vectors[layout.vector_order])
    return Part(
        spec=spec,
        vectors=vectors,
        keys=layout.keys,
        dictionaries=rows.dictionaries,
        centroids=layout.centroids,
        list_offsets=layout.list_offsets,
        list_radius=layout.list_radius,
        tie=layout.tie,
        row_hash=layout.hash,
        alive=all_live(rows.count),
    )


def write_part(
    spec: IndexSpec,
    batches: Iterable[pa.RecordBatch],
    files: Files,
    path: Path,
    progress: Progress,
    *,
    total: int | None = None,
) -> None:
    """Build the base part of an index and write it as a segment file.

    Many vectors wait on disk beside it until their lists are known: memory holds codes and keys.
    """

    def allocate(length: int) -> npt.NDArray[np.uint8]:
        large = length > _IN_MEMORY_BYTES
        return files.scratch(path.parent, length) if large else in_memory(length)

    progress.start("read rows", total)
    try:
        rows = Rows(spec, batches, progress, total, allocate)
    finally:
        progress.finish()
    nlist = spec.nlist if spec.nlist is not None else default_nlist(len(rows.vectors))
    layout = _Layout(rows, nlist, progress)
    ladder = calibrate(rows.vectors, layout.row_labels, layout.centroids, spec.metric, progress)
    permutations = np.argsort(layout.keys, axis=1, kind="stable").astype(np.int64)
    numbers, bounds = buckets.make_buckets(layout.keys, permutations)
    arrays: dict[str, Any] = {
        "vectors": Chunks(
            dtype=np.float32,
            shape=(len(layout.vector_order), spec.dim),
            parts=layout.chunks(rows),
        ),
        "keys": layout.keys,
        "centroids": layout.centroids,
        "list_offsets": layout.list_offsets,
        "list_radius": layout.list_radius,
        "tie": layout.tie,
        "row_hash": layout.hash,
        "zones": _zones(layout.keys, np.append(np.arange(0, rows.count, BLOCK), rows.count)),
        "list_zones": _zones(layout.keys, layout.list_offsets),
        "permutations": permutations,
        "buckets": numbers,
        "bucket_bounds": bounds,
        "ladder_ks": ladder.ks,
        "ladder_targets": ladder.targets,
        "ladder_shares": ladder.shares,
        "ladder_lists": ladder.lists,
    }
    if len(layout.centroids) > 1:
        arrays |= encode_part(
            layout.chunks(rows), layout.labels, layout.centroids, spec.metric, progress
        ).arrays()
    for i, dictionary in enumerate(rows.dictionaries):
        if dictionary is not None:
            arrays[f"dictionary_{i}"] = _dictionary_bytes(dictionary)
    metadata = {
        "format": _FORMAT,
        "index": spec.name,
        "table": f"{spec.schema}.{spec.table}",
        "column": spec.column,
        "metric": spec.metric.name,
        "dim": spec.dim,
        "columns": [[c.name, c.type.sql] for c in spec.columns],
        "rows": rows.count,
        "gamma": ladder.gamma,
    }
    write_segment(files, path, metadata, arrays)


def _zones(keys: Int64s, offsets: Int64s) -> Int64s:
    """Return the zones (A, groups, 3) of the rows between `offsets`, see kernels.zones."""
    out = np.empty((len(keys), len(offsets) - 1, zones.FIELDS), np.int64)
    zones.fill_zones(keys, offsets, out)
    return out


def _dictionary_bytes(dictionary: pa.Array) -> npt.NDArray[np.uint8]:
    sink = pa.BufferOutputStream()
    table = pa.table({"value": dictionary})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def _dictionary_from(data: npt.NDArray[np.uint8]) -> pa.Array:
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_all().column("value").combine_chunks()


def open_part(spec: IndexSpec, files: Files, path: Path) -> tuple[Part, int]:
    """Map a segment; returns the part and the file's size in bytes.

    Raises OperationalError for a missing, damaged or foreign file.
    """
    segment = open_segment(files, path)
    arrays, metadata = segment.arrays, segment.metadata
    columns = [[c.name, c.type.sql] for c in spec.columns]
    if metadata.get("format") != _FORMAT or metadata.get("columns") != columns:
        raise OperationalError(
            f'index file {path} does not belong to index "{spec.name}": '
            f"it holds {json.dumps(metadata.get('columns'))}",
            hint=f"REINDEX INDEX {spec.name}",
        )
    rows = int(metadata["rows"])
    dictionaries = tuple(
        _dictionary_from(arrays[f"dictionary_{i}"]) if c.type.has_dictionary else None
        for i, c in enumerate(spec.columns)
    )
    part = Part(
        spec=spec,
        vectors=arrays["vectors"],
        keys=arrays["keys"],
        dictionaries=dictionaries,
        centroids=arrays["centroids"],
        list_offsets=arrays["list_offsets"],
        list_radius=arrays["list_radius"],
        tie=arrays["tie"],
        row_hash=arrays["row_hash"],
        alive=all_live(rows),
        zones=arrays["zones"],
        list_zones=arrays["list_zones"],
        permutations=arrays["permutations"],
        buckets=arrays["buckets"],
        bucket_bounds=arrays["bucket_bounds"],
        ladder=Ladder(
            ks=arrays["ladder_ks"],
            targets=arrays["ladder_targets"],
            shares=arrays["ladder_shares"],
            lists=arrays["ladder_lists"],
            gamma=float(metadata["gamma"]),
        ),
        codes=codes_from(arrays),
    )
    return replace(part, sample=_sample(part.keys)), segment.size_bytes


def _sample(keys: Int64s) -> Int64s:
    """Return the keys (A, m) of a fixed random sample of rows, side by side for a fast scan."""
    rows = keys.shape[1]
    if rows <= SAMPLE_ROWS:
        return keys
    chosen = np.random.default_rng(rows).choice(rows, SAMPLE_ROWS, replace=False)
    return np.ascontiguousarray(keys[:, np.sort(chosen)])
