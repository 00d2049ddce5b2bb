"""The Walsh-Hadamard transform in place, LANES components at a time.

    half >= LANES   a run of LANES meets the run that lies `half` behind it
    half < LANES    inside a run: v = v' + s v, where v' has v's halves swapped and s is +1 or -1

Each component is the same sum, in the same order, as by the loops of the plain Python below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import overload

from hybridq.kernels._intrinsics import address, instruction
from hybridq.kernels._jit import kernel

Float32s = npt.NDArray[np.float32]

LANES = 16

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@kernel
def transform(x: Float32s, start: int, size: int) -> None:
    """Transform x[start : start + size]; `size` is a power of two, at least LANES."""
    for at in range(start, start + size, LANES):
        within(x, at)
    half = LANES
    while half < size:
        for block in range(start, start + size, 2 * half):
            for at in range(block, block + half, LANES):
                across(x, at, half)
        half *= 2


def within(x: Float32s, at: int) -> None:
    """Transform x[at : at + LANES]."""
    half = 1
    while half < LANES:
        for block in range(at, at + LANES, 2 * half):
            for j in range(block, block + half):
                a, b = x[j], x[j + half]
                x[j], x[j + half] = a + b, a - b
        half *= 2


def across(x: Float32s, at: int, half: int) -> None:
    """Put sums of x[at : at + LANES] and what lies `half` behind here, differences there."""
    for j in range(at, at + LANES):
        a, b = x[j], x[j + half]
        x[j], x[j + half] = a + b, a - b


def _run(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Return where LANES components begin."""
    place = address(context, builder, kind, array, at)
    return builder.bitcast(place, ir.VectorType(ir.FloatType(), LANES).as_pointer())


@instruction
def _within(typing: Any, x: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _run(context, builder, signature.args[0], *args)
        floats = ir.VectorType(ir.FloatType(), LANES)
        run = builder.load(place, align=4)
        half = 1
        while half < LANES:
            mask = ir.Constant(ir.VectorType(_I32, LANES), [i ^ half for i in range(LANES)])
            swapped = builder.shuffle_vector(run, run, mask)
            sign = ir.Constant(floats, [-1.0 if i & half else 1.0 for i in range(LANES)])
            run = builder.fadd(swapped, builder.fmul(run, sign), flags=("contract",))
            half *= 2
        builder.store(run, place, align=4)
        return context.get_dummy_value()

    return _nothing(x, at), generate


@instruction
def _across(typing: Any, x: Any, at: Any, half: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, at, half = args
        first = _run(context, builder, signature.args[0], array, at)
        second = _run(context, builder, signature.args[0], array, builder.add(at, half))
        a, b = builder.load(first, align=4), builder.load(second, align=4)
        builder.store(builder.fadd(a, b), first, align=4)
        builder.store(builder.fsub(a, b), second, align=4)
        return context.get_dummy_value()

    return _nothing(x, at, half), generate


def _nothing(x: Any, *places: Any) -> Any:
    return types.void(x, *(types.int64 for _ in places))


@overload(within, strict=False)
def _overload_within(x: Any, at: Any) -> Any:
    return lambda x, at: _within(x, at)


@overload(across, strict=False)
def _overload_across(x: Any, at: Any, half: Any) -> Any:
    return lambda x, at, half: _across(x, at, half)
