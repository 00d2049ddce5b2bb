"""Build parts from rows: read, check, train centroids, sort into lists, write or keep.

`build_part` keeps its arrays in memory (a delta, an in-memory database); `write_part` streams them
into a segment file, and `open_part` maps one. Rows come as Arrow record batches with the columns
k0 … (key), a0 … (attributes), v (vector), h (row hash).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hybridq.errors import DataError, OperationalError
from hybridq.index.attributes import encode
from hybridq.index.codes import codes_from, encode_part
from hybridq.index.ivf import Float32s, IndexSpec, Int64s, Ladder, Part
from hybridq.index.recall import calibrate
from hybridq.kernels import kmeans
from hybridq.nodes import Metric
from hybridq.progress import Progress
from hybridq.storage.files import Files
from hybridq.storage.segment import Chunks, open_segment, write_segment

_FORMAT = 2
_SAMPLE_PER_LIST = 32
_ITERATIONS = 8
_CHUNK_ROWS = 16_384
SAMPLE_ROWS = 8_192
MIN_ROWS_FOR_LISTS = 1_000


def default_nlist(rows: int) -> int:
    """Return a number of lists for `rows`: about 2 sqrt(n), one list for small tables."""
    if rows < MIN_ROWS_FOR_LISTS:
        return 1
    return max(1, min(65_536, 2 * math.isqrt(rows)))


def vectors_of(batch: pa.RecordBatch, spec: IndexSpec) -> tuple[npt.NDArray[np.bool_], Float32s]:
    """Return (valid (n,), vectors of the valid rows (m, d) float32).

    Raises DataError for a vector of another dimension.
    """
    column = batch.column("v")
    valid = np.asarray(column.is_valid())
    present = column if column.null_count == 0 else column.drop_null()
    lengths = np.asarray(
        pa.compute.list_value_length(present)
        if not pa.types.is_fixed_size_list(present.type)
        else np.full(len(present), present.type.list_size)
    )
    wrong = lengths != spec.dim
    if wrong.any():
        first = int(np.argmax(wrong))
        row = int(np.flatnonzero(valid)[first])
        key = [batch.column(f"c{i}")[row].as_py() for i in range(spec.key_count)]
        raise wrong_dimension(spec, int(lengths[first]), shown_key(key))
    flat = np.asarray(present.flatten().cast(pa.float32()))
    return valid, np.ascontiguousarray(flat.reshape(len(present), spec.dim))


def wrong_dimension(spec: IndexSpec, found: int, key: str | None) -> DataError:
    """Return the error for a vector that does not fit the index."""
    row = f" of the row with key {key}" if key is not None else ""
    return DataError(
        f'the vector{row} has {found} dimensions, but index "{spec.name}" on '
        f"{spec.table}.{spec.column} has {spec.dim}",
        hint=f"give vectors of {spec.dim} dimensions, or NULL",
    )


def not_finite(spec: IndexSpec, key: str, component: int, value: float) -> DataError:
    """Return the error for a NaN or an infinity in a vector."""
    return DataError(
        f"component {component + 1} of the vector of the row with key {key} is {value}, which "
        f'index "{spec.name}" on {spec.table}.{spec.column} cannot order',
        hint="vectors hold finite numbers; use NULL for a missing vector",
    )


class _Growing:
    """Rows of floats, appended in place: never held twice if `rows`, the guess, is enough."""

    def __init__(self, rows: int, dim: int) -> None:
        self._rows = np.empty((rows, dim), np.float32)
        self._count = 0

    def append(self, more: Float32s) -> None:
        end = self._count + len(more)
        if end > len(self._rows):
            grown = np.empty((end + end // 2, self._rows.shape[1]), np.float32)
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._rows[self._count : end] = more
        self._count = end

    def filled(self) -> Float32s:
        return self._rows[: self._count]


class _Rows:
    """All rows of a part while it is built, in reading order."""

    def __init__(
        self,
        spec: IndexSpec,
        batches: Iterable[pa.RecordBatch],
        progress: Progress,
        total: int | None = None,
    ) -> None:
        self.spec = spec
        columns: list[list[pa.Array]] = [[] for _ in spec.columns]
        hashes: list[npt.NDArray[np.uint64]] = []
        valid: list[npt.NDArray[np.bool_]] = []
        vectors = _Growing(total or 0, spec.dim)
        names = [f"c{i}" for i in range(len(spec.columns))]
        for batch in batches:
            for store, name in zip(columns, names, strict=True):
                store.append(batch.column(name))
            hashes.append(np.asarray(batch.column("h")).astype(np.uint64))
            found, rows = vectors_of(batch, spec)
            valid.append(found)
            vectors.append(rows)
            progress.advance(len(found))
        self.count = sum(len(v) for v in valid)
        self.hash = _concatenate(hashes, np.uint64)
        self.valid = _concatenate(valid, np.bool_)
        self.vectors = vectors.filled()
        encoded = [
            encode(pa.chunked_array(store) if store else pa.array([], pa.string()), c.type)
            if store
            else None
            for store, c in zip(columns, spec.columns, strict=True)
        ]
        self.keys = np.empty((len(spec.columns), self.count), np.int64)
        dictionaries: list[pa.Array | None] = []
        for i, (e, column) in enumerate(zip(encoded, spec.columns, strict=True)):
            if e is not None:
                self.keys[i] = e.keys
                dictionaries.append(e.dictionary)
            else:
                empty = pa.array([], pa.large_string()) if column.type.has_dictionary else None
                dictionaries.append(empty)
        self.dictionaries = tuple(dictionaries)
        self._check()

    def _check(self) -> None:
        """Refuse NaN and infinities; take rows without a distance out of the vectors."""
        finite = np.isfinite(self.vectors.sum(axis=1, dtype=np.float64))
        if not finite.all():
            row = int(np.argmin(finite))
            position = int(np.flatnonzero(self.valid)[row])
            component = int(np.argmin(np.isfinite(self.vectors[row])))
            raise not_finite(
                self.spec,
                self.key_text(position),
                component,
                float(self.vectors[row, component]),
            )
        if self.spec.metric is Metric.COSINE:
            zero = ~self.vectors.any(axis=1)
            if zero.any():
                self.valid[np.flatnonzero(self.valid)[zero]] = False
                self.vectors = self.vectors[~zero]

    def key_text(self, position: int) -> str:
        """Return the key of a row for a message."""
        part = _loose_part(self)
        values = [part.values(i, np.array([position]))[0] for i in range(self.spec.key_count)]
        return shown_key(values)


def shown_key(values: Sequence[Any]) -> str:
    """Return the key of a row for a message."""
    return ", ".join(repr(v) if isinstance(v, str) else str(v) for v in values)


def _concatenate(arrays: list[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)


def _loose_part(rows: _Rows) -> Part:
    empty = np.empty(0, np.int64)
    return Part(
        spec=rows.spec,
        vectors=np.empty((0, rows.spec.dim), np.float32),
        keys=rows.keys,
        dictionaries=rows.dictionaries,
        centroids=np.empty((0, rows.spec.dim), np.float32),
        list_offsets=np.zeros(1, np.int64),
        list_radius=np.empty(0, np.float32),
        tie=empty,
        row_hash=rows.hash,
        alive=np.empty(0, np.uint8),
    )


class _Layout:
    """Where each row goes: the order of rows in the part, and its lists."""

    def __init__(self, rows: _Rows, nlist: int, progress: Progress) -> None:
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
        self.vector_order = np.argsort(labels, kind="stable")
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

    def chunks(self, rows: _Rows) -> Iterator[Float32s]:
        """Yield the vectors in list order, a bounded number at a time."""
        for start in range(0, len(self.vector_order), _CHUNK_ROWS):
            yield np.ascontiguousarray(rows.vectors[self.vector_order[start : start + _CHUNK_ROWS]])

    def _radii(self, rows: _Rows, spec: IndexSpec) -> Float32s:
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
    rows = _Rows(spec, batches, progress)
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
        alive=np.ones(rows.count, np.uint8),
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
    """Build the base part of an index and write it as a segment file."""
    progress.start("read rows", total)
    try:
        rows = _Rows(spec, batches, progress, total)
    finally:
        progress.finish()
    nlist = spec.nlist if spec.nlist is not None else default_nlist(len(rows.vectors))
    layout = _Layout(rows, nlist, progress)
    ladder = calibrate(rows.vectors, layout.row_labels, layout.centroids, spec.metric, progress)
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
        "permutations": np.argsort(layout.keys, axis=1, kind="stable").astype(np.int64),
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
        alive=np.ones(rows, np.uint8),
        permutations=arrays["permutations"],
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
