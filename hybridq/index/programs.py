"""Verdicts as the programs that kernels run over a part's rows (see kernels.predicate)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybridq.index.intervals import Interval
from hybridq.index.ivf import Int64s
from hybridq.index.verdicts import Codes, Joined, Ranges, Rows, Uint64s, Verdict, depth
from hybridq.kernels import predicate as kernel


@dataclass(slots=True, eq=False)
class Program:
    """Arrays of `kernels.predicate`; how many leaves there are, how deep the stack becomes.

    Made for each query, so not frozen, which would double what it costs; nothing writes to it.

    `narrowing` are the instructions whose intervals hold every passing row's key.
    """

    ops: Int64s
    low: Int64s
    high: Int64s
    bits: Uint64s
    leaves: int
    depth: int
    narrowing: tuple[int, ...]

    @property
    def arrays(self) -> tuple[Int64s, Int64s, Int64s, Uint64s]:
        """The arrays as kernels take them."""
        return self.ops, self.low, self.high, self.bits

    @property
    def by_position(self) -> bool:
        """Tell whether it asks for a row's position, and so cannot run on a sample of keys."""
        return bool((self.ops[:, 0] == kernel.POSITION_BITS).any())


class _Assembler:
    def __init__(self) -> None:
        self.ops: list[list[int]] = []
        self.intervals: list[Interval] = []
        self.words: list[Uint64s] = []
        self.size = 0
        self.leaves = 0

    def add(self, verdict: Verdict) -> None:
        match verdict:
            case bool():
                assert not verdict, "a program of all rows is empty"
                self._ranges(0, [])
            case Ranges(column, found):
                self._ranges(column, found)
            case Codes(column, _, words):
                self._bits(kernel.KEY_BITS, column, words)
            case Rows(words):
                self._bits(kernel.POSITION_BITS, 0, words)
            case Joined(every, parts, _):
                self.joined(every, parts)

    def _ranges(self, column: int, found: Sequence[Interval]) -> None:
        begin = len(self.intervals)
        self.intervals.extend(found)
        self.ops.append([kernel.INTERVALS, column, begin, len(self.intervals)])
        self.leaves += 1

    def _bits(self, opcode: int, column: int, words: Uint64s) -> None:
        self.ops.append([opcode, column, self.size, self.size + len(words)])
        self.words.append(words)
        self.size += len(words)
        self.leaves += 1

    def joined(self, every: bool, parts: Sequence[Verdict]) -> list[int]:
        """Add parts and what joins them; return where each begins."""
        skip = kernel.SKIP_IF_NONE if every else kernel.SKIP_IF_ALL
        skips: list[int] = []
        begins = [len(self.ops)]
        self.add(parts[0])
        for part in parts[1:]:
            skips.append(len(self.ops))
            self.ops.append([skip, 0, 0, 0])
            begins.append(len(self.ops))
            self.add(part)
            self.ops.append([kernel.AND if every else kernel.OR, 0, 0, 0])
        for at in skips:
            self.ops[at][2] = len(self.ops)
        return begins


def assemble(verdict: Verdict) -> Program:
    """Return the program of a verdict."""
    if isinstance(verdict, Ranges):
        return _of_ranges(verdict)
    out = _Assembler()
    narrowing: tuple[int, ...] = ()
    if isinstance(verdict, Joined) and verdict.every:
        begins = out.joined(True, verdict.parts)
        together = zip(begins, verdict.parts, strict=True)
        narrowing = tuple(at for at, part in together if isinstance(part, Ranges))
    elif verdict is not True:
        out.add(verdict)
        narrowing = (0,) if isinstance(verdict, bool) else ()
    return Program(
        ops=np.array(out.ops, np.int64).reshape(-1, 4),
        low=np.array([low for low, _ in out.intervals], np.int64),
        high=np.array([high for _, high in out.intervals], np.int64),
        bits=_together(out.words),
        leaves=out.leaves,
        depth=depth(verdict),
        narrowing=narrowing,
    )


_NO_BITS = np.empty(0, np.uint64)


def _of_ranges(verdict: Ranges) -> Program:
    count = len(verdict.intervals)
    ends = np.array(verdict.intervals, np.int64).T.copy()
    return Program(
        ops=np.array(((kernel.INTERVALS, verdict.column, 0, count),), np.int64),
        low=ends[0],
        high=ends[1],
        bits=_NO_BITS,
        leaves=1,
        depth=1,
        narrowing=(0,),
    )


def _together(words: Sequence[Uint64s]) -> Uint64s:
    """Return all words in one array; that of a bitmap alone is large, and not copied."""
    if len(words) == 1:
        return words[0]
    return np.concatenate(words) if words else _NO_BITS
