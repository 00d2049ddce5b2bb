"""The columns of rows that come from several parts: text gets one dictionary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybridq.arrow import pa, pc
from hybridq.index.attributes import NULL_KEY
from hybridq.index.ivf import IndexSpec, Int64s, Part


def columns_of(
    spec: IndexSpec, chosen: Sequence[tuple[Part, Int64s]]
) -> tuple[Int64s, tuple[pa.Array | None, ...]]:
    """Return the keys (A, n) of rows of several parts, and their common dictionaries."""
    rows = sum(len(positions) for _, positions in chosen)
    keys = np.empty((len(spec.columns), rows), np.int64)
    dictionaries: list[pa.Array | None] = []
    for i, column in enumerate(spec.columns):
        pieces = [part.keys[i, positions] for part, positions in chosen]
        if column.type.has_dictionary:
            together, places = _one_dictionary([part.dictionaries[i] for part, _ in chosen])
            pieces = [_moved(p, place) for p, place in zip(pieces, places, strict=True)]
            np.concatenate(pieces, out=keys[i])
            together, keys[i] = _without_unused(together, keys[i])
            dictionaries.append(together)
        else:
            np.concatenate(pieces, out=keys[i])
            dictionaries.append(None)
    return keys, tuple(dictionaries)


def _one_dictionary(dictionaries: Sequence[pa.Array | None]) -> tuple[pa.Array, list[Int64s]]:
    """Return the sorted values of all dictionaries, and where the values of each of them are."""
    known = [d for d in dictionaries if d is not None]
    assert len(known) == len(dictionaries)
    if all(d is known[0] for d in known):
        return known[0], [np.arange(len(known[0]))] * len(known)
    distinct = pc.unique(pa.concat_arrays([d.cast(pa.large_string()) for d in known]))
    together = distinct.take(pc.array_sort_indices(distinct))
    places = [np.asarray(pc.index_in(d, value_set=together)).astype(np.int64) for d in known]
    return together, places


def _moved(keys: Int64s, places: Int64s) -> Int64s:
    if len(places) == 0:
        return keys  # all NULL
    null = keys == NULL_KEY
    if not null.any():
        return places[keys]
    return np.where(null, NULL_KEY, places[np.where(null, 0, keys)])


def _without_unused(dictionary: pa.Array, keys: Int64s) -> tuple[pa.Array, Int64s]:
    """Drop values that no row has any more."""
    if len(dictionary) == 0:
        return dictionary, keys
    used = np.zeros(len(dictionary), np.bool_)
    used[keys[keys != NULL_KEY]] = True
    if used.all():
        return dictionary, keys
    return dictionary.filter(pa.array(used)), _moved(keys, np.cumsum(used) - 1)
