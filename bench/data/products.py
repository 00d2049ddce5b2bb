"""Product photos with ten attributes: Kaggle's Fashion Product Images, a folder or a Parquet file.

The file has columns id, image (BLOB), gender, master_category, sub_category, article_type,
base_colour, season, year, usage, name. A folder has `styles.csv` and `images/<id>.jpg`. 500
products are the queries. HYBRIDQ_PRODUCTS names the file or folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.dataset import CACHE, DataError, Dataset, invented, save
from bench.data.features import features

QUERIES = 500
VARIABLE = "HYBRIDQ_PRODUCTS"
_ROOT = Path(__file__).parent.parent.parent
_PLACES = [d / "shared/data/fashion.parquet" for d in (_ROOT, *_ROOT.parents[:2])]
_TEXT = ("gender", "master_category", "sub_category", "article_type", "base_colour", "season")
_STYLES = {
    **dict.fromkeys(("id", "gender", "season", "year", "usage")),
    "masterCategory": "master_category",
    "subCategory": "sub_category",
    "articleType": "article_type",
    "baseColour": "base_colour",
    "productDisplayName": "name",
}


def source() -> Path:
    """Return where the products are; DataError where they are not."""
    named = os.environ.get(VARIABLE)
    places = [Path(named)] if named else _PLACES
    for place in places:
        if place.exists():
            return place
    raise DataError(
        f"product photos are not at {places[0]}: set {VARIABLE} to a Parquet file or a folder in "
        "the layout of Kaggle's Fashion Product Images"
    )


def make(folder: Path, rows: int | None) -> None:
    table = _table(source())
    order = np.random.default_rng(3).permutation(len(table["id"]))
    asked, kept = order[:QUERIES], order[QUERIES:][:rows]
    parts = CACHE / "products-features"
    images = table.pop("image")
    queries = features([images[n] for n in asked], parts, "query products")
    vectors = features([images[n] for n in kept], parts, "products")
    columns = {
        name: np.array([str(v or "") for v in table[name]]) for name in (*_TEXT, "usage", "name")
    }
    columns["product"] = np.array(table["id"], np.int64)
    columns["year"] = np.array([v or 0 for v in table["year"]], np.int16)
    save(
        folder,
        Dataset(
            vectors,
            {
                "id": np.arange(len(kept), dtype=np.int32),
                **{n: c[kept] for n, c in columns.items()},
                **invented(len(kept), len(order) - QUERIES),
            },
            queries,
            {n: c[asked] for n, c in columns.items()},
            "products",
            ("price", "stock", "tag", "article_type", "base_colour", "gender", "name"),
        ),
    )


def _table(place: Path) -> dict[str, list[Any]]:
    if place.is_file():
        import pyarrow.parquet as pq

        return dict(pq.read_table(place).to_pydict())
    import csv

    with (place / "styles.csv").open(newline="", encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file, restkey="rest")
            if (place / "images" / f"{row['id']}.jpg").exists()
        ]
    table: dict[str, list[Any]] = {
        name or key: [row[key] for row in rows] for key, name in _STYLES.items()
    }
    table["id"] = [int(v) for v in table["id"]]
    table["year"] = [int(v or 0) for v in table["year"]]
    table["image"] = [(place / "images" / f"{n}.jpg").read_bytes() for n in table["id"]]
    return table
