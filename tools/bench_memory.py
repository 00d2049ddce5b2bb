# ruff: noqa: T201 - a script, it reports on standard output
"""Measures the memory that features of very many photos take: resident MiB, along the way.

    python tools/bench_memory.py fashion.parquet [--rows 50000] [--scale 0.25] [--pipeline]

The photos (column `image`, repeated as often as it takes) are put into a table of a database file,
DuckDB's own cache is bounded, and one statement makes vectors of all of them in another table, or
the JSON of a pipeline. `--scale` makes the squares that the network sees smaller: the same
batches of rows in less time.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import hybridq

PAGE = resource.getpagesize()
DUCKDB_MEMORY = "150MB"


def resident() -> float:
    """Return the MiB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


class Sampler:
    """Prints the resident memory each `step` rows that a statement is done with."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._done = 0
        self.seen: list[float] = []

    def start(self, task: str, total: int | None) -> None:
        """Begin a statement."""
        self._done = 0

    def advance(self, count: int) -> None:
        """Look, where a step was taken."""
        before, self._done = self._done, self._done + count
        if before // self._step < self._done // self._step:
            self.seen.append(resident())
            print(f"  {self._done:7,} rows  {self.seen[-1]:7.0f} MiB", flush=True)

    def finish(self) -> None:
        """End it."""


def main() -> None:
    """Fill a table, make vectors of it, print what memory that took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", type=Path)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--scale", type=float, default=0.25)
    parser.add_argument("--pipeline", action="store_true")
    arguments = parser.parse_args()
    sampler = Sampler(max(arguments.rows // 10, 1))
    stage = {"operator": "embed", "model": "efficientnet_lite0", "scales": [arguments.scale]}
    with (
        tempfile.TemporaryDirectory() as folder,
        hybridq.connect(Path(folder) / "photos.duckdb", progress=sampler) as con,
    ):
        con.execute("CREATE EXTENSION open_analytic")
        con.execute(f"SET memory_limit = '{DUCKDB_MEMORY}'")
        con.execute(
            "SELECT open_analytic.pipeline_create('p', ?)", [json.dumps([stage])]
        ).fetchall()
        con.execute("CREATE TABLE photos (id INTEGER PRIMARY KEY, image BLOB)")
        con.execute(
            "INSERT INTO photos SELECT row_number() OVER (), image FROM (SELECT image FROM "
            f"read_parquet('{arguments.parquet}'), range(100)) LIMIT {arguments.rows}"
        )
        con.execute("CHECKPOINT")
        print(f"{arguments.rows:,} photos in a table: {resident():.0f} MiB", flush=True)
        column = f"extract_feature(image, 'efficientnet_lite0', scales => [{arguments.scale}])"
        if arguments.pipeline:
            column = "open_analytic.pipeline_run('p', image)"
        began_at = time.perf_counter()
        con.execute(f"CREATE TABLE made AS SELECT id, {column} AS found FROM photos")
        took = time.perf_counter() - began_at
        print(
            f"{arguments.rows / took:.0f} photos/s, from {min(sampler.seen):.0f} to "
            f"{max(sampler.seen):.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
