"""A bounded max-heap of the k nearest rows, in three parallel arrays.

Rows are ordered by (distance, tie), smaller is nearer; the root is the farthest row kept.
Distances are never NaN. The arrays belong to the caller; `filled` entries are in use.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import strict_kernel

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


@strict_kernel
def farther(distance: float, tie: int, other_distance: float, other_tie: int) -> bool:
    """Tell whether (distance, tie) comes after (other_distance, other_tie)."""
    return distance > other_distance or (distance == other_distance and tie > other_tie)


@strict_kernel
def sink(distances: Float32s, ties: Int64s, positions: Int64s, filled: int) -> None:
    """Move the root down to its place among the first `filled` entries."""
    distance = distances[0]
    tie = ties[0]
    position = positions[0]
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= filled:
            break
        if child + 1 < filled and farther(
            distances[child + 1], ties[child + 1], distances[child], ties[child]
        ):
            child += 1
        if not farther(distances[child], ties[child], distance, tie):
            break
        distances[hole] = distances[child]
        ties[hole] = ties[child]
        positions[hole] = positions[child]
        hole = child
    distances[hole] = distance
    ties[hole] = tie
    positions[hole] = position


@strict_kernel
def offer(
    distance: float,
    tie: int,
    position: int,
    distances: Float32s,
    ties: Int64s,
    positions: Int64s,
    filled: int,
    k: int,
) -> int:
    """Keep the row if it is among the k nearest so far; return how many entries are in use."""
    if filled == k:
        if farther(distances[0], ties[0], distance, tie):
            distances[0] = distance
            ties[0] = tie
            positions[0] = position
            sink(distances, ties, positions, filled)
        return filled
    hole = filled
    while hole > 0:
        parent = (hole - 1) // 2
        if not farther(distance, tie, distances[parent], ties[parent]):
            break
        distances[hole] = distances[parent]
        ties[hole] = ties[parent]
        positions[hole] = positions[parent]
        hole = parent
    distances[hole] = distance
    ties[hole] = tie
    positions[hole] = position
    return filled + 1


@strict_kernel
def sort(distances: Float32s, ties: Int64s, positions: Int64s, filled: int) -> None:
    """Turn the heap into `filled` entries, nearest first."""
    for last in range(filled - 1, 0, -1):
        distance = distances[0]
        tie = ties[0]
        position = positions[0]
        distances[0] = distances[last]
        ties[0] = ties[last]
        positions[0] = positions[last]
        sink(distances, ties, positions, last)
        distances[last] = distance
        ties[last] = tie
        positions[last] = position


@strict_kernel
def push_bound(bounds: Float32s, filled: int, value: float) -> int:
    """Keep `value` if it is among the smallest of the heap (k,); return how many are in use."""
    k = bounds.shape[0]
    if filled < k:
        hole = filled
        while hole > 0:
            parent = (hole - 1) // 2
            if not value > bounds[parent]:
                break
            bounds[hole] = bounds[parent]
            hole = parent
        bounds[hole] = value
        return filled + 1
    if not value < bounds[0]:
        return filled
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= k:
            break
        if child + 1 < k and bounds[child + 1] > bounds[child]:
            child += 1
        if not bounds[child] > value:
            break
        bounds[hole] = bounds[child]
        hole = child
    bounds[hole] = value
    return filled
