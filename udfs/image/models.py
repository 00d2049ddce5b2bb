"""The models `extract_feature` knows: a network, a pooling, scales, and perhaps a projection.

    picture ── each scale: square ── network ── pooling ── normalised ── mean ── projection

Importing this module is cheap; `load` imports torch.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Protocol

import numpy as np

from hybridq.errors import ProgrammingError
from udfs.image import backbones
from udfs.image.arrays import Pixels, Precision, Vectors

DEFAULT_MODEL: Final = "general_feature_extractor"
POOLINGS: Final = ("avg", "max", "gem", "rmac")
LARGEST_SIDE_PIXELS: Final = 1024
MOST_SCALES: Final = 5


class Model(Protocol):
    """A loaded model. Safe to call from several threads."""

    @property
    def batch_rows(self) -> int:
        """How many pictures a call should bring for the best speed."""

    def embed(self, images: Pixels) -> Vectors:
        """Return the L2-normalised vectors (n, dim) of RGB pictures (n, side, side, 3)."""

    def pooled(self, images: Pixels) -> Vectors:
        """Return the pooled features (n, channels) that models of one network share."""

    def finished(self, pooled: Vectors) -> Vectors:
        """Return the vectors (n, dim) of those features."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """An affine map of pooled features (c,) to (dim,): matrix (dim, c) of what is left of centre.

    Whitening by principal components (Jégou, Chum: Negative evidences and co-occurrences in image
    retrieval, ECCV 2012, section 3), or one learned from labels.
    """

    centre: Vectors
    matrix: Vectors

    def digest(self) -> str:
        """Return what tells it from other projections."""
        both = (np.ascontiguousarray(part, np.float32) for part in (self.centre, self.matrix))
        return hashlib.sha256(b"".join(part.tobytes() for part in both)).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """How a model makes its vectors.

    Vectors of different versions, or of different precisions, do not compare.
    """

    name: str
    version: str
    pooled_version: str
    """Version of the features before the projection."""
    dim: int
    backbone: str
    weights: str | None = None
    """The file they come from; None where a package brings them."""
    pooling: str = "avg"
    scales: tuple[float, ...] = (1.0,)
    projection: Projection | None = None

    @property
    def sides_pixels(self) -> tuple[int, ...]:
        """The sides of the squares that the network sees."""
        base = backbones.describe(self.backbone).side_pixels
        return tuple(round(base * scale) for scale in self.scales)

    @property
    def side_pixels(self) -> int:
        """The side of the square a picture is decoded to."""
        return max(self.sides_pixels)

    @property
    def only_fp32(self) -> bool:
        """Whether the network knows no other arithmetic."""
        return backbones.describe(self.backbone).only_fp32


def composed(
    backbone: str,
    *,
    weights: str | None = None,
    pooling: str | None = None,
    scales: Any = None,
    projection: Projection | None = None,
    name: str | None = None,
) -> ModelInfo:
    """Return the model of these parts; ProgrammingError says which of them cannot be."""
    about = backbones.describe(backbone)
    pooling = "avg" if pooling is None else pooling
    if pooling not in POOLINGS:
        raise ProgrammingError(
            f'pooling "{pooling}" does not exist', hint="poolings: " + ", ".join(POOLINGS)
        )
    wanted = _scales(scales, about.side_pixels)
    parts = [part for part in (pooling if pooling != "avg" else None, _scales_text(wanted)) if part]
    pooled_version = "+".join([backbones.version(backbone, weights), *parts])
    version = pooled_version
    if projection is not None:
        version += f"+projection-{projection.digest()}"
    return ModelInfo(
        name=name if name is not None else " ".join([backbone, *parts]),
        version=version,
        pooled_version=pooled_version,
        dim=about.channels if projection is None else len(projection.matrix),
        backbone=backbone,
        weights=weights,
        pooling=pooling,
        scales=wanted,
        projection=projection,
    )


def _scales(given: Any, base: int) -> tuple[float, ...]:
    if given is None:
        return (1.0,)
    scales = tuple(float(scale) for scale in given)
    if not 1 <= len(scales) <= MOST_SCALES or not all(
        32 <= base * scale <= LARGEST_SIDE_PIXELS for scale in scales
    ):
        raise ProgrammingError(
            f"scales cannot be {list(scales)}",
            hint=f"give 1 to {MOST_SCALES} factors of {base} pixels that make 32 to "
            f"{LARGEST_SIDE_PIXELS} of them, e.g. [1, 0.7]",
        )
    return scales


def _scales_text(scales: tuple[float, ...]) -> str:
    return "" if scales == (1.0,) else "scales-" + "-".join(f"{scale:g}" for scale in scales)


@functools.cache
def _general() -> ModelInfo:
    return ModelInfo(
        name=DEFAULT_MODEL,
        version="efficientnet-lite0-57934424+pca1024-1",
        pooled_version="efficientnet-lite0-57934424",
        dim=1024,
        backbone="efficientnet_lite0",
        projection=_shipped_projection(),
    )


def _shipped_projection() -> Projection:
    # Principal components of CIFAR-10's training photos (tools/fit_general_feature.py).
    with (
        files("udfs.image").joinpath("general_feature.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as fitted,
    ):
        return Projection(
            fitted["centre"].astype(np.float32), fitted["rotation"].astype(np.float32)
        )


def known() -> list[str]:
    """Return the names of the models that every database has."""
    return [DEFAULT_MODEL, *backbones.BACKBONES]


def describe(name: str, weights: str | None = None) -> ModelInfo:
    """Return what is known of the model `name`; ProgrammingError lists the names there are."""
    if name == DEFAULT_MODEL:
        return _general()
    if name not in backbones.BACKBONES:
        raise ProgrammingError(
            f'model "{name}" does not exist', hint="models: " + ", ".join(known())
        )
    return composed(name, weights=weights)


_loaded: dict[tuple[str, Precision], Model] = {}
_loading = threading.Lock()


def load(info: ModelInfo, precision: Precision) -> Model:
    """Return a model, loaded once per process; OperationalError where a package is missing."""
    key = (info.version, precision)
    with _loading:
        if key not in _loaded:
            from udfs.image.features import FeatureModel  # imports torch

            _loaded[key] = FeatureModel(info, precision)
        return _loaded[key]
