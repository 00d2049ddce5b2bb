"""Objects of pictures: found, cut out, and the main one of each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridq.errors import DataError, Error
from udfs.open_analytic.models import geometry, kinds, nanodet
from udfs.open_analytic.values import Box, Picture, Pixels, Region

_MARGIN = 0.05  # of a box, around a crop: boxes are a little tight
_LEAST_SHARE = 0.03  # of a picture: a smaller thing is a detail, if not a mistake


class Objects:
    """Finds objects: pictures in, regions with boxes, labels and crops out.

    A picture is looked at with its longer side resized to 224 and to 416 pixels, and to `side` if
    that is more: 640 finds smaller objects, at more than twice the time. `min_score` is the least
    confidence, `limit` how many a picture may have; with `labels` only those kinds are looked for.
    Where `required`, a picture without one is a DataError.
    """

    def __init__(
        self,
        *,
        side: int = max(nanodet.SIDES),
        min_score: float = 0.4,
        limit: int = 100,
        labels: Sequence[str] = kinds.LABELS,
        required: bool = False,
    ) -> None:
        self._detector = nanodet.detector()
        self._sides = sorted({*nanodet.SIDES, max(side, *nanodet.SIDES)})
        self._min_score = min_score
        self._limit = limit
        self._kinds = [kind for kind, label in enumerate(kinds.LABELS) if label in labels]
        self._required = required

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the objects (list[Region]) of each picture, best first, or its error."""
        return [self._objects(picture) for picture in pictures]

    def _objects(self, picture: Picture) -> list[Region] | Error:
        try:
            pixels = picture.pixels()
        except DataError as error:
            return error
        found = self._detector.detect([pixels], sides=self._sides, min_score=self._min_score)[0]
        wanted = np.flatnonzero(np.isin(found.kinds, self._kinds))[: self._limit]
        if self._required and not len(wanted):
            return DataError("no object was found")
        return [
            Region(
                box=Box(*map(float, found.boxes[i])),
                score=float(found.scores[i]),
                label=kinds.LABELS[found.kinds[i]],
                picture=Picture(pixels=cut_out(pixels, Box(*map(float, found.boxes[i])))),
            )
            for i in wanted
        ]


class MainObjects:
    """Cuts out the main object of each picture: pictures in, pictures out.

    A picture in which nothing, or only something small, is found is its own main object: product
    photos show one thing, often of a kind the detector does not know.
    """

    def __init__(self, **settings: Any) -> None:
        """Take the settings of `Objects`."""
        self._objects = Objects(**settings)

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the crop of each picture, or its error."""
        return [
            found if isinstance(found, Error) else self._crop(picture, found)
            for picture, found in zip(pictures, self._objects(pictures), strict=True)
        ]

    def _crop(self, picture: Picture, found: list[Region]) -> Picture:
        height, width = picture.pixels().shape[:2]
        region = main(found, width, height)
        return picture if region is None or region.picture is None else region.picture


def share(box: Box, width: int, height: int) -> float:
    """Return the share of a picture that a box covers."""
    return (box.right - box.left) * (box.bottom - box.top) / (width * height)


def main(found: Sequence[Region], width: int, height: int) -> Region | None:
    """Return the main of some regions of a picture: sure, large and near the middle.

    The score counts times the square root of the share of the picture, times 1 in the middle to
    1/2 in a corner. None where no region covers 3 % of the picture.
    """

    def weight(region: Region) -> float:
        box = region.box
        x = (box.left + box.right) / width - 1
        y = (box.top + box.bottom) / height - 1
        away = min(float(np.hypot(x, y)) / np.sqrt(2), 1.0)
        return float(region.score * np.sqrt(share(box, width, height)) * (1 - away / 2))

    large = [region for region in found if share(region.box, width, height) >= _LEAST_SHARE]
    return max(large, key=weight, default=None)


def cut_out(pixels: Pixels, box: Box) -> Pixels:
    """Return the part of a picture in `box` and a small margin."""
    height, width = pixels.shape[:2]
    x, y = (box.right - box.left) * _MARGIN, (box.bottom - box.top) * _MARGIN
    return geometry.cropped(
        pixels,
        Box(
            max(box.left - x, 0),
            max(box.top - y, 0),
            min(box.right + x, width),
            min(box.bottom + y, height),
        ),
    )
