"""A model at work: networks' maps pooled at every scale, and projected. Imports torch."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from udfs.image import backbones
from udfs.image.arrays import Pixels, Precision, Vectors
from udfs.image.decode import squeezed
from udfs.image.models import ModelInfo, Projection
from udfs.image.pooling import POOLINGS


class FeatureModel:
    """Pictures (n, side, side, 3) to L2-normalised vectors (n, dim)."""

    def __init__(self, info: ModelInfo, precision: Precision) -> None:
        self._network = backbones.load(info.backbone, info.weights, precision)
        self.batch_rows = self._network.batch_rows
        self._pool = POOLINGS[info.pooling]
        self._sides = info.sides_pixels
        self._project = None if info.projection is None else Projector(info.projection)

    def embed(self, images: Pixels) -> Vectors:
        """Return the vectors of pictures."""
        return self.finished(self.pooled(images))

    def pooled(self, images: Pixels) -> Vectors:
        """Return the pooled features (n, channels): what models of one network share."""
        with torch.inference_mode():
            return _array(self._pooled(images))

    def finished(self, pooled: Vectors) -> Vectors:
        """Return the vectors of pooled features."""
        with torch.inference_mode():
            # Row by row: a matrix is rounded otherwise than its rows, and a picture's vector must
            # not depend on its neighbours in the batch.
            rows = [_normalised(row) for row in torch.from_numpy(pooled)]
            if self._project is not None:
                rows = [self._project(row) for row in rows]
            return _array(torch.stack(rows))

    def _pooled(self, images: Pixels) -> torch.Tensor:
        # Each scale counts the same: Radenović et al., TPAMI 2018, section 5.2.
        pooled = [self._pool(self._network.maps(_resized(images, side))) for side in self._sides]
        if len(pooled) == 1:
            return pooled[0]
        return torch.stack([functional.normalize(one, dim=1) for one in pooled]).mean(0)


class Projector:
    """Normalised features (c,) to normalised vectors (dim,)."""

    def __init__(self, projection: Projection) -> None:
        self._centre = torch.from_numpy(projection.centre)
        self._matrix = torch.from_numpy(projection.matrix)

    def __call__(self, row: torch.Tensor) -> torch.Tensor:
        """Return the vector of one row."""
        return _normalised(torch.mv(self._matrix, row - self._centre))


def _resized(images: Pixels, side: int) -> Pixels:
    if images.shape[1] == side:
        return images
    return np.stack([squeezed(image, side) for image in images])


def _normalised(vector: torch.Tensor) -> torch.Tensor:
    return functional.normalize(vector, dim=0)


def _array(rows: torch.Tensor) -> Vectors:
    array: Vectors = rows.numpy()
    return array
