"""What is said of an aligned face: a descriptor, gender and age."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from udfs.open_analytic.models import runtime
from udfs.open_analytic.values import Pixels, Vector

CHIP_PIXELS = 150


class FaceDescriptor:
    """dlib's face recognition ResNet (King, dlib.net, 2017: 29 layers after He et al., CVPR 2016).

    Vectors of one person are mostly nearer than .6 (L2).
    """

    def __init__(self) -> None:
        self._network = runtime.network("face_descriptor")

    def embed(self, chips: Pixels) -> Vector:
        """Return the descriptors (n, 128), not normalised, of RGB chips (n, 150, 150, 3)."""
        # Chip by chip: a matrix may be rounded otherwise than its rows, and a face's vector must
        # not depend on the others in the picture.
        rows = [self._network.first(pixels=chip[None])[0] for chip in chips]
        return np.stack(rows) if rows else np.empty((0, 128), np.float32)


class Person(NamedTuple):
    """What the net thinks of each face."""

    years: npt.NDArray[np.float32]
    """Apparent age, (n,)."""
    male: npt.NDArray[np.float32]
    """Probability, (n,)."""


class AgeGender:
    """face-api's tiny Xception with two heads (Mühler, face-api.js, 2019)."""

    side_pixels = 112

    def __init__(self) -> None:
        self._network = runtime.network("age_gender")

    def predict(self, faces: Pixels) -> Person:
        """Return age and gender of RGB faces (n, 112, 112, 3)."""
        rows = [self._network(pixels=face[None]) for face in faces]
        years = [row["years"][0] for row in rows]
        return Person(
            np.array(years, np.float32), np.array([row["male"][0] for row in rows], np.float32)
        )


@functools.cache
def face_descriptor() -> FaceDescriptor:
    """Return the descriptor net of this process."""
    return FaceDescriptor()


@functools.cache
def age_gender() -> AgeGender:
    """Return the age and gender net of this process."""
    return AgeGender()
