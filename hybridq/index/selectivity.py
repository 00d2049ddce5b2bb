"""How many rows pass a program: exactly where sorted permutations tell, else from samples."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from hybridq.index.ivf import Float32s, Int64s, Part, Uint64s, all_live
from hybridq.index.programs import Program
from hybridq.kernels import distance, select, zones

_NO_BUCKETS = np.empty((0, 0), np.uint16)
_NO_BOUNDS = np.empty((0, 0, 2), np.int64)

_SAMPLED = 4096
"""Rows that tell the share of a program which a sample of keys cannot."""

_FEW = 16
"""A leaf with one row in so many, or less, is sampled among its own rows."""

_AMONG = 512
"""Rows of a narrow leaf that are looked at."""

_TRUSTED = 10
"""Hits in a sample that need no other evidence."""

_GROUPS = 512
"""Lists and blocks whose zones are looked at."""

_LOCAL_LISTS = 16
_LOCAL_ROWS = 32
"""Lists near a query, and rows of each, that tell the share near it."""

_RUN = 32
"""Rows of the same value that make a run."""

_EXPECTED = 3
"""Rows, at least, that should have passed where it tells something that none does."""


class Selectivity(NamedTuple):
    """The estimated share of rows that pass, and the exact rows of the narrowest leaf.

    Those lie in ascending `runs` where many of them have the same value. Of the lists and blocks,
    the shares `open_…` are not ruled out by their zones.
    """

    share: float
    narrowest_rows: int | None
    runs: bool
    open_lists: float
    open_blocks: float


def selectivity(part: Part, program: Program) -> Selectivity:
    """Estimate what passes by the part's sorted permutations, its zones and its sample."""
    if program.leaves == 0 or part.rows == 0:
        return Selectivity(1.0, None, False, 1.0, 1.0)
    lists, blocks = _open_share(part, "list_zones", program), _open_share(part, "zones", program)
    leaves = _leaf_rows(part, program)
    if not leaves:
        return Selectivity(sampled_share(part, program), None, False, lists, blocks)
    leaf, rows = min(leaves, key=lambda found: found[1])
    share = _share(part, program, leaves, leaf, rows)
    return Selectivity(share, rows, _in_runs(part, program, leaf, rows), lists, blocks)


def _share(
    part: Part, program: Program, leaves: list[tuple[int, int]], leaf: int, rows: int
) -> float:
    """Estimate the share that passes, `leaf` having the fewest `rows` of the `leaves`."""
    exact = rows / part.rows
    if program.leaves == 1 or rows == 0:
        return exact
    if rows * _FEW <= part.rows:
        return exact * _share_of_leaf(part, program, leaf, rows)
    independent = 1.0
    for _, count in leaves:
        independent *= count / part.rows
    return min(sampled_share(part, program, independent=independent), exact)


def _in_runs(part: Part, program: Program, leaf: int, rows: int) -> bool:
    """Tell whether the rows of a leaf have few values, and so ascend in its permutation."""
    begin, end = program.ops[leaf, 2:].tolist()
    if program.leaves == 1 or rows == 0 or end - begin != 1:
        return False
    assert part.permutations is not None
    column = int(program.ops[leaf, 1])
    (start,), (stop,) = ranges(part, program, leaf)
    order, keys = part.permutations[column], part.keys[column]
    values = int(keys[order[stop - 1]]) - int(keys[order[start]]) + 1
    return values * _RUN <= rows


def _open_share(part: Part, name: str, program: Program) -> float:
    """Estimate the share of groups that their zones do not rule out."""
    groups = part.known.get((_open_share, name))
    if groups is None:
        groups = part.known[_open_share, name] = _some(getattr(part, name))
    looked_at: int = groups.shape[1]
    if looked_at == 0:
        return 1.0
    found = zones.count_open(groups, 1, program.ops, program.low, program.high)
    return max(1, found) / looked_at


def _some(groups: Int64s) -> Int64s:
    """Return up to about _GROUPS of the zones, side by side."""
    return np.ascontiguousarray(groups[:, :: max(1, groups.shape[1] // _GROUPS)])


def sampled_share(part: Part, program: Program, *, independent: float | None = None) -> float:
    """Estimate the share of the part's rows that pass, from its sample.

    With few hits, `independent` counts for as much: the share were its leaves independent.
    """
    if program.leaves == 0 or part.rows == 0:
        return 1.0
    if program.by_position or part.sample.shape[1] == 0:
        step = max(1, part.rows // _SAMPLED)
        chosen = np.arange(step // 2, part.rows, step)
        return share_among(part, program, chosen)
    rows = int(part.sample.shape[1])
    passing = select.count_all(
        part.sample, _NO_BOUNDS, _every(rows), *program.arrays, _NO_BUCKETS, _NO_BOUNDS
    )
    if passing >= _TRUSTED or rows >= part.rows:
        return passing / rows
    if independent is None:
        return max(0.5, passing) / rows
    return (passing + 0.5) / (rows + 0.5 / max(independent, 1e-12))


@functools.lru_cache(maxsize=16)
def _every(rows: int) -> Uint64s:
    return all_live(rows)


def share_among(part: Part, program: Program, positions: Int64s) -> float:
    """Return the share of the rows at `positions` that pass; of none, a half row's share."""
    if len(positions) == 0:
        return 0.0
    passing = int(select.count_passing(part.keys, positions, *program.arrays))
    return max(passing, 0.5 if len(positions) < part.rows else 0) / len(positions)


def local_share(part: Part, program: Program, query: Float32s, share: float) -> float:
    """Estimate the share that passes among the rows of the lists nearest to the query.

    `share` is that of all rows, which stands where so few rows as are looked at tell nothing.
    """
    away = np.empty(part.nlist, np.float32)
    distance.coarse(int(part.spec.metric), query, part.centroids, away)
    nearest = min(part.nlist, _LOCAL_LISTS, max(_LOCAL_LISTS // 4, part.nlist // 64))
    lists = np.argpartition(away, nearest - 1)[:nearest]
    starts = part.list_offsets[lists]
    sizes = part.list_offsets[lists + 1] - starts
    steps = (np.arange(_LOCAL_ROWS)[:, None] * sizes) // _LOCAL_ROWS
    positions = np.ascontiguousarray((starts + steps)[:, sizes > 0].ravel())
    passing = int(select.count_passing(part.keys, positions, *program.arrays))
    if passing == 0 and len(positions) * share < _EXPECTED:
        return share
    return max(passing, 0.5) / max(1, len(positions))


def narrowest(part: Part, program: Program) -> tuple[int, int] | None:
    """Return (leaf, rows) of the leaf with the fewest rows by the sorted permutations, exactly.

    A leaf is the number of its instruction; every row that passes is among the leaf's rows.
    """
    return min(_leaf_rows(part, program), key=lambda found: found[1], default=None)


def ranges(part: Part, program: Program, leaf: int) -> tuple[list[int], list[int]]:
    """Return where the leaf's intervals start and stop in its sorted permutation."""
    assert part.permutations is not None
    _, column, begin, end = program.ops[leaf].tolist()
    order, keys = part.permutations[column], part.keys[column]
    # Bisection through the permutation: the keys are not copied, and few of them are read.
    starts: list[int] = keys.searchsorted(program.low[begin:end], "left", order).tolist()
    stops: list[int] = keys.searchsorted(program.high[begin:end], "right", order).tolist()
    return starts, stops


def _leaf_rows(part: Part, program: Program) -> list[tuple[int, int]]:
    """Return (leaf, rows) of each leaf that every passing row is in."""
    if part.permutations is None:
        return []
    found: list[tuple[int, int]] = []
    for leaf in program.narrowing:
        starts, stops = ranges(part, program, leaf)
        found.append((leaf, sum(stops) - sum(starts)))
    return found


def _share_of_leaf(part: Part, program: Program, leaf: int, rows: int) -> float:
    """Return which share of a leaf's rows passes, from up to _AMONG of them."""
    assert part.permutations is not None
    order = part.permutations[int(program.ops[leaf, 1])]
    step = -(-rows // _AMONG)
    starts, stops = ranges(part, program, leaf)
    chosen = [order[start:stop:step] for start, stop in zip(starts, stops, strict=True)]
    positions = np.ascontiguousarray(np.concatenate(chosen))
    passing = int(select.count_passing(part.keys, positions, *program.arrays))
    return max(passing, 0.5 if step > 1 else 0) / len(positions)
