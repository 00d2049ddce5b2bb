"""Operators that share a network's features run it once, in batches of the size that suits it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `image` is not installed")

from udfs.image.models import describe
from udfs.open_analytic import embed
from udfs.open_analytic.values import Picture


class Model:
    """Notes how many pictures each call brings."""

    def __init__(self, batch_rows: int) -> None:
        self.batch_rows = batch_rows
        self.calls: list[int] = []

    def pooled(self, images: Any) -> Any:
        self.calls.append(len(images))
        return images.reshape(len(images), -1).mean(1, keepdims=True).astype(np.float32)


@pytest.mark.parametrize(("batch_rows", "calls"), [(3, [3, 3, 1]), (8, [7])])
def test_batches(photos: list[bytes], batch_rows: int, calls: list[int]) -> None:
    info, model = describe("efficientnet_lite0"), Model(batch_rows)
    pictures = [Picture(photo) for photo in photos[:7]]
    pictures.insert(2, Picture(b"no picture"))
    found = embed.pooled(pictures, info, "fp32", model)  # type: ignore[arg-type]
    assert model.calls == calls
    assert [isinstance(one, Exception) for one in found] == [n == 2 for n in range(8)]
    expected = [picture.square(224).mean() for n, picture in enumerate(pictures) if n != 2]
    good = [one[0] for one in found if not isinstance(one, Exception)]
    np.testing.assert_allclose(good, expected, rtol=1e-4)
    embed.pooled(pictures, info, "fp32", model)  # type: ignore[arg-type]
    assert model.calls == calls  # once, however many ask
