"""Networks that are a list of convolutions in inverted residual blocks, batch norms folded in.

Pictures are kept channels-last. Folding and this layout halve the time of EfficientNet-Lite0 as it
is packaged and change its output by less than 1e-5. Imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch.nn import functional

from udfs.image.arrays import Pixels, Precision
from udfs.image.precision import native_bf16

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Measured on one core with 1 MiB of L2: larger batches fall out of the cache.
BATCH_ROWS = {"bf16": 8, "fp32": 4}

Weights = dict[str, torch.Tensor]


class Convolution(NamedTuple):
    """A convolution and what is done with its output."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int
    groups: int
    then: Literal["relu6", "keep", "add"]
    """`keep` and `add` end a block: its output is kept for, or added to, what was kept."""


class Scaling(NamedTuple):
    """How RGB bytes become the network's input: (byte - centre) / spread, each (3,) or one."""

    centre: Sequence[float] | float
    spread: Sequence[float] | float


class ConvolutionList:
    """Pictures (n, side, side, 3) to the last maps (n, c, h, w)."""

    def __init__(
        self,
        layers: Sequence[Convolution],
        scaling: Scaling,
        precision: Precision,
        *,
        padding: Literal["tensorflow", "symmetric"],
        emulated: bool | None = None,
    ) -> None:
        # torch falls back to loops of some 50 times the time where oneDNN has no bf16. Computing
        # in fp32 and rounding what a layer yields to bf16 gives the same but for rounding.
        if emulated is None:
            emulated = precision == "bf16" and not native_bf16()
        self._emulated = emulated
        self._dtype = torch.float32 if emulated else DTYPES[precision]
        self.batch_rows = BATCH_ROWS["fp32" if emulated else precision]
        self._padding = padding
        # Bytes less 127 over 128 are exact in bf16 too; other scalings are rounded once.
        self._centre, self._spread = (
            torch.tensor(part, dtype=torch.float32).reshape(-1, 1, 1) for part in scaling
        )
        self._layers = [self._prepared(layer, precision) for layer in layers]

    def _prepared(self, layer: Convolution, precision: Precision) -> Convolution:
        weight, bias = (
            part.to(DTYPES[precision]).to(self._dtype) for part in (layer.weight, layer.bias)
        )
        weight = weight.contiguous(memory_format=torch.channels_last)
        return layer._replace(weight=weight, bias=bias)

    def _rounded(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.bfloat16).to(torch.float32) if self._emulated else x

    def maps(self, images: Pixels) -> torch.Tensor:
        """Return the last maps of RGB pictures in float32."""
        with torch.inference_mode():
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32)
            x = self._rounded(pixels.sub_(self._centre).div_(self._spread).to(self._dtype))
            kept = x
            for layer in self._layers:
                x = self._rounded(self._convolved(x, layer))
                if layer.then == "relu6":
                    x = functional.hardtanh_(x, 0.0, 6.0)
                    continue
                if layer.then == "add":
                    x = self._rounded(x.add_(kept))
                kept = x
            return x.float()

    def _convolved(self, x: torch.Tensor, layer: Convolution) -> torch.Tensor:
        kernel = layer.weight.shape[-1]
        padding = kernel // 2
        if layer.stride > 1 and self._padding == "tensorflow":
            # TensorFlow's "same": the odd pixel goes to the right and the bottom.
            before, after = zip(
                *(_same(int(size), kernel, layer.stride) for size in x.shape[2:]), strict=True
            )
            x = functional.pad(x, (before[1], after[1], before[0], after[0]))
            padding = 0
        return functional.conv2d(
            x, layer.weight, layer.bias, layer.stride, padding, 1, layer.groups
        )


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return missing // 2, missing - missing // 2


def folded(
    weights: Weights,
    convolution: str,
    norm: str,
    *,
    epsilon: float,
    stride: int = 1,
    depthwise: bool = False,
) -> Convolution:
    """Return the convolution of that name with the batch norm of that name folded in."""
    weight = weights[f"{convolution}.weight"]
    deviation = torch.sqrt(weights[f"{norm}.running_var"] + epsilon)
    scale = weights[f"{norm}.weight"] / deviation
    return Convolution(
        weight=weight * scale[:, None, None, None],
        bias=weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale,
        stride=stride,
        groups=weight.shape[0] if depthwise else 1,
        then="relu6",
    )
