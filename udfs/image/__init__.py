"""The extension `image`: `extract_feature(image [, model …])`, a picture to a vector.

    extract_feature(image, model => 'efficientnet_lite1', pooling => 'gem', scales => [1, 0.7])
    extract_feature(image, model => 'resnet50', weights => 'resnet50.pth')

Importing and registering is cheap; torch and Pillow are loaded by the first image.
"""

from __future__ import annotations

from hybridq.extensions import Registry
from udfs.image.extract import Extractor
from udfs.image.models import DEFAULT_MODEL


def register(registry: Registry) -> None:
    """Add `extract_feature`."""
    extractor = Extractor(registry.context)
    registry.scalar(
        "hybridq_extract_feature",
        extractor.extract_feature,
        parameters=None,
        returns="FLOAT[]",
        reads_images=True,
    )
    registry.macro(
        "extract_feature",
        (
            "image",
            f"model := '{DEFAULT_MODEL}'",
            "weights := NULL",
            "pooling := NULL",
            "scales := NULL",
        ),
        "hybridq_extract_feature(image, model, weights, pooling, scales)",
    )
