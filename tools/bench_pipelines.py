# ruff: noqa: T201 - a script, it reports on standard output
"""Measures what SQL costs over the bare model: photos a second, in turns, in one run.

    python tools/bench_pipelines.py PHOTO [PHOTO ...] [--rows 512]

Bare: the same pool of threads decodes and embeds the photos, and nothing else. The others are
statements over a table of the photos. Each figure is the best of the rounds; the last column is the
median of the ratios to bare, of the same round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import hybridq
from udfs.image import workers
from udfs.image.decode import decode
from udfs.image.models import DEFAULT_MODEL, describe, load
from udfs.image.precision import best

ROUNDS = 5
STATEMENTS = {
    "extract_feature": "SELECT count(extract_feature(image)) FROM photos",
    "pipeline_feature": "SELECT count(open_analytic.pipeline_feature("
    f"'{DEFAULT_MODEL}', image)) FROM photos",
    "pipeline_run (JSON)": "SELECT count(open_analytic.pipeline_run("
    f"'{DEFAULT_MODEL}', image)) FROM photos",
}


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    began_at = time.perf_counter()
    work()
    return time.perf_counter() - began_at


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=512)
    arguments = parser.parse_args()
    given = [path.read_bytes() for path in arguments.photos]
    files = [given[number % len(given)] for number in range(arguments.rows)]
    info = describe(DEFAULT_MODEL)
    model = load(info, best())

    def batch(at: int) -> None:
        part = files[at : at + model.batch_rows]
        model.embed(np.stack([decode(data, info.side_pixels) for data in part]))

    def bare() -> None:
        list(workers.pool().map(batch, range(0, len(files), model.batch_rows)))

    with hybridq.connect() as con:
        con.execute("CREATE EXTENSION open_analytic")
        con.execute(f"SELECT open_analytic.pipeline_create('{DEFAULT_MODEL}')").fetchall()
        con.execute("CREATE TABLE photos (image BLOB)")
        con.executemany("INSERT INTO photos VALUES (?)", [(data,) for data in files])
        works: dict[str, Callable[[], object]] = {"bare": bare}
        for name, statement in STATEMENTS.items():
            works[name] = lambda sql=statement: con.execute(sql).fetchall()  # type: ignore[misc]
        took: dict[str, list[float]] = {name: [] for name in works}
        for name in list(works) * ROUNDS:
            took[name].append(seconds(works[name]))
    for name, times in took.items():
        ratio = statistics.median(b / t for b, t in zip(took["bare"], times, strict=True))
        print(f"{name:20} {len(files) / min(times):7.1f} photos/s   {ratio:.2f} of bare")


if __name__ == "__main__":
    main()
