"""The networks that vectors can be made with: their sizes, and where their weights come from.

Importing this module is cheap; `load` imports torch.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hybridq.errors import DataError, OperationalError, ProgrammingError
from udfs.image.arrays import Pixels, Precision


class Network(Protocol):
    """A loaded network. Safe to call from several threads."""

    @property
    def batch_rows(self) -> int:
        """How many pictures a call should bring for the best speed."""

    def maps(self, images: Pixels) -> Any:
        """Return the last maps (n, channels, h, w), a float32 tensor, of RGB pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """What is known of a network before it is loaded."""

    name: str
    side_pixels: int
    channels: int
    packaged: str | None = None
    """Version of the weights that a package brings; None where the user has to give a file."""
    extra: str = "image"
    only_fp32: bool = False


def _plain(name: str, channels: int) -> Backbone:
    return Backbone(name=name, side_pixels=224, channels=channels, only_fp32=True)


BACKBONES: Final[dict[str, Backbone]] = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            name="efficientnet_lite0",
            side_pixels=224,
            channels=1280,
            packaged="efficientnet-lite0-57934424",
        ),
        Backbone(
            name="efficientnet_lite1",
            side_pixels=240,
            channels=1280,
            packaged="efficientnet-lite1-77cc7160",
            extra="backbones",
        ),
        Backbone(
            name="efficientnet_lite2",
            side_pixels=260,
            channels=1280,
            packaged="efficientnet-lite2-9656183e",
            extra="backbones",
        ),
        Backbone(name="mobilenet_v2", side_pixels=224, channels=1280),
        *(_plain(name, 512) for name in ("resnet18", "resnet34")),
        *(_plain(name, 2048) for name in ("resnet50", "resnet101", "resnet152")),
        *(_plain(f"vgg{layers}{norm}", 512) for layers in (11, 13, 16, 19) for norm in ("", "_bn")),
        *(_plain(name, 512) for name in ("squeezenet1_0", "squeezenet1_1")),
    )
}

_loaded: dict[tuple[str, str | None, Precision], Network] = {}
_loading = threading.Lock()


def describe(name: str) -> Backbone:
    """Return what is known of a network; ProgrammingError lists the names there are."""
    if name not in BACKBONES:
        raise ProgrammingError(
            f'backbone "{name}" does not exist', hint="backbones: " + ", ".join(BACKBONES)
        )
    return BACKBONES[name]


def version(name: str, path: str | None) -> str:
    """Return what tells these weights from others; ProgrammingError where a file must be given."""
    backbone = describe(name)
    if path is not None:
        from udfs.image import weights

        return f"{name}-{weights.digest(path)}"
    if backbone.packaged is None:
        raise ProgrammingError(
            f'no package brings weights for "{name}"',
            hint=f"give a file: extract_feature(image, model => '{name}', weights => '{name}.pth')",
        )
    return backbone.packaged


def load(name: str, path: str | None, precision: Precision) -> Network:
    """Return a network, loaded once per process and file; ImportError where a package is missing.

    Raises DataError for weights of another network.
    """
    key = (name, None if path is None else f"{path} {version(name, path)}", precision)
    with _loading:
        if key not in _loaded:
            _loaded[key] = _made(describe(name), path, precision)
        return _loaded[key]


def _made(backbone: Backbone, path: str | None, precision: Precision) -> Network:
    from udfs.image import efficientnet, networks, weights  # import torch

    name = backbone.name
    try:
        tensors = efficientnet.packaged_weights(name) if path is None else weights.read(path)
    except ImportError as error:
        raise OperationalError(
            f'the backbone "{name}" needs a package that is not installed: {error}',
            hint=f'pip install "hybridq-engine[{backbone.extra}]"',
        ) from error
    try:
        if name == "mobilenet_v2":
            return efficientnet.mobilenet_v2(tensors, precision)
        if name.startswith("efficientnet"):
            return efficientnet.efficientnet_lite(name, tensors, precision)
        return networks.TorchNetwork(name, tensors, efficientnet.IMAGENET_SCALING)
    except (KeyError, ValueError, RuntimeError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f'the weights "{path}" are not those of {name}: {missing}',
            hint="the names of tensors are those of torchvision",
        ) from error
