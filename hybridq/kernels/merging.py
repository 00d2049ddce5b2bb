"""Hits of several parts, each sorted by distance, as one list."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import entry, i64, in_f32, in_i64, kernel, out_f32, out_i64, out_i64_2d

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


@kernel
def keep_nearest(near: Float32s, filled: int, distance: Float32s, start: int, stop: int) -> int:
    """Put sorted distances start … stop - 1 to the `filled` sorted ones of `near` (k,).

    Only the k nearest of both are kept; returns how many there are then.
    """
    kept = min(int(near.shape[0]), filled + stop - start)
    # The first `own` of the one and `others` of the other are the nearest.
    own = 0
    others = 0
    while own + others < kept:
        if own < filled and (start + others == stop or near[own] <= distance[start + others]):
            own += 1
        else:
            others += 1
    at = kept - 1
    while others > 0:
        if own > 0 and near[own - 1] > distance[start + others - 1]:
            near[at] = near[own - 1]
            own -= 1
        else:
            near[at] = distance[start + others - 1]
            others -= 1
        at -= 1
    return kept


@entry(
    *(in_f32, in_i64, out_i64_2d, i64, out_f32, out_i64, out_i64),
    returns=i64,
    checked=False,
)
def merge_sorted(
    distance: Float32s,
    position: Int64s,
    runs: Int64s,
    count: int,
    out_distance: Float32s,
    out_part: Int64s,
    out_position: Int64s,
) -> int:
    """Write the `count` nearest hits of all parts; return 1 if a tie leaves their order open.

    Part i has those from runs[0, i] to runs[1, i], sorted by distance, none of which is NaN; the
    first row of `runs` is used up.
    """
    parts = runs.shape[1]
    last = np.float32(-np.inf)
    for at in range(count + 1):
        best = -1
        for i in range(parts):
            if runs[0, i] < runs[1, i] and (
                best < 0 or distance[runs[0, i]] < distance[runs[0, best]]
            ):
                best = i
        if best < 0:
            break
        nearest = distance[runs[0, best]]
        if at > 0 and nearest == last:
            return 1
        if at == count:
            break
        out_distance[at] = last = nearest
        out_part[at] = best
        out_position[at] = position[runs[0, best]]
        runs[0, best] += 1
    return 0
