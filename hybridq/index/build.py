"""Build an index from the rows of its table: train centroids, sort into lists, encode, write.

Rows come as Arrow record batches with the columns c0 … (key, then attributes), v (vector) and h
(row hash).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa
from hybridq.index.codes import encode_part
from hybridq.index.generation import Generation, Trained, new_id, skew_of
from hybridq.index.ivf import Float32s, IndexSpec, Int64s
from hybridq.index.layout import Layout, RowData
from hybridq.index.recall import calibrate
from hybridq.index.rows import Rows, in_memory
from hybridq.index.stored import Content, write_part
from hybridq.kernels import kmeans
from hybridq.progress import Progress
from hybridq.storage.files import Files
from hybridq.storage.segment import Chunks

_SAMPLE_PER_LIST = 32
_ITERATIONS = 8
_IN_MEMORY_BYTES = 1 << 28
MIN_ROWS_FOR_LISTS = 1_000


def default_nlist(rows: int) -> int:
    """Return a number of lists for `rows`: about 2 sqrt(n), one list for small tables."""
    if rows < MIN_ROWS_FOR_LISTS:
        return 1
    return max(1, min(65_536, 2 * math.isqrt(rows)))


def train(vectors: Float32s, spec: IndexSpec, progress: Progress) -> Float32s:
    """Return centroids (nlist, d) for rows; as many as the index asks for, or as suit them."""
    nlist = spec.nlist if spec.nlist is not None else default_nlist(len(vectors))
    nlist = max(1, min(nlist, len(vectors)))
    if len(vectors) == 0:
        return np.zeros((1, vectors.shape[1]), np.float32)
    if nlist == 1:
        mean: Float32s = vectors.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        return mean
    generator = np.random.default_rng(0)
    wanted = nlist * _SAMPLE_PER_LIST
    sample = vectors
    if len(vectors) > wanted:
        sample = vectors[np.sort(generator.choice(len(vectors), wanted, replace=False))]
    progress.start("train centroids", _ITERATIONS)
    try:
        return kmeans.train(
            sample,
            nlist,
            metric=int(spec.metric),
            iterations=_ITERATIONS,
            on_iteration=lambda _: progress.advance(1),
        )
    finally:
        progress.finish()


def build_segment_file(
    spec: IndexSpec,
    batches: Iterable[pa.RecordBatch],
    files: Files,
    path: Path,
    progress: Progress,
    *,
    total: int | None = None,
) -> None:
    """Build an index and write it as a segment file.

    Many vectors wait on disk beside it until their lists are known: memory holds codes and keys.
    """

    def allocate(length: int) -> npt.NDArray[np.uint8]:
        large = length > _IN_MEMORY_BYTES
        return files.scratch(path.parent, length) if large else in_memory(length)

    progress.start("read rows", total)
    try:
        rows = Rows(spec, batches, progress, total, allocate)
    finally:
        progress.finish()
    write_built(rows, files, path, progress)


def write_built(rows: RowData, files: Files, path: Path, progress: Progress) -> Int64s:
    """Train a generation on rows and write them as its first segment.

    Returns the order of the rows with a vector.
    """
    spec = rows.spec
    centroids = train(rows.vectors, spec, progress)
    labels = np.zeros(len(rows.vectors), np.int32)
    if len(centroids) > 1:
        kmeans.assign(rows.vectors, centroids, labels, metric=int(spec.metric))
    layout = Layout(rows, centroids, labels)
    generation = Generation(
        id=new_id(),
        metric=spec.metric,
        centroids=centroids,
        ladder=calibrate(rows.vectors, labels, centroids, spec.metric, progress),
        trained=Trained(
            rows=len(rows.vectors), spread=layout.spread, skew=skew_of(np.diff(layout.list_offsets))
        ),
    )
    codes = {}
    if generation.coded:
        codes = encode_part(
            layout.chunks(rows), layout.labels, generation.frame, spec.metric, progress
        ).arrays()
    content = Content(
        spec=spec,
        generation=generation,
        vectors=Chunks(
            dtype=np.float32,
            shape=(len(layout.vector_order), spec.dim),
            parts=layout.chunks(rows),
        ),
        keys=layout.keys,
        dictionaries=rows.dictionaries,
        list_offsets=layout.list_offsets,
        list_radius=layout.list_radius,
        tie=layout.tie,
        row_hash=layout.hash,
        codes=codes,
        spread=layout.spread,
    )
    write_part(files, path, content)
    return layout.vector_order
