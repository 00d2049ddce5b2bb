"""A generation: the lists, the rotation and the stopping rule that parts of an index share.

It is made when the index is built, and anew when the rows have outgrown it or drifted away from
its centroids. Rows that are written are coded for the generation of the index; parts of it merge
without a code being computed again.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.index.codes import Frame, frame_of
from hybridq.index.ladder import Ladder
from hybridq.kernels import kmeans
from hybridq.nodes import Metric

Float32s: TypeAlias = npt.NDArray[np.float32]

_SPREAD_ROWS = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """How the rows lay when the generation was made, to tell drift by.

    `rows` with a vector, `spread` their mean distance from their centroids, `skew` how uneven the
    lists were, see `skew_of`.
    """

    rows: int
    spread: float
    skew: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """See the module's text; `id` tells generations apart, `ladder` None: all lists."""

    id: str
    metric: Metric
    centroids: Float32s
    ladder: Ladder | None
    trained: Trained

    @property
    def nlist(self) -> int:
        """Inverted lists."""
        return len(self.centroids)

    @property
    def coded(self) -> bool:
        """Tell whether its parts have codes: rows of a single list are scanned as they are."""
        return len(self.centroids) > 1

    @cached_property
    def frame(self) -> Frame:
        """What rows are encoded against."""
        return frame_of(self.centroids, self.metric)

    def assign(self, vectors: Float32s) -> npt.NDArray[np.int32]:
        """Return the list (n,) of each row."""
        labels = np.zeros(len(vectors), np.int32)
        if self.nlist > 1:
            self._lists.assign(vectors, labels)
        return labels

    @cached_property
    def _lists(self) -> kmeans.Lists:
        return kmeans.Lists(self.centroids, int(self.metric))


def new_id() -> str:
    """Return the name of a new generation."""
    return uuid.uuid4().hex


def skew_of(sizes: npt.NDArray[np.int64]) -> float:
    """Return the rows in the list of a random row, as a multiple of the mean list: 1 is even."""
    rows = float(sizes.sum())
    if rows == 0:
        return 1.0
    return float((sizes.astype(np.float64) ** 2).sum()) * len(sizes) / (rows * rows)


def spread_of(
    vectors: Float32s, labels: npt.NDArray[np.int32], centroids: Float32s, metric: Metric
) -> float:
    """Return the mean distance of rows from the centroids of their lists, from a few of them."""
    step = max(1, len(vectors) // _SPREAD_ROWS)
    with np.errstate(all="ignore"):
        rows = vectors[::step].astype(np.float64)
        if metric is Metric.COSINE:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        away = np.linalg.norm(rows - centroids[labels[::step]], axis=1)
    away = away[np.isfinite(away)]
    return float(away.mean()) if len(away) else 0.0
