"""Rows as they are read for a part: checked, their columns encoded, in reading order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa
from hybridq.errors import DataError
from hybridq.index.attributes import decode, encode
from hybridq.index.ivf import Float32s, IndexSpec
from hybridq.nodes import Metric
from hybridq.progress import Progress


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


Allocate = Callable[[int], npt.NDArray[np.uint8]]
"""Returns so many writable bytes."""


def in_memory(length: int) -> npt.NDArray[np.uint8]:
    """Return `length` bytes of memory."""
    return np.empty(length, np.uint8)


class _Growing:
    """Rows of floats, appended in place: never held twice if `rows`, the guess, is enough."""

    def __init__(self, rows: int, dim: int, allocate: Allocate) -> None:
        self._dim = dim
        self._allocate = allocate
        self._rows = self._new(rows)
        self._count = 0

    def _new(self, rows: int) -> Float32s:
        return self._allocate(4 * rows * self._dim).view(np.float32).reshape(rows, self._dim)

    def append(self, more: Float32s) -> None:
        end = self._count + len(more)
        if end > len(self._rows):
            grown = self._new(end + end // 2)
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._rows[self._count : end] = more
        self._count = end

    def filled(self) -> Float32s:
        return self._rows[: self._count]


class Rows:
    """All rows of a part while it is built, in reading order."""

    def __init__(
        self,
        spec: IndexSpec,
        batches: Iterable[pa.RecordBatch],
        progress: Progress,
        total: int | None = None,
        allocate: Allocate = in_memory,
    ) -> None:
        self.spec = spec
        columns: list[list[pa.Array]] = [[] for _ in spec.columns]
        hashes: list[npt.NDArray[np.uint64]] = []
        valid: list[npt.NDArray[np.bool_]] = []
        vectors = _Growing(total or 0, spec.dim, allocate)
        names = [f"c{i}" for i in range(len(spec.columns))]
        for batch in batches:
            for store, name in zip(columns, names, strict=True):
                store.append(_own(batch.column(name)))
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
        values = [
            decode(self.keys[i, [position]], column.type, self.dictionaries[i])[0]
            for i, column in enumerate(self.spec.key_columns)
        ]
        return shown_key(values)


def _own(column: pa.Array) -> pa.Array:
    """Return a copy: any column of a batch that came from DuckDB keeps the whole batch alive."""
    return pa.concat_arrays([column, column.slice(0, 0)])


def shown_key(values: Sequence[Any]) -> str:
    """Return the key of a row for a message."""
    return ", ".join(repr(v) if isinstance(v, str) else str(v) for v in values)


def _concatenate(arrays: list[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)
