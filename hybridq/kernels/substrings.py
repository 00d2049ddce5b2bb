"""Bytes looked for in many texts that lie one after the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybridq.kernels._jit import entry, in_i64, in_u8, out_u8

Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]

_STEP = 64


@entry(in_u8, in_i64, in_u8, out_u8)
def mark_containing(data: Uint8s, ends: Int64s, wanted: Uint8s, found: Uint8s) -> None:
    """Write 1 for each text that contains `wanted` (m,), m > 0; the others stay as they are.

    Parameters
    ----------
    data, ends
        Text i is data[ends[i]] … data[ends[i + 1] - 1], one after the other.
    found
        (texts,): a byte per text.

    Notes
    -----
    Of 64 places at a time it is found out, without a branch, whether the first and the last byte
    fit anywhere; only then are they looked at one by one.
    """
    texts = found.shape[0]
    last = wanted.shape[0] - 1
    first_byte = wanted[0]
    last_byte = wanted[last]
    text = 0
    start = ends[0]
    stop = ends[texts] - last
    while start < stop:
        end = min(start + _STEP, stop)
        fits = 1
        if end - start == _STEP:
            fits = 0
            firsts = data[start:end]
            lasts = data[start + last : end + last]
            for i in range(_STEP):
                fits |= (firsts[i] == first_byte) & (lasts[i] == last_byte)
        if fits:
            for i in range(start, end):
                if data[i] != first_byte or data[i + last] != last_byte:
                    continue
                same = 1
                while same < last and data[i + same] == wanted[same]:
                    same += 1
                if same < last:
                    continue
                while ends[text + 1] <= i:
                    text += 1
                if i + last < ends[text + 1]:
                    found[text] = 1
        start = end
