"""The hybridq database of a data set: table `items`, indexed by `items_v`, built once.

The index is built by a process of its own, so that its peak of memory is the build's.

    python -m bench.items [--data sift] [--rows 100000] [--rebuild]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import hybridq
from bench.data import load
from bench.data.dataset import CACHE, Dataset
from bench.peers.base import arrow, bytes_in, kind, loads, peak_bytes

INDEX = "CREATE INDEX items_v ON items USING ann (v)"
_CHUNK = 100_000


def table(data: Dataset) -> str:
    """Return CREATE TABLE items, with every attribute of the data set."""
    types = {"INT": "INT", "REAL": "FLOAT", "TEXT": "TEXT"}
    columns = [
        f'"{name}" {types[kind(column)]}'
        for name, column in data.attributes.items()
        if name != "id"
    ]
    return f"CREATE TABLE items (id INT PRIMARY KEY, {', '.join(columns)}, v FLOAT[{data.dim}])"


def rows(data: Dataset, there: slice) -> Any:
    """Return rows as columns in the table's order."""
    return arrow({n: c[there] for n, c in data.attributes.items()}, data.vectors[there])


def database(data: Dataset, *, rebuild: bool = False, folder: Path = CACHE / "items") -> Path:
    """Return the path of the database, built where it is missing or `rebuild` asks for it."""
    path = folder / f"{data.name}.duckdb"
    if rebuild or not _report(path).exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{data.name}.*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        _insert(data, path)
        indexing = multiprocessing.get_context("spawn").Process(target=_index, args=(path,))
        indexing.start()
        indexing.join()
        if indexing.exitcode != 0:
            sys.exit("the index was not built: see the message above")
    return path


def build_report(path: Path) -> dict[str, Any]:
    """Return what the build of the index took: seconds, peak and resulting bytes."""
    return dict(json.loads(_report(path).read_text()))


def _report(path: Path) -> Path:
    return path.with_suffix(".json")


def _insert(data: Dataset, path: Path) -> None:
    with hybridq.connect(path) as con:
        con.execute(table(data))
        for at in range(0, len(data.vectors), _CHUNK):
            con.register("source", rows(data, slice(at, at + _CHUNK)))
            con.execute("INSERT INTO items SELECT * FROM source")


def _index(path: Path) -> None:
    with hybridq.connect(path) as con:
        started, load = time.perf_counter(), loads()
        con.execute(INDEX)
        seconds = time.perf_counter() - started
    report = {
        "seconds": round(seconds, 1),
        "load": [*load, *loads()],
        "peak_bytes": peak_bytes(),
        "index_bytes": bytes_in(path.parent / f"{path.name}.hybridq"),
    }
    _report(path).write_text(json.dumps(report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sift")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rebuild", action="store_true")
    arguments = parser.parse_args()
    data = load(arguments.data, arguments.rows, make=True)
    path = database(data, rebuild=arguments.rebuild)
    print(json.dumps(build_report(path), indent=2))


if __name__ == "__main__":
    main()
