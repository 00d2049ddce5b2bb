"""The rows that something is trained on: a query's pictures or vectors as features, and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hybridq.arrow import pa
from hybridq.errors import DataError, Error, ProgrammingError
from hybridq.extensions import Context
from udfs.image import precision as precisions
from udfs.image.arrays import Vectors
from udfs.image.extract import bad_input, in_batches
from udfs.image.inputs import Inputs
from udfs.image.models import ModelInfo
from udfs.open_analytic.values import Picture

_BATCH_ROWS: Final = 512
_LEAST_ROWS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which query, and how features are made of its pictures."""

    query: str
    model: str
    weights: str | None = None
    pooling: str | None = None
    scales: tuple[float, ...] | None = None
    colours: bool = False


class TrainingRows:
    """Features (n, d) and labels, batch by batch.

    Vectors must be as long as the model's, or where it is not `of_model`, as the first of them.
    """

    def __init__(
        self,
        context: Context,
        source: Source,
        info: ModelInfo,
        *,
        labelled: bool,
        of_model: bool = True,
    ) -> None:
        self._context = context
        self._source = source
        self._info = info
        self._columns = 2 if labelled else 1
        self._dim = info.dim if of_model else None
        self.takes = "image"
        self.left_out = 0
        """Rows with a NULL, and bad pictures where the session wants to go on."""

    def read(self) -> tuple[Vectors, list[str]]:
        """Return all features and labels; DataError where there are too few to train on."""
        features, labels = [], []
        for rows, names in self:
            features.append(rows)
            labels.extend(names)
        return np.concatenate(features), labels

    def __iter__(self) -> Iterator[tuple[Vectors, list[str]]]:
        """Yield the batches that have a usable row; DataError where there are too few rows."""
        usable = seen = 0
        self._context.progress.start("extract features", None)
        try:
            for batch in self._context.query(self._source.query, _BATCH_ROWS):
                if batch.num_columns != self._columns:
                    wanted = "a picture or vector" + (" and a label" if self._columns == 2 else "")
                    raise ProgrammingError(
                        f"the query has {batch.num_columns} columns", hint=f"select {wanted}"
                    )
                rows, found = self._features(batch, seen)
                if rows:
                    yield np.stack(found), self._labels(batch, rows)
                usable += len(rows)
                seen += batch.num_rows
                self.left_out = seen - usable
                self._context.progress.advance(batch.num_rows)
        finally:
            self._context.progress.finish()
        if usable < _LEAST_ROWS:
            raise DataError(
                f"{usable} of the {seen:,} rows of the query can be used, which is too few",
                hint="give a few hundred, without NULLs",
            )

    def _labels(self, batch: pa.RecordBatch, rows: Sequence[int]) -> list[str]:
        if self._columns == 1:
            return []
        labels: list[str] = batch.column(1).cast(pa.string()).take(pa.array(rows)).to_pylist()
        return labels

    def _features(self, batch: pa.RecordBatch, seen: int) -> tuple[list[int], list[Any]]:
        given = batch.column(0)
        complete = [
            row
            for row in range(batch.num_rows)
            if all(column[row].is_valid for column in batch.columns)
        ]
        kind = given.type
        if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            self.takes = "vector"
            return complete, [self._vector(given[row].as_py(), seen + row) for row in complete]
        inputs = Inputs("training", given, self._context, begins_at=seen)
        rows, found = [], []
        for part, outcomes in in_batches(complete, 8, self._work(inputs)):
            for row, outcome in zip(part, outcomes, strict=True):
                if isinstance(outcome, Error):
                    bad_input(self._context, inputs, row, outcome)
                    continue
                rows.append(row)
                found.append(outcome)
        return rows, found

    def _work(self, inputs: Inputs) -> Any:
        from udfs.open_analytic.heads import image_features

        precision = precisions.of_database(self._context, self._info)
        features = image_features(self._info, precision, with_colours=self._source.colours)

        def work(rows: Sequence[int]) -> list[Any]:
            pictures: list[Any] = []
            for row in rows:
                try:
                    pictures.append(Picture(inputs.content(row)))
                except DataError as error:
                    pictures.append(error)
            good = [picture for picture in pictures if isinstance(picture, Picture)]
            made = iter(features(good))
            return [one if isinstance(one, DataError) else next(made) for one in pictures]

        return work

    def _vector(self, values: Any, row: int) -> Vectors:
        vector = np.array(values, np.float32)
        if self._dim is None:
            self._dim = vector.size
        if vector.shape != (self._dim,):
            raise DataError(
                f"the vector of row {row + 1:,} of the query has {vector.size:,} dimensions, "
                f"not {self._dim:,}",
                hint="name the model that made the vectors: model := '…'",
            )
        if not np.isfinite(vector).all():
            raise DataError(f"the vector of row {row + 1:,} of the query is not finite")
        return vector
