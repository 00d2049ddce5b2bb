"""CenterFace: faces and five landmarks of each.

Xu, Yan, Yang & Xu, "CenterFace: Joint Face Detection and Alignment Using Face as Point", Scientific
Programming 2020, §3: a heat map of face centres, and per centre the size, the offset within a cell
and the landmarks relative to the box.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from udfs.open_analytic.models import geometry, runtime
from udfs.open_analytic.values import Pixels

_STRIDE = 4
_MULTIPLE = 32
_OVERLAP = 0.3
_MOST_GROWN = 2.0  # small pictures are not blown up further: ORL's 400 faces of 92 x 112 are found


class Found(NamedTuple):
    """Faces of a picture, best first, in its pixels."""

    boxes: npt.NDArray[np.float32]
    """(n, 4): left, top, right, bottom."""
    scores: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]
    """(n, 5, 2): eyes, tip of the nose, corners of the mouth; the image's left first."""


class CenterFace:
    """Finds faces of 10 pixels and more, of the picture as it is resized to `side`."""

    def __init__(self) -> None:
        self._network = runtime.network("centerface")

    def detect(
        self, pictures: Sequence[Pixels], *, side: int = 640, min_score: float = 0.5
    ) -> list[Found]:
        """Return the faces of RGB pictures (h, w, 3), the longer side resized to `side` at most."""
        return [self._detect(pixels, side, min_score) for pixels in pictures]

    def _detect(self, pixels: Pixels, side: int, min_score: float) -> Found:
        height, width = pixels.shape[:2]
        scale = min(side / max(height, width), _MOST_GROWN)
        small = geometry.resized(
            pixels, max(round(width * scale), 1), max(round(height * scale), 1)
        )
        planes = geometry.padded(small, _MULTIPLE).astype(np.float32).transpose(2, 0, 1)[None]
        heat, size, offset, marks = self._network(**{"input.1": planes}).values()
        y, x = np.nonzero(heat[0, 0] > min_score)
        scores = heat[0, 0, y, x]
        high, wide = np.exp(size[0, :, y, x]).T * _STRIDE
        top = (y + offset[0, 0, y, x] + 0.5) * _STRIDE - high / 2
        left = (x + offset[0, 1, y, x] + 0.5) * _STRIDE - wide / 2
        # The factors undo the rounding of the resized sides.
        factors = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
        marks = marks[0, :, y, x].reshape(-1, 5, 2)[:, :, ::-1]  # stored as y, x
        marks = marks * np.stack([wide, high], 1)[:, None] + np.stack([left, top], 1)[:, None]
        boxes = np.stack([left, top, left + wide, top + high], 1) * np.tile(factors, 2)
        kept = geometry.suppressed(boxes, scores, _OVERLAP)
        return Found(
            geometry.clipped(boxes[kept], width, height).astype(np.float32),
            scores[kept],
            (marks[kept] * factors).astype(np.float32),
        )


@functools.cache
def detector() -> CenterFace:
    """Return the detector of this process."""
    return CenterFace()
