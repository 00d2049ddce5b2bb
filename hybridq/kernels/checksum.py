"""CRC-32, as in zlib and PNG, of each row of a table of bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import entry, in_i64, in_u8_2d, in_u32_2d, out_u32

Uint8s = npt.NDArray[np.uint8]
Uint32s = npt.NDArray[np.uint32]
Int64s = npt.NDArray[np.int64]

_POLYNOMIAL = 0xEDB88320
_STRIDE = 8


def _tables() -> Uint32s:
    """Return the tables (8, 256) by which eight bytes are taken in at a time."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    tables = [table]
    for _ in range(_STRIDE - 1):
        last = tables[-1]
        tables.append((last >> 8) ^ table[last & 0xFF])
    return np.array(tables, np.uint32)


TABLES = _tables()


@entry(in_u8_2d, in_i64, in_u32_2d, out_u32)
def _crc32(data: Uint8s, rows: Int64s, tables: Uint32s, out: Uint32s) -> None:
    length = data.shape[1]
    low = np.uint32(0xFF)
    for i in range(rows.shape[0]):
        row = rows[i]
        crc = np.uint32(0xFFFFFFFF)
        at = 0
        while at + 8 <= length:
            first = np.uint32(0)
            for b in range(4):
                first |= np.uint32(data[row, at + b]) << np.uint32(8 * b)
            first ^= crc
            crc = tables[7, first & low]
            crc ^= tables[6, (first >> np.uint32(8)) & low]
            crc ^= tables[5, (first >> np.uint32(16)) & low]
            crc ^= tables[4, first >> np.uint32(24)]
            for b in range(4):
                crc ^= tables[3 - b, data[row, at + 4 + b]]
            at += 8
        while at < length:
            crc = (crc >> np.uint32(8)) ^ tables[0, (crc ^ np.uint32(data[row, at])) & low]
            at += 1
        out[i] = crc ^ np.uint32(0xFFFFFFFF)


def crc32(data: Uint8s, rows: Int64s) -> Uint32s:
    """Return the checksums (m,) of the rows `rows` (m,) of `data` (n, bytes)."""
    out = np.empty(len(rows), np.uint32)
    _crc32(data, rows, TABLES, out)
    return out
