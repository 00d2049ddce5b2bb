"""Networks whose weights are files of the user's, and the poolings of their maps."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridq
from hybridq.errors import DataError, OperationalError, ProgrammingError
from udfs.image import backbones, efficientnet, networks, pooling


def weights_of(name: str) -> dict[str, torch.Tensor]:
    """Return random weights with the names a file of torchvision has."""
    torch.manual_seed(3)
    prefix = "" if name in networks.RESNETS else "features."
    return {
        prefix + key: tensor.clone() for key, tensor in networks.module(name).state_dict().items()
    }


def safetensors(weights: dict[str, torch.Tensor]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, at = [], 0
    for name, tensor in weights.items():
        raw = tensor.contiguous().numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        header[name] = {
            "dtype": kind,
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(raw)],
        }
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def vector(con: hybridq.Connection, image: bytes, model: str, path: Path, **more: str) -> Any:
    extra = "".join(f", {key} => {value}" for key, value in more.items())
    return con.execute(
        f"SELECT extract_feature(?, model => '{model}', weights => ?{extra})", [image, str(path)]
    ).fetchall()[0][0]


@pytest.mark.parametrize(
    ("name", "dim"),
    [
        ("resnet18", 512),
        ("resnet50", 2048),
        ("vgg11", 512),
        ("vgg11_bn", 512),
        ("squeezenet1_0", 512),
        ("squeezenet1_1", 512),
    ],
)
def test_networks_by_path(
    con: hybridq.Connection, photos: list[bytes], tmp_path: Path, name: str, dim: int
) -> None:
    path = tmp_path / f"{name}.pth"
    torch.save(weights_of(name), path)
    found = np.array(vector(con, photos[0], name, path), np.float32)
    assert found.shape == (dim,)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    other = np.array(vector(con, photos[5], name, path), np.float32)
    assert not np.allclose(found, other)


def test_file_formats_agree(con: hybridq.Connection, photos: list[bytes], tmp_path: Path) -> None:
    weights = weights_of("squeezenet1_1")
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "a.pt")
    (tmp_path / "b.safetensors").write_bytes(safetensors(weights))
    a, b = (
        vector(con, photos[0], "squeezenet1_1", tmp_path / file)
        for file in ("a.pt", "b.safetensors")
    )
    assert a == b
    assert a != vector(con, photos[0], "squeezenet1_1", tmp_path / "a.pt", pooling="'rmac'")


def test_other_weights_are_another_model(
    con: hybridq.Connection, photos: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    weights = weights_of("squeezenet1_1")
    torch.save(weights, path)
    before = vector(con, photos[0], "squeezenet1_1", path)
    torch.save({name: tensor * 0.9 for name, tensor in weights.items()}, path)
    assert vector(con, photos[0], "squeezenet1_1", path) != before


def test_weights_that_cannot_be_used(
    con: hybridq.Connection, photos: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(OperationalError, match=r"none\.pth.* cannot be read"):
        vector(con, photos[0], "resnet18", tmp_path / "none.pth")
    torch.save(weights_of("squeezenet1_1"), tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"not those of resnet18: 'conv1\.weight' is missing"):
        vector(con, photos[0], "resnet18", tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"not those of squeezenet1_0: features\.0\.weight is"):
        vector(con, photos[0], "squeezenet1_0", tmp_path / "other.pth")
    (tmp_path / "text.pth").write_bytes(b"no weights at all")
    (tmp_path / "text.safetensors").write_bytes(b"no weights at all")
    (tmp_path / "short.safetensors").write_bytes(b"abc")
    for name in ("text.pth", "text.safetensors", "short.safetensors"):
        with pytest.raises(DataError, match="damaged or of an unknown format"):
            vector(con, photos[0], "resnet18", tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(DataError, match="hold a list, not a state_dict"):
        vector(con, photos[0], "resnet18", tmp_path / "list.pth")


def test_a_file_is_not_executed(
    con: hybridq.Connection, photos: list[bytes], tmp_path: Path
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(DataError):
        vector(con, photos[0], "resnet18", tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "vgg16_bn", "squeezenet1_0", "mobilenet_v2"]
)
def test_architectures_are_those_of_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = getattr(models, name)(weights=None).eval()
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    scaling = efficientnet.IMAGENET_SCALING
    if name == "mobilenet_v2":
        network: Any = efficientnet.mobilenet_v2(model.state_dict(), "fp32")
    else:
        network = networks.TorchNetwork(name, model.state_dict(), scaling)
    centre, spread = (torch.tensor(part).reshape(-1, 1, 1) for part in scaling)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - centre) / spread
    layers = list(model.children())
    body = layers[:-2] if name.startswith("resnet") else list(model.features.children())
    body = body[:-1] if name.startswith("vgg") else body
    with torch.inference_mode():
        expected = torch.nn.Sequential(*body)(pixels)
    assert torch.allclose(network.maps(images), expected, rtol=1e-3, atol=1e-4)


def test_mobilenet_by_path(con: hybridq.Connection, photos: list[bytes], tmp_path: Path) -> None:
    torch.save({"features.0.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "m.pth")
    with pytest.raises(DataError, match="not those of mobilenet_v2"):
        vector(con, photos[0], "mobilenet_v2", tmp_path / "m.pth")


def test_every_backbone_says_where_weights_come_from(
    con: hybridq.Connection, photos: list[bytes]
) -> None:
    for name, about in backbones.BACKBONES.items():
        if about.packaged is None:
            with pytest.raises(ProgrammingError, match=f'weights for "{name}"') as caught:
                con.execute(f"SELECT extract_feature(?, model => '{name}')", [photos[0]])
            assert f"weights => '{name}.pth'" in str(caught.value.hint)


# -- poolings --------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_poolings(height: int, width: int, seed: int) -> None:
    maps = torch.from_numpy(
        np.random.default_rng(seed).random((2, 3, height, width), np.float32) * 4
    )
    exact = maps.double().numpy()
    average, maximum, gem, rmac = (pool(maps).numpy() for pool in pooling.POOLINGS.values())
    assert np.allclose(average, exact.mean((2, 3)), atol=1e-5)
    assert np.array_equal(maximum, maps.numpy().max((2, 3)))
    assert np.allclose(gem, (exact**3).mean((2, 3)) ** (1 / 3), rtol=1e-3, atol=1e-4)
    assert (average <= gem * 1.001 + 1e-5).all()
    assert (gem <= maximum * 1.001 + 1e-5).all()
    summed = np.zeros((2, 3))
    for top, left, side in pooling.regions(height, width):
        assert 0 <= top <= top + side <= height
        assert 0 <= left <= left + side <= width
        region = exact[:, :, top : top + side, left : left + side].max((2, 3))
        summed += region / np.linalg.norm(region, axis=1, keepdims=True).clip(1e-12)
    assert np.allclose(rmac, summed, atol=1e-4)


def test_regions_of_a_square_are_those_of_the_paper() -> None:
    sides = [side for _, _, side in pooling.regions(7, 7)]
    assert sides == [7] + [4] * 4 + [3] * 9
    assert len(list(pooling.regions(7, 14))) > len(sides)
