"""LIKE over a dictionary, for patterns whose only wildcard is %."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa, pc

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
    """Return which texts contain some bytes.

    Arrow goes through them byte by byte; here the first and the last of them are looked for in all
    texts at once, and the others where both were found.
    """
    found = np.zeros(len(texts), np.bool_)
    _, where, buffer = texts.buffers()
    ends: Any = np.frombuffer(where, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    begin = int(ends[0]) if len(texts) else 0
    size = (int(ends[-1]) if len(texts) else 0) - begin
    if buffer is None or size < len(wanted):
        return found
    data: Any = np.frombuffer(buffer, np.uint8)[begin : begin + size]
    last = len(wanted) - 1
    at = np.flatnonzero((data[: size - last] == wanted[0]) & (data[last:] == wanted[-1]))
    for i in range(1, last):
        at = at[data[at + i] == wanted[i]]
    text = np.searchsorted(ends, at + begin, "right") - 1
    found[text[at + begin + last < ends[text + 1]]] = True
    return found
