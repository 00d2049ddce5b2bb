"""Data for the benchmarks: synthetic descriptors, and features of real photos, cached.

Everything is made into a hybridq database under bench/.cache and reused. Features of 50,000 photos
take minutes on two cores; they are written a thousand at a time, so that a stopped run goes on
where it was.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import hybridq

CACHE = Path(__file__).parent / ".cache"
ALBUM = Path(__file__).parent.parent / "album-full"
_CHUNK = 1_000


@dataclass(frozen=True)
class Dataset:
    """A database with table `items(id, price, label, v)`, indexed, and queries like its rows."""

    name: str
    path: Path
    queries: npt.NDArray[np.float32]
    rows: int
    dim: int


def synthetic(rows: int = 200_000, dim: int = 128) -> Dataset:
    """Return rows on a curved manifold: a 24-d Gaussian mixture through a random tanh net."""
    path = CACHE / f"synthetic-{rows}x{dim}.duckdb"
    generator = np.random.default_rng(7)
    latent, centres = 24, 2_000
    middle = 1.2 * generator.standard_normal((centres, latent))
    first = generator.standard_normal((latent, 256)) / latent**0.5
    second = generator.standard_normal((256, dim)) / 16

    def draw(count: int) -> npt.NDArray[np.float32]:
        chosen = middle[generator.integers(0, centres, count)]
        z = chosen + 0.6 * generator.standard_normal((count, latent))
        noise = 0.03 * generator.standard_normal((count, dim))
        return (np.tanh(z @ first) @ second + noise).astype(np.float32)

    vectors, queries = draw(rows), draw(500)
    if not path.exists():
        _fill(path, vectors, generator.integers(0, 10, rows))
    return Dataset(f"synthetic {rows:,} x {dim}", path, queries, rows, dim)


def photos() -> Dataset | None:
    """Return the features of CIFAR-10's 50,000 train photos; queries are test photos.

    None where the photos are not there: `make album-full` gets them.
    """
    if not (ALBUM / "attributes.csv").exists():
        return None
    path = CACHE / "photos.duckdb"
    CACHE.mkdir(exist_ok=True)
    with hybridq.connect(path) as con:
        con.execute(
            "CREATE TABLE IF NOT EXISTS features "
            "(filename TEXT PRIMARY KEY, label TEXT, v FLOAT[1024])"
        )
        _extract(con, "photos", 50_000)
        _extract(con, "queries", 500)
        train = con.execute(
            "SELECT label, v FROM features WHERE filename LIKE '%/photos/%' ORDER BY filename"
        ).fetchall()
        test = con.execute(
            "SELECT v FROM features WHERE filename LIKE '%/queries/%' ORDER BY filename"
        ).fetchall()
    vectors = np.array([row[1] for row in train], np.float32)
    names = sorted({row[0] for row in train})
    labels = np.array([names.index(row[0]) for row in train])
    items = CACHE / "photo-items.duckdb"
    if not items.exists():
        _fill(items, vectors, labels)
    queries = np.array([row[0] for row in test], np.float32)
    return Dataset(f"CIFAR-10 photos {len(vectors):,} x 1024", items, queries, len(vectors), 1024)


def _extract(con: hybridq.Connection, folder: str, limit: int) -> None:
    files = sorted(str(p) for p in (ALBUM / folder).rglob("*") if p.is_file())[:limit]
    known = {r[0] for r in con.execute("SELECT filename FROM features").fetchall()}
    missing = [f for f in files if f not in known]
    started = time.perf_counter()
    for at in range(0, len(missing), _CHUNK):
        chunk = missing[at : at + _CHUNK]
        con.execute(
            "INSERT INTO features SELECT filename, split_part(parse_filename(filename), '_', 1), "
            "extract_feature(content) FROM read_blob(?)",
            [chunk],
        )
        done = at + len(chunk)
        rate = done / (time.perf_counter() - started)
        sys.stderr.write(f"\r{folder}: {done:,} of {len(missing):,} features, {rate:.0f}/s ")
    if missing:
        sys.stderr.write("\n")


def _fill(path: Path, vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
    """Write and index a table; `price` is a random rank, so that `price < s * n` passes share s."""
    CACHE.mkdir(exist_ok=True)
    count, dim = vectors.shape
    ranks = np.random.default_rng(1).permutation(count).astype(np.int32)
    source = pa.table(
        {
            "id": np.arange(count, dtype=np.int32),
            "price": ranks,
            "label": labels.astype(np.int32),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
        }
    )
    with hybridq.connect(path) as con:
        con.execute(
            f"CREATE TABLE items (id INT PRIMARY KEY, price INT, label INT, v FLOAT[{dim}])"
        )
        con.register("source", source)
        con.execute("INSERT INTO items SELECT * FROM source")
        con.execute("CREATE INDEX items_v ON items USING ann (v)")
