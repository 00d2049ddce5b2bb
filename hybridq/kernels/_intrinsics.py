"""Machine operations that NumPy has no word for, each with its meaning in plain Python.

A word is a uint64; its bit v speaks of row `first + v` of a block of 64 rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from hybridq.kernels._jit import REDUCTION, SAFE_FLAGS

BLOCK = 64
"""Rows a word covers."""

HALF_BLOCK = 32
"""Bytes that hold 64 four-bit levels."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def between(keys: npt.NDArray[np.int64], column: int, first: int, low: int, high: int) -> np.uint64:
    """Return the word of low <= keys[column, first + v] <= high; all 64 keys must exist."""
    word = np.uint64(0)
    for v in range(BLOCK):
        if low <= keys[column, first + v] <= high:
            word |= np.uint64(1) << np.uint64(v)
    return word


def bucket_between(
    numbers: npt.NDArray[np.uint16], column: int, first: int, low: int, high: int
) -> np.uint64:
    """Return the word of low <= numbers[column, first + v] <= high; all 64 must exist."""
    word = np.uint64(0)
    for v in range(BLOCK):
        if low <= int(numbers[column, first + v]) <= high:
            word |= np.uint64(1) << np.uint64(v)
    return word


def in_word(keys: npt.NDArray[np.int64], column: int, first: int, members: np.uint64) -> np.uint64:
    """Return the word of: bit keys[column, first + v] + 1 of `members` is set, bit 0 for NULL.

    All 64 keys must exist, none above 62.
    """
    word = np.uint64(0)
    for v in range(BLOCK):
        bit = max(int(keys[column, first + v]) + 1, 0)
        word |= ((members >> np.uint64(bit)) & np.uint64(1)) << np.uint64(v)
    return word


def at_most(values: npt.NDArray[np.float32], first: int, bound: float) -> np.uint64:
    """Return the word of values[first + v] <= bound or NaN; all 64 values must exist."""
    word = np.uint64(0)
    for v in range(BLOCK):
        if not values[first + v] > np.float32(bound):
            word |= np.uint64(1) << np.uint64(v)
    return word


def nibble_dot(
    fine: npt.NDArray[np.uint8], row: int, first: int, values: npt.NDArray[np.float32], half: int
) -> float:
    """Return the sum of 64 four-bit levels times `values`, in any order.

    The levels are the halves of fine[row, first] … fine[row, first + 31]: the low halves meet
    values[first] …, the high ones values[half + first] ….
    """
    total = np.float32(0.0)
    for j in range(first, first + HALF_BLOCK):
        byte = int(fine[row, j])
        total += np.float32(byte & 15) * values[j]
        total += np.float32(byte >> 4) * values[half + j]
    return float(total)


def lowest_bits(count: int) -> np.uint64:
    """Return the word whose first `count` bits (1 to 64) are set."""
    return np.uint64(2**count - 1)


def popcount(word: np.uint64) -> int:
    """Count the bits that are set."""
    return int(word).bit_count()


def trailing_zeros(word: np.uint64) -> int:
    """Return the number of the first bit that is set; there must be one."""
    return (int(word) & -int(word)).bit_length() - 1


def prefetch(table: npt.NDArray[Any], row: int, column: int) -> None:
    """Tell the processor that value `column` of `table[row]`, taken as flat, is read soon."""


def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """Define an instruction by the code it generates."""
    return cast(Callable[..., Any], intrinsic(function))


def address(context: Any, builder: Any, array_type: Any, array: Any, *indices: Any) -> Any:
    """Return the address of an element of a C-ordered array, without any check."""
    struct = context.make_array(array_type)(context, builder, array)
    shape = [builder.extract_value(struct.shape, i) for i in range(array_type.ndim)]
    offset = indices[0]
    for size, index in zip(shape[1:], indices[1:], strict=True):
        offset = builder.add(builder.mul(offset, size), index)
    return builder.gep(struct.data, [offset])


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    vector = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), None)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


@instruction
def _between(typing: Any, keys: Any, column: Any, first: Any, low: Any, high: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = address(context, builder, signature.args[0], args[0], args[1], args[2])
        vector = ir.VectorType(_I64, BLOCK)
        loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=8)
        above = builder.icmp_signed(">=", loaded, _splat(builder, args[3], BLOCK))
        below = builder.icmp_signed("<=", loaded, _splat(builder, args[4], BLOCK))
        return builder.bitcast(builder.and_(above, below), _I64)

    integers = [types.int64] * 4
    return types.uint64(keys, *integers), generate


@instruction
def _bucket_between(typing: Any, numbers: Any, column: Any, first: Any, low: Any, high: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = address(context, builder, signature.args[0], args[0], args[1], args[2])
        vector = ir.VectorType(_I16, BLOCK)
        loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=2)
        least, most = (_splat(builder, builder.trunc(a, _I16), BLOCK) for a in args[3:])
        above = builder.icmp_unsigned(">=", loaded, least)
        below = builder.icmp_unsigned("<=", loaded, most)
        return builder.bitcast(builder.and_(above, below), _I64)

    integers = [types.int64] * 4
    return types.uint64(numbers, *integers), generate


@instruction
def _in_word(typing: Any, keys: Any, column: Any, first: Any, members: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = address(context, builder, signature.args[0], args[0], args[1], args[2])
        vector = ir.VectorType(_I64, BLOCK)
        loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=8)
        bit = builder.add(loaded, _splat(builder, ir.Constant(_I64, 1), BLOCK))
        zeros = ir.Constant(vector, None)
        bit = builder.select(builder.icmp_signed("<", bit, zeros), zeros, bit)
        shifted = builder.lshr(_splat(builder, args[3], BLOCK), bit)
        one_bit = builder.trunc(shifted, ir.VectorType(ir.IntType(1), BLOCK))
        return builder.bitcast(one_bit, _I64)

    return types.uint64(keys, types.int64, types.int64, types.uint64), generate


@instruction
def _at_most(typing: Any, values: Any, first: Any, bound: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = address(context, builder, signature.args[0], args[0], args[1])
        vector = ir.VectorType(ir.FloatType(), BLOCK)
        loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)
        return builder.bitcast(
            builder.fcmp_unordered("<=", loaded, _splat(builder, args[2], BLOCK)), _I64
        )

    return types.uint64(values, types.int64, types.float32), generate


@instruction
def _nibble_dot(typing: Any, fine: Any, row: Any, first: Any, values: Any, half: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table, row, first, vector, half = args
        f32 = ir.FloatType()
        floats = ir.VectorType(f32, HALF_BLOCK)
        wide = ir.VectorType(_I32, HALF_BLOCK)
        bytes_ = ir.VectorType(_I8, HALF_BLOCK)

        def loaded(kind: Any, pointer: Any, align: int) -> Any:
            return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=align)

        packed = loaded(bytes_, address(context, builder, signature.args[0], table, row, first), 1)
        levels = builder.zext(packed, wide)
        low = builder.and_(levels, _splat(builder, ir.Constant(_I32, 15), HALF_BLOCK))
        high = builder.lshr(levels, _splat(builder, ir.Constant(_I32, 4), HALF_BLOCK))
        total = None
        for part, start in ((low, first), (high, builder.add(half, first))):
            # Signed: there is an instruction for it, and levels are small.
            factor = builder.sitofp(part, floats)
            other = loaded(floats, address(context, builder, signature.args[3], vector, start), 4)
            product = builder.fmul(factor, other, flags=SAFE_FLAGS)
            total = product if total is None else builder.fadd(total, product, flags=SAFE_FLAGS)
        kind = ir.FunctionType(f32, [f32, floats])
        name = f"llvm.vector.reduce.fadd.v{HALF_BLOCK}f32"
        insert: Any = cgutils.get_or_insert_function
        reduce = insert(builder.module, kind, name)
        return builder.call(reduce, [ir.Constant(f32, 0.0), total], **REDUCTION)

    return types.float32(fine, types.int64, types.int64, values, types.int64), generate


@instruction
def _popcount(typing: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), generate


@instruction
def _trailing_zeros(typing: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@instruction
def _prefetch(typing: Any, vectors: Any, row: Any, column: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, (array, row, column) = signature.args[0], args
        struct = context.make_array(array_type)(context, builder, array)
        width = ir.Constant(_I64, 1)
        for i in range(1, array_type.ndim):
            width = builder.mul(width, builder.extract_value(struct.shape, i))
        offset = builder.add(builder.mul(row, width), column)
        pointer = builder.bitcast(builder.gep(struct.data, [offset]), _I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        flags = [ir.Constant(_I32, value) for value in (0, 3, 1)]  # read, keep, data
        builder.call(function, [pointer, *flags])
        return context.get_dummy_value()

    return types.void(vectors, types.int64, types.int64), generate


@overload(between, strict=False)
def _overload_between(keys: Any, column: Any, first: Any, low: Any, high: Any) -> Any:
    return lambda keys, column, first, low, high: _between(keys, column, first, low, high)


@overload(bucket_between, strict=False)
def _overload_bucket_between(numbers: Any, column: Any, first: Any, low: Any, high: Any) -> Any:
    return lambda numbers, column, first, low, high: _bucket_between(
        numbers, column, first, low, high
    )


@overload(in_word, strict=False)
def _overload_in_word(keys: Any, column: Any, first: Any, members: Any) -> Any:
    return lambda keys, column, first, members: _in_word(keys, column, first, members)


@overload(at_most, strict=False)
def _overload_at_most(values: Any, first: Any, bound: Any) -> Any:
    return lambda values, first, bound: _at_most(values, first, np.float32(bound))


@overload(nibble_dot, strict=False)
def _overload_nibble_dot(fine: Any, row: Any, first: Any, values: Any, half: Any) -> Any:
    return lambda fine, row, first, values, half: _nibble_dot(fine, row, first, values, half)


@overload(lowest_bits, strict=False)
def _overload_lowest_bits(count: Any) -> Any:
    return lambda count: np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - count)


@overload(popcount, strict=False)
def _overload_popcount(word: Any) -> Any:
    return lambda word: _popcount(word)


@overload(trailing_zeros, strict=False)
def _overload_trailing_zeros(word: Any) -> Any:
    return lambda word: _trailing_zeros(word)


@overload(prefetch, strict=False)
def _overload_prefetch(vectors: Any, row: Any, column: Any) -> Any:
    return lambda vectors, row, column: _prefetch(vectors, row, column)
