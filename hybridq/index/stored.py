"""Parts as segment files: which arrays a segment has, written and mapped.

docs/format.md lists them. All of a segment is verified when it is opened but its vectors, which
are most of it: those are verified when they are read for an answer, see `Vectors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa
from hybridq.errors import OperationalError
from hybridq.index.codes import BLOCK, codes_from
from hybridq.index.generation import Generation, Trained
from hybridq.index.ivf import IndexSpec, Int64s, Part, all_live
from hybridq.index.ladder import Ladder
from hybridq.index.layout import sample_of, zones_of
from hybridq.kernels import buckets, checksum
from hybridq.progress import Progress
from hybridq.storage.files import Files
from hybridq.storage.segment import ArraySource, Chunks, Segment, open_segment, write_segment

FORMAT = 6
_CHECKED_ROWS = 16_384
_VECTORS = "vectors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a new segment holds; the large arrays may come in chunks."""

    spec: IndexSpec
    generation: Generation
    vectors: Chunks
    keys: Int64s
    dictionaries: tuple[pa.Array | None, ...]
    list_offsets: Int64s
    list_radius: npt.NDArray[np.float32]
    tie: Int64s
    row_hash: npt.NDArray[np.uint64]
    codes: Mapping[str, ArraySource]
    spread: float


def write_part(files: Files, path: Path, content: Content) -> None:
    """Write a segment: whole and durable, or not at all."""
    c, spec, generation = content, content.spec, content.generation
    ladder = generation.ladder
    assert ladder is not None
    rows = c.keys.shape[1]
    sums = np.empty(c.vectors.shape[0], np.uint32)
    permutations = np.argsort(c.keys, axis=1, kind="stable").astype(np.int64, copy=False)
    numbers, bounds = buckets.make_buckets(c.keys, permutations)
    arrays: dict[str, ArraySource] = {
        _VECTORS: replace(c.vectors, parts=_summed(c.vectors, sums)),
        # Filled in while the vectors are written, which come first.
        "vector_sums": Chunks(dtype=np.uint32, shape=sums.shape, parts=iter((sums,))),
        "keys": c.keys,
        "centroids": generation.centroids,
        "list_offsets": c.list_offsets,
        "list_radius": c.list_radius,
        "tie": c.tie,
        "row_hash": c.row_hash,
        "zones": zones_of(c.keys, np.append(np.arange(0, rows, BLOCK), rows)),
        "list_zones": zones_of(c.keys, c.list_offsets),
        "permutations": permutations,
        "buckets": numbers,
        "bucket_bounds": bounds,
        "ladder_ks": ladder.ks,
        "ladder_targets": ladder.targets,
        "ladder_shares": ladder.shares,
        "ladder_lists": ladder.lists,
        **c.codes,
    }
    for i, dictionary in enumerate(c.dictionaries):
        if dictionary is not None:
            arrays[f"dictionary_{i}"] = _dictionary_bytes(dictionary)
    metadata = {
        "format": FORMAT,
        "index": spec.name,
        "table": f"{spec.schema}.{spec.table}",
        "column": spec.column,
        "metric": spec.metric.name,
        "dim": spec.dim,
        "columns": [[c.name, c.type.sql] for c in spec.columns],
        "rows": rows,
        "gamma": ladder.gamma,
        "generation": generation.id,
        "spread": c.spread,
        "trained_rows": generation.trained.rows,
        "trained_spread": generation.trained.spread,
        "trained_skew": generation.trained.skew,
    }
    write_segment(files, path, metadata, arrays)


def _summed(vectors: Chunks, sums: npt.NDArray[np.uint32]) -> Any:
    at = 0
    for part in vectors.parts:
        data = np.ascontiguousarray(part, vectors.dtype)
        stop = at + len(data)
        sums[at:stop] = checksum.crc32(_bytes_of(data), np.arange(len(data)))
        at = stop
        yield data


def _bytes_of(vectors: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return vectors.view(np.uint8).reshape(len(vectors), vectors.itemsize * vectors.shape[1])


class Vectors:
    """The vectors of a mapped segment, each with its checksum."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._bytes = _bytes_of(segment.arrays[_VECTORS])
        self._sums = segment.arrays["vector_sums"]
        self.is_damaged = False

    def check(self, positions: Int64s) -> None:
        """Raise OperationalError if a vector at one of `positions` is not as it was written."""
        found = checksum.crc32(self._bytes, positions)
        if not np.array_equal(found, self._sums[positions]):
            self.is_damaged = True
            raise self._segment.damaged(f'a row of array "{_VECTORS}" does not match its checksum')

    def check_all(self, progress: Progress) -> None:
        """Do the same for all of them."""
        rows = len(self._sums)
        for at in range(0, rows, _CHECKED_ROWS):
            stop = min(rows, at + _CHECKED_ROWS)
            self.check(np.arange(at, stop))
            progress.advance(stop - at)


def open_part(spec: IndexSpec, files: Files, path: Path) -> tuple[Part, Generation]:
    """Map a segment; its vectors are yet to be verified.

    Raises OperationalError for a missing, damaged or foreign file.
    """
    segment = open_segment(files, path, trusted=(_VECTORS,))
    arrays, metadata = segment.arrays, segment.metadata
    columns = [[c.name, c.type.sql] for c in spec.columns]
    if metadata.get("format") != FORMAT:
        raise OperationalError(
            f'index file "{path}" has layout {metadata.get("format")}; this hybridq reads {FORMAT}'
        )
    belongs = (spec.column, spec.metric.name, spec.dim, columns)
    if belongs != tuple(metadata.get(n) for n in ("column", "metric", "dim", "columns")):
        raise OperationalError(
            f'index file {path} does not belong to index "{spec.name}": '
            f"it holds {json.dumps(metadata.get('columns'))}",
            hint=f"REINDEX INDEX {spec.name}",
        )
    rows = int(metadata["rows"])
    dictionaries = tuple(
        _dictionary_from(arrays[f"dictionary_{i}"]) if c.type.has_dictionary else None
        for i, c in enumerate(spec.columns)
    )
    part = Part(
        spec=spec,
        vectors=arrays[_VECTORS],
        keys=arrays["keys"],
        dictionaries=dictionaries,
        centroids=arrays["centroids"],
        list_offsets=arrays["list_offsets"],
        list_radius=arrays["list_radius"],
        tie=arrays["tie"],
        row_hash=arrays["row_hash"],
        alive=all_live(rows),
        zones=arrays["zones"],
        list_zones=arrays["list_zones"],
        permutations=arrays["permutations"],
        buckets=arrays["buckets"],
        bucket_bounds=arrays["bucket_bounds"],
        ladder=Ladder(
            ks=arrays["ladder_ks"],
            targets=arrays["ladder_targets"],
            shares=arrays["ladder_shares"],
            lists=arrays["ladder_lists"],
            gamma=float(metadata["gamma"]),
        ),
        codes=codes_from(arrays),
        sample=sample_of(arrays["keys"]),
        generation=str(metadata["generation"]),
        segment=path.name,
        size_bytes=segment.size_bytes,
        spread=float(metadata["spread"]),
        unverified=Vectors(segment),
    )
    generation = Generation(
        id=part.generation,
        metric=spec.metric,
        centroids=part.centroids,
        ladder=part.ladder,
        trained=Trained(
            rows=int(metadata["trained_rows"]),
            spread=float(metadata["trained_spread"]),
            skew=float(metadata["trained_skew"]),
        ),
    )
    return part, generation


def _dictionary_bytes(dictionary: pa.Array) -> npt.NDArray[np.uint8]:
    sink = pa.BufferOutputStream()
    table = pa.table({"value": dictionary})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def _dictionary_from(data: npt.NDArray[np.uint8]) -> pa.Array:
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_all().column("value").combine_chunks()
