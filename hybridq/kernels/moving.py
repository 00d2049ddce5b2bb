"""Rows of one array to their places in another: how parts are merged in memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._intrinsics import BLOCK
from hybridq.kernels._jit import (
    entry,
    in_f32_2d,
    in_f32_3d,
    in_i64,
    in_u8_2d,
    in_u8_3d,
    out_f32_2d,
    out_f32_3d,
    out_u8_2d,
    out_u8_3d,
)

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]


@entry(in_f32_2d, in_i64, in_i64, out_f32_2d)
def move_floats(source: Float32s, rows: Int64s, places: Int64s, out: Float32s) -> None:
    """Write source[rows[i]] to out[places[i]]."""
    for i in range(rows.shape[0]):
        row, place = rows[i], places[i]
        for j in range(source.shape[1]):
            out[place, j] = source[row, j]


@entry(in_u8_2d, in_i64, in_i64, out_u8_2d)
def move_bytes(source: Uint8s, rows: Int64s, places: Int64s, out: Uint8s) -> None:
    """Write source[rows[i]] to out[places[i]]."""
    for i in range(rows.shape[0]):
        row, place = rows[i], places[i]
        for j in range(source.shape[1]):
            out[place, j] = source[row, j]


@entry(in_f32_3d, in_i64, in_i64, out_f32_3d)
def move_floats_in_blocks(source: Float32s, rows: Int64s, places: Int64s, out: Float32s) -> None:
    """Write row rows[i] of `source` (blocks, width, 64) to row places[i] of `out`."""
    for i in range(rows.shape[0]):
        block, v = divmod(rows[i], BLOCK)
        there, w = divmod(places[i], BLOCK)
        for j in range(source.shape[1]):
            out[there, j, w] = source[block, j, v]


@entry(in_u8_3d, in_i64, in_i64, out_u8_3d)
def move_bytes_in_blocks(source: Uint8s, rows: Int64s, places: Int64s, out: Uint8s) -> None:
    """Write row rows[i] of `source` (blocks, width, 64) to row places[i] of `out`."""
    for i in range(rows.shape[0]):
        block, v = divmod(rows[i], BLOCK)
        there, w = divmod(places[i], BLOCK)
        for j in range(source.shape[1]):
            out[there, j, w] = source[block, j, v]
