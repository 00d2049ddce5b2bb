"""Which colours a picture has: a histogram, for what a network trained on kinds of things neglects.

Hue in 12, saturation in 4 and value in 4 steps, over 32 x 32 pixels, those near the middle counting
more: there the thing is. Roots are taken, so that distances are Hellinger distances.
Source: Swain, Ballard: Color indexing, IJCV 1991, section 3.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

from udfs.open_analytic.values import Picture, Pixels, Vector

HUES: Final = 12
SATURATIONS: Final = 4
VALUES: Final = 4
BINS: Final = HUES * SATURATIONS * VALUES
_SIDE: Final = 32
_DEVIATION: Final = 9.0  # pixels, of the weights around the middle
_SHARED: Final = "colours"


def colours(picture: Picture, side_pixels: int) -> Vector:
    """Return the histogram (192,) of length 1; DataError where the picture cannot be decoded.

    It is that of `picture.square(side_pixels)`, which other operators decode anyway.
    """
    key = (_SHARED, side_pixels)
    if key not in picture.shared:
        picture.shared[key] = histogram(picture.square(side_pixels))
    found: Vector = picture.shared[key]
    return found


def histogram(square: Pixels) -> Vector:
    """Return the histogram (192,) of RGB pixels (side, side, 3), side at least 32."""
    rgb = _reduced(square).reshape(-1, 3) / np.float32(255)
    value = rgb.max(1)
    spread = value - rgb.min(1)
    saturation = spread / np.maximum(value, np.float32(1e-6))
    bins = _step(_hue(rgb, value, spread), HUES)
    bins = (bins * SATURATIONS + _step(saturation, SATURATIONS)) * VALUES + _step(value, VALUES)
    counts = np.bincount(bins, weights=_weights(), minlength=BINS)
    return np.asarray(np.sqrt(counts / counts.sum()), np.float32)


def _reduced(square: Pixels) -> npt.NDArray[np.float32]:
    side = square.shape[0]
    edges = np.linspace(0, side, _SIDE + 1).astype(np.intp)
    sums = np.add.reduceat(square.astype(np.float32), edges[:-1], axis=0)
    sums = np.add.reduceat(sums, edges[:-1], axis=1)
    widths = np.diff(edges).astype(np.float32)
    reduced: npt.NDArray[np.float32] = sums / (widths[:, None] * widths)[..., None]
    return reduced


def _hue(
    rgb: npt.NDArray[np.float32], value: npt.NDArray[np.float32], spread: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    red, green, blue = rgb.T
    safe = np.maximum(spread, np.float32(1e-6))
    hue = np.where(
        value == red,
        ((green - blue) / safe) % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    # Steps are centred on the pure colours: red lies within one, not on a border.
    return np.asarray((hue / 6 + 0.5 / HUES) % 1, np.float32)


def _step(share: npt.NDArray[np.float32], steps: int) -> npt.NDArray[np.intp]:
    return np.minimum((share * steps).astype(np.intp), steps - 1)


@functools.cache
def _weights() -> npt.NDArray[np.float64]:
    offset = np.arange(_SIDE) - (_SIDE - 1) / 2
    one = np.exp(-((offset / _DEVIATION) ** 2) / 2)
    return np.outer(one, one).ravel()
