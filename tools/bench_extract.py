# ruff: noqa: T201 - a script, it reports on standard output
"""Measures extract_feature's stages on this machine.

    taskset -c 0 env OMP_NUM_THREADS=1 python tools/bench_extract.py PHOTO [PHOTO ...]

Prints the best of several rounds, in ms a picture. Decoding and, for each precision and batch size,
the network with the rotation are CPU time of one thread, which a busy machine disturbs least; whole
calls as SQL makes them are time on the clock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from udfs.image import workers
from udfs.image.arrays import Precision
from udfs.image.cache import FeatureCache
from udfs.image.decode import decode
from udfs.image.extract import Extractor
from udfs.image.inputs import Inputs
from udfs.image.models import DEFAULT_MODEL, describe, load
from udfs.image.precision import best

ROUNDS = 8
PICTURES = 64


class _NoContext:
    """Nobody listens and nothing is kept."""

    def setting(self, name: str) -> str:
        return "error"

    @property
    def progress(self) -> _NoContext:
        return self

    def advance(self, count: int) -> None:
        pass


def best_ms(
    work: Callable[[], object], pictures: int, clock: Callable[[], float] = time.thread_time
) -> float:
    """Return the shortest time of `work` per picture: what other programs take only adds."""
    work()
    times = []
    for _ in range(ROUNDS):
        began_at = clock()
        work()
        times.append((clock() - began_at) / pictures * 1e3)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="+")
    files = [path.read_bytes() for path in parser.parse_args().photos]
    files = [files[number % len(files)] for number in range(PICTURES)]
    info = describe(DEFAULT_MODEL)
    print(f"torch threads {torch.get_num_threads()}, precision of this processor {best()}")

    decoding = best_ms(lambda: [decode(data, info.side_pixels) for data in files], PICTURES)
    size = statistics.mean(map(len, files)) / 1024
    print(f"decode               {decoding:6.2f} ms a picture ({size:,.0f} KiB on average)")
    squares = np.stack([decode(data, info.side_pixels) for data in files[:16]])
    precisions: tuple[Precision, ...] = ("bf16", "fp32")
    for precision in precisions:
        model = load(info, precision)
        for rows in (1, 4, 8, 16):
            batch = squares[:rows]
            took = workers.pool().submit(best_ms, lambda b=batch, m=model: m.embed(b), rows)
            print(f"embed {precision} batch {rows:2}  {took.result():6.2f} ms a picture")
    context: Any = _NoContext()
    extractor = Extractor(context, FeatureCache(1))
    images = Inputs("extract_feature", pa.array(files, pa.binary()), context)
    for precision in precisions:
        whole = best_ms(
            lambda p=precision: extractor.vectors(images, info, p, range(PICTURES)),
            PICTURES,
            time.perf_counter,
        )
        print(
            f"whole call {precision} of {PICTURES} {whole:6.2f} ms a picture, {1e3 / whole:.0f}/s"
        )


if __name__ == "__main__":
    main()
