"""Measure the unit costs of the planner on this host, on the index's own rows."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from hybridq.index.attributes import MAX_KEY, NULL_KEY
from hybridq.index.counters import Counters
from hybridq.index.ivf import Part
from hybridq.index.programs import assemble
from hybridq.index.search import (
    Search,
    gather_part,
    scan_part,
)
from hybridq.index.verdicts import Ranges
from hybridq.kernels import distance, predicate

_MIN_ROWS = 2_000
_MAX_BYTES = 64 << 20


def unit_costs(part: Part) -> dict[str, float]:
    """Return measured unit costs in seconds by name; empty for a part too small to measure."""
    n, d = part.n_vectors, part.spec.dim
    if n < _MIN_ROWS:
        return {}
    everything = assemble(True)
    query = np.ascontiguousarray(part.vectors[n // 2])
    search = Search(query=query, k=10)
    rows = max(1, min(n, _MAX_BYTES // (4 * d)))
    counters = Counters()

    def scan_all() -> None:
        scan_part(
            part,
            everything,
            search,
            counters,
            share=1.0,
            target=None,
            nprobe=None,
            use_bounds=False,
        )

    generator = np.random.default_rng(0)
    positions = np.sort(generator.choice(n, min(n, max(1, rows // 16)), replace=False))
    out = np.empty(len(part.centroids), np.float32)
    one_leaf = assemble(Ranges(0, ((NULL_KEY, MAX_KEY),)))
    no_zones = np.empty((part.keys.shape[0], 0, 2), np.int64)
    found = np.empty(part.rows, np.int64)
    scan_seconds = _best(scan_all) / n
    gather_seconds = _best(lambda: gather_part(part, positions, search, counters)) / len(positions)
    coarse_seconds = _best(
        lambda: distance.coarse(int(part.spec.metric), query, part.centroids, out)
    )
    mask_seconds = (
        _best(
            lambda: predicate.select_passing(
                part.keys, no_zones, 0, part.rows, part.alive, *one_leaf.arrays, found
            )
        )
        / part.rows
    )
    return {
        "scan_per_dim": scan_seconds / d,
        "gather_per_dim": gather_seconds / d,
        "gather_row": 0.0,
        "coarse_per_dim": coarse_seconds / (len(part.centroids) * d),
        "mask_row": mask_seconds,
    }


def _best(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the least wall time of a few runs, after one that warms up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
