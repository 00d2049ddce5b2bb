"""Merge parts: their live rows as one new part, list after list.

    parts of one generation  ->  order of rows  ->  every array of the new part, in chunks

Rows and codes are moved, not computed; only parts of an older generation, or without codes, are
encoded. Memory holds the order and the keys; all else streams through, so that a merge of mapped
segments into a new file takes little of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa
from hybridq.index.codes import BLOCK, Codes, empty_codes, encode_part
from hybridq.index.columns import columns_of
from hybridq.index.generation import Generation, spread_of
from hybridq.index.ivf import Float32s, IndexSpec, Int64s, Part
from hybridq.index.layout import in_lists, offsets_of, radii, ranks, within_lists
from hybridq.index.memory import memory_part
from hybridq.index.rows import Allocate
from hybridq.index.stored import Content
from hybridq.index.tail import UNHASHED
from hybridq.kernels import moving
from hybridq.progress import NoProgress, Progress
from hybridq.storage.segment import ArraySource, Chunks

_CHUNK_ROWS = 8_192
_SPREAD_ROWS = 4_096


@dataclass(frozen=True, slots=True)
class _Source:
    """The live rows of a part: `positions` of those with a vector, `rest` of the others.

    Row i of those with a vector is in list `labels[i]`, and row `coded[i]` of `codes`.
    """

    part: Part
    positions: Int64s
    rest: Int64s
    labels: npt.NDArray[np.int32]
    codes: Codes | None
    coded: Int64s
    foreign: bool
    spread: float

    def vectors(self, rows: Int64s) -> Float32s:
        at = self.positions[rows]
        if self.part.unverified is not None:
            self.part.unverified.check(at)
        taken: Float32s = self.part.vectors[at]
        return taken

    def move(self, rows: slice, places: Int64s, vectors: Float32s, codes: Codes | None) -> None:
        """Write rows with a vector, and their codes, to `places` of a part in memory."""
        at = self.positions[rows]
        if self.part.unverified is not None:
            self.part.unverified.check(at)
        moving.move_floats(self.part.vectors, at, places, vectors)
        if codes is None:
            return
        own, at = self.codes, self.coded[rows]
        assert own is not None
        moving.move_bytes_in_blocks(own.codes, at, places, codes.codes)
        moving.move_floats_in_blocks(own.factors, at, places, codes.factors)
        moving.move_bytes(own.fine, at, places, codes.fine)
        moving.move_floats(own.fine_factors, at, places, codes.fine_factors)


def _source(part: Part, generation: Generation) -> _Source:
    alive = part.live()
    split = int(np.searchsorted(alive, part.n_vectors))
    positions, rest = alive[:split], alive[split:]
    if not generation.coded:
        labels = np.zeros(len(positions), np.int32)
        return _Source(part, positions, rest, labels, None, positions, True, 0.0)
    if part.generation == generation.id and part.codes is not None:
        found: npt.NDArray[np.int32] = _labels(part, positions)
        return _Source(part, positions, rest, found, part.codes, positions, False, part.spread)
    labels = np.empty(len(positions), np.int32)
    for at in range(0, len(positions), _CHUNK_ROWS):
        chunk = part.vectors[positions[at : at + _CHUNK_ROWS]]
        labels[at : at + len(chunk)] = generation.assign(chunk)
    spread, every = 0.0, np.arange(len(positions))
    if len(positions):
        chosen = every[:: max(1, len(positions) // _SPREAD_ROWS)]
        metric = part.spec.metric
        some = part.vectors[positions[chosen]]
        spread = spread_of(some, labels[chosen], generation.centroids, metric)
    chunks = _chunks_of(part.vectors, positions)
    codes = encode_part(chunks, labels, generation.frame, part.spec.metric, NoProgress())
    return _Source(part, positions, rest, labels, codes, every, True, spread)


def _labels(part: Part, positions: Int64s) -> npt.NDArray[np.int32]:
    """Return the list of each of the rows."""
    if len(positions) == part.n_vectors:
        every = np.arange(len(part.list_offsets) - 1, dtype=np.int32)
        return np.repeat(every, np.diff(part.list_offsets))
    lists = np.searchsorted(part.list_offsets, positions, "right") - 1
    return lists.astype(np.int32)


def _chunks_of(vectors: Float32s, positions: Int64s) -> Iterator[Float32s]:
    for at in range(0, len(positions), _CHUNK_ROWS):
        yield np.ascontiguousarray(vectors[positions[at : at + _CHUNK_ROWS]])


class Merge:
    """The live rows of `parts` in the order of one part of `generation`; see the module's text."""

    def __init__(
        self,
        spec: IndexSpec,
        parts: Sequence[Part],
        generation: Generation,
        progress: Progress | None = None,
    ) -> None:
        self.spec = spec
        self.parts = tuple(parts)
        self.generation = generation
        self._progress = progress if progress is not None else NoProgress()
        self._sources = [_source(part, generation) for part in parts]
        self._starts = np.cumsum([0, *(len(s.positions) for s in self._sources)])
        self._rest_starts = np.cumsum([0, *(len(s.rest) for s in self._sources)])
        labels = np.concatenate([s.labels for s in self._sources])
        near = [(s.part, s.positions) for s in self._sources]
        rest = [(s.part, s.rest) for s in self._sources]
        keys, self.dictionaries = columns_of(spec, [*near, *rest])
        self.n_vectors = len(labels)
        self._order = np.arange(self.n_vectors)
        if generation.coded:  # of a single list, any order will do
            within = within_lists(keys[:, : self.n_vectors], spec.key_count, generation.nlist)
            self._order = in_lists(labels, within, generation.nlist)
            for column in keys:
                column[: self.n_vectors] = column[: self.n_vectors][self._order]
        self.keys = keys
        self.list_offsets = offsets_of(labels, generation.nlist)
        self._labels = labels

    def give(self, keys: Int64s, dictionaries: tuple[pa.Array | None, ...]) -> None:
        """Give the rows other keys (A, n), in their new order; hashes are computed when needed."""
        self.keys, self.dictionaries = keys, dictionaries
        self.row_hash = np.full(self.rows, UNHASHED, np.uint64)

    @property
    def rows(self) -> int:
        """Rows of the new part."""
        return int(self.keys.shape[1])

    # -- where rows went ----------------------------------------------------------

    @cached_property
    def _inverse(self) -> Int64s:
        inverse = np.empty(self.n_vectors, np.int64)
        inverse[self._order] = np.arange(self.n_vectors)
        return inverse

    def reorder(self, order: Int64s) -> None:
        """Say that the rows with a vector went elsewhere: row order[i] became row i."""
        self._order = self._order[order]

    def locate(self, source: int, positions: Int64s) -> Int64s:
        """Return where rows of a part, which were alive, are in the new part."""
        s = self._sources[source]
        split = int(np.searchsorted(positions, s.part.n_vectors))
        near = self._starts[source] + np.searchsorted(s.positions, positions[:split])
        rest = self._rest_starts[source] + np.searchsorted(s.rest, positions[split:])
        found: Int64s = np.concatenate([self._inverse[near], self.n_vectors + rest])
        return found

    # -- the arrays of the new part -----------------------------------------------

    def _gathered(
        self, read: Callable[[_Source, Int64s], npt.NDArray[Any]], shape: tuple[int, ...], kind: Any
    ) -> Iterator[npt.NDArray[Any]]:
        """Yield what `read` gives of each row, in the new order."""
        for at in range(0, self.n_vectors, _CHUNK_ROWS):
            chosen = self._order[at : at + _CHUNK_ROWS]
            self._progress.advance(len(chosen))  # raises where the merge was cancelled
            if len(self._sources) == 1:
                yield read(self._sources[0], chosen)
                continue
            which = np.searchsorted(self._starts, chosen, "right") - 1
            out = np.empty((len(chosen), *shape), kind)
            for i, source in enumerate(self._sources):
                here = which == i
                if here.any():
                    out[here] = read(source, chosen[here] - self._starts[i])
            yield out

    def vectors(self) -> Iterator[Float32s]:
        """Yield the vectors."""
        return self._gathered(_Source.vectors, (self.spec.dim,), np.float32)

    def _blocks(self, name: str) -> Chunks:
        """Return an array that is kept in blocks of rows: (blocks, …, BLOCK)."""
        known = getattr(self._codes, name)
        width = known.shape[1]

        def read(source: _Source, rows: Int64s) -> npt.NDArray[Any]:
            at = source.coded[rows]
            taken: npt.NDArray[Any] = getattr(source.codes, name)[at // BLOCK, :, at % BLOCK]
            return taken

        def parts() -> Iterator[npt.NDArray[Any]]:
            for rows in self._gathered(read, (width,), known.dtype):
                blocks = -(-len(rows) // BLOCK)
                padded = np.zeros((blocks * BLOCK, width), known.dtype)
                padded[: len(rows)] = rows
                split = padded.reshape(blocks, BLOCK, width)
                yield np.ascontiguousarray(split.transpose(0, 2, 1))

        shape = (-(-self.n_vectors // BLOCK), width, BLOCK)
        return Chunks(dtype=known.dtype, shape=shape, parts=parts())

    def _by_row(self, name: str) -> Chunks:
        known = getattr(self._codes, name)

        def read(source: _Source, rows: Int64s) -> npt.NDArray[Any]:
            taken: npt.NDArray[Any] = getattr(source.codes, name)[source.coded[rows]]
            return taken

        return Chunks(
            dtype=known.dtype,
            shape=(self.n_vectors, *known.shape[1:]),
            parts=self._gathered(read, known.shape[1:], known.dtype),
        )

    @property
    def _codes(self) -> Codes:
        codes = self._sources[0].codes
        assert codes is not None
        return codes

    def _code_arrays(self) -> dict[str, ArraySource]:
        """Return the codes, the large arrays in chunks; none without lists."""
        if not self.generation.coded:
            return {}
        frame = self.generation.frame
        return {
            "centre": frame.centre,
            "signs": frame.signs,
            "codes": self._blocks("codes"),
            "factors": self._blocks("factors"),
            "fine": self._by_row("fine"),
            "fine_factors": self._by_row("fine_factors"),
            "list_codes": frame.list_codes,
            "list_factors": frame.list_factors,
        }

    @cached_property
    def row_hash(self) -> npt.NDArray[np.uint64]:
        """The hashes of all rows."""
        near = np.concatenate([s.part.row_hash[s.positions] for s in self._sources])
        rest = [s.part.row_hash[s.rest] for s in self._sources]
        out: npt.NDArray[np.uint64] = np.concatenate([near[self._order], *rest])
        return out

    @property
    def spread(self) -> float:
        """The mean distance of the rows from their centroids."""
        rows = sum(len(s.positions) for s in self._sources)
        return sum(s.spread * len(s.positions) for s in self._sources) / max(1, rows)

    def _radius(self) -> npt.NDArray[np.float32]:
        metric = self.spec.metric
        found = []
        for s in self._sources:
            if not self.generation.coded:
                found.append(np.full(1, np.inf, np.float32))
            elif s.foreign:
                chunks = _chunks_of(s.part.vectors, s.positions)
                found.append(radii(chunks, s.labels, self.generation.centroids, metric))
            else:
                found.append(s.part.list_radius)
        radius: npt.NDArray[np.float32] = np.maximum.reduce(found)
        return radius

    def content(self) -> Content:
        """Return what a segment of the rows holds."""
        return Content(
            spec=self.spec,
            generation=self.generation,
            vectors=Chunks(
                dtype=np.float32, shape=(self.n_vectors, self.spec.dim), parts=self.vectors()
            ),
            keys=self.keys,
            dictionaries=self.dictionaries,
            list_offsets=self.list_offsets,
            list_radius=self._radius(),
            tie=ranks(self.keys[: self.spec.key_count]),
            row_hash=self.row_hash,
            codes={f"code_{name}": array for name, array in self._code_arrays().items()},
            spread=self.spread,
        )

    def part(self) -> Part:
        """Return the rows as a part in memory."""
        vectors = np.empty((self.n_vectors, self.spec.dim), np.float32)
        codes = None
        if self.generation.coded:
            codes = empty_codes(self.generation.frame, self.n_vectors)
        for s, start in zip(self._sources, self._starts, strict=False):
            for at in range(0, len(s.positions), _CHUNK_ROWS):
                chunk = slice(at, at + _CHUNK_ROWS)
                self._progress.advance(len(s.positions[chunk]))  # raises where it was cancelled
                places = self._inverse[start:][: len(s.positions)][chunk]
                s.move(chunk, places, vectors, codes)
        return memory_part(
            self.spec,
            self.generation,
            vectors=vectors,
            keys=self.keys,
            dictionaries=self.dictionaries,
            list_offsets=self.list_offsets,
            list_radius=self._radius(),
            row_hash=self.row_hash,
            codes=codes,
            spread=self.spread,
        )


# -- rows, to be laid out anew -----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The live rows of parts, in no order: what a new generation is trained on."""

    spec: IndexSpec
    keys: Int64s
    dictionaries: tuple[pa.Array | None, ...]
    hash: npt.NDArray[np.uint64]
    valid: npt.NDArray[np.bool_]
    vectors: Float32s


def gather(spec: IndexSpec, merge: Merge, allocate: Allocate) -> Gathered:
    """Return the rows of a merge; their vectors lie where `allocate` says."""
    n, dim = merge.n_vectors, spec.dim
    vectors = allocate(4 * n * dim).view(np.float32).reshape(n, dim)
    at = 0
    for chunk in merge.vectors():
        vectors[at : at + len(chunk)] = chunk
        at += len(chunk)
    return Gathered(
        spec=spec,
        keys=merge.keys,
        dictionaries=merge.dictionaries,
        hash=merge.row_hash,
        valid=np.arange(merge.rows) < n,
        vectors=vectors,
    )
