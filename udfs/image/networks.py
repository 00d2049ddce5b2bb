"""ResNet, VGG and SqueezeNet for weights that the user has: torchvision's names, up to the maps.

Sources: He et al., CVPR 2016, table 1; Simonyan, Zisserman, ICLR 2015, table 1; Iandola et al.,
arXiv 1602.07360, table 1 (1.0) and its release notes (1.1). Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from udfs.image.arrays import Pixels
from udfs.image.convolutions import BATCH_ROWS, Scaling, Weights

# Blocks of the four stages, and whether they are bottlenecks.
RESNETS: Final = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
# Convolutions of the five stages of 64, 128, 256, 512 and 512 channels.
VGGS: Final = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
SQUEEZENETS: Final = ("squeezenet1_0", "squeezenet1_1")


class _Residual(nn.Module):
    """A basic block, or a bottleneck."""

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outputs = width * 4 if bottleneck else width
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if hasattr(self, "conv3"):
            y = self.bn3(self.conv3(functional.relu(y)))
        return functional.relu(y + self.downsample(x))


class _Resnet(nn.Module):
    def __init__(self, blocks: tuple[int, ...], *, bottleneck: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, count in enumerate(blocks):
            width = 64 << number
            stage = nn.Sequential()
            for block in range(count):
                stride = 2 if block == 0 and number > 0 else 1
                stage.append(_Residual(inputs, width, stride, bottleneck=bottleneck))
                inputs = width * 4 if bottleneck else width
            self.add_module(f"layer{number + 1}", stage)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return x


class _Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.squeeze(x))
        return functional.relu(torch.cat((self.expand1x1(x), self.expand3x3(x)), 1))


def _vgg_layers(convolutions: tuple[int, ...], *, norms: bool) -> Iterator[nn.Module]:
    inputs = 3
    for stage, count in enumerate(convolutions):
        width = min(512, 64 << stage)
        if stage > 0:
            yield nn.MaxPool2d(2, 2)
        for _ in range(count):
            yield nn.Conv2d(inputs, width, 3, padding=1)
            if norms:
                yield nn.BatchNorm2d(width)
            yield nn.ReLU()
            inputs = width


def _squeezenet_layers(version: str) -> Iterator[nn.Module]:
    old = version == "squeezenet1_0"
    yield nn.Conv2d(3, 96 if old else 64, 7 if old else 3, 2)
    yield nn.ReLU()
    inputs = 96 if old else 64
    pooled_before = (0, 3, 7) if old else (0, 2, 4)
    for number, (squeeze, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        if number in pooled_before:
            yield nn.MaxPool2d(3, 2, ceil_mode=True)
        yield _Fire(inputs, squeeze, expand)
        inputs = 2 * expand


def module(name: str) -> nn.Module:
    """Return a network of torchvision's names, without its classifier and without weights."""
    if name in RESNETS:
        blocks, bottleneck = RESNETS[name]
        return _Resnet(blocks, bottleneck=bottleneck)
    features = (
        _squeezenet_layers(name)
        if name in SQUEEZENETS
        else _vgg_layers(VGGS[name.removesuffix("_bn")], norms=name.endswith("_bn"))
    )
    return nn.Sequential(*features)


class TorchNetwork:
    """A network of modules: pictures (n, side, side, 3) to the last maps (n, c, h, w). fp32."""

    batch_rows = BATCH_ROWS["fp32"]

    def __init__(self, name: str, weights: Weights, scaling: Scaling) -> None:
        network = module(name)
        prefix = "" if name in RESNETS else "features."
        found = {}
        for key, tensor in network.state_dict().items():
            # Old files lack the counters, which inference does not use.
            given = tensor if key.endswith("num_batches_tracked") else weights[prefix + key]
            if given.shape != tensor.shape:
                raise ValueError(
                    f"{prefix}{key} is {tuple(given.shape)}, not {tuple(tensor.shape)}"
                )
            found[key] = given
        network.load_state_dict(found)
        self._module = network.eval().requires_grad_(False)
        self._module.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's stubs
        self._centre, self._spread = (
            torch.tensor(part, dtype=torch.float32).reshape(-1, 1, 1) for part in scaling
        )

    def maps(self, images: Pixels) -> torch.Tensor:
        """Return the last maps of RGB pictures in float32."""
        with torch.inference_mode():
            x = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32)
            maps: torch.Tensor = self._module(x.sub_(self._centre).div_(self._spread))
            return maps
