"""Physical plans of a TopK: plain data, executed by hybridq.exec, priced by cost.

A plan that may turn out badly names the one that takes over (`otherwise`) and when: by work counted
in rows or lists, so that the same query does the same every time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """Brute force. Rows leave in order of (distance, sort keys, key); k rows are buffered.

    Over the index where it can answer (all lists, predicate inside), else by DuckDB over the table.
    """

    by_duckdb: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilter:
    """Positions of the passing rows first, then their exact distances; k rows are buffered.

    `source` tells how positions are found: a sorted permutation, the mask program over all rows,
    or DuckDB. The answer is exact.
    """

    source: str
    estimated_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """IVF scan with the predicate inside the scan; approximate to the target recall.

    `target` None visits every list, and is exact; `nprobe` fixes the lists. A scan that would visit
    more than `max_lists`, for the rows near the query pass less often than others, gives way to
    `otherwise`.
    """

    target: float | None
    nprobe: int | None
    estimated_lists: int
    estimated_share: float
    max_lists: int | None = None
    otherwise: Prefilter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitmap:
    """The same scan, with a bitmap of rows as a leaf: of what DuckDB found to satisfy the WHERE.

    `kept` tells that the bitmap is at hand. Where no more than `gather_rows` pass, their distances
    are computed one by one, and no list is visited.
    """

    target: float | None
    nprobe: int | None
    estimated_lists: int
    estimated_share: float
    kept: bool
    gather_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Postfilter:
    """Candidates in order of distance, by a scan; DuckDB checks on them what does not compile.

    Where all compiles, the program is checked afterwards. `first` candidates are fetched, then
    more while too few pass; `otherwise` takes over where more than `most` would be needed.
    """

    target: float | None
    nprobe: int | None
    estimated_lists: int
    estimated_share: float
    first: int
    most: int
    otherwise: Bitmap


PhysicalPlan: TypeAlias = Exact | Prefilter | Fused | Bitmap | Postfilter


def is_exact(plan: PhysicalPlan) -> bool:
    """Tell whether a plan misses no row."""
    return isinstance(plan, Exact | Prefilter) or (plan.target is None and plan.nprobe is None)


NAMES = ("exact", "prefilter", "fused", "bitmap", "postfilter")


@dataclass(slots=True, kw_only=True)
class Candidate:
    """A plan that was considered; one that cannot run says why.

    Made for each query, as is a decision, so not frozen, which would double what it costs.
    """

    name: str
    plan: PhysicalPlan | None
    cost_seconds: float | None
    rejected_because: str | None = None

    @property
    def seconds(self) -> float:
        """The cost to compare by, infinite where there is none."""
        return math.inf if self.cost_seconds is None else self.cost_seconds


@dataclass(slots=True, kw_only=True)
class Decision:
    """The plan chosen, and why.

    `ask_near` tells that the share of rows that pass near the query could change it. `before` has
    (depth, plan) of the shallower searches that a page by OFFSET takes.
    """

    plan: PhysicalPlan
    name: str
    estimated_selectivity: float
    considered: Callable[[], tuple[Candidate, ...]] = field(compare=False)
    because: Callable[[], str] = field(compare=False)
    ask_near: bool = False
    before: tuple[tuple[int, PhysicalPlan], ...] = ()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every plan there is with its cost, priced only when asked for."""
        return self.considered()

    @property
    def reason(self) -> str:
        """Why, in words: made only when asked for, for every query has a decision."""
        return self.because()
