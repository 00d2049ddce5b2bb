"""NanoDet-g: the 80 kinds of objects of COCO.

RangiLyu, NanoDet (2020): an anchor-free FCOS head on a CSP backbone, trained with Generalized Focal
Loss (Li et al., NeurIPS 2020, §3.2): a side of a box is a distribution over 0 … 10 strides.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from udfs.open_analytic.models import geometry, runtime
from udfs.open_analytic.values import Pixels

_STRIDES = (8, 16, 32)
_STEPS = 11
_OVERLAP = 0.6  # as published
# One thing taken for two kinds (cat, dog): the better guess stays.
_OVERLAP_OF_KINDS = 0.85
SIDES = (224, 416)
"""What the longer side of a picture is resized to: for large things, and as trained."""

_CANDIDATES = 1000  # a picture: beyond them, scores are mere noise


_Candidates = tuple[npt.NDArray[Any], npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Boxes (n, 4), scores and kinds."""


class Found(NamedTuple):
    """Objects of a picture, best first, in its pixels."""

    boxes: npt.NDArray[np.float32]
    """(n, 4): left, top, right, bottom."""
    scores: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int64]
    """Positions in `kinds.LABELS`."""


class NanoDet:
    """Finds objects, each picture seen at several sizes.

    The net was trained at 416 pixels; what fills a picture is better found at 224 (of 74 cut-out
    things 57, 45 at 416), what is small at 640.
    """

    def __init__(self) -> None:
        self._network = runtime.network("nanodet")
        self._steps = np.arange(_STEPS, dtype=np.float32)

    def detect(
        self, pictures: Sequence[Pixels], *, sides: Sequence[int] = SIDES, min_score: float = 0.4
    ) -> list[Found]:
        """Return the objects of RGB pictures (h, w, 3), seen at each of `sides`."""
        return [self._detect(pixels, sides, min_score) for pixels in pictures]

    def _detect(self, pixels: Pixels, sides: Sequence[int], min_score: float) -> Found:
        height, width = pixels.shape[:2]
        parts = [part for side in sides for part in self._candidates(pixels, side, min_score)]
        boxes, scores, kinds = (np.concatenate(part) for part in zip(*parts, strict=True))
        best = np.argsort(-scores, kind="stable")[:_CANDIDATES]
        boxes = geometry.clipped(boxes[best], width, height).astype(np.float32)
        scores, kinds = scores[best], kinds[best]
        seen = geometry.areas(boxes) > 0  # not wholly in the padding
        boxes, scores, kinds = boxes[seen], scores[seen], kinds[seen]
        kept = geometry.suppressed(boxes, scores, _OVERLAP, kinds)
        boxes, scores, kinds = boxes[kept], scores[kept], kinds[kept]
        kept = geometry.suppressed(boxes, scores, _OVERLAP_OF_KINDS)
        return Found(boxes[kept], scores[kept], kinds[kept])

    def _candidates(self, pixels: Pixels, side: int, min_score: float) -> Iterator[_Candidates]:
        height, width = pixels.shape[:2]
        scale = side / max(height, width)
        small = geometry.resized(
            pixels, max(round(width * scale), 1), max(round(height * scale), 1)
        )
        full = geometry.padded(small, _STRIDES[-1])
        outputs = self._network(pixels=full[None])
        factors = np.array([width / small.shape[1], height / small.shape[0]] * 2)
        for stride in _STRIDES:
            boxes, scores, kinds = self._decoded(
                outputs[f"scores{stride}"][0],
                outputs[f"boxes{stride}"][0],
                (stride, full.shape[1] // stride),
                min_score,
            )
            yield boxes * factors, scores, kinds

    def _decoded(
        self,
        scores: npt.NDArray[np.float32],
        sides: npt.NDArray[np.float32],
        grid: tuple[int, int],
        min_score: float,
    ) -> _Candidates:
        stride, columns = grid
        cells, kinds = np.nonzero(scores > min_score)
        logits = sides[cells].reshape(-1, 4, _STEPS)
        weights = np.exp(logits - logits.max(2, keepdims=True))
        # GFL eq. 5: the expectation of the distribution.
        away = (weights @ self._steps) / weights.sum(2) * stride
        x = (cells % columns + 0.5) * stride
        y = (cells // columns + 0.5) * stride
        boxes = np.stack([x, y, x, y], 1) + away * np.array([-1, -1, 1, 1])
        return boxes.astype(np.float32), scores[cells, kinds], kinds


@functools.cache
def detector() -> NanoDet:
    """Return the detector of this process."""
    return NanoDet()
