"""The codes of a part: what a scan reads of a row before its vector (see kernels.rabitq)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.kernels import rabitq
from hybridq.nodes import Metric
from hybridq.progress import Progress

Float32s: TypeAlias = npt.NDArray[np.float32]

BLOCK = 64
_CHUNK_ROWS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Codes of n rows and of the centroids, about 12 + 5 d / 8 bytes a row.

    `centre` (d,) is what all is centred on, `signs` (rounds, D) the rotation; `codes` (blocks,
    D / 8, 64) and `factors` (blocks, 2, 64) the sign bits, `fine` (n, D / 2) and `fine_factors`
    (n, 4) the four-bit codes; `list_codes` and `list_factors` the sign bits of the centroids.
    """

    centre: Float32s
    signs: Float32s
    codes: npt.NDArray[np.uint8]
    factors: Float32s
    fine: npt.NDArray[np.uint8]
    fine_factors: Float32s
    list_codes: npt.NDArray[np.uint8]
    list_factors: Float32s

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name."""
        return {f"code_{f.name}": getattr(self, f.name) for f in fields(self)}


def codes_from(arrays: Mapping[str, npt.NDArray[Any]]) -> Codes | None:
    """Return the codes among a segment's arrays, if it has them."""
    names = [f.name for f in fields(Codes)]
    if f"code_{names[0]}" not in arrays:
        return None
    return Codes(**{name: arrays[f"code_{name}"] for name in names})


def _blocks(rows: int) -> int:
    return -(-rows // BLOCK)


def _centre(centroids: Float32s) -> Float32s:
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Float32s = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.where(np.isfinite(mean), mean, np.float32(0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """What rows are encoded against: centroids (nlist, d), rotated ones, and their own codes."""

    centroids: Float32s
    centre: Float32s
    signs: Float32s
    turned: Float32s
    list_codes: npt.NDArray[np.uint8]
    list_factors: Float32s


def frame_of(centroids: Float32s, metric: Metric) -> Frame:
    """Return the frame that the centroids determine."""
    signs = rabitq.rotation(centroids.shape[1])
    centre = _centre(centroids)
    turned = np.empty((len(centroids), signs.shape[1]), np.float32)
    rabitq.turn(centroids, centre, signs, turned)
    # Spherical centroids are unit vectors already.
    kind = Metric.IP if metric is Metric.IP else Metric.L2
    list_codes, list_factors = rabitq.encode_points(centroids, centre, signs, int(kind))
    return Frame(
        centroids=centroids,
        centre=centre,
        signs=signs,
        turned=turned,
        list_codes=list_codes,
        list_factors=list_factors,
    )


def empty_codes(frame: Frame, rows: int) -> Codes:
    """Return codes of `rows` rows, all zeros, to be filled."""
    size = frame.signs.shape[1]
    return Codes(
        centre=frame.centre,
        signs=frame.signs,
        codes=np.zeros((_blocks(rows), size // 8, BLOCK), np.uint8),
        factors=np.zeros((_blocks(rows), rabitq.FACTORS, BLOCK), np.float32),
        fine=np.zeros((rows, size // 2), np.uint8),
        fine_factors=np.zeros((rows, rabitq.FINE_FACTORS), np.float32),
        list_codes=frame.list_codes,
        list_factors=frame.list_factors,
    )


def encode_part(
    chunks: Iterable[Float32s],
    labels: npt.NDArray[np.int32],
    frame: Frame,
    metric: Metric,
    progress: Progress,
) -> Codes:
    """Encode the vectors that `chunks` yields in list order; `labels` (n,) is the list of each."""
    n = len(labels)
    out = empty_codes(frame, n)

    def work(first: int, rows: Float32s) -> None:
        rabitq.encode(
            int(metric),
            rows,
            labels[first : first + len(rows)],
            frame.centroids,
            frame.centre,
            frame.signs,
            frame.turned,
            first,
            out.codes,
            out.factors,
            out.fine,
            out.fine_factors,
        )

    progress.start("encode", n)
    try:
        if n <= _CHUNK_ROWS:  # threads would cost more than they save
            at = 0
            for chunk in chunks:
                work(at, chunk)
                at += len(chunk)
            return out
        # Chunks begin at multiples of a block, so that no two threads write to the same word.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            at = 0
            for chunk in chunks:
                pieces = [
                    (at + i, chunk[i : i + _CHUNK_ROWS]) for i in range(0, len(chunk), _CHUNK_ROWS)
                ]
                for _ in pool.map(work, *zip(*pieces, strict=True)):
                    pass
                at += len(chunk)
                progress.advance(len(chunk))
    finally:
        progress.finish()
    return out
