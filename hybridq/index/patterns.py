"""LIKE over a dictionary, for patterns whose only wildcard is %."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa, pc
from hybridq.kernels import substrings

Flags: TypeAlias = npt.NDArray[np.bool_]


def matches(texts: pa.Array, pattern: str) -> Flags | None:
    """Return which `texts`, none of them NULL, are LIKE `pattern`; None if DuckDB must say.

    They are a dictionary's: `large_string`.
    """
    if "_" in pattern or "\\" in pattern or "\0" in pattern:
        return None
    first, *middle = pattern.split("%")
    if not middle:
        return np.asarray(pc.equal(texts, first))
    last = middle.pop()
    wanted = [piece for piece in middle if piece]
    if not first and not last and len(wanted) == 1:
        return containing(texts, wanted[0].encode())
    if not wanted and not (first and last):
        one = pc.ends_with(texts, last) if last else pc.starts_with(texts, first)
        return np.asarray(one)
    # In \Q … \E everything stands for itself.
    pieces = (f"\\Q{piece}\\E" if piece else "" for piece in (first, *wanted, last))
    return np.asarray(pc.match_substring_regex(texts, f"(?s)\\A{'.*'.join(pieces)}\\z"))


def containing(texts: pa.Array, wanted: bytes) -> Flags:
    """Return which texts contain some bytes, one or more."""
    found = np.zeros(len(texts), np.uint8)
    _, where, buffer = texts.buffers()
    if len(texts) and buffer is not None:
        ends = np.frombuffer(where, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        data = np.frombuffer(buffer, np.uint8)
        substrings.mark_containing(data, ends, np.frombuffer(wanted, np.uint8), found)
    return found.view(np.bool_)
