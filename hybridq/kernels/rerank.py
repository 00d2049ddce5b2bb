"""From candidates, whose scores are known within bounds, to the nearest rows by their distances.

`low` and `high` are bounds of each candidate's score (see `rabitq`); vectors are read first of the
rows that are surely among the k nearest, then of those that still may be.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import kernel, strict_kernel
from hybridq.kernels.distance import COSINE, L2
from hybridq.kernels.scan import offer_rows
from hybridq.kernels.topk import sort

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

RUN = 64
"""Rows gathered, at least, before what comes next is read of them: four-bit codes, vectors."""

_SLACK = 1.0 + 1e-5  # covers the rounding of float32 scores


@strict_kernel
def score_of(metric: int, distance: float) -> float:
    """Return the score that is never below that of a row at `distance`, up to rounding."""
    if metric == L2:
        return distance * distance * _SLACK
    if metric == COSINE:
        return 2.0 * distance + abs(distance) * 1e-5 + 1e-6
    return distance + abs(distance) * 1e-5


@kernel
def compact(rows: Int64s, low: Float32s, high: Float32s, found: int, tau: float) -> int:
    """Drop candidates beyond `tau`; return how many of the `found` are left."""
    kept = 0
    for j in range(found):
        if not low[j] > tau:
            rows[kept] = rows[j]
            low[kept] = low[j]
            high[kept] = high[j]
            kept += 1
    return kept


@kernel
def read_vectors(
    metric: int,
    query: Float32s,
    query_square: float,
    vectors: Float32s,
    found_rows: Int64s,
    found_low: Float32s,
    found_high: Float32s,
    found: int,
    sure: float,
    bounds: Float64s,
    four_rows: Int64s,
    four_values: Float32s,
    rows: Int64s,
    tie: Int64s,
    radius: float,
    radius_inclusive: bool,
    k: int,
    out_distance: Float32s,
    out_tie: Int64s,
    out_position: Int64s,
    counters: Int64s,
) -> int:
    """Find the k nearest of the candidates; return how many there are, sorted as in `scan.probe`.

    `sure` is the k-th least upper bound. `bounds` and `rows` (RUN,), `four_rows` and `four_values`
    (4,) are scratch.
    """
    tau = np.float32(sure)
    kept = 0
    for turn in range(2):
        count = 0
        for j in range(found):
            if turn == 0:
                wanted = not found_high[j] > sure
            else:
                wanted = found_high[j] > sure and not found_low[j] > tau
            if wanted:
                rows[count] = found_rows[j]
                count += 1
            if count == RUN or (count > 0 and j == found - 1):
                kept = offer_rows(
                    metric,
                    query,
                    query_square,
                    vectors,
                    rows,
                    count,
                    bounds,
                    four_rows,
                    four_values,
                    tie,
                    radius,
                    radius_inclusive,
                    k,
                    kept,
                    out_distance,
                    out_tie,
                    out_position,
                    counters,
                )
                count = 0
                if kept == k:
                    tau = min(tau, np.float32(score_of(metric, np.float64(out_distance[0]))))
    sort(out_distance, out_tie, out_position, kept)
    return kept
