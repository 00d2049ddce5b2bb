"""Measure the unit costs of the planner on this host, on the index's own rows.

A scan is measured with few and with many lists, and with bitmaps of which a block has all rows or
one in two: the differences tell what a list, a block and a row cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from hybridq.index.attributes import MAX_KEY, NULL_KEY
from hybridq.index.counters import Counters, Counts
from hybridq.index.ivf import Part
from hybridq.index.programs import Program, assemble
from hybridq.index.scans import Effort
from hybridq.index.search import (
    Search,
    gather_part,
    positions_by_mask,
    positions_by_permutation,
    scan_part,
)
from hybridq.index.verdicts import Ranges, Rows, join, packed
from hybridq.kernels import select

_MIN_ROWS = 2_000
LEAST_DIM = 32
"""Vectors of fewer dimensions cost as much: a row is read in any case."""

_MAX_BYTES = 16 << 20
CACHED_VALUES = 1 << 20
"""Components of vectors that stay in a cache from query to query."""

_LISTS = 64
_QUERIES = 32
_LARGE_K = 500


def unit_costs(part: Part) -> dict[str, float]:
    """Return measured unit costs in seconds by name; empty for a part too small to measure."""
    n, d = part.n_vectors, max(part.spec.dim, LEAST_DIM)
    if n < _MIN_ROWS:
        return {}
    everything = assemble(True)
    search = Search(query=np.ascontiguousarray(part.vectors[n // 2]), k=10)
    counters = Counters()
    generator = np.random.default_rng(0)
    count = max(1, min(n // 4, _MAX_BYTES // (4 * d)))
    draws = [np.sort(generator.choice(n, count, replace=False)) for _ in range(3)]
    positions = draws[0]
    few = np.ascontiguousarray(positions[:: max(1, len(positions) // 16)])
    call = _best(lambda: gather_part(part, few, search, counters))
    scan_seconds = _best(lambda: _scan_all(part, everything, search)) / n
    # Other rows each time, so that none is in a cache; and the same ones again.
    cold_seconds = min(_once(partial(gather_part, part, p, search, counters)) for p in draws)
    near = np.ascontiguousarray(positions[:: max(1, len(positions) * d // CACHED_VALUES)])
    gather_seconds = _best(lambda: gather_part(part, near, search, counters))
    none = assemble(Ranges(0, ((MAX_KEY - 1, MAX_KEY),)))
    no_zones = np.empty((part.keys.shape[0], 0, 2), np.int64)
    found = np.empty(part.rows, np.int64)
    mask_seconds = _best(
        lambda: select.select_passing(
            part.keys,
            no_zones,
            0,
            part.rows,
            part.alive,
            *none.arrays,
            part.buckets,
            part.bucket_bounds,
            found,
        )
    )
    position_seconds = _best(lambda: positions_by_mask(part, everything, 0, n))
    costs = {
        "call": call,
        "scan_per_dim": scan_seconds / d,
        "gather_per_dim": max(0.0, gather_seconds - call) / len(near) / d,
        "gather_cold_per_dim": max(0.0, cold_seconds - call) / len(positions) / d,
        "mask_row": mask_seconds / part.rows,
        "position_row": position_seconds / n,
    }
    if part.permutations is not None:
        costs["permutation_row"] = _permutation_row(part)
        out = np.empty(len(positions), np.int64)
        unsorted = generator.permutation(positions)
        two = _two_leaves(part)
        filter_seconds = _best(
            lambda: select.filter_positions(part.keys, unsorted, *two.arrays, out)
        )
        costs["filter_row"] = filter_seconds / len(positions)
    if part.codes is not None and part.nlist > 4 * _LISTS // 3:
        costs |= _coded_costs(part, costs["mask_row"])
    return costs


def _scan_all(part: Part, program: Program, search: Search) -> None:
    scan_part(part, program, search, Counters(), Effort(share=1.0, target=None, use_bounds=False))


def _permutation_row(part: Part) -> float:
    """Return the cost of one position that a permutation gives."""
    count = min(part.rows, 10_000)
    program = _key_range(part, count)
    return _best(lambda: positions_by_permutation(part, program, 0)) / count


def _key_range(part: Part, rows: int) -> Program:
    """Return the program of the `rows` least keys."""
    keys = np.sort(part.keys[0])
    return assemble(Ranges(0, ((int(keys[0]), int(keys[max(1, rows) - 1])),)))


def _two_leaves(part: Part) -> Program:
    """Return a program that one row in 16 passes, and all of those its second leaf."""
    keys = np.sort(part.keys[0])
    some = Ranges(0, ((NULL_KEY, int(keys[len(keys) // 16])),))
    return assemble(join(True, [some, Ranges(len(part.keys) - 1, ((NULL_KEY, MAX_KEY),))]))


def _coded_costs(part: Part, mask_row: float) -> dict[str, float]:
    """Return the unit costs of scans by codes."""
    d = max(part.spec.dim, LEAST_DIM)
    everything = assemble(True)
    one, one_counts = _scan(part, everything, 1, 10)
    many, many_counts = _scan(part, everything, _LISTS, 10)
    blocks = max(1, many_counts.blocks - one_counts.blocks)
    per_block = (many - one) / blocks
    visit = 0.1 * per_block * blocks / _LISTS
    fixed = max(0.1 * one, one - one_counts.blocks * per_block)
    # Few rows pass, and each is looked at alone.
    draws = np.random.default_rng(1).random(part.rows)
    some, some_counts = _scan(part, assemble(Rows(packed(draws < 1 / 64))), _LISTS, 10)
    rare, rare_counts = _scan(part, assemble(Rows(packed(draws < 1 / 512))), _LISTS, 10)
    fine = (some - rare) / max(1, some_counts.fine_codes - rare_counts.fine_codes)
    left = rare - fixed - visit * rare_counts.lists - fine * rare_counts.fine_codes
    block_visit = max(0.05 * per_block, left / max(1, rare_counts.blocks))
    masked, masked_counts = _scan(part, _key_range(part, part.rows // 64), _LISTS, 10)
    left = masked - fixed - visit * masked_counts.lists - fine * masked_counts.fine_codes
    mask = (left / max(1, masked_counts.blocks) - block_visit) / 64
    large, _ = _scan(part, everything, _LISTS, _LARGE_K)
    result = max(0.0, large - many) / (_LARGE_K - 10)
    coarse = part.nlist * 4e-9
    return {
        "coded_call": max(0.2 * fixed, fixed - coarse - 10 * result),
        "list_coarse": coarse / part.nlist,
        "list_visit": visit,
        "block_visit": block_visit,
        "mask_row": min(max(mask_row, mask), 8 * mask_row),
        "code_block_per_dim": max(0.2 * per_block, per_block - block_visit) / d,
        "fine_per_dim": max(0.0, fine) / d,
        "result_per_dim": result / d,
    }


def _scan(part: Part, program: Program, nprobe: int, k: int) -> tuple[float, Counts]:
    """Return the mean seconds and the mean counts of a scan for a few rows of the index."""
    step = max(1, part.n_vectors // _QUERIES)
    searches = [
        Search(query=np.ascontiguousarray(part.vectors[row]), k=k)
        for row in range(step // 2, part.n_vectors, step)
    ]

    effort = Effort(share=1.0, target=0.95, nprobe=nprobe)

    def scan(counters: Counters) -> None:
        for search in searches:
            scan_part(part, program, search, counters, effort)

    seconds = _best(lambda: scan(Counters()), 3) / len(searches)
    counters = Counters()
    scan(counters)
    return seconds, counters.counts().divided(len(searches))


def _best(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the least wall time of a few runs, after one that warms up."""
    work()
    return min(_once(work) for _ in range(repeats))


def _once(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
