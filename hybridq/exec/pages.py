"""Pages of one order: LIMIT with OFFSET, where the search may miss rows.

A deeper search finds rows that a shallower one missed, and they push others on: were every page cut
from a search of its own, a row could be on two of them. So the order is made in steps. Searches go
to fixed depths (1, 2, 5, 10, 25, 50, …); each adds what it found and those before it did not, and a
page is cut from the whole. Pages of one size never overlap or skip, and LIMIT alone, searched to
the same depths, has nearly the rows of its pages. A page costs about twice its last search.
"""

from __future__ import annotations

import numpy as np

from hybridq.index.hits import Hits, joined
from hybridq.index.ivf import Snapshot


def depth_for(rows: int) -> int:
    """Return how many rows to search for where `rows` are asked for."""
    if rows <= 2:
        return rows
    scale = 1
    while rows > 10 * scale:
        scale *= 10
    return next(d for d in (scale * 5 // 2, scale * 5, scale * 10) if rows <= d)


def depths_before(limit: int, offset: int) -> list[int]:
    """Return the depths, shallowest first, that a page needs before its own, the last one."""
    last, depth = depth_for(limit + offset), depth_for(limit)
    depths: list[int] = []
    while depth < last:
        depths.append(depth)
        depth = depth_for(depth + 1)
    return depths


def extended(snapshot: Snapshot, order: Hits, deeper: Hits, depth: int) -> Hits:
    """Return the first `depth` rows of `order` and, after them, what `deeper` has beside them."""
    if not len(order):
        return deeper.cut(0, depth)
    starts = np.cumsum([0, *(part.rows for part in snapshot.parts)])
    known, found = (starts[h.part] + h.position for h in (order, deeper))
    fresh = deeper.take(np.flatnonzero(~np.isin(found, known)))
    return joined(order, fresh).cut(0, depth)
