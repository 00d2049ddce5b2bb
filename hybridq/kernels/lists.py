"""Which lists a scan visits: in order of their distance, a part of them at a time; how many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import BLOCK, at_most, prefetch, trailing_zeros
from hybridq.kernels._jit import kernel, strict_kernel
from hybridq.kernels.distance import IP, fast_dot, fast_squared_l2
from hybridq.kernels.tables import block_scores
from hybridq.kernels.zones import may_pass

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]
Uint16s = npt.NDArray[np.uint16]

SAMPLE = 256
"""Scores that `cut` looks at, at most."""

_INSERTION = 48  # up to so many entries are sorted by insertion


@kernel
def score_centroids(
    codes: Uint8s,
    factors: Float32s,
    tables: Uint8s,
    shift: float,
    slope: float,
    offset: float,
    sums: Uint16s,
    out: Float32s,
) -> None:
    """Write the scores of all centroids, from their sign bits, into `out` (blocks * 64,)."""
    for block in range(codes.shape[0]):
        at = block * BLOCK
        block_scores(codes, factors, block, tables, offset, shift, slope, sums, out, at)


@kernel
def cut(scores: Float32s, nlist: int, wanted: int, spare: Float32s) -> float:
    """Return a bound that about `wanted` of the `nlist` scores do not exceed, from a sample.

    `spare` has 2 * SAMPLE entries.
    """
    if wanted >= nlist:
        return np.inf
    step = max(1, nlist // SAMPLE)
    count = 0
    for c in range(0, nlist, step):
        if count < spare.shape[0]:
            spare[count] = scores[c]
            count += 1
    place = min(count - 1, (wanted * count) // nlist + 1)
    low = 0
    high = count - 1
    while low < high:  # Hoare's selection
        pivot = spare[(low + high) // 2]
        i = low
        j = high
        while i <= j:
            while spare[i] < pivot:
                i += 1
            while pivot < spare[j]:
                j -= 1
            if i <= j:
                value = spare[i]
                spare[i] = spare[j]
                spare[j] = value
                i += 1
                j -= 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            break
    return float(spare[place])


@kernel
def _before(score: float, which: int, other: float, other_which: int) -> bool:
    return score < other or (score == other and which < other_which)


@kernel
def _sift(scores: Float32s, lists: Int64s, start: int, hole: int, count: int) -> None:
    score = scores[start + hole]
    which = lists[start + hole]
    while True:
        child = 2 * hole + 1
        if child >= count:
            break
        at = start + child
        if child + 1 < count and _before(scores[at], lists[at], scores[at + 1], lists[at + 1]):
            child += 1
            at += 1
        if not _before(score, which, scores[at], lists[at]):
            break
        scores[start + hole] = scores[at]
        lists[start + hole] = lists[at]
        hole = child
    scores[start + hole] = score
    lists[start + hole] = which


@kernel
def sort_lists(scores: Float32s, lists: Int64s, start: int, stop: int) -> None:
    """Sort the entries start … stop - 1 by (score, list); no score is NaN."""
    count = stop - start
    if count > _INSERTION:
        for hole in range(count // 2 - 1, -1, -1):
            _sift(scores, lists, start, hole, count)
        for last in range(count - 1, 0, -1):
            score = scores[start]
            which = lists[start]
            scores[start] = scores[start + last]
            lists[start] = lists[start + last]
            scores[start + last] = score
            lists[start + last] = which
            _sift(scores, lists, start, 0, last)
        return
    for i in range(start + 1, stop):
        score = scores[i]
        which = lists[i]
        at = i
        while at > start and _before(score, which, scores[at - 1], lists[at - 1]):
            scores[at] = scores[at - 1]
            lists[at] = lists[at - 1]
            at -= 1
        scores[at] = score
        lists[at] = which


@kernel
def take_lists(
    metric: int,
    unit: Float32s,
    centroids: Float32s,
    rough: Float32s,
    bound: float,
    by_list: bool,
    list_zones: Int64s,
    ops: Int64s,
    low: Int64s,
    high: Int64s,
    sets: Int64s,
    taken: Uint8s,
    order: Int64s,
    scores: Float32s,
    start: int,
    mention: bool,
) -> int:
    """Append the lists not `taken` with a rough score up to `bound` to `order`, nearest first.

    Returns their end in `order` and `scores`, which begin at `start`. A list c whose zones let no
    row pass (if `by_list`) is appended as ~c with its rough score if `mention`, else left out.
    """
    nlist = centroids.shape[0]
    ready = start
    for first in range(0, nlist, BLOCK):
        word = at_most(rough, first, bound)
        while word != 0:
            c = first + trailing_zeros(word)
            word &= word - np.uint64(1)
            if c >= nlist or taken[c] != 0:
                continue
            taken[c] = 1
            if by_list and not may_pass(list_zones, c, ops, low, high, sets):
                if mention:
                    order[ready] = ~c
                    scores[ready] = rough[c]
                    ready += 1
                continue
            order[ready] = c
            prefetch(centroids, c, 0)
            ready += 1
    for i in range(start, ready):
        if order[i] >= 0:
            if metric == IP:
                dot, _ = fast_dot(unit, centroids, order[i])
                scores[i] = np.float32(-dot)
            else:
                scores[i] = np.float32(fast_squared_l2(unit, centroids, order[i]))
        if not scores[i] < np.inf:  # nor NaN: sorting needs an order
            scores[i] = np.float32(np.inf)
    sort_lists(scores, order, start, ready)
    return ready


@strict_kernel
def lists_needed(
    share: float, ladder_share: Float64s, ladder_lists: Float64s, gamma: float, global_share: float
) -> float:
    """Return the lists to visit when `share` (> 0) of the rows seen so far pass."""
    y = by_share(share, ladder_share, ladder_lists)
    return float(np.exp(y) * max(1.0, global_share / share) ** gamma)


@strict_kernel
def by_share(share: float, ladder_share: Float64s, values: Float64s) -> float:
    """Return what `values`, one for each of `ladder_share`, are at `share` (> 0)."""
    x = np.log(share)
    last = ladder_share.shape[0] - 1
    if x <= ladder_share[0]:
        return float(values[0])
    if x >= ladder_share[last]:
        return float(values[last])
    right = 1
    while ladder_share[right] < x:
        right += 1
    left = right - 1
    return float(
        values[left]
        + (values[right] - values[left])
        * (x - ladder_share[left])
        / (ladder_share[right] - ladder_share[left])
    )
