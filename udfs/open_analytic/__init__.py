"""The extension `open_analytic`: pipelines of AI operators, and functions with typed results.

    SELECT open_analytic.pipeline_create('general_feature_extractor');
    SELECT open_analytic.pipeline_run('general_feature_extractor', content)
      FROM read_blob('photo.jpg');   -- {"feature": [0.01, ...]}

Importing and registering is cheap; torch and what models need is loaded by the first row.
"""

from __future__ import annotations

from hybridq.extensions import Registry
from udfs.open_analytic.functions import Functions
from udfs.open_analytic.pipelines import Pipelines
from udfs.open_analytic.training import Training
from udfs.open_analytic.typed import TypedFunctions

_RUN = "hybridq_pipeline_run(CAST(name AS VARCHAR), input)"


def register(registry: Registry) -> None:
    """Add the schema `open_analytic`, the functions with typed results, and what is behind them."""
    pipelines = Pipelines(registry.context)
    _add_pipelines(registry, pipelines)
    Functions(registry.context, pipelines).register(registry)
    TypedFunctions(registry.context, pipelines).register(registry)
    Training(registry.context, pipelines).register(registry)


def _add_pipelines(registry: Registry, pipelines: Pipelines) -> None:
    registry.scalar(
        "hybridq_pipeline_create",
        pipelines.create,
        parameters=("VARCHAR", "VARCHAR"),
        returns="VARCHAR",
        volatile=True,
    )
    registry.scalar(
        "hybridq_pipeline_drop",
        pipelines.drop,
        parameters=("VARCHAR",),
        returns="BOOLEAN",
        volatile=True,
    )
    registry.scalar(
        "hybridq_pipeline_run",
        pipelines.run,
        parameters=None,
        returns="VARCHAR",
        reads_images=True,
    )
    registry.macro(
        "open_analytic.pipeline_create",
        ("name", "definition := NULL"),
        "hybridq_pipeline_create(name, CAST(definition AS VARCHAR))",
    )
    registry.macro("open_analytic.pipeline_drop", ("name",), "hybridq_pipeline_drop(name)")
    for name in ("pipeline_run", "pipeline_run_dist_random"):
        registry.macro(f"open_analytic.{name}", ("name", "input"), _RUN)
