"""Faces of pictures: found, aligned, and described."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridq.errors import DataError, Error
from udfs.open_analytic.models import centerface, face_nets, geometry
from udfs.open_analytic.values import Box, Picture, Region

# Where the landmarks of an upright face come to lie in a chip of 150 pixels. The eyes are where
# dlib's descriptor was trained to have them; the other points are the mean of CenterFace's over
# ORL's 400 faces, made symmetric. The size is the best of five tried there (EER .0039).
_TEMPLATE = np.array([[47.0, 45.0], [102.0, 45.0], [74.5, 75.9], [51.95, 98.6], [97.05, 98.6]])


class Faces:
    """Finds faces: pictures in, regions with boxes, landmarks and aligned chips of 150 pixels out.

    `side` is what the longer side of a picture is resized to before: smaller is faster, larger
    finds smaller faces. `min_score` is the least confidence of a face, `limit` how many a picture
    may have; where `required`, a picture without a face is a DataError.
    """

    def __init__(
        self,
        *,
        side: int = 640,
        min_score: float = 0.5,
        limit: int = 100,
        required: bool = False,
    ) -> None:
        self._detector = centerface.detector()
        self._side = side
        self._min_score = min_score
        self._limit = limit
        self._required = required

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the faces (list[Region]) of each picture, largest first, or its error."""
        return [self._faces(picture) for picture in pictures]

    def _faces(self, picture: Picture) -> list[Region] | Error:
        try:
            pixels = picture.pixels()
        except DataError as error:
            return error
        found = self._detector.detect([pixels], side=self._side, min_score=self._min_score)[0]
        if self._required and not len(found.boxes):
            return DataError("no face was found")
        order = np.argsort(-geometry.areas(found.boxes), kind="stable")[: self._limit]
        return [
            Region(
                box=Box(*map(float, found.boxes[i])),
                score=float(found.scores[i]),
                landmarks=found.landmarks[i],
                picture=Picture(pixels=aligned(pixels, found.landmarks[i])),
            )
            for i in order
        ]


def aligned(pixels: Any, landmarks: Any) -> Any:
    """Return the face with these landmarks (5, 2), turned upright, as RGB (150, 150, 3)."""
    side = face_nets.CHIP_PIXELS
    return geometry.warped(pixels, geometry.similarity(landmarks, _TEMPLATE), side, side)


class Descriptors:
    """Vectors (128,) of faces, near (L2 below .6) for one person; pictures must be aligned chips.

    A picture that was not cut out by `Faces` is taken for a chip as it is.
    """

    dim = 128

    def __init__(self) -> None:
        self._net = face_nets.face_descriptor()

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the vector of each face, or its error."""
        return [self._vector(picture) for picture in pictures]

    def _vector(self, picture: Picture) -> Any:
        try:
            return self._net.embed(picture.square(face_nets.CHIP_PIXELS)[None])[0]
        except DataError as error:
            return error


class People:
    """Gender and apparent age of faces: those of `facts`.

    Gives {"gender": "male" | "female", "gender_score": .5 … 1, "age": years}. Both are a net's
    guess at looks, and no statement about a person.
    """

    def __init__(self, facts: Sequence[str] = ("gender", "age")) -> None:
        self._net = face_nets.age_gender()
        self._facts = facts

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the facts (dict) of each face, or its error."""
        return [self._guess(picture) for picture in pictures]

    def _guess(self, picture: Picture) -> Any:
        try:
            # By way of the chip's size, so that a face is the same pixels to every net.
            chip = picture.square(face_nets.CHIP_PIXELS)
        except DataError as error:
            return error
        side = self._net.side_pixels
        found = self._net.predict(geometry.resized(chip, side, side)[None])
        male = float(found.male[0])
        guess: dict[str, Any] = {}
        if "gender" in self._facts:
            guess["gender"] = "male" if male >= 0.5 else "female"
            guess["gender_score"] = round(max(male, 1 - male), 4)
        if "age" in self._facts:
            guess["age"] = round(float(found.years[0]), 1)
        return guess
