"""Arrays that a kernel is given by their addresses: those of a part and of its program.

Each argument that is an array adds to the cost of a call, and a scan reads two dozen arrays of
every part. So they are written down once, in a table: for each part a row (ARRAYS, 4), for each
array its address and its shape, padded by zeros. What is in a table must outlive it. Its types and
its order in memory are checked as it is written down, and never again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import overload

from hybridq.kernels._intrinsics import instruction
from hybridq.kernels._jit import entry, i64, in_i64, in_i64_2d, in_u64, out_i64_3d

Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]

# Kernels know the type of an array by one that is like it.
FLOATS = np.empty(0, np.float32)
FLOATS_2D = np.empty((0, 0), np.float32)
FLOATS_3D = np.empty((0, 0, 0), np.float32)
BYTES_2D = np.empty((0, 0), np.uint8)
BYTES_3D = np.empty((0, 0, 0), np.uint8)
INTEGERS = np.empty(0, np.int64)
INTEGERS_2D = np.empty((0, 0), np.int64)
INTEGERS_3D = np.empty((0, 0, 0), np.int64)
NUMBERS_2D = np.empty((0, 0), np.uint16)
WORDS = np.empty(0, np.uint64)

VECTORS = 0
LIST_OFFSETS = 1
LIST_RADIUS = 2
CENTROIDS = 3
CENTRE = 4
SIGNS = 5
LIST_CODES = 6
LIST_FACTORS = 7
CODES = 8
FACTORS = 9
FINE = 10
FINE_FACTORS = 11
KEYS = 12
ZONES = 13
LIST_ZONES = 14
BUCKETS = 15
BUCKET_BOUNDS = 16
TIE = 17
ALIVE = 18
OPS = 19
LOW = 20
HIGH = 21
BITS = 22
PLACE = 23
"""No array: the part's number, and where the rows found in it are written."""

ARRAYS = 24

LIKE: tuple[npt.NDArray[Any], ...] = (
    *(FLOATS_2D, INTEGERS, FLOATS, FLOATS_2D),
    *(FLOATS, FLOATS_2D, BYTES_3D, FLOATS_3D),
    *(BYTES_3D, FLOATS_3D, BYTES_2D, FLOATS_2D),
    *(INTEGERS_2D, INTEGERS_3D, INTEGERS_3D, NUMBERS_2D, INTEGERS_3D, INTEGERS),
)
"""The arrays up to ALIVE, which do not change while rows of a part die."""

_I64 = ir.IntType(64)


def located(arrays: tuple[npt.NDArray[Any], ...]) -> Int64s:
    """Return the row (ARRAYS, 4) of the arrays up to ALIVE; the rest is zeros."""
    row = np.zeros((ARRAYS, 4), np.int64)
    for i, (array, like) in enumerate(zip(arrays, LIKE, strict=True)):
        assert array.dtype == like.dtype, f"array {i} is of {array.dtype}"
        assert array.ndim == like.ndim, f"array {i} is of {array.ndim} dimensions"
        assert array.flags.c_contiguous, f"array {i} is not in C order"
        row[i, 0] = array.__array_interface__["data"][0]
        row[i, 1 : 1 + array.ndim] = array.shape
    return row


def array_at(table: Int64s, part: int, field: int, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array that a table tells of, of the type of `like`, read-only."""
    shape = tuple(table[part, field, 1 : 1 + like.ndim].tolist())
    if 0 in shape:
        return np.empty(shape, like.dtype)
    kind: Any = np.ctypeslib.as_ctypes_type(like.dtype)
    for size in reversed(shape):
        kind = kind * size
    found: npt.NDArray[Any] = np.ctypeslib.as_array(kind.from_address(int(table[part, field, 0])))
    found.flags.writeable = False
    return found


def address_of(array: npt.NDArray[Any]) -> int:
    """Return where the values of an array are."""
    return int(array.__array_interface__["data"][0])


@entry(out_i64_3d, i64, in_u64, in_i64_2d, in_i64, in_i64, in_u64, checked=False)
def place_program(
    table: Int64s,
    part: int,
    alive: Uint64s,
    ops: Int64s,
    low: Int64s,
    high: Int64s,
    bits: Uint64s,
) -> None:
    """Write the arrays from ALIVE on into a table."""
    table[part, ALIVE, 0] = address_of(alive)
    table[part, ALIVE, 1] = alive.shape[0]
    table[part, OPS, 0] = address_of(ops)
    table[part, OPS, 1] = ops.shape[0]
    table[part, OPS, 2] = ops.shape[1]
    table[part, LOW, 0] = address_of(low)
    table[part, LOW, 1] = low.shape[0]
    table[part, HIGH, 0] = address_of(high)
    table[part, HIGH, 1] = high.shape[0]
    table[part, BITS, 0] = address_of(bits)
    table[part, BITS, 1] = bits.shape[0]


@instruction
def _array_at(typing: Any, table: Any, part: Any, field: Any, like: Any) -> Any:
    made = like.copy(readonly=True)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from_table = context.make_array(signature.args[0])(context, builder, args[0])
        fields = builder.extract_value(from_table.shape, 1)
        row = builder.add(builder.mul(args[1], fields), args[2])
        start = builder.gep(from_table.data, [builder.mul(row, ir.Constant(_I64, 4))])

        def entry_at(i: int) -> Any:
            return builder.load(builder.gep(start, [ir.Constant(_I64, i)]))

        array = context.make_array(made)(context, builder)
        item = context.get_abi_sizeof(context.get_data_type(made.dtype))
        shape = [entry_at(1 + i) for i in range(made.ndim)]
        strides = [ir.Constant(_I64, item)]
        for size in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], size))
        data = builder.inttoptr(entry_at(0), array.data.type)
        context.populate_array(
            array,
            data=data,
            shape=shape,
            strides=strides,
            itemsize=ir.Constant(_I64, item),
            meminfo=None,
        )
        return array._getvalue()

    return made(table, types.int64, types.int64, like), generate


@instruction
def _address_of(typing: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(made.data, _I64)

    return types.int64(array), generate


@overload(array_at, strict=False)
def _overload_array_at(table: Any, part: Any, field: Any, like: Any) -> Any:
    return lambda table, part, field, like: _array_at(table, part, field, like)


@overload(address_of, strict=False)
def _overload_address_of(array: Any) -> Any:
    return lambda array: _address_of(array)
