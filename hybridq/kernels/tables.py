"""Sign bits met by a query: table lookups, four dimensions at a time, for 64 rows at once.

The query is rounded to 32 levels a dimension, t ~ step (u - 15.5). A row's *difference* h is the
sum over dimensions of u where its bit is not set and of 31 - u where it is, so that

    <sign(y), t> ~ step (15.5 D - h)

For every four dimensions a table has the sums of the 16 patterns that their bits may have; bytes
of 64 rows are looked up in one by a shuffle of the processor.

Source: André, Kermarrec, Le Scouarnec: Cache locality is not enough, VLDB 2015 (Fast Scan), as
FAISS and RaBitQ use it.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload

from hybridq.kernels._intrinsics import BLOCK, address, instruction
from hybridq.kernels._jit import kernel

Float32s = npt.NDArray[np.float32]
Uint8s = npt.NDArray[np.uint8]
Uint16s = npt.NDArray[np.uint16]

LEVELS = 32
MIDDLE = 15.5
PATTERNS = 16
"""Sums a table has: one for each value of four bits."""

_BYTES_AT_ONCE = 256  # 2,048 dimensions of at most 31: what 16 bits hold

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


@kernel
def split_query(turned: Float32s, tables: Uint8s) -> float:
    """Round `turned` (D,) to levels and fill `tables` (D / 4, PATTERNS) uint8; return the step."""
    size = turned.shape[0]
    largest = np.float32(0.0)
    for j in range(size):
        largest = max(largest, abs(turned[j]))
    step = largest / np.float32(MIDDLE)
    inverse = np.float32(0.0)
    if step > np.float32(0.0):
        inverse = np.float32(1.0) / step
    for group in range(tables.shape[0]):
        base = np.int64(0)
        for i in range(4):
            level = np.floor(turned[4 * group + i] * inverse + np.float32(LEVELS / 2))
            u = np.int64(min(max(level, np.float32(0.0)), np.float32(LEVELS - 1)))
            more = np.int64(LEVELS - 1) - 2 * u
            base += u
            for pattern in range(1 << i):
                tables[group, (1 << i) + pattern] = np.uint8(more & 255)
                if pattern > 0:
                    tables[group, (1 << i) + pattern] += tables[group, pattern]
        tables[group, 0] = np.uint8(0)
        for pattern in range(PATTERNS):
            tables[group, pattern] += np.uint8(base)
    return float(step)


def pattern_sums(
    codes: Uint8s, block: int, first: int, stop: int, tables: Uint8s, sums: Uint16s
) -> None:
    """Write into `sums` (64,) what bytes first … stop - 1 of the 64 rows of a block look up.

    `codes` (blocks, D / 8, 64): byte b of a row holds the bits of dimensions 8 b … 8 b + 7, its
    low half is looked up in table 2 b, its high half in table 2 b + 1.
    """
    for v in range(BLOCK):
        total = 0
        for b in range(first, stop):
            byte = int(codes[block, b, v])
            total += int(tables[2 * b, byte & 15]) + int(tables[2 * b + 1, byte >> 4])
        sums[v] = np.uint16(total)


@kernel
def block_scores(
    codes: Uint8s,
    factors: Float32s,
    block: int,
    tables: Uint8s,
    offset: float,
    shift: float,
    slope: float,
    sums: Uint16s,
    out: Float32s,
    at: int,
) -> None:
    """Write offset + f0 + f1 (shift + slope * h) for the 64 rows of a block into `out` from `at`.

    h goes through `sums` (64,). <sign(y), t> = step (15.5 D - h), so that slope is -step.
    """
    a = np.float32(offset)
    b = np.float32(shift)
    c = np.float32(slope)
    size = codes.shape[1]
    pattern_sums(codes, block, 0, min(size, _BYTES_AT_ONCE), tables, sums)
    for v in range(BLOCK):
        s = b + c * np.float32(np.int32(sums[v]))
        out[at + v] = a + factors[block, 0, v] + factors[block, 1, v] * s
    for first in range(_BYTES_AT_ONCE, size, _BYTES_AT_ONCE):
        pattern_sums(codes, block, first, min(size, first + _BYTES_AT_ONCE), tables, sums)
        for v in range(BLOCK):
            more = c * np.float32(np.int32(sums[v]))
            out[at + v] += factors[block, 1, v] * more


# -- the shuffle of the processor ------------------------------------------------


def _shuffle() -> tuple[int, str] | None:
    """Return (bytes, name) of the widest shuffle by variable places, None if none is known."""
    config: Any = numba.config
    if config.CPU_NAME not in (None, "", "host"):
        return None
    features = llvm.get_host_cpu_features()
    without = str(config.CPU_FEATURES or "").split(",")
    for feature, width, name in (
        ("avx512bw", 64, "llvm.x86.avx512.pshuf.b.512"),
        ("avx2", 32, "llvm.x86.avx2.pshuf.b"),
        ("ssse3", 16, "llvm.x86.ssse3.pshuf.b.128"),
    ):
        if features.get(feature) and f"-{feature}" not in without:
            return width, name
    return None


def _constant(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


class _Sums:
    """The instructions of `pattern_sums` for 64 / width parts of a block, `width` rows each."""

    def __init__(self, context: Any, builder: Any, width: int, name: str) -> None:
        self.context, self.builder, self.width = context, builder, width
        self.bytes = ir.VectorType(_I8, width)
        self.pairs = ir.VectorType(_I16, width // 2)
        kind = ir.FunctionType(self.bytes, [self.bytes, self.bytes])
        insert: Any = cgutils.get_or_insert_function
        self.function = insert(builder.module, kind, name)

    def table(self, pointer: Any) -> Any:
        """Load a table into every 16 bytes of a vector."""
        builder = self.builder
        sixteen = ir.VectorType(_I8, PATTERNS)
        loaded = builder.load(builder.bitcast(pointer, sixteen.as_pointer()), align=1)
        places = ir.VectorType(_I32, self.width)
        mask = ir.Constant(places, [i % PATTERNS for i in range(self.width)])
        return builder.shuffle_vector(loaded, ir.Constant(sixteen, ir.Undefined), mask)

    def looked_up(self, low: Any, high: Any, pointer: Any) -> Any:
        """Return the sums of both halves of `width` bytes, as pairs of rows."""
        builder = self.builder
        loaded = builder.load(builder.bitcast(pointer, self.bytes.as_pointer()), align=1)
        fifteen = _constant(self.bytes, 15)
        shifted = builder.lshr(builder.bitcast(loaded, self.pairs), _constant(self.pairs, 4))
        low_half = builder.and_(loaded, fifteen)
        high_half = builder.and_(builder.bitcast(shifted, self.bytes), fifteen)
        first = builder.call(self.function, [low, low_half])
        second = builder.call(self.function, [high, high_half])
        return builder.bitcast(builder.add(first, second), self.pairs)

    def joined(self, every: Any, odd: Any) -> Any:
        """Return sums row by row, of sums of pairs (odd * 256 + even) and of their odd rows."""
        builder = self.builder
        even = builder.sub(every, builder.shl(odd, _constant(self.pairs, 8)))
        places = ir.VectorType(_I32, self.width)
        half = self.width // 2
        mask = ir.Constant(places, [i // 2 + (i % 2) * half for i in range(self.width)])
        return builder.shuffle_vector(even, odd, mask)


@instruction
def _pattern_sums(
    typing: Any, codes: Any, block: Any, first: Any, stop: Any, tables: Any, sums: Any
) -> Any:
    found = _shuffle()
    assert found is not None
    width, name = found

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        codes, block, first, stop, tables, sums = args
        codes_kind, tables_kind, sums_kind = (signature.args[i] for i in (0, 4, 5))
        made = _Sums(context, builder, width, name)
        parts = BLOCK // width
        zero = ir.Constant(made.pairs, None)
        once: Any = cgutils.alloca_once_value
        every = [once(builder, zero) for _ in range(parts)]
        odd = [once(builder, zero) for _ in range(parts)]
        for slot in (*every, *odd):
            builder.store(zero, slot)
        start = address(context, builder, codes_kind, codes, block, first, ir.Constant(_I64, 0))
        two = ir.Constant(_I64, 2)
        table = address(
            context, builder, tables_kind, tables, builder.mul(first, two), ir.Constant(_I64, 0)
        )
        with cgutils.for_range(builder, builder.sub(stop, first), intp=_I64) as loop:
            at = builder.gep(table, [builder.mul(loop.index, ir.Constant(_I64, 2 * PATTERNS))])
            low = made.table(at)
            high = made.table(builder.gep(at, [ir.Constant(_I64, PATTERNS)]))
            row = builder.gep(start, [builder.mul(loop.index, ir.Constant(_I64, BLOCK))])
            for part in range(parts):
                there = builder.gep(row, [ir.Constant(_I64, part * width)])
                pairs = made.looked_up(low, high, there)
                builder.store(builder.add(builder.load(every[part]), pairs), every[part])
                above = builder.lshr(pairs, _constant(made.pairs, 8))
                builder.store(builder.add(builder.load(odd[part]), above), odd[part])
        out = address(context, builder, sums_kind, sums, ir.Constant(_I64, 0))
        for part in range(parts):
            joined = made.joined(builder.load(every[part]), builder.load(odd[part]))
            there = builder.gep(out, [ir.Constant(_I64, part * width)])
            builder.store(joined, builder.bitcast(there, joined.type.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(codes, types.int64, types.int64, types.int64, tables, sums), generate


@overload(pattern_sums, strict=False)
def _overload_pattern_sums(
    codes: Any, block: Any, first: Any, stop: Any, tables: Any, sums: Any
) -> Any:
    if _shuffle() is None:
        return pattern_sums
    return lambda codes, block, first, stop, tables, sums: _pattern_sums(
        codes, block, first, stop, tables, sums
    )
