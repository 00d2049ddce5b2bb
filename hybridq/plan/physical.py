"""Physical plans of a TopK: plain data, executed by hybridq.exec, priced by cost."""

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

    `target` None visits every list, and is exact; `nprobe` fixes the lists.
    """

    target: float | None
    nprobe: int | None
    estimated_lists: int
    estimated_share: float


PhysicalPlan: TypeAlias = Exact | Prefilter | Fused


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A plan that was considered; one that cannot run says why."""

    name: str
    plan: PhysicalPlan | None
    cost_seconds: float | None
    rejected_because: str | None = None

    @property
    def seconds(self) -> float:
        """The cost to compare by, infinite where there is none."""
        return math.inf if self.cost_seconds is None else self.cost_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The plan chosen, and why."""

    plan: PhysicalPlan
    name: str
    estimated_selectivity: float
    candidates: tuple[Candidate, ...]
    because: Callable[[], str] = field(compare=False)

    @property
    def reason(self) -> str:
        """Why, in words: made only when asked for, for every query has a decision."""
        return self.because()
