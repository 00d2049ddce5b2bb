"""What flows between operators: pictures, regions of pictures, labels, sound.

Heavy libraries are not imported here; a picture is decoded when an operator asks for its pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]

LONGEST_PIXELS = 2048
"""Of a whole picture: bounds the memory of a batch, and no detector here sees more."""


class Picture:
    """A picture file, or a part of a picture; decoded once at each size however many ask.

    Both methods raise `hybridq.errors.DataError` where the bytes are no usable picture, and do so
    again when asked again.
    """

    def __init__(self, data: bytes | None = None, *, pixels: Pixels | None = None) -> None:
        """Take the bytes of a file, or upright RGB `pixels` (h, w, 3)."""
        if (data is None) == (pixels is None):
            raise ValueError("a picture is bytes or pixels")
        self._data = data
        self._pixels = pixels
        self._scale = 1.0
        self._squares: dict[int, Pixels] = {}
        self.shared: dict[Any, Any] = {}
        """What operators found that others need too, e.g. a network's features by its version."""
        self._lock = threading.Lock()

    def pixels(self) -> Pixels:
        """Return the whole picture upright, on white, as RGB (h, w, 3).

        A picture longer than `LONGEST_PIXELS` is reduced to that. Operators state places in these
        pixels; whoever shows them multiplies by `scale`.
        """
        with self._lock:
            if self._pixels is None:
                from udfs.image import decode  # imports Pillow

                assert self._data is not None
                self._pixels, self._scale = decode.decode_whole(self._data, LONGEST_PIXELS)
            return self._pixels

    @property
    def scale(self) -> float:
        """How many pixels of the file one of `pixels()` stands for: 1 or more."""
        return self._scale

    def square(self, side: int) -> Pixels:
        """Return the picture squeezed into a square, as RGB (side, side, 3).

        The same pixels whether or not the whole picture was decoded before: vectors depend on them.
        """
        with self._lock:
            if side not in self._squares:
                from udfs.image import decode

                if self._data is not None:
                    self._squares[side] = decode.decode(self._data, side)
                else:
                    assert self._pixels is not None
                    self._squares[side] = decode.squeezed(self._pixels, side)
            return self._squares[side]


class Box(NamedTuple):
    """A rectangle in pixels of `Picture.pixels()`: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(slots=True, kw_only=True)
class Region:
    """A thing found in a picture, and what later operators found out about it."""

    box: Box
    score: float
    """Confidence, 0 to 1."""
    label: str | None = None
    landmarks: npt.NDArray[np.float32] | None = None
    """Points (n, 2), x and y in pixels of `Picture.pixels()`."""
    picture: Picture | None = None
    """The thing alone: an aligned chip of a face, a crop of an object."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Outputs of the operators applied to `picture`, by their JSON keys."""


class Label(NamedTuple):
    """A class and its probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Sound:
    """One channel of sound: samples (n,) float32 within -1 … 1, at `rate` Hz."""

    samples: Vector
    rate: int


Facts = Mapping[str, Any]
"""What an operator of type `json` found: JSON values by key."""
