"""The extension `image`: `extract_feature(image [, model])`, a picture's bytes to a vector.

Importing and registering is cheap; torch and Pillow are loaded by the first image.
"""

from __future__ import annotations

from hybridq.extensions import Registry
from udfs.image.extract import Extractor


def register(registry: Registry) -> None:
    """Add `extract_feature`."""
    extractor = Extractor(registry.context)
    registry.scalar(
        "extract_feature",
        extractor.extract_feature,
        parameters=None,
        returns="FLOAT[]",
        reads_images=True,
    )
