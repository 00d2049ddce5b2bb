"""The operator `embed`: pictures to vectors, sharing a network's features with other operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hybridq.errors import DataError
from udfs.image.arrays import Precision
from udfs.image.models import Model, ModelInfo, load
from udfs.open_analytic.values import Picture


class Embed:
    """Makes the vectors of one model."""

    def __init__(self, info: ModelInfo, precision: Precision) -> None:
        self._model = load(info, precision)
        self._info = info
        self._precision = precision

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the vectors (dim,) of pictures, or their errors."""
        found = pooled(pictures, self._info, self._precision, self._model)
        return each_good(found, lambda rows: list(self._model.finished(np.stack(rows))))


def pooled(
    pictures: Sequence[Picture], info: ModelInfo, precision: Precision, model: Model
) -> list[Any]:
    """Return the pooled features (channels,) of pictures, or their errors.

    A picture is run through a network once, however many operators ask.
    """
    key = (info.pooled_version, precision)
    missing = [picture for picture in dict.fromkeys(pictures) if key not in picture.shared]
    decoded = []
    for picture in missing:
        try:
            decoded.append((picture, picture.square(info.side_pixels)))
        except DataError as error:
            picture.shared[key] = error
    for at in range(0, len(decoded), model.batch_rows):
        part = decoded[at : at + model.batch_rows]
        features = model.pooled(np.stack([pixels for _, pixels in part]))
        for (picture, _), feature in zip(part, features, strict=True):
            picture.shared[key] = feature
    return [picture.shared[key] for picture in pictures]


def each_good(found: Sequence[Any], work: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Return `work` applied to what is no error, and the errors in their places."""
    good = [one for one in found if not isinstance(one, Exception)]
    made = iter(work(good) if good else ())
    return [one if isinstance(one, Exception) else next(made) for one in found]
