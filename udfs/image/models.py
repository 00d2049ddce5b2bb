"""The models `extract_feature` knows, and how one is loaded.

A model is the last stage of a pipeline: decoded pictures in, vectors out. To add one, write a class
that satisfies `Model` and list it in `_CATALOG`; decoding, batching, caching, error reports and the
precision kept in the database come with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from hybridq.errors import ProgrammingError

DEFAULT_MODEL = "general_feature_extractor"

Precision = Literal["bf16", "fp32"]
Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of a model before it is loaded.

    Vectors of different versions, or of different precisions, do not compare.
    """

    name: str
    version: str
    dim: int
    side_pixels: int


class Model(Protocol):
    """A loaded model. Safe to call from several threads."""

    @property
    def batch_rows(self) -> int:
        """How many pictures a call should bring for the best speed."""

    def embed(self, images: Pixels) -> Vectors:
        """Return the L2-normalised vectors (n, dim) of RGB pictures (n, side, side, 3)."""


def _general(precision: Precision) -> Model:
    from udfs.image.efficientnet import GeneralFeature  # imports torch

    return GeneralFeature(precision)


def _lite0(precision: Precision) -> Model:
    from udfs.image.efficientnet import PooledFeature

    return PooledFeature(precision)


_LITE0 = "efficientnet-lite0-57934424"

_CATALOG: dict[str, tuple[ModelInfo, Callable[[Precision], Model]]] = {
    info.name: (info, loader)
    for info, loader in (
        (
            ModelInfo(name=DEFAULT_MODEL, version=f"{_LITE0}+pca1024-1", dim=1024, side_pixels=224),
            _general,
        ),
        (
            ModelInfo(name="efficientnet_lite0", version=_LITE0, dim=1280, side_pixels=224),
            _lite0,
        ),
    )
}

_loaded: dict[tuple[str, Precision], Model] = {}
_loading = threading.Lock()


def describe(name: str) -> ModelInfo:
    """Return what is known of the model `name`; ProgrammingError lists the names there are."""
    if name not in _CATALOG:
        raise ProgrammingError(
            f'model "{name}" does not exist', hint="models: " + ", ".join(sorted(_CATALOG))
        )
    return _CATALOG[name][0]


def load(name: str, precision: Precision) -> Model:
    """Return the model `name`, loaded once per process; ImportError where a package is missing."""
    describe(name)
    key = (name, precision)
    with _loading:
        if key not in _loaded:
            _loaded[key] = _CATALOG[name][1](precision)
        return _loaded[key]
