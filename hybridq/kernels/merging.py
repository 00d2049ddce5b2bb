"""Hits of several parts, each sorted by distance, as one list."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import entry, i64, in_f32, in_i64, out_f32, out_i64

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]


@entry(
    *(in_f32, in_i64, in_i64, i64, out_i64, out_f32, out_i64, out_i64),
    returns=i64,
    checked=False,
)
def merge_sorted(
    distance: Float32s,
    position: Int64s,
    ends: Int64s,
    count: int,
    heads: Int64s,
    out_distance: Float32s,
    out_part: Int64s,
    out_position: Int64s,
) -> int:
    """Write the `count` nearest hits of all parts; return 1 if a tie leaves their order open.

    Part i has those from ends[i - 1] to ends[i], sorted by distance, none of which is NaN. `heads`
    is scratch, an entry per part.
    """
    parts = ends.shape[0]
    start = 0
    for i in range(parts):
        heads[i] = start
        start = ends[i]
    last = np.float32(-np.inf)
    for at in range(count + 1):
        best = -1
        for i in range(parts):
            if heads[i] < ends[i] and (best < 0 or distance[heads[i]] < distance[heads[best]]):
                best = i
        if best < 0:
            break
        nearest = distance[heads[best]]
        if at > 0 and nearest == last:
            return 1
        if at == count:
            break
        out_distance[at] = last = nearest
        out_part[at] = best
        out_position[at] = position[heads[best]]
        heads[best] += 1
    return 0
