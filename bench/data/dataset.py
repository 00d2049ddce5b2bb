"""What a data set is, and how one lies in the cache: four arrays, and a file that vouches for them.

Needs NumPy only: the processes of the peers read data sets too.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Another disk may be named by the environment.
CACHE = Path(os.environ.get("HYBRIDQ_BENCH_CACHE", Path(__file__).parent.parent / ".cache"))
STOCK = 1_000
# Shares of `tag` 0, 1, 2 …: VectorDBBench's label shares. What is left has tags of its own, rarer.
TAG_SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_ARRAYS = {"X.npy", "Q.npy", "attr.npz", "qattr.npz"}

Columns = dict[str, npt.NDArray[Any]]


class DataError(Exception):
    """A data set cannot be had: says which, why, and what to do."""


@dataclass(frozen=True)
class Dataset:
    """Vectors (n, d), attributes (n,) by name, and held-out queries with theirs.

    `id` is the row's number. `price` is a random rank, so that `price < s * n` passes share s;
    `stock` is uniform in 0 … 999; both are independent of the vectors and of each other.
    """

    vectors: npt.NDArray[np.float32]
    attributes: Columns
    queries: npt.NDArray[np.float32]
    query_attributes: Columns
    kind: str = "sift"
    filters: tuple[str, ...] = ("price", "stock", "label", "kpt", "contrast")
    own: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    """Filters that came with the set: `Cell.as_json()`s."""

    @property
    def name(self) -> str:
        return f"{self.kind}-{len(self.vectors)}"

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])


def invented(rows: int, full: int | None = None) -> Columns:
    """Return `price`, `stock` and `tag` of so many rows: independent of everything.

    Where these are the first rows of a shuffled set of `full`, they keep stock and tag as it grows.
    """
    generator = np.random.default_rng(5)
    full = full or rows
    tag = np.arange(full) % 1_000 + len(TAG_SHARES)
    at = 0
    for n, share in enumerate(TAG_SHARES):
        many = round(share * full)
        tag[at : at + many] = n
        at += many
    return {
        "price": np.random.default_rng(11).permutation(rows).astype(np.int32),
        "stock": generator.integers(0, STOCK, full, np.int16)[:rows],
        "tag": generator.permutation(tag)[:rows].astype(np.int16),
    }


def save(folder: Path, data: Dataset) -> None:
    """Write a data set so that it is there wholly or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").unlink(missing_ok=True)
    np.save(folder / "X.npy", data.vectors)
    np.save(folder / "Q.npy", data.queries)
    save_columns(folder / "attr.npz", data.attributes)
    save_columns(folder / "qattr.npz", data.query_attributes)
    meta = {
        "filters": data.filters,
        "own": data.own,
        "files": {name: _print(folder / name) for name in sorted(_ARRAYS)},
    }
    unfinished = folder / "meta.unfinished"
    unfinished.write_text(json.dumps(meta))
    unfinished.rename(folder / "meta.json")


def save_columns(file: Path, columns: Columns) -> None:
    arrays: dict[str, Any] = {**columns}
    np.savez(file, **arrays)


def read(folder: Path, kind: str, *, verify: bool = False) -> Dataset:
    """Read a data set; DataError where it is not whole. `verify` reads every byte."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        for name, (size, checksum) in meta["files"].items():
            if (folder / name).stat().st_size != size:
                raise DataError(f"{folder / name} is damaged: delete {folder} and make it again")
            if verify and _print(folder / name)[1] != checksum:
                raise DataError(f"{folder / name} is damaged: delete {folder} and make it again")
        with np.load(folder / "attr.npz") as columns, np.load(folder / "qattr.npz") as query:
            return Dataset(
                np.load(folder / "X.npy", mmap_mode="r"),
                dict(columns),
                np.load(folder / "Q.npy"),
                dict(query),
                kind,
                tuple(meta["filters"]),
                tuple(meta["own"]),
            )
    except FileNotFoundError as error:
        raise DataError(f"data set {kind} is not there") from error
    except (ValueError, KeyError, OSError) as error:
        raise DataError(
            f"{folder} is damaged ({error}): delete it and run python -m bench data {kind}"
        ) from error


def subset(data: Dataset, rows: int | None, *, shuffled: bool = False) -> Dataset:
    """Return a random `rows` of the rows, numbered and priced anew; all where there are no more.

    Where the rows lie in a random order (`shuffled`), the first: these stay as the set grows.
    """
    if rows is None or rows >= len(data.vectors):
        return data
    generator = np.random.default_rng(11)
    chosen = (
        np.arange(rows)
        if shuffled
        else np.sort(generator.choice(len(data.vectors), rows, replace=False))
    )
    attributes = {name: column[chosen] for name, column in data.attributes.items()}
    attributes["id"] = np.arange(rows, dtype=np.int32)
    attributes["price"] = generator.permutation(rows).astype(np.int32)
    return Dataset(
        data.vectors[chosen],
        attributes,
        data.queries,
        data.query_attributes,
        data.kind,
        data.filters,
        data.own,
    )


def _print(file: Path) -> list[int]:
    """Return size and checksum."""
    checksum = 0
    with file.open("rb") as content:
        while block := content.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return [file.stat().st_size, checksum]
