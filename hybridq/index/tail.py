"""Rows that come one at a time: the youngest part of a delta grows by them.

    room      vectors   v v v v v v . .      shared by the versions of the part,
              hashes    h h h h h h . .      each of which sees the rows before its own end
    part of 5 rows, and the part of 6 that it became

Only a part that ends where its room is used grows in place: what a transaction that was rolled
back wrote there is written over by nobody, for a part that does not end there moves out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hybridq.index.attributes import NULL_KEY, plain_key_of
from hybridq.index.ivf import Float32s, IndexSpec, Int64s, Part, Room, next_uid
from hybridq.index.layout import ranks

FLAT_ROWS = 256
"""Up to so many rows are scanned without codes."""

UNHASHED = 0
"""The hash of a row that was not computed yet, see `maintain.fill_hashes`."""


@dataclass(frozen=True, slots=True)
class OneRow:
    """A row with a distance: a value per column, of PLAIN kinds, its vector (d,), its hash."""

    values: Sequence[Any]
    vector: Float32s
    hash: int = UNHASHED


def grows(part: Part) -> bool:
    """Tell whether another row may be put behind those of a part."""
    return part.codes is None and part.segment is None and part.n_vectors == part.rows < FLAT_ROWS


def grown(part: Part, row: OneRow) -> Part:
    """Return the part with one row more; the old one stays as it is."""
    n = part.rows
    room = part.room
    if room is None or room.used != n:
        room = _moved(part)
    room.vectors[n] = row.vector
    room.hashes[n] = row.hash
    room.used = n + 1
    keys = np.empty((len(part.keys), n + 1), np.int64)
    keys[:, :n] = part.keys
    dictionaries = [*part.dictionaries]
    codes: list[int] = []
    for i, (column, value) in enumerate(zip(part.spec.columns, row.values, strict=True)):
        known = dictionaries[i]
        if known is None:
            codes.append(plain_key_of(value, column.type))
        else:
            code, dictionaries[i] = _placed(value, known, keys[i, :n])
            codes.append(code)
    keys[:, n] = codes
    if n % 64:
        alive = part.alive.copy()
        alive[-1] |= np.uint64(1) << np.uint64(n % 64)
    else:
        alive = np.append(part.alive, np.uint64(1))
    return replace(
        part,
        vectors=room.vectors[: n + 1],
        keys=keys,
        dictionaries=tuple(dictionaries),
        list_offsets=np.array([0, n + 1], np.int64),
        tie=ranks(keys[: part.spec.key_count]),
        row_hash=room.hashes[: n + 1],
        alive=alive,
        known={},
        places=[],
        room=room,
        uid=next_uid(),
    )


def _moved(part: Part) -> Room:
    room = Room(
        np.empty((FLAT_ROWS, part.spec.dim), np.float32), np.empty(FLAT_ROWS, np.uint64), part.rows
    )
    room.vectors[: part.rows] = part.vectors
    room.hashes[: part.rows] = part.row_hash
    return room


def _placed(value: Any, dictionary: pa.Array, keys: Int64s) -> tuple[int, pa.Array]:
    """Return the code of a text, and the sorted dictionary with it; `keys` are moved for it."""
    if value is None:
        return NULL_KEY, dictionary
    texts = dictionary.to_pylist()
    encoded = value.encode()
    at = bisect_left(texts, encoded, key=str.encode)
    if at < len(texts) and texts[at] == value:
        return at, dictionary
    keys[keys >= at] += 1
    texts.insert(at, value)
    return at, pa.array(texts, pa.large_string())


def first_of(spec: IndexSpec, empty: Part, row: OneRow) -> Part:
    """Return a part of one row; `empty` is one of none."""
    dictionaries = tuple(
        pa.array([], pa.large_string()) if c.type.has_dictionary else None for c in spec.columns
    )
    return grown(replace(empty, dictionaries=dictionaries), row)
