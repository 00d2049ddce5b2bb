"""Boxes, similarity transforms and crops. Imports Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from udfs.open_analytic.values import Box, Pixels

Points = npt.NDArray[Any]
Boxes = npt.NDArray[Any]
"""(n, 4): left, top, right, bottom."""


def similarity(source: Points, target: Points) -> npt.NDArray[np.float64]:
    """Return the (2, 3) rotation, scale and shift that brings `source` (n, 2) nearest `target`.

    Least squares without reflection (Umeyama, PAMI 13(4), 1991, eqs. 40–42).
    """
    a, b = source.astype(np.float64), target.astype(np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, d, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a) / len(a))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = u @ np.diag(sign) @ vt
    variance = ((a - mean_a) ** 2).sum() / len(a)
    scale = (d * sign).sum() / max(variance, 1e-12)
    shift = mean_b - scale * rotation @ mean_a
    return np.hstack([scale * rotation, shift[:, None]])


def warped(
    pixels: Pixels,
    matrix: npt.NDArray[np.float64],
    width: int,
    height: int,
    *,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> Pixels:
    """Return the (height, width, 3) picture that the affine `matrix` (2, 3) makes of `pixels`.

    Points x of `pixels` go to `matrix` · (x, 1), both counted from corners of pixels. Outside is
    black. What shrinks by more than 2 is averaged first, so that nothing is skipped.
    """
    full = np.vstack([matrix, [0.0, 0.0, 1.0]])
    back = np.linalg.inv(full)
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]).T
    seen = (back @ corners)[:2]
    low = np.floor(seen.min(1) - 2).astype(int).clip(0)
    high = np.ceil(seen.max(1) + 2).astype(int).clip(None, pixels.shape[1::-1])
    if (high <= low).any():
        return np.zeros((height, width, 3), np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]]))
    shrink = max(int(np.sqrt(abs(np.linalg.det(back[:2, :2])))), 1)
    if shrink > 1:
        image = image.reduce(shrink)
    # From chip to the reduced crop.
    to_crop = np.diag([1 / shrink, 1 / shrink, 1.0]) @ np.array(
        [[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]]
    )
    coefficients = (to_crop @ back)[:2].reshape(-1)
    chip = image.transform(
        (width, height),
        Image.Transform.AFFINE,
        tuple(coefficients),
        resample=resample,
    )
    return np.asarray(chip)


def cropped(pixels: Pixels, box: Box) -> Pixels:
    """Return the part of `pixels` in `box`, at least one pixel of it."""
    height, width = pixels.shape[:2]
    left, top = min(int(box.left), width - 1), min(int(box.top), height - 1)
    right, bottom = max(int(np.ceil(box.right)), left + 1), max(int(np.ceil(box.bottom)), top + 1)
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return `pixels` resampled (bilinear over the area a pixel stands for)."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def padded(pixels: Pixels, multiple: int) -> Pixels:
    """Return `pixels` with black to the right and below, up to multiples of `multiple`."""
    height, width = pixels.shape[:2]
    full = np.zeros(
        (-(-height // multiple) * multiple, -(-width // multiple) * multiple, 3), np.uint8
    )
    full[:height, :width] = pixels
    return full


def clipped(boxes: Boxes, width: int, height: int) -> Boxes:
    """Return the boxes cut at the edges of a picture."""
    return boxes.clip(0, np.array([width, height, width, height]))


def areas(boxes: Boxes) -> npt.NDArray[Any]:
    """Return the area of each box, 0 of a reversed one."""
    size = (boxes[:, 2:] - boxes[:, :2]).clip(0)
    return np.asarray(size[:, 0] * size[:, 1])


def suppressed(
    boxes: Boxes, scores: npt.NDArray[Any], overlap: float, classes: npt.NDArray[Any] | None = None
) -> list[int]:
    """Return the boxes to keep, best first: those that no better one (of their class) covers.

    Two boxes are one thing where their intersection is more than `overlap` of their union.
    """
    order = np.argsort(-scores, kind="stable")
    area = areas(boxes)
    kept: list[int] = []
    while len(order):
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        low = np.maximum(boxes[rest, :2], boxes[best, :2])
        high = np.minimum(boxes[rest, 2:], boxes[best, 2:])
        common = (high - low).clip(0).prod(1)
        union = area[rest] + area[best] - common
        same = common > overlap * union
        if classes is not None:
            same &= classes[rest] == classes[best]
        order = rest[~same]
    return kept
