"""Pictures to vectors for SQL: batches, the cache, errors, progress.

pictures ── cache? ── decode (threads) ── batches ── embed ── vectors
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hybridq.arrow import pa
from hybridq.errors import DataError, Error, OperationalError, ProgrammingError
from hybridq.extensions import Context
from udfs.image import precision as precisions
from udfs.image import stored, workers
from udfs.image.arrays import Precision, Vectors
from udfs.image.cache import FeatureCache, key_of
from udfs.image.inputs import Inputs, is_text
from udfs.image.models import DEFAULT_MODEL, ModelInfo, load

# A call this small is a query's, whose picture may come again; an import's does not.
CACHED_CALL_ROWS = 16
CACHE_ROWS = 4096

FEATURES = FeatureCache(CACHE_ROWS)
"""Shared by all databases of the process: a vector depends on what is in its key alone."""

_Choice = tuple[str, str | None, str | None, tuple[float, ...] | None]
"""Model, weights, pooling, scales."""


class Extractor:
    """Makes vectors for one database."""

    def __init__(self, context: Context, cache: FeatureCache = FEATURES) -> None:
        self._context = context
        self._cache = cache
        self._precisions: dict[str, Precision] = {}
        self._models = stored.Models(context)

    def extract_feature(
        self,
        images: Any,
        models: Any = None,
        weights: Any = None,
        pooling: Any = None,
        scales: Any = None,
    ) -> Any:
        """Return FLOAT[] for each row: pictures, models, weight files, poolings, scales."""
        inputs = Inputs("extract_feature", images, self._context)
        rows_of: dict[_Choice, list[int]] = {}
        for row, choice in enumerate(_choices(len(inputs), models, weights, pooling, scales)):
            if choice is not None:
                rows_of.setdefault(choice, []).append(row)
        vectors: list[Vectors | None] = [None] * len(inputs)
        for choice, rows in rows_of.items():
            info = self._models.model(*choice)
            found = self.vectors(inputs, info, self.precision(info), rows)
            for row, vector in zip(rows, found, strict=True):
                vectors[row] = vector
        self._context.progress.advance(len(inputs) - sum(map(len, rows_of.values())))
        return lists(vectors)

    def precision(self, info: ModelInfo) -> Precision:
        """Return the arithmetic in which this database has a model's vectors."""
        # Asked once: reading it from the database takes as long as a search.
        if info.name not in self._precisions:
            self._precisions[info.name] = precisions.of_database(self._context, info)
        return self._precisions[info.name]

    def vectors(
        self, inputs: Inputs, info: ModelInfo, precision: Precision, rows: Sequence[int]
    ) -> list[Vectors | None]:
        """Return a vector for each of the rows, None for NULL and, if so set, for a bad one."""
        vectors: dict[int, Vectors | None] = dict.fromkeys(rows)
        keys: dict[int, Any] = {}
        missing = [row for row in rows if not inputs.is_null(row)]
        if len(rows) <= CACHED_CALL_ROWS and not inputs.texts:
            for row in missing:
                keys[row] = key_of(info.version, precision, inputs.content(row))
                vectors[row] = self._cache.get(keys[row])
            missing = [row for row in missing if vectors[row] is None]
        self._context.progress.advance(len(rows) - len(missing))
        if missing:
            for batch, outcomes in _embedded(inputs, missing, info, precision):
                for row, outcome in zip(batch, outcomes, strict=True):
                    if isinstance(outcome, Error):
                        bad_input(self._context, inputs, row, outcome)
                        continue
                    vectors[row] = outcome
                    if row in keys:
                        self._cache.put(keys[row], outcome)
                self._context.progress.advance(len(batch))
        return list(vectors.values())


def bad_input(context: Context, inputs: Inputs, row: int, error: Error) -> None:
    """Raise what is wrong with a row, naming it, unless the session wants NULL for such rows."""
    if context.setting("on_bad_input") == "null":
        return
    raise DataError(
        f"{inputs.named(row)} cannot be used: {error.message}",
        hint=error.hint or f"SET on_bad_input = 'null' to get NULL for such {inputs.noun}s",
        given=inputs.value(row),
    ) from error


def _choices(
    count: int, models: Any, weights: Any, pooling: Any, scales: Any
) -> Iterator[_Choice | None]:
    """Yield what each row asks for; None where its model is NULL."""
    names = _words("model", models, count)
    if models is None:
        names = [DEFAULT_MODEL] * count
    files, poolings = _words("weights", weights, count), _words("pooling", pooling, count)
    factors = _scales(scales, count)
    for name, file, pool, factor in zip(names, files, poolings, factors, strict=True):
        yield None if name is None else (name, file, pool, factor)


def _words(what: str, column: Any, count: int) -> list[str | None]:
    if column is None:
        return [None] * count
    if not (pa.types.is_null(column.type) or is_text(column.type)):
        raise ProgrammingError(f"{what} of extract_feature is a text, not {column.type}")
    words: list[str | None] = column.to_pylist()
    return words


def _scales(column: Any, count: int) -> list[tuple[float, ...] | None]:
    if column is None or pa.types.is_null(column.type):
        return [None] * count
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise ProgrammingError(
            f"scales of extract_feature is a list of numbers, not {kind}", hint="e.g. [1, 0.7]"
        )
    try:
        return [None if row is None else tuple(map(float, row)) for row in column.to_pylist()]
    except (TypeError, ValueError) as error:
        raise ProgrammingError(
            f"scales of extract_feature is a list of numbers, not {kind}", hint="e.g. [1, 0.7]"
        ) from error


def _embedded(
    inputs: Inputs, rows: Sequence[int], info: ModelInfo, precision: Precision
) -> Iterator[tuple[Sequence[int], list[Any]]]:
    """Yield the rows' vectors batch by batch, in order, made by as many threads as there are."""
    try:
        from udfs.image.decode import decode  # imports Pillow

        model = load(info, precision)
    except ImportError as error:
        raise OperationalError(
            f'model "{info.name}" needs a package that is not installed: {error}',
            hint='pip install "hybridq-engine[image]"',
        ) from error

    def work(batch: Sequence[int]) -> list[Any]:
        decoded: list[Any] = []
        for row in batch:
            try:
                decoded.append(decode(inputs.content(row), info.side_pixels))
            except DataError as error:
                decoded.append(error)
        good = [pixels for pixels in decoded if not isinstance(pixels, DataError)]
        found = iter(model.embed(np.stack(good)) if good else ())
        return [pixels if isinstance(pixels, DataError) else next(found) for pixels in decoded]

    yield from in_batches(rows, model.batch_rows, work)


def in_batches(
    rows: Sequence[int], size: int, work: Callable[[Sequence[int]], list[Any]]
) -> Iterator[tuple[Sequence[int], list[Any]]]:
    """Yield (rows, outcomes) batch by batch, in order; `work` runs on the pool's threads."""
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]
    pool = workers.pool()
    futures = [pool.submit(work, batch) for batch in batches]
    try:
        for batch, future in zip(batches, futures, strict=True):
            yield batch, future.result()
    finally:
        for future in futures:
            future.cancel()


def lists(vectors: Sequence[Vectors | None]) -> Any:
    """Return vectors as an Arrow column of FLOAT[], NULL for None."""
    lengths = [0 if vector is None else len(vector) for vector in vectors]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    missing = np.array([vector is None for vector in vectors] + [False])
    values = [vector for vector in vectors if vector is not None]
    return pa.ListArray.from_arrays(
        pa.array(offsets, mask=missing),
        pa.array(np.concatenate(values) if values else np.empty(0, np.float32)),
    )
