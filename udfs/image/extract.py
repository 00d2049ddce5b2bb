"""Pictures to vectors for SQL: batches, the cache, errors, progress.

pictures ── cache? ── decode (threads) ── batches ── embed ── vectors
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hybridq.errors import DataError, OperationalError, ProgrammingError
from hybridq.extensions import Context
from udfs.image import precision as precisions
from udfs.image.cache import FeatureCache, key_of
from udfs.image.models import DEFAULT_MODEL, ModelInfo, Pixels, Precision, Vectors, describe, load

# A call this small is a query's, whose picture may come again; an import's does not.
CACHED_CALL_ROWS = 16
CACHE_ROWS = 4096

FEATURES = FeatureCache(CACHE_ROWS)
"""Shared by all databases of the process: a vector depends on what is in its key alone."""


class Extractor:
    """Makes vectors for one database."""

    def __init__(self, context: Context, cache: FeatureCache = FEATURES) -> None:
        self._context = context
        self._cache = cache
        self._precisions: dict[str, Precision] = {}

    def extract_feature(self, *arguments: Any) -> Any:
        """Return FLOAT[] for each row of the arguments: pictures and, optionally, model names."""
        if not 1 <= len(arguments) <= 2:
            raise ProgrammingError(
                f"extract_feature takes an image and, if need be, a model: {len(arguments)} given"
            )
        images = checked_images("extract_feature", arguments[0])
        names: list[str | None] = [DEFAULT_MODEL] * len(images)
        if len(arguments) == 2:
            names = _names(arguments[1])
        vectors: list[Vectors | None] = [None] * len(images)
        for name in dict.fromkeys(name for name in names if name is not None):
            info = describe(name)
            rows = [row for row, other in enumerate(names) if other == name]
            found = self.vectors(
                images.take(pa.array(rows)) if len(rows) < len(images) else images,
                info,
                self._precision(info),
                positions=rows,
            )
            for row, vector in zip(rows, found, strict=True):
                vectors[row] = vector
        self._context.progress.advance(names.count(None))
        return _lists(vectors)

    def _precision(self, info: ModelInfo) -> Precision:
        # Asked once: reading it from the database takes as long as a search.
        if info.name not in self._precisions:
            self._precisions[info.name] = precisions.of_database(self._context, info)
        return self._precisions[info.name]

    def vectors(
        self,
        images: Any,
        info: ModelInfo,
        precision: Precision,
        *,
        positions: Sequence[int] | None = None,
    ) -> list[Vectors | None]:
        """Return one vector for each picture, None for NULL and, if so set, for a bad picture.

        `positions` are the pictures' places in the user's batch, for error messages.
        """
        vectors: list[Vectors | None] = [None] * len(images)
        cached = len(images) <= CACHED_CALL_ROWS
        missing: list[int] = []
        for row in range(len(images)):
            if not images[row].is_valid:
                continue
            if cached:
                key = key_of(info.version, precision, images[row].as_py())
                vectors[row] = self._cache.get(key)
            if vectors[row] is None:
                missing.append(row)
        self._context.progress.advance(len(images) - len(missing))
        if not missing:
            return vectors

        for rows, found in _embedded(images, missing, info, precision):
            for row, outcome in zip(rows, found, strict=True):
                if isinstance(outcome, DataError):
                    position = positions[row] if positions else row
                    self._bad_image(position, images[row].as_py(), outcome)
                else:
                    vectors[row] = outcome
            self._context.progress.advance(len(rows))
        if cached:
            for row in missing:
                made = vectors[row]
                if made is not None:
                    self._cache.put(key_of(info.version, precision, images[row].as_py()), made)
        return vectors

    def _bad_image(self, position: int, data: bytes, error: DataError) -> None:
        if self._context.setting("on_bad_image") == "null":
            return
        raise DataError(
            f"image {position + 1:,} of this batch ({_look(data)}) cannot be decoded: "
            f"{error.message}",
            hint="SET on_bad_image = 'null' to get NULL for such images",
            row=position,
        ) from error


def checked_images(function: str, images: Any) -> Any:
    """Return the Arrow array of pictures as it is; ProgrammingError if it holds no bytes."""
    kind = images.type
    if pa.types.is_null(kind) or any(
        check(kind)
        for check in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    ):
        return images
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        raise ProgrammingError(
            f"{function} takes the bytes of an image (BLOB), not text",
            hint=f"of a file: SELECT {function}(content) FROM read_blob('photo.jpg')"
            if function == "extract_feature"
            else "of a file: (SELECT content FROM read_blob('photo.jpg'))",
        )
    raise ProgrammingError(f"{function} takes the bytes of an image (BLOB), not {kind}")


def _names(models: Any) -> list[str | None]:
    kind = models.type
    if not (
        pa.types.is_null(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
    ):
        raise ProgrammingError(f"the second argument of extract_feature is a model, not {kind}")
    names: list[str | None] = models.to_pylist()
    return names


def _embedded(
    images: Any, rows: Sequence[int], info: ModelInfo, precision: Precision
) -> Iterator[tuple[Sequence[int], list[Vectors | DataError]]]:
    """Yield the rows' vectors batch by batch, in order, made by as many threads as there are."""
    try:
        from udfs.image import workers  # these import torch and Pillow
        from udfs.image.decode import decode

        model = load(info.name, precision)
    except ImportError as error:
        raise OperationalError(
            f'model "{info.name}" needs a package that is not installed: {error}',
            hint='pip install "hybridq-engine[image]"',
        ) from error

    def work(batch: Sequence[int]) -> list[Vectors | DataError]:
        decoded: list[Pixels | DataError] = []
        for row in batch:
            try:
                decoded.append(decode(images[row].as_py(), info.side_pixels))
            except DataError as error:
                decoded.append(error)
        good = [pixels for pixels in decoded if not isinstance(pixels, DataError)]
        found = iter(model.embed(np.stack(good)) if good else ())
        return [pixels if isinstance(pixels, DataError) else next(found) for pixels in decoded]

    size = model.batch_rows
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]
    pool = workers.pool()
    futures = [pool.submit(work, batch) for batch in batches]
    try:
        for batch, future in zip(batches, futures, strict=True):
            yield batch, future.result()
    finally:
        for future in futures:
            future.cancel()


def _look(data: bytes) -> str:
    if not data:
        return "0 bytes"
    start = data[:12]
    shown = repr(start.decode("ascii")) if start.isascii() and start.decode().isprintable() else ""
    return f"{len(data):,} bytes, starts with {shown or '0x' + start.hex()}"


def _lists(vectors: Sequence[Vectors | None]) -> Any:
    lengths = [0 if vector is None else len(vector) for vector in vectors]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    missing = np.array([vector is None for vector in vectors] + [False])
    values = [vector for vector in vectors if vector is not None]
    return pa.ListArray.from_arrays(
        pa.array(offsets, mask=missing),
        pa.array(np.concatenate(values) if values else np.empty(0, np.float32)),
    )
