"""A query as the codes and the centroids of a generation compare it, and the lists it is met in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import kernel
from hybridq.kernels.distance import COSINE, IP, fast_dot, fast_squared_l2
from hybridq.kernels.rabitq import turn_one
from hybridq.kernels.tables import split_query

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]


@kernel
def aim_query(
    metric: int,
    query: Float32s,
    query_square: float,
    centre: Float32s,
    signs: Float32s,
    turned: Float32s,
    tables: Uint8s,
    unit: Float32s,
) -> tuple[float, float]:
    """Write a query (1, d) as the codes and as the centroids compare it; return (step, offset)."""
    length = 1.0
    if metric == COSINE:
        length = np.sqrt(query_square)
    turn_one(query, 0, length, centre, signs, turned)
    step = split_query(turned, tables)
    offset = np.float64(0.0)
    for j in range(unit.shape[0]):
        unit[j] = np.float32(np.float64(query[0, j]) / length)
        if metric == IP:
            offset -= np.float64(unit[j]) * np.float64(centre[j])
        else:
            difference = np.float64(unit[j]) - np.float64(centre[j])
            offset += difference * difference
    return step, offset


@kernel
def open_all(
    metric: int, unit: Float32s, centroids: Float32s, order: Int64s, scores: Float32s, given: int
) -> None:
    """Give the lists of `order` that zones ruled out, of another part, their exact scores."""
    for i in range(given):
        if order[i] < 0:
            order[i] = ~order[i]
            if metric == IP:
                dot, _ = fast_dot(unit, centroids, order[i])
                scores[i] = np.float32(-dot)
            else:
                scores[i] = np.float32(fast_squared_l2(unit, centroids, order[i]))
            if not scores[i] < np.inf:
                scores[i] = np.float32(np.inf)
