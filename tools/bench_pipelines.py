# ruff: noqa: T201 - a script, it reports on standard output
"""Measures what SQL costs over the bare models: items a second, in turns, in one run.

    python tools/bench_pipelines.py PHOTO [PHOTO ...] [--rows 256] [--rounds 5] [--only NAME …]

Bare: the same pool of threads decodes and runs the models on the same items in the same batches,
and nothing else. A statement over a table of the items and its bare model take turns, first one
then the other; the last columns are the median of the ratios of these pairs, and their quartiles,
and the median ratio of processor time, which does not see what else the machine does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import hybridq
from udfs.image import workers
from udfs.image.decode import decode
from udfs.image.models import DEFAULT_MODEL, describe, load
from udfs.image.precision import best
from udfs.open_analytic import commodity, heads
from udfs.open_analytic.models import faces, minilm
from udfs.open_analytic.values import Picture

PIPELINES = (
    DEFAULT_MODEL,
    "commodity_recognizer",
    "face_feature_extractor",
    "text_feature_extractor",
)


class Case(NamedTuple):
    """A statement, and what its models do to a batch of items."""

    name: str
    statement: str
    bare: Callable[[Sequence[Any]], object]
    batch_rows: int
    items: Sequence[Any]


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long `work` takes, and how long it has all processors together."""
    began_at, had = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began_at, time.process_time() - had


def cases(photos: Sequence[bytes], texts: Sequence[str]) -> list[Case]:
    """Return what is measured."""
    info = describe(DEFAULT_MODEL)
    model = load(info, best())
    features = heads.image_features(describe(commodity.MODEL), best(), with_colours=True)
    known = commodity.shipped()
    find, vectors, people = faces.Faces(), faces.Descriptors(), faces.People()
    encoder = minilm.encoder()

    def embed(files: Sequence[bytes]) -> object:
        return model.embed(np.stack([decode(data, info.side_pixels) for data in files]))

    def describe_items(files: Sequence[bytes]) -> object:
        rows = features([Picture(data) for data in files])
        return [commodity.described(known, row, None) for row in rows]

    def describe_faces(files: Sequence[bytes]) -> object:
        found = find([Picture(data) for data in files])
        chips = [region.picture for regions in found for region in regions]
        return vectors(chips), people(chips)

    def run(name: str) -> str:
        column = "text" if name.startswith("text") else "image"
        return f"SELECT count(open_analytic.pipeline_run('{name}', {column})) FROM items"

    feature = f"SELECT count(open_analytic.pipeline_feature('{DEFAULT_MODEL}', image)) FROM items"
    size = model.batch_rows
    return [
        Case(
            "extract_feature",
            "SELECT count(extract_feature(image)) FROM items",
            embed,
            size,
            photos,
        ),
        Case("pipeline_feature", feature, embed, size, photos),
        Case("pipeline_run", run(DEFAULT_MODEL), embed, size, photos),
        Case("commodity", run("commodity_recognizer"), describe_items, 8, photos),
        Case("faces", run("face_feature_extractor"), describe_faces, 8, photos),
        Case(
            "texts",
            run("text_feature_extractor"),
            lambda t: [encoder.embed(x) for x in t],
            8,
            texts,
        ),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    given = [path.read_bytes() for path in arguments.photos]
    photos = [given[number % len(given)] for number in range(arguments.rows)]
    texts = [f"Men's navy blue cotton shirt no. {number}" for number in range(arguments.rows)]
    with hybridq.connect() as con:
        con.execute("CREATE EXTENSION open_analytic")
        for name in PIPELINES:
            con.execute(f"SELECT open_analytic.pipeline_create('{name}')").fetchall()
        con.execute("CREATE TABLE items (image BLOB, text TEXT)")
        rows = list(zip(photos, texts, strict=True))
        con.executemany("INSERT INTO items VALUES (?, ?)", rows)
        for case in cases(photos, texts):
            if not arguments.only or case.name in arguments.only:
                measure(con, case, arguments.rounds)


def measure(con: hybridq.Connection, case: Case, rounds: int) -> None:
    """Run a case and its bare model in turns, and print the figures."""
    size = case.batch_rows
    batches = [case.items[at : at + size] for at in range(0, len(case.items), size)]
    works: list[Callable[[], object]] = [
        lambda: list(workers.pool().map(case.bare, batches)),
        lambda: con.execute(case.statement).fetchall(),
    ]
    for work in works:
        work()  # loads what is needed
    took: list[list[tuple[float, float]]] = [[], []]
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            took[which].append(seconds(works[which]))
    bare, sql = (len(case.items) / statistics.median(t for t, _ in times) for times in took)
    pairs = list(zip(*took, strict=True))
    ratios = sorted(b[0] / s[0] for b, s in pairs)
    low, middle, high = statistics.quantiles(ratios, n=4)
    work_ratio = statistics.median(b[1] / s[1] for b, s in pairs)
    print(
        f"{case.name:18} bare {bare:7.1f}/s   SQL {sql:7.1f}/s   {middle:.3f} of bare "
        f"({low:.3f} to {high:.3f}); by processor time {work_ratio:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
