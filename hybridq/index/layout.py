"""Where rows go in a part: list after list, and within a list ordered by some attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa
from hybridq.index.generation import spread_of
from hybridq.index.ivf import Float32s, IndexSpec, Int64s
from hybridq.kernels import zones
from hybridq.nodes import Metric

SAMPLE_ROWS = 8_192
_SORTED_BY = 4
_COUNTED_ROWS = 2_048
_ROWS_PER_LIST = 16
_CHUNK_ROWS = 16_384


class RowData(Protocol):
    """Rows to be laid out: keys (A, n), `valid` those with a vector, vectors (m, d) of these."""

    @property
    def spec(self) -> IndexSpec:
        """What they are rows of."""

    @property
    def keys(self) -> Int64s:
        """Their columns."""

    @property
    def dictionaries(self) -> tuple[pa.Array | None, ...]:
        """The values of text columns."""

    @property
    def hash(self) -> npt.NDArray[np.uint64]:
        """Their hashes."""

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Which of them have a vector."""

    @property
    def vectors(self) -> Float32s:
        """The vectors."""


class Layout:
    """The order of rows in a part whose lists are known: `labels` (m,) of those with a vector."""

    def __init__(self, rows: RowData, centroids: Float32s, labels: npt.NDArray[np.int32]) -> None:
        spec = rows.spec
        with_vector = np.flatnonzero(rows.valid)
        within = rows.keys[:, with_vector]
        self.centroids = centroids
        nlist = len(centroids)
        self.vector_order = in_lists(labels, within_lists(within, spec.key_count, nlist), nlist)
        self.labels = labels[self.vector_order]
        self.list_offsets = offsets_of(labels, len(centroids))
        self.row_order = np.concatenate(
            [with_vector[self.vector_order], np.flatnonzero(~rows.valid)]
        ).astype(np.int64)
        self.keys = np.ascontiguousarray(rows.keys[:, self.row_order])
        self.hash = rows.hash[self.row_order]
        self.list_radius = radii(self.chunks(rows), self.labels, centroids, spec.metric)
        self.spread = spread_of(rows.vectors, labels, centroids, spec.metric)
        self.tie = ranks(self.keys[: spec.key_count])

    def chunks(self, rows: RowData) -> Iterator[Float32s]:
        """Yield the vectors in list order, a bounded number at a time."""
        for start in range(0, len(self.vector_order), _CHUNK_ROWS):
            yield np.ascontiguousarray(rows.vectors[self.vector_order[start : start + _CHUNK_ROWS]])


def offsets_of(labels: npt.NDArray[np.int32], nlist: int) -> Int64s:
    """Return where each list begins (nlist + 1,), the rows being in list order."""
    sizes = np.bincount(labels, minlength=nlist)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def radii(
    chunks: Iterator[Float32s],
    labels: npt.NDArray[np.int32],
    centroids: Float32s,
    metric: Metric,
) -> Float32s:
    """Return how far the rows of each list lie from its centroid, at most (L2; else inf)."""
    radius = np.zeros(len(centroids), np.float32)
    if metric is not Metric.L2:
        radius[:] = np.inf
        return radius
    margin = np.float32(1.0 + centroids.shape[1] * 2.0**-24)
    at = 0
    for chunk in chunks:
        here = labels[at : at + len(chunk)]
        with np.errstate(over="ignore"):
            residual = chunk - centroids[here]
            # The margin covers the rounding of float32 sums.
            away = np.sqrt(np.einsum("ij,ij->i", residual, residual)) * margin
        np.maximum.at(radius, here, away)
        at += len(chunk)
    return np.where(np.isfinite(radius), radius, np.inf).astype(np.float32)


def within_lists(keys: Int64s, key_count: int, nlist: int) -> list[npt.NDArray[Any]]:
    """Return the attributes that order the rows of a list, the first one last; `keys` (A, n).

    Any order would do; equal values side by side let zones tell blocks apart, but for lists of a
    few rows. The fewer values an attribute has, the longer are its runs.
    """
    if keys.shape[1] < _ROWS_PER_LIST * nlist:
        return []
    sample = keys[:, :: max(1, keys.shape[1] // _COUNTED_ROWS)]
    values = {i: len(np.unique(sample[i])) for i in range(key_count, len(sample))}
    ordered = sorted((i for i in values if values[i] > 1), key=values.__getitem__)
    return [keys[i] for i in reversed(ordered[:_SORTED_BY])]


def in_lists(labels: npt.NDArray[np.int32], within: list[npt.NDArray[Any]], nlist: int) -> Int64s:
    """Return the order (n,) of rows by list, and in lists by `within`, the first one last."""
    if within:
        return np.lexsort([*within, labels]).astype(np.int64, copy=False)
    # Sixteen bits are sorted by radix.
    narrow = labels.astype(np.uint16) if nlist <= 1 << 16 else labels
    return np.argsort(narrow, kind="stable").astype(np.int64, copy=False)


def ranks(keys: Int64s) -> Int64s:
    """Return each row's rank by its (composite) key."""
    order = np.lexsort(keys[::-1])
    out = np.empty(keys.shape[1], np.int64)
    out[order] = np.arange(keys.shape[1])
    return out


def zones_of(keys: Int64s, offsets: Int64s) -> Int64s:
    """Return the zones (A, groups, 3) of the rows between `offsets`, see kernels.zones."""
    out = np.empty((len(keys), len(offsets) - 1, zones.FIELDS), np.int64)
    zones.fill_zones(keys, offsets, out)
    return out


def sample_of(keys: Int64s) -> Int64s:
    """Return the keys (A, m) of a fixed random sample of rows, side by side for a fast scan."""
    rows = keys.shape[1]
    if rows <= SAMPLE_ROWS:
        return keys
    chosen = np.random.default_rng(rows).choice(rows, SAMPLE_ROWS, replace=False)
    return np.ascontiguousarray(keys[:, np.sort(chosen)])
