"""The distance between a query and a row, defined once.

Query and row are float32; products and differences are accumulated in float64, in index
order, without reassociation or fused operations, and the result is rounded to float32. So
every plan returns the same bits for the same row, on every machine.

    L2      float32(sqrt(sum((q - x)**2)))
    COSINE  float32(1 - sum(q*x) / (sqrt(sum(q*q)) * sqrt(sum(x*x))))    NaN for a zero vector
    IP      float32(-sum(q*x))
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import (
    entry,
    i64,
    in_f32,
    in_f32_2d,
    in_i64,
    kernel,
    out_f32,
    strict_kernel,
)

L2 = 0
COSINE = 1
IP = 2

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


@strict_kernel
def distance(metric: int, query: Float32s, vectors: Float32s, row: int) -> float:
    """Return the distance from `query` (d,) to `vectors[row]`, a float32; `vectors` is (n, d)."""
    if metric == L2:
        total = np.float64(0.0)
        for j in range(query.shape[0]):
            difference = np.float64(query[j]) - np.float64(vectors[row, j])
            total += difference * difference
        return float(np.float32(np.sqrt(total)))
    dot = np.float64(0.0)
    if metric == IP:
        for j in range(query.shape[0]):
            dot += np.float64(query[j]) * np.float64(vectors[row, j])
        return float(np.float32(-dot))
    query_square = np.float64(0.0)
    row_square = np.float64(0.0)
    for j in range(query.shape[0]):
        q = np.float64(query[j])
        x = np.float64(vectors[row, j])
        dot += q * x
        query_square += q * q
        row_square += x * x
    cosine = dot / (np.sqrt(query_square) * np.sqrt(row_square))
    return float(np.float32(np.float64(1.0) - cosine))


@entry(i64, in_f32, in_f32_2d, out_f32)
def distances(metric: int, query: Float32s, vectors: Float32s, out: Float32s) -> None:
    """Write the distance from `query` (d,) to each row of `vectors` (n, d) into `out` (n,)."""
    for row in range(vectors.shape[0]):
        out[row] = distance(metric, query, vectors, row)


@entry(i64, in_f32, in_f32_2d, in_i64, out_f32)
def distances_at(
    metric: int, query: Float32s, vectors: Float32s, positions: Int64s, out: Float32s
) -> None:
    """Write the distance from `query` (d,) to `vectors[positions[i]]` into `out[i]`."""
    for i in range(positions.shape[0]):
        out[i] = distance(metric, query, vectors, positions[i])


@kernel
def fast_squared_l2(query: Float32s, vectors: Float32s, row: int) -> float:
    """Return the squared L2 distance in float32, summed in any order."""
    total = np.float32(0.0)
    for j in range(query.shape[0]):
        difference = query[j] - vectors[row, j]
        total += difference * difference
    return float(total)


@kernel
def fast_dot(query: Float32s, vectors: Float32s, row: int) -> tuple[float, float]:
    """Return the dot product and the row's squared norm in float32, summed in any order."""
    dot = np.float32(0.0)
    square = np.float32(0.0)
    for j in range(query.shape[0]):
        x = vectors[row, j]
        dot += query[j] * x
        square += x * x
    return float(dot), float(square)


@entry(i64, in_f32, in_f32_2d, out_f32)
def coarse(metric: int, query: Float32s, centroids: Float32s, out: Float32s) -> None:
    """Write a float32 value per centroid (nlist, d) into `out` (nlist,), to order lists by.

    L2 gives the *squared* distance, COSINE 1 - cosine, IP minus the dot product. Summed in
    any order: not the distance of `distance`, and not the same bits on every machine.
    """
    if metric == L2:
        for c in range(centroids.shape[0]):
            out[c] = fast_squared_l2(query, centroids, c)
        return
    norm = np.float32(1.0)
    if metric == COSINE:
        total = np.float32(0.0)
        for j in range(query.shape[0]):
            total += query[j] * query[j]
        norm = np.sqrt(total)
    for c in range(centroids.shape[0]):
        dot, square = fast_dot(query, centroids, c)
        if metric == COSINE:
            out[c] = np.float32(1.0) - dot / (norm * np.sqrt(square))
        else:
            out[c] = -dot
