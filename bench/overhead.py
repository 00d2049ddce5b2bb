"""What a query costs besides its search: import, the first query of a process, SQL around kernels.

Seconds are CPU seconds of a fresh process (wall time in brackets), the least of five, with compiled
kernels in Numba's cache. The overhead is the wall time of `execute(...).fetchall()` less the time
inside the kernels; a scan that reads megabytes leaves cold caches, so a selective query (found by
a permutation) and a wide one (a scan) are told apart.

    python -m bench.overhead [--rows 200000] [--queries 500]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

import hybridq
from bench.brackets import INSIDE, bracket_kernels

DIM = 128
TEXT = "SELECT id, v <-> ? AS d FROM items WHERE price < ? ORDER BY d LIMIT 10"
FIRST = """
import sys, time
import hybridq
if len(sys.argv) > 1:
    import numpy as np
    con = hybridq.connect(sys.argv[1])
    con.execute(sys.argv[2], [np.ones(128, np.float32), 5000]).fetchall()
print(time.process_time())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=500)
    arguments = parser.parse_args()
    path = str(Path(tempfile.gettempdir()) / f"hybridq-overhead-{arguments.rows}.duckdb")
    with hybridq.connect(path) as con:
        prepare(con, arguments.rows)
    print("import        {:.3f} s cpu ({:.3f} s)".format(*fresh()))
    print("first query   {:.3f} s cpu ({:.3f} s)".format(*fresh(path, TEXT)))
    with hybridq.connect(path) as con:
        for name, values in (
            ("wide", lambda i: 5000),
            ("wide, new values", lambda i: 4000 + i),
            ("selective", lambda i: 20),
        ):
            least, median = overhead(con, arguments.queries, values)
            print(f"overhead, {name:<17} {median:6.1f} µs (least {least:.1f})")


def prepare(con: hybridq.Connection, rows: int) -> None:
    if con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'items'").fetchone():
        return
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((rows, DIM)).astype(np.float32)
    table = pa.table(
        {
            "id": np.arange(rows),
            "price": generator.integers(0, 10_000, rows).astype(np.int32),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
        }
    )
    con.execute(f"CREATE TABLE items (id BIGINT PRIMARY KEY, price INTEGER, v FLOAT[{DIM}])")
    con.register("source", table)
    con.execute("INSERT INTO items SELECT * FROM source")
    con.execute("CREATE INDEX i ON items USING ann (v)")
    con.execute(TEXT, [vectors[0], 5000]).fetchall()


def fresh(*arguments: str) -> tuple[float, float]:
    """Return the least CPU and wall seconds of fresh processes."""
    cpu, wall = [], []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", FIRST, *arguments], capture_output=True, check=True
        )
        wall.append(time.perf_counter() - start)
        cpu.append(float(done.stdout))
    return min(cpu), min(wall)


def overhead(
    con: hybridq.Connection, count: int, value: Callable[[int], int]
) -> tuple[float, float]:
    """Return the least and the median µs outside kernels."""
    queries = np.random.default_rng(1).standard_normal((64, DIM)).astype(np.float32)
    spent = []
    for i in range(count + 64):
        parameters = [queries[i % 64], value(i)]
        INSIDE.ns = 0
        start = time.perf_counter_ns()
        con.execute(TEXT, parameters).fetchall()
        spent.append((time.perf_counter_ns() - start - INSIDE.ns) / 1e3)
    return min(spent[64:]), float(np.median(spent[64:]))


if __name__ == "__main__":
    bracket_kernels()
    main()
