"""The k nearest rows of every one of several nested subsets, in one pass over their scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels import topk
from hybridq.kernels._jit import entry, i64, in_f32_2d, in_u8, out_f32_3d, out_i64_2d, out_i64_3d

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]


@entry(in_f32_2d, in_u8, i64, i64, i64, out_f32_3d, out_i64_3d, out_i64_2d)
def nearest_of_subsets(
    scores: Float32s,
    level: Uint8s,
    start: int,
    stop: int,
    first: int,
    distances: Float32s,
    rows: Int64s,
    filled: Int64s,
) -> None:
    """Offer scores (queries, n) of rows from `first` on to the heaps of queries start … stop - 1.

    A row is in the subsets from its `level` (n,) on, so subset s holds subset s - 1. Each query and
    subset has a heap (see `topk`): `distances` and `rows` (queries, subsets, k), `filled` (queries,
    subsets). Scores that are not finite are left out; equal ones go by row.
    """
    subsets = filled.shape[1]
    k = distances.shape[2]
    bounds = np.empty(subsets, np.float32)
    for q in range(start, stop):
        for s in range(subsets):
            bounds[s] = np.float32(np.inf)
            if filled[q, s] == k:
                bounds[s] = distances[q, s, 0]
        for i in range(scores.shape[1]):
            score = scores[q, i]
            # The smallest subset has the loosest bound, so mostly one comparison is enough.
            at = np.int64(level[i])
            if not score > -np.inf:
                continue
            while at < subsets and score < bounds[at]:
                # Rows are ties and positions at once.
                n = topk.offer(
                    score,
                    first + i,
                    first + i,
                    distances[q, at],
                    rows[q, at],
                    rows[q, at],
                    filled[q, at],
                    k,
                )
                filled[q, at] = n
                if n == k:
                    bounds[at] = distances[q, at, 0]
                at += 1
