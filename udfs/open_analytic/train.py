"""Transfer learning by SQL: heads and projections over frozen features of a table's own rows.

    SELECT * FROM open_analytic.train_classifier('brand', 'SELECT image, brand FROM items');
    SELECT * FROM open_analytic.train_projection('by_brand', 'SELECT image, brand FROM items');
    SELECT * FROM open_analytic.fit_whitening('mine', 'SELECT image FROM photos', dim := 256);

The query is run by the function and sees what is committed. Its first column holds pictures (BLOB,
or TEXT for paths) or vectors; its second, where labels are needed, labels. Rows with a NULL are
left out, and with `SET on_bad_input = 'null'` so are pictures that cannot be used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from hybridq.errors import DataError, OperationalError, ProgrammingError
from hybridq.extensions import Context
from udfs.image import models, stored, workers
from udfs.image import precision as precisions
from udfs.image.models import ModelInfo
from udfs.open_analytic import heads
from udfs.open_analytic.rows import Source, TrainingRows

MOST_CLASSES: Final = 20_000
_Result = TypeVar("_Result")


class Trainer:
    """Trains what one database asks for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._models = stored.Models(context)

    def classifier(
        self, name: str, source: Source, colours: bool, held_out: float
    ) -> dict[str, Any]:
        """Train an operator that labels, keep it, return its report."""
        began_at = time.perf_counter()
        source = replace(source, colours=colours)
        info = self._info(source)
        data = TrainingRows(self._context, source, info, labelled=True, of_model=False)
        features, labels = data.read()
        classes, wanted = _classes(labels)
        fit = _fit()
        fitted, measured = fit.split(len(wanted), held_out)
        self._context.progress.start(f"train {name}", None)
        weight, bias = fit.classifier(features[fitted], wanted[fitted], len(classes), self._advance)
        self._context.progress.finish()
        head = heads.head_of(heads.Head(weight, bias, tuple(classes)).to_bytes())
        accuracy = fit.share_right(features[measured], wanted[measured], head.weight, head.bias)
        options: dict[str, Any] = {
            "takes": data.takes,
            "classes": len(classes),
            "rows": len(fitted),
            "accuracy": accuracy,
            "version": None,
        }
        if data.takes == "image":
            options |= {
                "model": source.model,
                "weights": source.weights,
                "pooling": source.pooling,
                "scales": source.scales,
                "colours": source.colours,
                "precision": precisions.of_database(self._context, info),
                "version": info.version,
            }
        self._context.objects.put(heads.KIND, name, options, head.to_bytes())
        majority = np.bincount(wanted[fitted], minlength=len(classes)).argmax()
        return {
            "operator": name,
            "classes": len(classes),
            "rows": len(fitted),
            "held_out": len(measured),
            "left_out": data.left_out,
            "accuracy": accuracy,
            "majority": float((wanted[measured] == majority).mean()),
            "seconds": time.perf_counter() - began_at,
        }

    def projection(self, name: str, source: Source, dim: int, held_out: float) -> dict[str, Any]:
        """Train a metric projection, keep it as a model, return its report."""
        began_at = time.perf_counter()
        info = self._whole(source, "train_projection")
        data = TrainingRows(self._context, source, info, labelled=True)
        features, labels = data.read()
        classes, wanted = _classes(labels)
        _check_dim(dim, info.dim)
        fit = _fit()
        fitted, measured = fit.split(len(wanted), held_out)
        self._context.progress.start(f"train {name}", None)
        projection = on_one_thread(
            fit.metric_projection,
            features[fitted],
            wanted[fitted],
            len(classes),
            dim,
            self._advance,
        )
        self._context.progress.finish()
        made = self._put(name, info, projection)
        before, after = (
            fit.neighbours(rows[fitted], wanted[fitted], rows[measured], wanted[measured])
            for rows in (features, fit.projected(features, projection))
        )
        return {
            "model": name,
            "dim": made.dim,
            "classes": len(classes),
            "rows": len(fitted),
            "held_out": len(measured),
            "left_out": data.left_out,
            "precision_at_10": after[0],
            "accuracy": after[1],
            "precision_at_10_before": before[0],
            "accuracy_before": before[1],
            "seconds": time.perf_counter() - began_at,
        }

    def whitening(self, name: str, source: Source, dim: int, whitening: float) -> dict[str, Any]:
        """Fit principal components to the pictures of a query, keep them as a model."""
        began_at = time.perf_counter()
        info = self._whole(source, "fit_whitening")
        _check_dim(dim, info.dim)
        fit = _fit()
        moments = fit.Moments(info.dim)
        data = TrainingRows(self._context, source, info, labelled=False)
        for rows, _ in data:
            moments.add(rows)
        projection, variance = fit.principal_components(moments, dim, whitening=whitening)
        made = self._put(name, info, projection)
        return {
            "model": name,
            "dim": made.dim,
            "rows": moments.count,
            "left_out": data.left_out,
            "variance": variance,
            "seconds": time.perf_counter() - began_at,
        }

    def _put(self, name: str, info: ModelInfo, projection: Any) -> ModelInfo:
        made = models.composed(
            info.backbone,
            weights=info.weights,
            pooling=info.pooling,
            scales=info.scales,
            projection=projection,
            name=name,
        )
        self._models.put(made)
        precisions.fix(self._context, made, precisions.of_database(self._context, info))
        return made

    def _info(self, source: Source) -> ModelInfo:
        return self._models.model(source.model, source.weights, source.pooling, source.scales)

    def _whole(self, source: Source, function: str) -> ModelInfo:
        info = self._info(source)
        if info.projection is not None:
            raise ProgrammingError(
                f'{function} is for a network, and model "{info.name}" has a projection already',
                hint=f"model := '{info.backbone}'",
            )
        return info

    def _advance(self) -> None:
        self._context.progress.advance(1)


def _fit() -> ModuleType:
    try:
        from udfs.open_analytic import fit  # imports torch
    except ImportError as error:
        raise OperationalError(
            f"training needs a package that is not installed: {error}",
            hint='pip install "hybridq-engine[image]"',
        ) from error
    return fit


def on_one_thread(work: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return what `work` does where torch has one thread: with more it takes longer."""
    return workers.pool().submit(work, *arguments).result()


def _classes(labels: list[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the classes, sorted, and the class of each row."""
    names, of_row = np.unique(np.array(labels), return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"the labels name {len(names)} class, {names[0]!r}", hint="give rows of two or more"
        )
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"the labels name {len(names):,} classes", hint=f"{MOST_CLASSES:,} are the most"
        )
    return names.tolist(), of_row.astype(np.int64)


def _check_dim(dim: int, most: int) -> None:
    if not 1 <= dim <= most:
        raise ProgrammingError(
            f"dim cannot be {dim:,}", hint=f"give a whole number from 1 to {most:,}"
        )
