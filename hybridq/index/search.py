"""Search the parts of a snapshot: predicates bound per part, positions found, kernels run.

Every function here answers with the rows of the snapshot alone; which of them to call is the
planner's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from hybridq.index.counters import Counters
from hybridq.index.hits import Hits, SortColumn, sort_ties
from hybridq.index.ivf import Float32s, Int64s, Part, Snapshot
from hybridq.index.programs import Program
from hybridq.index.scans import Effort, Order, Out, Rule, addresses_of, rule_of, stopping
from hybridq.index.selectivity import ranges
from hybridq.kernels import addressed, coded, distance, scan, select, sieve
from hybridq.nodes import Metric


@dataclass(slots=True, kw_only=True)
class Search:
    """One bound query: vector (d,), how many rows, within which radius (inf: none).

    A scan of all lists may be shared by `threads`. Made for each query, so not frozen, which would
    double what it costs; nothing writes to it.
    """

    query: Float32s
    k: int
    radius: float = float("inf")
    radius_inclusive: bool = False
    threads: int = 1


_SHARED_COMPONENTS = 1 << 23
"""From so many components on, a few milliseconds' work, threads share a scan of all lists."""


def positions_by_permutation(part: Part, program: Program, leaf: int) -> Int64s:
    """Return live, passing positions by enumerating the rows of one leaf."""
    assert part.permutations is not None
    order = part.permutations[int(program.ops[leaf, 1])]
    starts, stops = ranges(part, program, leaf)
    found = [order[start:stop] for start, stop in zip(starts, stops, strict=True)]
    positions = np.concatenate(found) if found else np.empty(0, np.int64)
    if program.leaves > 1 and len(positions):
        # Sorting waits until few are left.
        out = np.empty(len(positions), np.int64)
        count = select.filter_positions(part.keys, positions, *program.arrays, out)
        positions = out[:count]
    return np.sort(positions if part.dead == 0 else positions[part.is_live(positions)])


def positions_by_mask(part: Part, program: Program, begin: int, end: int) -> Int64s:
    """Return live, passing positions of begin … end - 1 by evaluating every row."""
    out = np.empty(max(0, end - begin), np.int64)
    count = select.select_passing(
        part.keys,
        part.zones,
        begin,
        end,
        part.alive,
        *program.arrays,
        part.buckets,
        part.bucket_bounds,
        out,
    )
    return out[:count]


def scan_part(
    part: Part, program: Program, search: Search, counters: Counters, effort: Effort
) -> tuple[Float32s, Int64s]:
    """Scan the inverted lists of one part with the predicate inside; returns (distance, position).

    It is never given up.
    """
    found = scan_parts([part], [program], search, counters, effort)
    assert found is not None, "every list is allowed"
    return found[0]


def scan_parts(
    parts: Sequence[Part],
    programs: Sequence[Program],
    search: Search,
    counters: Counters,
    effort: Effort,
) -> list[tuple[Float32s, Int64s]] | None:
    """Do as `scan_part` for one part after the other; None if the scan was given up.

    Parts of one generation are visited in the lists that the first of them was, and rows beyond the
    k-th distance so far are left alone.
    """
    found: list[tuple[Float32s, Int64s]] = []
    orders: dict[str, Order] = {}
    nearest = np.empty(0, np.float32)
    for part, program in zip(parts, programs, strict=True):
        k = min(search.k, part.n_vectors)
        if k <= 0:
            found.append((np.empty(0, np.float32), np.empty(0, np.int64)))
            continue
        here, within = search, False
        if len(nearest) == search.k and nearest[-1] < search.radius:
            here = Search(
                query=search.query,
                k=k,
                radius=float(nearest[-1]),
                radius_inclusive=True,
                threads=search.threads,
            )
            within = True
        elif k < search.k:
            here = replace(search, k=k)
        out = Out(k)
        filled = _scan(part, program, here, effort, orders, out, within=within)
        counters.add(out.counters)
        if filled == sieve.GAVE_UP:
            return None
        found.append((out.distance[:filled], out.position[:filled]))
        if len(found) < len(parts) and filled:
            near = found[-1][0]  # sorted
            if len(nearest):
                near = np.concatenate([nearest, near])
                near.sort()
            nearest = near[: search.k]
    return found


def _scan(
    part: Part,
    program: Program,
    search: Search,
    effort: Effort,
    orders: dict[str, Order],
    out: Out,
    *,
    within: bool,
) -> int:
    """Scan one part into `out`; `within`: the radius is what others found, not the query's own."""
    nlist = part.nlist
    rule = rule_of(part, search.k, effort)
    known = orders.get(part.generation) if part.codes is not None else None
    filled = -1
    if known is not None or (part.codes is not None and rule.minimum < nlist):
        order = Order(part) if known is None else known
        filled = _probe_coded(part, program, search, rule, order, out)
        if order.lists[-1]:
            orders[part.generation] = order
        if filled == sieve.GAVE_UP:
            return filled
        if filled < search.k and search.radius < np.inf and not within:
            # Codes may lose a row at the rim of the radius, and so return too few.
            filled = -1
    if filled < 0:
        out.counters[:] = 0
        filled = _probe(part, program, search, rule, out, use_bounds=effort.use_bounds)
    return filled


def _probe_coded(
    part: Part, program: Program, search: Search, rule: Rule, order: Order, out: Out
) -> int:
    table = addresses_of(part)[None].copy()
    addressed.place_program(table, 0, part.alive, *program.arrays)
    arguments = (
        table,
        search.radius,
        search.radius_inclusive,
        *stopping(rule),
        search.k,
        0,
        *order.arrays,
        out.distance,
        out.position,
        np.empty((2, 1), np.int64),
        np.empty(search.k, np.float32),
        out.counters,
    )
    return coded.probe_coded(int(part.spec.metric), search.query, *arguments)


def _probe(
    part: Part, program: Program, search: Search, rule: Rule, out: Out, *, use_bounds: bool
) -> int:
    order, lower = _visit_order(part, search.query, use_bounds=use_bounds)
    threads = min(search.threads, part.nlist)
    every = rule.minimum >= part.nlist
    if threads == 1 or not every or part.n_vectors * part.spec.dim < _SHARED_COMPONENTS:
        return _probe_lists(part, program, search, rule, order, lower, out)

    def work(piece: int) -> tuple[Out, int]:
        own = Out(search.k)
        lists, bounds = order[piece::threads].copy(), lower[piece::threads].copy()
        return own, _probe_lists(part, program, search, rule, lists, bounds, own)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(work, range(threads)))
    for own, _ in found:
        out.counters += own.counters
    names = ("distance", "tie", "position")
    columns = [np.concatenate([getattr(o, name)[:n] for o, n in found]) for name in names]
    best = np.lexsort((columns[1], columns[0]))[: search.k]
    for name, column in zip(names, columns, strict=True):
        getattr(out, name)[: len(best)] = column[best]
    return len(best)


def _probe_lists(
    part: Part,
    program: Program,
    search: Search,
    rule: Rule,
    order: Int64s,
    lower: Float32s,
    out: Out,
) -> int:
    return scan.probe(
        int(part.spec.metric),
        search.query,
        part.vectors,
        part.list_offsets,
        order,
        lower,
        part.keys,
        part.zones,
        part.alive,
        *program.arrays,
        part.buckets,
        part.bucket_bounds,
        part.tie,
        search.radius,
        search.radius_inclusive,
        rule.shares,
        rule.lists,
        rule.gamma,
        rule.share,
        rule.minimum,
        search.k,
        out.distance,
        out.tie,
        out.position,
        out.counters,
    )


def rows_in_reach(part: Part, search: Search) -> int:
    """Return how many rows the lists have that may hold one within the radius."""
    order, lower = _visit_order(part, search.query, use_bounds=True)
    reached = order[lower <= search.radius]
    return int(np.diff(part.list_offsets)[reached].sum())


def _visit_order(part: Part, query: Float32s, *, use_bounds: bool) -> tuple[Int64s, Float32s]:
    """Return the lists nearest first, and a lower bound of the distances in each."""
    nlist = part.nlist
    if nlist == 1:
        return np.zeros(1, np.int64), np.full(1, -np.inf, np.float32)
    away = np.empty(nlist, np.float32)
    distance.coarse(int(part.spec.metric), query, part.centroids, away)
    order = np.argsort(away, kind="stable")
    if part.spec.metric is Metric.L2 and use_bounds:
        # By the triangle inequality; the margin covers the rounding of float32 sums.
        margin = np.float32((part.spec.dim + 16) * 2.0**-22)
        to_centroid = np.sqrt(np.maximum(away, 0)) * (1 - margin)
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, which skips no list
            lower = to_centroid - part.list_radius * (1 + margin)
        return order, np.ascontiguousarray(lower[order])
    return order, np.full(nlist, -np.inf, np.float32)


def gather_part(
    part: Part, positions: Int64s, search: Search, counters: Counters
) -> tuple[Float32s, Int64s]:
    """Find the nearest of the rows at `positions`; returns (distance, position)."""
    positions = np.ascontiguousarray(positions[positions < part.n_vectors])
    k = min(search.k, len(positions))
    if k <= 0:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    out = Out(k)
    filled = scan.gather(
        int(part.spec.metric),
        search.query,
        part.vectors,
        positions,
        part.tie,
        search.radius,
        search.radius_inclusive,
        k,
        out.distance,
        out.tie,
        out.position,
        out.counters,
    )
    counters.add(out.counters)
    return out.distance[:filled], out.position[:filled]


def without_distance(
    snapshot: Snapshot, programs: Sequence[Program], wanted: int, columns: Sequence[SortColumn]
) -> Hits:
    """Return passing rows that have no distance (NULL vectors), in order of (columns, key)."""
    parts: list[Int64s] = []
    positions: list[Int64s] = []
    for i, (part, program) in enumerate(zip(snapshot.parts, programs, strict=True)):
        found = positions_by_mask(part, program, part.n_vectors, part.rows)
        positions.append(found)
        parts.append(np.full(len(found), i, np.int64))
    position = np.concatenate(positions)
    hits = Hits(np.full(len(position), np.nan, np.float32), np.concatenate(parts), position)
    return sort_ties(snapshot, hits, columns).cut(0, wanted)
