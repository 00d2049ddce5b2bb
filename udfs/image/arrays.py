"""The arrays that pictures and their vectors are, and the arithmetics networks run in."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import numpy.typing as npt

Precision = Literal["bf16", "fp32"]
Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


def packed(**arrays: npt.NDArray[np.generic]) -> bytes:
    """Return arrays as bytes, for a database to keep."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def unpacked(data: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays of `packed`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)
