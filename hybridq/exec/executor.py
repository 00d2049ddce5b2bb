"""Run a plan over a snapshot: one line per physical plan, then one way to finish.

plan -> hits of each part -> merged by (distance, sort keys, key)
     -> rows without a distance appended while LIMIT is not filled -> OFFSET cut
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import assert_never

import numpy as np

from hybridq.exec.bind import BoundTopK
from hybridq.index.counters import Counters
from hybridq.index.hits import Hits, merge, sort_ties
from hybridq.index.ivf import Float32s, Int64s
from hybridq.index.programs import Program
from hybridq.index.search import (
    Search,
    gather_part,
    narrowest,
    positions_by_mask,
    positions_by_permutation,
    scan_part,
    without_distance,
)
from hybridq.plan.physical import Exact, Fused, Prefilter

PositionsByDuckDB = Callable[[BoundTopK], list[Int64s]]
"""Asks DuckDB for the keys that satisfy the WHERE and returns their positions, per part."""

Found = list[tuple[Float32s, Int64s]]


@dataclass(slots=True)
class Run:
    """What happened when a plan ran."""

    counters: Counters = field(default_factory=Counters)
    rows: int = 0
    seconds: float = 0.0


def execute(
    plan: Exact | Prefilter | Fused, bound: BoundTopK, by_duckdb: PositionsByDuckDB, run: Run
) -> Hits:
    """Return the hits of the query in their final order, OFFSET and LIMIT applied."""
    start = time.perf_counter()
    hits = _in_order(plan, bound, by_duckdb, run)
    if len(hits) < bound.wanted:
        bounded = bound.search.radius != math.inf or bound.search.radius_inclusive
        if not bounded:
            hits = _append_without_distance(hits, bound, by_duckdb)
    hits = hits.cut(bound.offset, bound.wanted)
    run.rows = len(hits)
    run.seconds = time.perf_counter() - start
    return hits


def _in_order(
    plan: Exact | Prefilter | Fused, bound: BoundTopK, by_duckdb: PositionsByDuckDB, run: Run
) -> Hits:
    """Search, and where further sort keys matter, search on past a tie at the k-th distance."""
    search = bound.search
    if not bound.sort_columns:
        return _search(plan, bound, search, by_duckdb, run)
    wanted = search.k
    while True:
        wider = replace(search, k=wanted + 1)
        hits = _search(plan, bound, wider, by_duckdb, run)
        complete = len(hits) <= wanted or hits.distance[-1] > hits.distance[search.k - 1]
        if complete:
            return sort_ties(bound.snapshot, hits, bound.sort_columns).cut(0, search.k)
        wanted = 2 * wanted + 64


def _search(
    plan: Exact | Prefilter | Fused,
    bound: BoundTopK,
    search: Search,
    by_duckdb: PositionsByDuckDB,
    run: Run,
) -> Hits:
    match plan:
        case Exact():
            found = _scan(bound, search, run, share=1.0, target=None, nprobe=None, bounds=False)
        case Prefilter(source=source):
            found = _prefilter(source, bound, search, by_duckdb, run)
        case Fused(target=target, nprobe=nprobe):
            share = max(plan.estimated_share, 1e-9)
            found = _scan(
                bound, search, run, share=share, target=target, nprobe=nprobe, bounds=True
            )
        case _:
            assert_never(plan)
    return merge(bound.snapshot, found, search.k)


def _scan(
    bound: BoundTopK,
    search: Search,
    run: Run,
    *,
    share: float,
    target: float | None,
    nprobe: int | None,
    bounds: bool,
) -> Found:
    assert bound.compiled
    return [
        scan_part(
            part,
            program,
            search,
            run.counters,
            share=share,
            target=target,
            nprobe=nprobe,
            use_bounds=bounds,
        )
        for part, program in zip(bound.snapshot.parts, bound.programs, strict=True)
    ]


def _prefilter(
    source: str, bound: BoundTopK, search: Search, by_duckdb: PositionsByDuckDB, run: Run
) -> Found:
    parts = bound.snapshot.parts
    if source == "duckdb" or not bound.compiled:
        positions = by_duckdb(bound)
    else:
        positions = [
            _positions(source, bound, i, program) for i, program in enumerate(bound.programs)
        ]
    return [
        gather_part(part, found, search, run.counters)
        for part, found in zip(parts, positions, strict=True)
    ]


def _positions(source: str, bound: BoundTopK, i: int, program: Program) -> Int64s:
    part = bound.snapshot.parts[i]
    if source == "permutation" and part.permutations is not None:
        best = narrowest(part, program)
        if best is not None:
            return positions_by_permutation(part, program, best[0])
    return positions_by_mask(part, program, 0, part.n_vectors)


def _append_without_distance(hits: Hits, bound: BoundTopK, by_duckdb: PositionsByDuckDB) -> Hits:
    """NULL vectors come last, when all others that match are not enough."""
    missing = bound.wanted - len(hits)
    parts = bound.snapshot.parts
    if all(p.n_vectors == p.rows for p in parts):
        return hits
    if bound.compiled:
        extra = without_distance(bound.snapshot, bound.programs, missing, bound.sort_columns)
    else:
        found = [p[p >= part.n_vectors] for p, part in zip(by_duckdb(bound), parts, strict=True)]
        position = np.concatenate(found)
        index = np.concatenate([np.full(len(p), i, np.int64) for i, p in enumerate(found)])
        nothing = np.full(len(position), np.nan, np.float32)
        unsorted = Hits(nothing, index, position)
        extra = sort_ties(bound.snapshot, unsorted, bound.sort_columns).cut(0, missing)
    return Hits(
        np.concatenate([hits.distance, extra.distance]),
        np.concatenate([hits.part, extra.part]),
        np.concatenate([hits.position, extra.position]),
    )
