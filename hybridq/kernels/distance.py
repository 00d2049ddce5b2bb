"""The distance between a query and a row, defined once.

Query and row are float32; products and differences are accumulated in float64, in index
order, without reassociation or fused operations, and the result is rounded to float32. So
every plan returns the same bits for the same row, on every machine.

    L2      float32(sqrt(sum((q - x)**2)))
    COSINE  float32(1 - sum(q*x) / sqrt(sum(q*q) * sum(x*x)))    the quotient clamped to [-1, 1]
    IP      float32(-sum(q*x))

COSINE is NaN for a zero vector. These are DuckDB's own formulas, so both order rows alike.
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
    return float(np.float32(_cosine(dot, query_square, row_square)))


@strict_kernel
def _cosine(dot: float, query_square: float, row_square: float) -> float:
    cosine = dot / np.sqrt(query_square * row_square)
    if cosine > 1.0:
        cosine = np.float64(1.0)
    elif cosine < -1.0:
        cosine = np.float64(-1.0)
    return float(np.float64(1.0) - cosine)


@strict_kernel
def squared_norm(query: Float32s) -> float:
    """Return the squared norm of `query`, as `distance` has it."""
    square = np.float64(0.0)
    for j in range(query.shape[0]):
        q = np.float64(query[j])
        square += q * q
    return float(square)


@strict_kernel
def four_distances(
    metric: int,
    query: Float32s,
    query_square: float,
    vectors: Float32s,
    rows: Int64s,
    out: Float32s,
) -> None:
    """Write the distances to the first four of `rows` into `out`, given squared_norm(query).

    To the bit those of `distance`. One in-order sum waits for its own additions; four of them
    take the time of one.
    """
    row_0, row_1, row_2, row_3 = rows[0], rows[1], rows[2], rows[3]
    sum_0 = sum_1 = sum_2 = sum_3 = np.float64(0.0)
    if metric == L2:
        for j in range(query.shape[0]):
            q = np.float64(query[j])
            x_0 = q - np.float64(vectors[row_0, j])
            x_1 = q - np.float64(vectors[row_1, j])
            x_2 = q - np.float64(vectors[row_2, j])
            x_3 = q - np.float64(vectors[row_3, j])
            sum_0 += x_0 * x_0
            sum_1 += x_1 * x_1
            sum_2 += x_2 * x_2
            sum_3 += x_3 * x_3
        out[0] = np.float32(np.sqrt(sum_0))
        out[1] = np.float32(np.sqrt(sum_1))
        out[2] = np.float32(np.sqrt(sum_2))
        out[3] = np.float32(np.sqrt(sum_3))
        return
    square_0 = square_1 = square_2 = square_3 = np.float64(0.0)
    for j in range(query.shape[0]):
        q = np.float64(query[j])
        x_0 = np.float64(vectors[row_0, j])
        x_1 = np.float64(vectors[row_1, j])
        x_2 = np.float64(vectors[row_2, j])
        x_3 = np.float64(vectors[row_3, j])
        sum_0 += q * x_0
        sum_1 += q * x_1
        sum_2 += q * x_2
        sum_3 += q * x_3
        square_0 += x_0 * x_0
        square_1 += x_1 * x_1
        square_2 += x_2 * x_2
        square_3 += x_3 * x_3
    if metric == IP:
        out[0] = np.float32(-sum_0)
        out[1] = np.float32(-sum_1)
        out[2] = np.float32(-sum_2)
        out[3] = np.float32(-sum_3)
        return
    out[0] = np.float32(_cosine(sum_0, query_square, square_0))
    out[1] = np.float32(_cosine(sum_1, query_square, square_1))
    out[2] = np.float32(_cosine(sum_2, query_square, square_2))
    out[3] = np.float32(_cosine(sum_3, query_square, square_3))


@entry(i64, in_f32, in_f32_2d, out_f32)
def distances(metric: int, query: Float32s, vectors: Float32s, out: Float32s) -> None:
    """Write the distance from `query` (d,) to each row of `vectors` (n, d) into `out` (n,)."""
    rows = np.empty(4, np.int64)
    values = np.empty(4, np.float32)
    query_square = squared_norm(query)
    n = vectors.shape[0]
    for first in range(0, n, 4):
        for i in range(4):
            rows[i] = min(first + i, n - 1)
        four_distances(metric, query, query_square, vectors, rows, values)
        for i in range(min(4, n - first)):
            out[first + i] = values[i]


@entry(i64, in_f32, in_f32_2d, in_i64, out_f32)
def distances_at(
    metric: int, query: Float32s, vectors: Float32s, positions: Int64s, out: Float32s
) -> None:
    """Write the distance from `query` (d,) to `vectors[positions[i]]` into `out[i]`."""
    rows = np.empty(4, np.int64)
    values = np.empty(4, np.float32)
    query_square = squared_norm(query)
    m = positions.shape[0]
    for first in range(0, m, 4):
        for i in range(4):
            rows[i] = positions[min(first + i, m - 1)]
        four_distances(metric, query, query_square, vectors, rows, values)
        for i in range(min(4, m - first)):
            out[first + i] = values[i]


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
