"""The hybridq database of the descriptors: table `items`, indexed by `items_v`, built once.

The index is built by a process of its own, so that its peak of memory is the build's.

    python -m bench.items [--rows 100000] [--rebuild]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import hybridq
from bench.descriptors import CACHE, DIM, Descriptors, load

TABLE = f"""
CREATE TABLE items (
    id INT PRIMARY KEY, photo INT, label INT, kpt INT, x INT, y INT, contrast FLOAT, hue INT,
    split INT, price INT, stock INT, v FLOAT[{DIM}]
)
"""
INDEX = "CREATE INDEX items_v ON items USING ann (v)"
COLUMNS = ["id", "photo", "label", "kpt", "x", "y", "contrast", "hue", "split", "price", "stock"]
_CHUNK = 100_000


def database(data: Descriptors, *, rebuild: bool = False) -> Path:
    """Return the path of the database, built where it is missing or `rebuild` asks for it."""
    path = CACHE / "items" / f"{data.name}.duckdb"
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


def _insert(data: Descriptors, path: Path) -> None:
    with hybridq.connect(path) as con:
        con.execute(TABLE)
        for at in range(0, len(data.vectors), _CHUNK):
            rows = slice(at, at + _CHUNK)
            vectors = np.ascontiguousarray(data.vectors[rows]).ravel()
            columns = {name: data.attributes[name][rows] for name in COLUMNS}
            columns["v"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors), DIM)
            con.register("source", pa.table(columns))
            con.execute(f"INSERT INTO items SELECT {', '.join(columns)} FROM source")


def _index(path: Path) -> None:
    with hybridq.connect(path) as con:
        started = time.perf_counter()
        con.execute(INDEX)
        seconds = time.perf_counter() - started
    files = (path.parent / f"{path.name}.hybridq").rglob("*")
    report = {
        "seconds": round(seconds, 1),
        "peak_bytes": _peak_bytes(),
        "index_bytes": sum(f.stat().st_size for f in files if f.is_file()),
    }
    _report(path).write_text(json.dumps(report))


def _peak_bytes() -> int:
    """Return this process's own peak: getrusage's is its parent's where that was larger."""
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rebuild", action="store_true")
    arguments = parser.parse_args()
    path = database(load(arguments.rows), rebuild=arguments.rebuild)
    print(json.dumps(build_report(path), indent=2))


if __name__ == "__main__":
    main()
