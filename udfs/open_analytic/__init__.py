"""The extension `open_analytic`: pipelines by the names AnalyticDB-V gives their functions.

    SELECT open_analytic.pipeline_create('general_feature_extractor');
    SELECT open_analytic.pipeline_run_dist_random('general_feature_extractor', content)
      FROM read_blob('photo.jpg');   -- {"feature": [0.01, ...]}

A pipeline is a model with the version and precision it had when it was created.
"""

from __future__ import annotations

from typing import Any, cast

import pyarrow as pa

from hybridq.errors import ProgrammingError
from hybridq.extensions import Context, Registry
from udfs.image import precision as precisions
from udfs.image.extract import Extractor, checked_images
from udfs.image.models import Precision, Vectors, describe


class Pipelines:
    """Creates and runs the pipelines of one database."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._extractor = Extractor(context)

    def create(self, names: Any) -> Any:
        """Create the named pipelines and return their names; one that exists stays as it is."""
        for name in names.unique().to_pylist():
            if name is not None:
                self._create(name)
        return names.cast(pa.string())

    def _create(self, name: str) -> None:
        info = describe(name)
        if self._context.pipelines.get(name) is not None:
            return
        # Unless the session insists, its vectors shall compare with those of extract_feature.
        precision = precisions.wanted(self._context)
        if precision is None:
            precision = precisions.of_database(self._context, info)
        else:
            precisions.fix(self._context, info, precision)
        options = {
            "stages": ["decode", "embed"],
            "model": info.name,
            "version": info.version,
            "precision": precision,
            "dim": info.dim,
        }
        self._context.pipelines.put(name, options)

    def run(self, names: Any, images: Any) -> Any:
        """Return the JSON text `{"feature": [...]}` for each picture, NULL for NULL."""
        images = checked_images("pipeline_run_dist_random", images)
        texts: list[str | None] = [None] * len(images)
        pipelines = names.to_pylist()
        for name in dict.fromkeys(name for name in pipelines if name is not None):
            rows = [row for row, other in enumerate(pipelines) if other == name]
            for row, vector in zip(rows, self._vectors(name, images, rows), strict=True):
                texts[row] = None if vector is None else feature_json(vector)
        return pa.array(texts, pa.string())

    def _vectors(self, name: str, images: Any, rows: list[int]) -> list[Vectors | None]:
        pipeline = self._context.pipelines.get(name)
        if pipeline is None:
            describe(name)
            raise ProgrammingError(
                f'pipeline "{name}" was not created in this database',
                hint=f"SELECT open_analytic.pipeline_create('{name}')",
            )
        info = describe(pipeline["model"])
        precision = cast("Precision", pipeline["precision"])
        precisions.check_pipeline(self._context, name, info, precision, str(pipeline["version"]))
        return self._extractor.vectors(images.take(pa.array(rows)), info, precision, positions=rows)


def feature_json(vector: Vectors) -> str:
    """Return `vector` as JSON, each number the shortest that reads back as the same float32."""
    numbers = pa.array(vector).cast(pa.string()).to_pylist()
    # JSON readers take -0 for an integer, which has no sign of zero.
    return '{"feature": [' + ", ".join("-0.0" if n == "-0" else n for n in numbers) + "]}"


def register(registry: Registry) -> None:
    """Add the schema `open_analytic` and the functions behind it."""
    pipelines = Pipelines(registry.context)
    registry.scalar(
        "hybridq_pipeline_create",
        pipelines.create,
        parameters=("VARCHAR",),
        returns="VARCHAR",
        volatile=True,
    )
    registry.scalar(
        "hybridq_pipeline_run",
        pipelines.run,
        parameters=None,
        returns="VARCHAR",
        reads_images=True,
    )
    registry.macro("open_analytic.pipeline_create", ("name",), "hybridq_pipeline_create(name)")
    registry.macro(
        "open_analytic.pipeline_run_dist_random",
        ("name", "image"),
        "hybridq_pipeline_run(CAST(name AS VARCHAR), image)",
    )
