"""The nearest centroid of many rows, from the centroids' sign bits (see `rabitq`).

A row is met with all centroids as a query is with rows: their scores less `epsilon` deviations,
64 at a time, and the distance of those that may be nearest. With thousands of centroids this
costs a fraction of a matrix product; a row may go to the second nearest of two that are close.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import BLOCK, at_most, trailing_zeros
from hybridq.kernels._jit import (
    entry,
    f64,
    i64,
    in_f32,
    in_f32_2d,
    in_f32_3d,
    in_u8_3d,
    out_i32,
)
from hybridq.kernels.distance import COSINE, fast_squared_l2
from hybridq.kernels.rabitq import (
    LARGEST_SCORE,
    SIGN_NOISE,
    norm,
    turn_one,
)
from hybridq.kernels.tables import MIDDLE, PATTERNS, block_scores, split_query

Float32s = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]
Uint8s = npt.NDArray[np.uint8]


@entry(
    *(i64, in_f32_2d, in_f32_2d, in_f32, in_f32_2d, in_u8_3d, in_f32_3d, f64, out_i32),
)
def nearest(
    metric: int,
    vectors: Float32s,
    centroids: Float32s,
    centre: Float32s,
    signs: Float32s,
    list_codes: Uint8s,
    list_factors: Float32s,
    epsilon: float,
    out: Int32s,
) -> None:
    """Write the nearest centroid of each of `vectors` (m, d) into `out`, -1 where scores overflow.

    By L2, or for COSINE by angle; the codes are those of the centroids around `centre`.
    """
    dim = vectors.shape[1]
    size = signs.shape[1]
    nlist = centroids.shape[0]
    blocks = list_codes.shape[0]
    turned = np.empty(size, np.float32)
    tables = np.empty((size // 4, PATTERNS), np.uint8)
    unit = np.empty(dim, np.float32)
    sums = np.empty(BLOCK, np.uint16)
    scores = np.empty(blocks * BLOCK, np.float32)
    for i in range(vectors.shape[0]):
        length = 1.0
        if metric == COSINE:
            length = norm(vectors, i)
            if length == 0.0:
                length = 1.0
        for j in range(dim):
            unit[j] = np.float32(np.float64(vectors[i, j]) / length)
        turn_one(vectors, i, length, centre, signs, turned)
        offset = np.float64(0.0)
        for j in range(size):
            offset += np.float64(turned[j]) * np.float64(turned[j])
        if not offset < LARGEST_SCORE:
            out[i] = -1
            continue
        step = split_query(turned, tables)
        rounding = step * step * size / 12.0
        reach = np.sqrt(offset + rounding / (SIGN_NOISE * SIGN_NOISE))
        shift = step * MIDDLE * size + epsilon * SIGN_NOISE * reach
        first = 0
        lowest = np.float32(np.inf)
        for block in range(blocks):
            at = block * BLOCK
            block_scores(
                list_codes, list_factors, block, tables, offset, shift, -step, sums, scores, at
            )
            for v in range(nlist - at, BLOCK):
                scores[at + v] = np.float32(np.inf)
            word = at_most(scores, at, float(lowest))
            while word != 0:
                c = at + trailing_zeros(word)
                word &= word - np.uint64(1)
                if scores[c] < lowest:
                    lowest = scores[c]
                    first = c
        best = first
        best_square = np.float32(fast_squared_l2(unit, centroids, first))
        for block in range(blocks):
            word = at_most(scores, block * BLOCK, float(best_square))
            while word != 0:
                c = block * BLOCK + trailing_zeros(word)
                word &= word - np.uint64(1)
                if c >= nlist or scores[c] > best_square:
                    continue
                square = np.float32(fast_squared_l2(unit, centroids, c))
                if square < best_square:
                    best_square = square
                    best = c
        out[i] = best
