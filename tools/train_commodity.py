# ruff: noqa: T201 - a script, it reports on standard output
"""Trains and measures the commodity recognizers; writes udfs/open_analytic/weights/commodity.npz.

    python tools/train_commodity.py fashion.parquet CACHE_FOLDER

The Parquet file is the data set Fashion Product Images (Small) with the columns id, image (JPEG),
gender, master_category, sub_category, article_type, base_colour, season, usage. Features are kept
in CACHE_FOLDER; they take some 6 minutes on two cores. A fixed random choice of 5,000 photos is
held out: the heads written are those measured on them.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from udfs.image import models, workers
from udfs.open_analytic import colours, commodity, fit
from udfs.open_analytic.heads import Head, image_features
from udfs.open_analytic.values import Picture

TARGET = Path(__file__).parent.parent / "udfs" / "open_analytic" / "weights" / "commodity.npz"
COLUMNS = {
    "category": "master_category",
    "sub_category": "sub_category",
    "article_type": "article_type",
    "gender": "gender",
    "colour": "base_colour",
    "season": "season",
    "usage": "usage",
}
WITHIN = {
    "female_cloth": "master_category = 'Apparel' AND gender IN ('Women', 'Unisex')",
    "male_cloth": "master_category = 'Apparel' AND gender IN ('Men', 'Unisex')",
    "child_cloth": "master_category = 'Apparel' AND gender IN ('Boys', 'Girls')",
    "shoe": "master_category = 'Footwear'",
    "bag": "sub_category IN ('Bags', 'Wallets')",
}
SHAPES = commodity.SHAPES
"""What does not depend on colours: there they only mislead (article type .863 instead of .871)."""
HELD_OUT = 5000
LEAST_ROWS = 3
"""A class that occurs less often within a kind of items is taken for a mistake there."""

Matrix = npt.NDArray[np.float32]


def features(parquet: Path, cache: Path) -> Matrix:
    """Return the features of all photos, in the order of their ids."""
    path = cache / "commodity-features.npy"
    if path.exists():
        return np.asarray(np.load(path), np.float32)
    make = image_features(models.describe(commodity.MODEL), "bf16", with_colours=True)
    photos = duckdb.execute("SELECT image FROM read_parquet(?) ORDER BY id", [str(parquet)])
    parts: list[Any] = []
    while rows := photos.fetchmany(2000):
        batches = [
            [Picture(data) for (data,) in rows[at : at + 8]] for at in range(0, len(rows), 8)
        ]
        for made in workers.pool().map(make, batches):
            parts.extend(made)
        print(f"{len(parts):,} photos", flush=True)
    found = np.stack(parts)
    np.save(path, found.astype(np.float16))
    return np.asarray(np.load(path), np.float32)


def combinations(parquet: Path, arrays: dict[str, Any]) -> Any:
    """Return (n, 3): the classes of `SHAPES` that occur together, often enough to be no mistake."""
    columns = ", ".join(f"coalesce({COLUMNS[name]}, 'NA')" for name in SHAPES)
    found = duckdb.execute(
        f"SELECT {columns} FROM read_parquet(?) GROUP BY ALL HAVING count(*) >= ? ORDER BY ALL",
        [str(parquet), LEAST_ROWS],
    ).fetchall()
    places = [{one: at for at, one in enumerate(arrays[f"{name}_classes"])} for name in SHAPES]
    rows = [[place[one] for place, one in zip(places, row, strict=True)] for row in found]
    return np.array(rows, np.uint8)


def report_together(rows: Matrix, made: dict[str, tuple[Head, Any]], known: Any) -> None:
    """Print how often the classes are right that are chosen together."""
    odds = [made[name][0].probabilities(rows) for name in SHAPES]
    chosen = [commodity.together(known, row) for row in zip(*odds, strict=True)]
    for name in SHAPES:
        right = np.mean([one[name] for one in chosen] == made[name][1])
        print(f"{name:13} chosen together with the others: {right:.3f}", flush=True)


def main() -> None:
    """Extract, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", type=Path)
    parser.add_argument("cache", type=Path)
    arguments = parser.parse_args()
    rows = features(arguments.parquet, arguments.cache)
    fitted, measured = fit.split(len(rows), HELD_OUT / len(rows))
    arrays: dict[str, Any] = {}
    made: dict[str, tuple[Head, Any]] = {}
    for name, column in COLUMNS.items():
        labels = np.array(
            [
                label or "NA"
                for (label,) in duckdb.execute(
                    f"SELECT {column} FROM read_parquet(?) ORDER BY id", [str(arguments.parquet)]
                ).fetchall()
            ]
        )
        classes, wanted = np.unique(labels, return_inverse=True)
        used = rows.shape[1] - (colours.BINS if name in SHAPES else 0)
        weight, bias = fit.classifier(rows[fitted, :used], wanted[fitted], len(classes))
        weight = np.pad(weight, ((0, 0), (0, rows.shape[1] - used)))
        scale = np.abs(weight).max(1, keepdims=True) / 127
        small = np.round(weight / scale).astype(np.int8)
        head = Head(small * scale, bias, tuple(classes))
        made[name] = (head, wanted[measured])
        right = fit.share_right(rows[measured], wanted[measured], head.weight, head.bias)
        majority = (wanted[measured] == np.bincount(wanted[fitted]).argmax()).mean()
        print(
            f"{name:13} {len(classes):4} classes  {right:.3f}  (majority {majority:.3f})",
            flush=True,
        )
        arrays |= {
            f"{name}_weight": small,
            f"{name}_scale": scale.astype(np.float32),
            f"{name}_bias": bias.astype(np.float32),
            f"{name}_classes": classes,
        }
        for kind, condition in WITHIN.items():
            counts = dict(
                duckdb.execute(
                    f"SELECT coalesce({column}, 'NA'), count(*) FROM read_parquet(?) "
                    f"WHERE {condition} GROUP BY ALL",
                    [str(arguments.parquet)],
                ).fetchall()
            )
            arrays[f"{name}_of_{kind}"] = np.array(
                [counts.get(one, 0) >= LEAST_ROWS for one in classes]
            )
    arrays["combinations"] = combinations(arguments.parquet, arrays)
    report_together(rows[measured], made, arrays["combinations"].astype(np.intp))
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, **arrays)
    digest = hashlib.sha256(TARGET.read_bytes()).hexdigest()
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
