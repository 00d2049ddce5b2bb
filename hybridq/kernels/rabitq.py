"""RaBitQ codes: a row's rotated residual as one sign bit, and as four bits, per dimension.

    r = x - c              the row less the centroid of its list
    y = R r                rotated: all directions look alike, so the bits lose no matter which
    sign(y)                one bit a dimension, in blocks of 64 rows: codes[block, byte, row]
    u, y ~ step (u - 7.5)  four bits a dimension, a row after the other: fine[row, byte]

What orders rows, the *score*, is |q - x|^2 for L2, the same of unit vectors for COSINE (twice
1 - cosine), and -<q, x> for IP. With t = R(q - centre) and the list's own (A, g) =
(score of the centroid, |q - c|):

    score ~ A + f0 + f1 <sign(y), t>            +- |f1| kappa g
    score ~ A + h0 + h1 <u - 7.5, t>            +- h2 g

both without bias, with deviations of the order 1 / sqrt(D). kappa = sqrt(1 - o^2), o being the
cosine between y and its signs, is near sqrt(1 - 2 / pi) after the rotation. One rotation serves
a query: what depends on c alone is folded into f0 and h0.

Source: Gao, Long: RaBitQ, SIGMOD 2024, section 3; Gao et al.: extended RaBitQ, SIGMOD 2025. The
rotation is random signs and Walsh-Hadamard transforms in turn, O(D log D).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import BLOCK, HALF_BLOCK, nibble_dot
from hybridq.kernels._jit import (
    entry,
    i64,
    in_f32,
    in_f32_2d,
    in_i32,
    kernel,
    out_f32_2d,
    out_f32_3d,
    out_u8_2d,
    out_u8_3d,
    strict_kernel,
)
from hybridq.kernels.distance import COSINE, IP, L2
from hybridq.kernels.hadamard import transform

Float32s = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]
Uint8s = npt.NDArray[np.uint8]

WORD = 64
"""Dimensions are padded to a multiple of it."""

MIDDLE = 7.5

FACTORS = 2  # f0, f1
FINE_FACTORS = 4  # h0, h1, h2, and one to fill a quarter of a cache line

SIGN_NOISE = 0.61
"""kappa: sqrt(1 - o^2) of residuals that look random, 0.603, and a little more."""

LARGEST_SCORE = 1e36
"""Beyond it float32 scores say nothing."""

_ROUNDS = 4
_STEPS = (1.0, 0.85, 0.72, 0.6)
_LARGEST = 1e37


def padded(dim: int) -> int:
    """Return `dim` rounded up to whole words."""
    return -(-dim // WORD) * WORD


def rotation(dim: int, seed: int = 0) -> Float32s:
    """Return the signs (rounds, padded dim), +1 or -1, that define a rotation."""
    bits = np.random.default_rng(seed).integers(0, 2, (_ROUNDS, padded(dim)))
    return (2 * bits - 1).astype(np.float32)


@kernel
def _window(size: int) -> int:
    """Return the largest power of two up to `size`."""
    window = 1
    while 2 * window <= size:
        window *= 2
    return window


@kernel
def rotate(signs: Float32s, x: Float32s) -> None:
    """Rotate `x` (D,) in place; windows of a power of two take turns where D is none."""
    size = x.shape[0]
    window = _window(size)
    scale = np.float32(1.0 / np.sqrt(window))
    for turn in range(signs.shape[0]):
        for j in range(size):
            x[j] *= signs[turn, j]
        start = 0 if turn % 2 == 0 else size - window
        transform(x, start, window)
        for j in range(start, start + window):
            x[j] *= scale


@strict_kernel
def norm(vectors: Float32s, row: int) -> float:
    """Return the Euclidean norm of `vectors[row]`."""
    total = np.float64(0.0)
    for j in range(vectors.shape[1]):
        x = np.float64(vectors[row, j])
        total += x * x
    return float(np.sqrt(total))


@kernel
def _quantise(y: Float32s, levels: Uint8s) -> tuple[float, float]:
    """Write the four-bit levels of `y` (D,); return (step, <y, reconstruction>).

    The widest component decides the range of steps; the best of a few is kept.
    """
    size = y.shape[0]
    largest = np.float32(0.0)
    for j in range(size):
        largest = max(largest, abs(y[j]))
    best = np.float32(-1.0)
    kept = np.float32(0.0)
    for choice in _STEPS:
        step = largest * np.float32(choice) / np.float32(MIDDLE)
        inverse = np.float32(1.0) / step
        dot = np.float32(0.0)
        square = np.float32(0.0)
        for j in range(size):
            level = np.floor(y[j] * inverse) + np.float32(0.5)
            level = min(max(level, np.float32(-MIDDLE)), np.float32(MIDDLE))
            dot += y[j] * level
            square += level * level
        quality = dot * dot / square
        if quality > best:
            best = quality
            kept = step
    inverse = np.float32(1.0) / kept
    dot = np.float32(0.0)
    for j in range(size):
        level = np.floor(y[j] * inverse) + np.float32(0.5)
        level = min(max(level, np.float32(-MIDDLE)), np.float32(MIDDLE))
        dot += y[j] * level
        levels[j] = np.uint8(level + np.float32(MIDDLE))
    return float(kept), float(dot * kept)


@entry(
    *(i64, in_f32_2d, in_i32, in_f32_2d, in_f32, in_f32_2d, in_f32_2d, i64),
    *(out_u8_3d, out_f32_3d, out_u8_2d, out_f32_2d),
)
def encode(
    metric: int,
    vectors: Float32s,
    labels: Int32s,
    centroids: Float32s,
    centre: Float32s,
    signs: Float32s,
    turned: Float32s,
    first: int,
    codes: Uint8s,
    factors: Float32s,
    fine: Uint8s,
    fine_factors: Float32s,
) -> None:
    """Encode `vectors` (m, d), which are the rows first … first + m - 1 of a part.

    Parameters
    ----------
    labels, centroids, centre
        List of each row (m,), centroids (nlist, d), and the point (d,) all are centred on.
    signs, turned
        The rotation, and R(centroid - centre) of each list (nlist, D), see `turn`.
    codes, factors
        (blocks, D / 8, 64) uint8, see `tables`, and (blocks, FACTORS, 64) float32: zeroed,
        filled here.
    fine, fine_factors
        (n, D / 2) uint8: component j in the low half of byte j, j + D / 2 in the high half; and
        (n, FINE_FACTORS). With no columns and no rows, four-bit codes are left out.
    """
    dim = vectors.shape[1]
    size = signs.shape[1]
    half = size // 2
    y = np.empty(size, np.float32)
    levels = np.empty(size, np.uint8)
    twice = 1.0 if metric == IP else 2.0
    for i in range(vectors.shape[0]):
        row = first + i
        label = labels[i]
        length = 1.0
        if metric == COSINE:
            length = norm(vectors, i)
        square = np.float64(0.0)
        with_centroid = np.float64(0.0)
        for j in range(dim):
            c = np.float64(centroids[label, j])
            r = np.float64(vectors[i, j]) / length - c
            square += r * r
            with_centroid += r * c
            y[j] = np.float32(r)
        for j in range(dim, size):
            y[j] = np.float32(0.0)
        block = row // BLOCK
        v = row % BLOCK
        finite = square < _LARGEST and abs(with_centroid) < _LARGEST
        if not finite or square < 1.0 / _LARGEST:
            # Nothing is known of a residual that overflows, or too small to be squared.
            known = square == 0.0
            offset = -with_centroid if metric == IP else 0.0
            factors[block, 0, v] = np.float32(offset) if known else np.float32(-np.inf)
            factors[block, 1, v] = np.float32(0.0)
            if fine.shape[0] > 0:
                fine_factors[row, 0] = np.float32(offset) if known else np.float32(0.0)
                fine_factors[row, 1] = np.float32(0.0)
                fine_factors[row, 2] = np.float32(0.0) if known else np.float32(np.inf)
                fine_factors[row, 3] = np.float32(0.0)
            continue
        rotate(signs, y)
        absolute = np.float64(0.0)
        along = np.float64(0.0)
        for group in range(size // 8):
            byte = 0
            for b in range(8):
                j = 8 * group + b
                value = np.float64(y[j])
                if value > 0.0:
                    byte |= 1 << b
                    along += np.float64(turned[label, j])
                else:
                    along -= np.float64(turned[label, j])
                absolute += abs(value)
            codes[block, group, v] = np.uint8(byte)
        scale = square / absolute
        base = -with_centroid if metric == IP else square
        factors[block, 0, v] = np.float32(base + twice * scale * along)
        factors[block, 1, v] = np.float32(-twice * scale)
        if fine.shape[0] == 0:
            continue
        step, dot = _quantise(y, levels)
        level_square = np.float64(0.0)
        along = np.float64(0.0)
        for j in range(size):
            level = np.float64(levels[j]) - MIDDLE
            level_square += level * level
            along += level * np.float64(turned[label, j])
        for j in range(half):
            fine[row, j] = levels[j] | (levels[half + j] << np.uint8(4))
        scale = square / dot
        cosine = dot / (step * np.sqrt(square * level_square))
        spread = np.sqrt(max(0.0, 1.0 - cosine * cosine)) / max(cosine, 1e-3)
        fine_factors[row, 0] = np.float32(base + twice * scale * step * along)
        fine_factors[row, 1] = np.float32(-twice * scale * step)
        fine_factors[row, 2] = np.float32(twice * np.sqrt(square / (size - 1)) * spread)
        fine_factors[row, 3] = np.float32(0.0)


def encode_points(
    points: Float32s, centre: Float32s, signs: Float32s, metric: int = L2
) -> tuple[Uint8s, Float32s]:
    """Return the sign bits and factors of `points` (m, d), as rows of one list at `centre`."""
    blocks, size = -(-len(points) // BLOCK), signs.shape[1]
    codes = np.zeros((blocks, size // 8, BLOCK), np.uint8)
    factors = np.zeros((blocks, FACTORS, BLOCK), np.float32)
    encode(
        metric,
        points,
        np.zeros(len(points), np.int32),
        np.ascontiguousarray(centre[None]),
        centre,
        signs,
        np.zeros((1, size), np.float32),
        0,
        codes,
        factors,
        np.empty((0, 0), np.uint8),
        np.empty((0, 0), np.float32),
    )
    return codes, factors


@entry(in_f32_2d, in_f32, in_f32_2d, out_f32_2d)
def turn(points: Float32s, centre: Float32s, signs: Float32s, out: Float32s) -> None:
    """Write R(point - centre) of each of `points` (m, d) into `out` (m, D)."""
    for i in range(points.shape[0]):
        turn_one(points, i, 1.0, centre, signs, out[i])


@kernel
def turn_one(
    points: Float32s, row: int, length: float, centre: Float32s, signs: Float32s, out: Float32s
) -> None:
    """Write R(points[row] / length - centre) into `out` (D,)."""
    dim = points.shape[1]
    for j in range(dim):
        out[j] = np.float32(np.float64(points[row, j]) / length - np.float64(centre[j]))
    for j in range(dim, out.shape[0]):
        out[j] = np.float32(0.0)
    rotate(signs, out)


@kernel
def fine_dot(fine: Uint8s, row: int, turned: Float32s) -> float:
    """Return the sum of level times component over a row's four-bit levels (0 to 15)."""
    half = fine.shape[1]
    total = np.float32(0.0)
    for first in range(0, half, HALF_BLOCK):
        total += nibble_dot(fine, row, first, turned, half)
    return float(total)
