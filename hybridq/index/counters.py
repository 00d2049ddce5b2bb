"""What searches count while they run, for EXPLAIN ANALYZE."""

from __future__ import annotations

from dataclasses import dataclass, fields

from hybridq.index.ivf import Int64s
from hybridq.kernels import scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a search did."""

    lists: int
    blocks: int
    blocks_skipped: int
    examined: int
    passing: int
    codes: int
    fine_codes: int
    fast_distances: int
    exact_distances: int

    def divided(self, count: int) -> Counts:
        """Return what one of `count` searches did on average."""
        return Counts(**{f.name: getattr(self, f.name) // count for f in fields(self)})


class Counters:
    """What kernels count while they search; most searches never ask for the sums."""

    __slots__ = ("_raw",)

    def __init__(self) -> None:
        self._raw: list[Int64s] = []

    def add(self, raw: Int64s) -> None:
        """Add a kernel's counters."""
        self._raw.append(raw)

    def counts(self) -> Counts:
        """Return the sums."""
        total = [sum(column) for column in zip(*(r.tolist() for r in self._raw), strict=True)]
        total = total or [0] * scan.COUNTERS
        return Counts(
            lists=total[scan.LISTS_VISITED] - total[scan.LISTS_SKIPPED],
            blocks=total[scan.BLOCKS],
            blocks_skipped=total[scan.BLOCKS_SKIPPED],
            examined=total[scan.ROWS_EXAMINED],
            passing=total[scan.ROWS_PASSING],
            codes=total[scan.CODES],
            fine_codes=total[scan.FINE_CODES],
            fast_distances=total[scan.FAST_DISTANCES],
            exact_distances=total[scan.EXACT_DISTANCES],
        )
