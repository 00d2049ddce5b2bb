"""Parts whose arrays are in memory: what a delta consists of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa
from hybridq.index.codes import BLOCK, Codes
from hybridq.index.generation import Generation
from hybridq.index.ivf import Float32s, IndexSpec, Int64s, Part, all_live
from hybridq.index.layout import ranks, zones_of
from hybridq.kernels import buckets
from hybridq.kernels import zones as summaries

_SORTED_ROWS = 65_536

_ROWS_PER_LIST = 4
"""With fewer rows, zones of lists say no more than those of blocks."""


def memory_part(
    spec: IndexSpec,
    generation: Generation,
    *,
    vectors: Float32s,
    keys: Int64s,
    dictionaries: tuple[pa.Array | None, ...],
    list_offsets: Int64s,
    list_radius: npt.NDArray[np.float32],
    row_hash: npt.NDArray[np.uint64],
    codes: Codes | None,
    spread: float,
) -> Part:
    """Return a part of arrays in memory."""
    rows = keys.shape[1]
    zones = list_zones = np.empty((len(keys), 0, summaries.FIELDS), np.int64)
    more: dict[str, Any] = {}
    if codes is not None and rows >= _SORTED_ROWS:
        # As a segment has them; smaller parts are scanned as fast without.
        permutations = np.argsort(keys, axis=1, kind="stable").astype(np.int64, copy=False)
        numbers, bounds = buckets.make_buckets(keys, permutations)
        more = {"permutations": permutations, "buckets": numbers, "bucket_bounds": bounds}
    if codes is not None:
        zones = zones_of(keys, np.append(np.arange(0, rows, BLOCK), rows))
        if rows >= _ROWS_PER_LIST * generation.nlist:
            list_zones = zones_of(keys, list_offsets)
    return Part(
        spec=spec,
        vectors=vectors,
        keys=keys,
        dictionaries=dictionaries,
        centroids=generation.centroids,
        list_offsets=list_offsets,
        list_radius=list_radius,
        tie=ranks(keys[: spec.key_count]),
        row_hash=row_hash,
        alive=all_live(rows),
        ladder=generation.ladder,
        codes=codes,
        generation=generation.id,
        spread=spread,
        zones=zones,
        list_zones=list_zones,
        **more,
    )
