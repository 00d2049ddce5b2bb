"""Models that a database made itself: a network with a projection fitted on its own pictures."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from hybridq.errors import ProgrammingError
from hybridq.extensions import Context, StoredObject
from udfs.image import models
from udfs.image.arrays import Vectors, packed, unpacked
from udfs.image.models import ModelInfo, Projection

KIND = "model"


class Models:
    """Finds models by name: those everyone has, and those of one database."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stored: dict[str, tuple[StoredObject, ModelInfo]] = {}
        self._composed: dict[Any, ModelInfo] = {}

    def model(
        self,
        name: str,
        weights: str | None = None,
        pooling: str | None = None,
        scales: tuple[float, ...] | None = None,
    ) -> ModelInfo:
        """Return a model; ProgrammingError where there is none or it cannot be had so."""
        whole = weights is None and pooling is None and scales is None
        if name in models.known():
            if whole:
                return models.describe(name)
            if name == models.DEFAULT_MODEL:
                raise _complete(name)
            return models.composed(name, weights=weights, pooling=pooling, scales=scales)
        stored = self._context.objects.get(KIND, name)
        if stored is None:
            names = [*models.known(), *self._context.objects.names(KIND)]
            raise ProgrammingError(
                f'model "{name}" does not exist', hint="models: " + ", ".join(names)
            )
        if not whole:
            raise _complete(name)
        kept = self._stored.get(name)
        if kept is None or kept[0] is not stored:
            kept = self._stored[name] = (stored, _read(name, stored))
        return kept[1]

    def put(self, info: ModelInfo) -> None:
        """Keep a model under its name, in the place of one the database had."""
        if info.name in models.known():
            raise ProgrammingError(
                f'model "{info.name}" exists in every database', hint="choose another name"
            )
        assert info.projection is not None
        options = {
            "backbone": info.backbone,
            "weights": info.weights,
            "pooling": info.pooling,
            "scales": list(info.scales),
            "version": info.version,
        }
        projection = info.projection
        data = packed(centre=projection.centre, matrix=projection.matrix.astype(np.float16))
        self._context.objects.put(KIND, info.name, options, data)


def _complete(name: str) -> ProgrammingError:
    return ProgrammingError(
        f'model "{name}" has its own weights, pooling and scales', hint="name the model alone"
    )


def _read(name: str, stored: StoredObject) -> ModelInfo:
    arrays = unpacked(stored.data)
    options = stored.options
    centre, matrix = (
        cast("Vectors", arrays[part].astype(np.float32)) for part in ("centre", "matrix")
    )
    return models.composed(
        options["backbone"],
        weights=options["weights"],
        pooling=options["pooling"],
        scales=options["scales"],
        projection=Projection(centre, matrix),
        name=name,
    )
