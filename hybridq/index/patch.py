"""Rows whose attributes were changed: their vectors and codes are moved, and nothing is computed.

An UPDATE that leaves vectors and keys alone gives the attributes; the rest of a row is where the
index had it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hybridq.arrow import pa
from hybridq.index.delta import generation_for
from hybridq.index.ivf import Float32s, IndexSpec, Int64s, Part, Snapshot, Uint64s, key_codes
from hybridq.index.maintain import key_arrays
from hybridq.index.merge import Merge
from hybridq.index.tail import OneRow
from hybridq.nodes import Metric


def patched(
    snapshot: Snapshot,
    keys: Sequence[pa.Array],
    new_keys: Int64s,
    new_dictionaries: tuple[pa.Array | None, ...],
) -> Part | OneRow | None:
    """Return the rows of `keys` with new attributes: a part, or the only row.

    `new_keys` (A, n) are those of all columns. None if the snapshot has not each of the rows once,
    or does not know its vector; DamagedError for a vector that is not as it was written.
    """
    spec = snapshot.spec
    found = _places(snapshot, keys)
    if found is None:
        return None
    if len(keys[0]) == 1:
        part, positions, _ = found[0]
        if positions[0] < part.n_vectors:
            return _one(part, positions, new_keys, new_dictionaries)
    if spec.metric is Metric.COSINE and any(p[-1] >= part.n_vectors for part, p, _ in found):
        return None  # whether its vector is NULL or zero, only the table knows
    generation = generation_for(spec, len(keys[0]), snapshot.generation)
    merge = Merge(spec, [_only(part, positions) for part, positions, _ in found], generation)
    keys_of = np.empty_like(new_keys)
    for i, (_, positions, rows) in enumerate(found):
        keys_of[:, merge.locate(i, positions)] = new_keys[:, rows]
    merge.give(keys_of, new_dictionaries)
    return merge.part()


def _places(
    snapshot: Snapshot, keys: Sequence[pa.Array]
) -> list[tuple[Part, Int64s, Int64s]] | None:
    """Return, for parts with some of the keys, ascending positions and which key each has."""
    codes = key_codes(snapshot.spec, keys)
    missing = np.ones(len(keys[0]), np.bool_)
    found: list[tuple[Part, Int64s, Int64s]] = []
    for part in snapshot.parts:
        positions = part.find(keys, codes)
        here = np.flatnonzero(part.is_live(positions))
        if len(here) == 0:
            continue
        order = here[np.argsort(positions[here])]
        if not missing[order].all() or (np.diff(positions[order]) == 0).any():
            return None
        missing[order] = False
        found.append((part, positions[order], order))
    return None if missing.any() or not found else found


def _only(part: Part, positions: Int64s) -> Part:
    """Return a part with all rows dead but those at `positions`."""
    alive: Uint64s = np.zeros_like(part.alive)
    bits = np.uint64(1) << (positions & 63).astype(np.uint64)
    np.bitwise_or.at(alive, positions >> 6, bits)
    return replace(part, alive=alive, dead=part.rows - len(positions))


def _one(
    part: Part,
    positions: Int64s,
    keys: Int64s,
    dictionaries: Sequence[pa.Array | None],
) -> OneRow:
    vector = vector_at(part, int(positions[0]))
    assert vector is not None
    return OneRow(_texts(keys[:, 0], dictionaries), vector)


def _texts(keys: Int64s, dictionaries: Sequence[pa.Array | None]) -> list[int | str | None]:
    """Return the keys of a row as `OneRow` has them."""
    texts: list[int | str | None] = []
    for key, dictionary in zip(keys.tolist(), dictionaries, strict=True):
        if dictionary is None:
            texts.append(key)
        else:
            texts.append(dictionary[key].as_py() if key >= 0 else None)
    return texts


# -- a single row -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OneKey:
    """The key of a row as Python's values, and as `OneRow` has it."""

    spec: IndexSpec
    values: Sequence[Any]
    keys: Sequence[int | str | None]

    @property
    def codes(self) -> Int64s:
        """The codes, see `key_codes`."""
        codes = [[key if isinstance(key, int) else 0] for key in self.keys]
        return np.array(codes, np.int64)

    @property
    def texts(self) -> list[pa.Array]:
        """The arrays that `Part.find` needs beside the codes: none, if no text is among them."""
        return self.arrays() if any(isinstance(key, str) for key in self.keys) else []

    def arrays(self) -> list[pa.Array]:
        """Return an array per key column."""
        return key_arrays(self.spec, [self.values])


def place_of(snapshot: Snapshot, key: OneKey) -> tuple[Part, int] | None:
    """Return the part and the position of the row with a key, None if there is none."""
    codes, texts = key.codes, key.texts
    for part in snapshot.parts:
        positions = part.find(texts, codes)
        if part.is_live(positions)[0]:
            return part, int(positions[0])
    return None


def keys_at(part: Part, position: int) -> list[int | str | None]:
    """Return the keys of a row as `OneRow` has them."""
    return _texts(part.keys[:, position], part.dictionaries)


def vector_at(part: Part, position: int) -> Float32s | None:
    """Return the vector of a row with a distance, None for another; DamagedError if it is not."""
    if position >= part.n_vectors:
        return None
    if part.unverified is not None:
        part.unverified.check(np.array([position]))
    vector: Float32s = part.vectors[position]
    return vector
