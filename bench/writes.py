"""What writes cost, and what they cost the searches beside them: a table of descriptors, indexed.

bulk    all rows into an empty table by DuckDB alone; the build; and into a table with an index
single  one row, INSERT, UPDATE and DELETE by key, against DuckDB's own
stream  batches by executemany and from Arrow as fast as they go, while a thread searches
delta   searches with a delta that is about to be merged, and after the merge

python -m bench.writes [--rows 200000] [--seconds 20] [--only single stream]
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import hybridq
from bench.data.dataset import Dataset
from bench.descriptors import DIM, load
from bench.items import INDEX, table
from hybridq.index import upkeep

SEARCHES = (
    "SELECT id, v <-> ? AS d FROM items ORDER BY d LIMIT 10",
    "SELECT id, v <-> ? AS d FROM items WHERE price < 100000 ORDER BY d LIMIT 10",
)
_CHUNK = 100_000
_BATCH = 2_000
_MOST_ROWS_PER_SECOND = 50_000
_RATE = 20_000
NOISE = 2.0
_SINGLES = 600
_WARM = 20
COLUMNS = ["id", "photo", "label", "kpt", "x", "y", "contrast", "hue", "split", "price", "stock"]
NAMES = [*COLUMNS, "v"]
ROW = f"INSERT INTO items VALUES ({', '.join('?' * len(NAMES))})"


def arrow(data: Dataset, start: int, stop: int, first_id: int | None = None) -> pa.Table:
    """Rows start … stop - 1 as columns; ids from `first_id` on."""
    columns: dict[str, Any] = {n: data.attributes[n][start:stop] for n in COLUMNS}
    if first_id is not None:
        columns["id"] = np.arange(first_id, first_id + stop - start, dtype=np.int32)
    flat = np.array(data.vectors[start:stop]).ravel()
    if first_id is not None:  # near the rows that are there, and like none of them
        flat += np.random.default_rng(first_id).normal(0, NOISE, len(flat)).astype(np.float32)
    columns["v"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), DIM)
    return pa.table(columns)


def rows(data: Dataset, start: int, stop: int, first_id: int) -> list[tuple[Any, ...]]:
    """The same as tuples; vectors are arrays."""
    columns = [data.attributes[n][start:stop].tolist() for n in COLUMNS[1:]]
    ids = range(first_id, first_id + stop - start)
    noise = np.random.default_rng(first_id).normal(0, NOISE, (stop - start, DIM))
    vectors = data.vectors[start:stop] + noise.astype(np.float32)
    return list(zip(ids, *columns, list(vectors), strict=True))


def fill(con: Any, data: Dataset, stop: int, start: int = 0) -> float:
    """Insert rows start … stop - 1 in chunks; return the seconds."""
    seconds = 0.0
    for at in range(start, stop, _CHUNK):
        con.register("source", arrow(data, at, min(stop, at + _CHUNK)))
        began = time.perf_counter()
        con.execute("INSERT INTO items SELECT * FROM source")
        seconds += time.perf_counter() - began
        con.unregister("source")
    return seconds


def bulk(data: Dataset, folder: Path) -> dict[str, float]:
    """Seconds to load everything."""
    count = len(data.vectors)
    with duckdb.connect(str(folder / "plain.duckdb")) as plain:
        plain.execute(table(data))
        alone = fill(plain, data, count)
    with hybridq.connect(folder / "built.duckdb") as con:
        con.execute(table(data))
        loaded = fill(con, data, count)
        began = time.perf_counter()
        con.execute(INDEX)
        build = time.perf_counter() - began
    with hybridq.connect(folder / "indexed.duckdb") as con:
        con.execute(table(data))
        fill(con, data, count // 10)
        con.execute(INDEX)
        began = time.perf_counter()
        indexed = fill(con, data, count, count // 10)
        con.check_open().instance.merger.wait()
        merged = time.perf_counter() - began
    return {
        "duckdb_seconds": alone,
        "hybridq_seconds": loaded,
        "build_seconds": build,
        "into_index_seconds": indexed,
        "into_index_and_merged_seconds": merged,
        "ratio": (indexed * count / (count - count // 10)) / (alone + build),
    }


def single(data: Dataset, folder: Path) -> dict[str, float]:
    """Median milliseconds of writes of one row and COMMIT; DuckDB and hybridq take turns.

    With BEGIN and COMMIT about it, INSERT alone; and each of them by itself.
    """
    given = rows(data, 0, _SINGLES, 10_000_000)
    taken: dict[str, list[float]] = {}
    copy = folder / "single.duckdb"
    shutil.copy(folder / "plain.duckdb", copy)
    with duckdb.connect(str(copy)) as plain, _copied(folder, "written") as con:
        engines: list[tuple[str, Any]] = [("duckdb", plain), ("hybridq", con)]
        for i, (number, *values, vector) in enumerate(given):
            row = (number, *values, vector.tolist())
            old = len(data.vectors) // 2 + i
            statements: dict[str, list[tuple[str, Sequence[Any]]]] = {
                "": [("BEGIN", []), (ROW, row), ("COMMIT", [])],
                "autocommit_": [(ROW, (number + _SINGLES, *row[1:]))],
                "update_": [("UPDATE items SET stock = ? WHERE id = ?", [i, old])],
                "vector_": [("UPDATE items SET v = ? WHERE id = ?", [row[-1], old + _SINGLES])],
                "delete_": [("DELETE FROM items WHERE id = ?", [old + 2 * _SINGLES])],
            }
            for what, each in statements.items():
                for name, engine in engines:
                    began = time.perf_counter()
                    for text, parameters in each:
                        engine.execute(text, parameters)
                    if i >= _WARM:
                        seconds = time.perf_counter() - began
                        taken.setdefault(f"{name}_{what}ms", []).append(seconds)
    copy.unlink()
    out = {name: float(np.median(seconds)) * 1e3 for name, seconds in taken.items()}
    for what in statements:
        out[f"{what}ratio"] = out[f"hybridq_{what}ms"] / out[f"duckdb_{what}ms"]
    return out


class Searcher:
    """Searches over and over in a thread, one statement after the other."""

    def __init__(self, path: Path, data: Dataset) -> None:
        self.seconds: list[float] = []
        self._stop = False
        self._path, self._queries = path, data.queries
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Searcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()

    def _run(self) -> None:
        with hybridq.connect(self._path) as con:
            for i in self._numbers():
                began = time.perf_counter()
                text, query = SEARCHES[i % 2], self._queries[i % len(self._queries)]
                assert len(con.execute(text, [query]).fetchall()) == 10
                self.seconds.append(time.perf_counter() - began)

    def _numbers(self) -> Iterator[int]:
        i = 0
        while not self._stop:
            yield i
            i += 1

    def summary(self) -> dict[str, float]:
        """p50 and p99 in milliseconds."""
        taken = np.array(self.seconds[20:]) * 1e3
        return {
            "p50_ms": float(np.median(taken)),
            "p99_ms": float(np.quantile(taken, 0.99)),
            "searches": len(taken),
        }


def batches(data: Dataset, kind: str, seconds: float, fresh: int, size: int = _BATCH) -> list[Any]:
    """Return what is written in so many seconds, made before: to make rows is not to write them."""
    made = []
    for first in range(0, int(seconds * _MOST_ROWS_PER_SECOND), size):
        at = first % (len(data.vectors) - size)
        give = arrow if kind == "arrow" else rows
        made.append(give(data, at, at + size, fresh + first))
    # Python's collector would go through a million rows again and again.
    gc.collect()
    gc.freeze()
    return made


def stream(data: Dataset, folder: Path, seconds: float, size: int = _BATCH) -> dict[str, Any]:
    """Rows a second of writers beside a searching thread, and the searches' latency.

    As fast as writers go, and at the rate that is asked of them. `machine` is what the same
    writers do to another process that computes the same thing over and over: no lock of ours nor of
    Python's is between them, so it is what a core costs that more threads want than there are.
    """
    path = folder / "built.duckdb"
    out: dict[str, Any] = {"switch_interval_seconds": sys.getswitchinterval(), "batch_rows": size}
    fresh = 20_000_000
    with hybridq.connect(path) as con:
        with Searcher(path, data) as searcher:
            time.sleep(seconds / 2)
        out["idle"] = searcher.summary()
        with Elsewhere() as elsewhere:
            time.sleep(seconds / 4)
        out["machine"] = {"idle": elsewhere.summary()}
        for kind in ("arrow", "executemany"):
            for rate in (None, _RATE):
                given = batches(data, kind, seconds, fresh, size)
                fresh += size * len(given)
                name = kind if rate is None else f"{kind} at {rate:,} rows/s"
                with Searcher(path, data) as searcher:
                    reached = _write(con, given, kind, seconds, rate)
                out[name] = {"rows_per_second": reached, **searcher.summary()}
                out[name]["p99_ratio"] = out[name]["p99_ms"] / out["idle"]["p99_ms"]
                began = time.perf_counter()
                con.check_open().instance.merger.wait()
                out[name]["merged_after_seconds"] = time.perf_counter() - began
                if rate is not None and given:
                    with Elsewhere() as elsewhere:
                        _write(con, given, kind, seconds / 4, rate)
                    found = out["machine"][name] = elsewhere.summary()
                    found["p99_ratio"] = found["p99_ms"] / out["machine"]["idle"]["p99_ms"]
                gc.unfreeze()
                # Searches are held to those of before: each kind begins with the same table.
                con.execute("DELETE FROM items WHERE id >= 10000000")
                con.execute("SELECT * FROM hybridq_merge('items_v')").fetchall()
    return out


def _write(con: Any, given: list[Any], kind: str, seconds: float, rate: int | None) -> float:
    """Write batches for so long, at a rate if there is one; return the rows a second."""
    written, began = 0, time.perf_counter()
    while given and time.perf_counter() - began < seconds:
        batch = given.pop(0)
        if kind == "arrow":
            con.register("source", batch)
            con.execute("INSERT INTO items SELECT * FROM source")
        else:
            con.executemany(ROW, batch)
        written += len(batch)
        if rate is not None:
            time.sleep(max(0.0, began + written / rate - time.perf_counter()))
    return written / (time.perf_counter() - began)


class Elsewhere:
    """A process that does a tenth of a millisecond's work over and over."""

    _CODE = """
import sys, threading, time, numpy as np
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
a, taken = np.ones((256, 1024), np.float32), []
print(flush=True)
while not done.is_set():
    began = time.perf_counter()
    (a * 1.5).sum()
    taken.append(time.perf_counter() - began)
ms = np.array(taken[20:]) * 1e3
print(float(np.median(ms)), float(np.quantile(ms, 0.99)), len(ms))
"""

    def __enter__(self) -> Elsewhere:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._said = self._process.communicate()[0].split()

    def summary(self) -> dict[str, float]:
        """p50 and p99 in milliseconds."""
        p50, p99, times = map(float, self._said)
        return {"p50_ms": p50, "p99_ms": p99, "times": times}


def delta(data: Dataset, folder: Path) -> dict[str, float]:
    """Milliseconds of a search over segments and a full delta, and over the same rows merged.

    Two databases of the same rows take turns: what else the machine does meets both.
    """
    texts = dict(zip(("plain", "filtered"), SEARCHES, strict=True))
    with _copied(folder, "full") as full, _copied(folder, "merged") as merged:
        out: dict[str, float] = {}
        for con in (full, merged):
            out |= _fill_delta(con, data)
        merged.execute("SELECT * FROM hybridq_merge('items_v')").fetchall()
        for name, text in texts.items():
            a, b = _medians((full, merged), data, text)
            out |= {f"{name}_delta_ms": a, f"{name}_merged_ms": b, f"{name}_ratio": a / b}
        return out


@contextmanager
def _copied(folder: Path, name: str) -> Iterator[Any]:
    """Open a copy of the database that was built, for a while."""
    path = folder / f"{name}.duckdb"
    shutil.copy(folder / "built.duckdb", path)
    segments = path.with_name(f"{path.name}.hybridq")
    shutil.copytree(folder / "built.duckdb.hybridq", segments)
    try:
        with hybridq.connect(path) as con:
            yield con
    finally:
        path.unlink()
        shutil.rmtree(segments)


def _fill_delta(con: Any, data: Dataset) -> dict[str, float]:
    ours = con.check_open().instance
    con.execute("SELECT * FROM hybridq_merge('items_v')").fetchall()
    state = ours.index_named("items_v")
    assert state is not None
    first = 30_000_000
    left = min(upkeep.DELTA_ROWS, upkeep.DELTA_BYTES // (4 * DIM)) * 15 // 16
    while left > 0:
        # Batches of many sizes: as many parts as a delta may have.
        count = min(left, max(1, left * 3 // 5))
        at = first % (len(data.vectors) - count)
        con.register("source", arrow(data, at, at + count, first))
        con.execute("INSERT INTO items SELECT * FROM source")
        first += count
        left -= count
    ours.merger.wait()
    return {"delta_rows": state.snapshot.delta_rows, "parts": len(state.snapshot.parts)}


def _medians(connections: Sequence[Any], data: Dataset, text: str) -> list[float]:
    """Medians over queries of their best of seven, in milliseconds; the connections take turns."""
    taken = np.full((7, len(connections), 200), np.inf)
    for turn in taken:
        for seconds, con in zip(turn, connections, strict=True):
            for i, query in enumerate(data.queries[:200]):
                began = time.perf_counter()
                con.execute(text, [query]).fetchall()
                seconds[i] = time.perf_counter() - began
    return [float(m) for m in np.median(taken.min(axis=0), axis=1) * 1e3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", nargs="+", default=["bulk", "single", "stream", "delta"])
    parser.add_argument(
        "--interval", type=float, help="sys.setswitchinterval: see docs/sql.md, Writes"
    )
    parser.add_argument("--batch", type=int, default=_BATCH, help="rows a batch of stream")
    parser.add_argument("--folder", type=Path, help="keep the databases here, and use them again")
    arguments = parser.parse_args()
    if arguments.interval is not None:
        sys.setswitchinterval(arguments.interval)
    data = load(arguments.rows)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="writes-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if "bulk" in arguments.only or not (folder / "built.duckdb").exists():
            print(json.dumps({"bulk": bulk(data, folder)}, indent=2), flush=True)
        if "single" in arguments.only:
            print(json.dumps({"single": single(data, folder)}, indent=2), flush=True)
        if "stream" in arguments.only:
            found = stream(data, folder, arguments.seconds, arguments.batch)
            print(json.dumps({"stream": found}, indent=2), flush=True)
        if "delta" in arguments.only:
            print(json.dumps({"delta": delta(data, folder)}, indent=2), flush=True)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
