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

from hybridq.arrow import pa
from hybridq.index.attributes import NULL_KEY, decode
from hybridq.index.ivf import Float32s, IndexSpec, Int64s, Part, Room
from hybridq.index.layout import ranks

FLAT_ROWS = 256
"""Up to so many rows are scanned without codes."""

UNHASHED = 0
"""The hash of a row that was not computed yet, see `maintain.fill_hashes`."""


@dataclass(frozen=True, slots=True)
class OneRow:
    """A row with a distance: its key per column, its vector (d,), its hash.

    In the place of the key of a text, which is a matter of the part, there is the text.
    """

    keys: Sequence[int | str | None]
    vector: Float32s
    hash: int = UNHASHED

    def values(self, spec: IndexSpec) -> list[Any]:
        """Return the values that the keys stand for."""
        return [
            key if c.type.has_dictionary else decode(np.array([key], np.int64), c.type, None)[0]
            for key, c in zip(self.keys, spec.columns, strict=True)
        ]


def grows(part: Part, row: OneRow) -> bool:
    """Tell whether a row may be put behind those of a part, each key being there once."""
    if part.codes is not None or part.segment is not None:
        return False
    if part.n_vectors < part.rows or part.rows >= FLAT_ROWS:
        return False
    # A dead row still has its key.
    return part.dead == 0 or not _has_key(part, row)


def _has_key(part: Part, row: OneRow) -> bool:
    same = np.ones(part.rows, np.bool_)
    for i in range(part.spec.key_count):
        key, dictionary = row.keys[i], part.dictionaries[i]
        if dictionary is not None:
            key = dictionary.index(pa.scalar(key, pa.large_string())).as_py()
        same &= part.keys[i] == key
    return bool(same.any())


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
    row_keys: Sequence[Any] = row.keys
    dictionaries = part.dictionaries
    if dictionaries.count(None) < len(dictionaries):
        row_keys, dictionaries = _placed(row, dictionaries, keys[:, :n])
    keys[:, n] = row_keys
    if n % 64:
        alive = part.alive.copy()
        alive[-1] |= np.uint64(1 << n % 64)
    else:
        alive = np.append(part.alive, np.uint64(1))
    return part.with_more(
        vectors=room.vectors[: n + 1],
        keys=keys,
        dictionaries=dictionaries,
        list_offsets=np.array([0, n + 1], np.int64),
        tie=_ranks(part, keys),
        row_hash=room.hashes[: n + 1],
        alive=alive,
        room=room,
    )


def _ranks(part: Part, keys: Int64s) -> Int64s:
    """Return the ranks of all rows, of which the last is new."""
    if part.spec.key_count > 1:
        return ranks(keys[: part.spec.key_count])
    n = part.rows
    behind = keys[0, :n] > keys[0, n]
    out = np.empty(n + 1, np.int64)
    np.add(part.tie, behind, out=out[:n])
    out[n] = n - np.count_nonzero(behind)
    return out


def _moved(part: Part) -> Room:
    room = Room(
        np.empty((FLAT_ROWS, part.spec.dim), np.float32), np.empty(FLAT_ROWS, np.uint64), part.rows
    )
    room.vectors[: part.rows] = part.vectors
    room.hashes[: part.rows] = part.row_hash
    return room


def _placed(
    row: OneRow, dictionaries: Sequence[pa.Array | None], keys: Int64s
) -> tuple[list[int], tuple[pa.Array | None, ...]]:
    """Return the keys of a row and the dictionaries with its texts; `keys` are moved for them."""
    row_keys: list[int] = []
    found = [*dictionaries]
    for i, (key, known) in enumerate(zip(row.keys, dictionaries, strict=True)):
        if known is None or key is None:
            row_keys.append(NULL_KEY if not isinstance(key, int) else key)
            continue
        text = str(key)
        texts = known.to_pylist()
        at = bisect_left(texts, text.encode(), key=str.encode)
        row_keys.append(at)
        if at == len(texts) or texts[at] != text:
            keys[i][keys[i] >= at] += 1
            texts.insert(at, text)
            found[i] = pa.array(texts, pa.large_string())
    return row_keys, tuple(found)


def first_of(spec: IndexSpec, empty: Part, row: OneRow) -> Part:
    """Return a part of one row; `empty` is one of none."""
    dictionaries = tuple(
        pa.array([], pa.large_string()) if c.type.has_dictionary else None for c in spec.columns
    )
    return grown(replace(empty, dictionaries=dictionaries), row)
