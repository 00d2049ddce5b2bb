"""Functions with typed results beside the pipelines' JSON, and the views of the extension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from hybridq.arrow import pa
from hybridq.errors import DataError, ProgrammingError
from hybridq.extensions import Context, Registry
from udfs.image.extract import lists
from udfs.open_analytic import commodity
from udfs.open_analytic.operators import Operator
from udfs.open_analytic.pipelines import Pipelines
from udfs.open_analytic.run import missing_package

_LABELS: Final = "STRUCT(label VARCHAR, score FLOAT)[]"
_COMMODITY: Final = "STRUCT(" + ", ".join(f"{n} VARCHAR" for n in commodity.ATTRIBUTES) + ")"
_OPERATORS: Final = (
    'STRUCT(name VARCHAR, "input" VARCHAR, output VARCHAR, model VARCHAR, licence VARCHAR, '
    "extra VARCHAR, parameters VARCHAR, description VARCHAR)[]"
)
_PIPELINES: Final = 'STRUCT(name VARCHAR, stages VARCHAR, "output" VARCHAR)[]'
_ROWS: Final = "SELECT unnest({}, max_depth := 2)"


class Functions:
    """The typed functions of one database."""

    def __init__(self, context: Context, pipelines: Pipelines) -> None:
        self._context = context
        self._pipelines = pipelines

    def register(self, registry: Registry) -> None:
        """Add the functions, their macros and the views."""
        self._register_views(registry)
        self._scalar(registry, "hybridq_pipeline_feature", self._feature, "FLOAT[]")
        registry.macro(
            "open_analytic.pipeline_feature",
            ("name", "input"),
            "hybridq_pipeline_feature(name, input)",
        )
        self._scalar(registry, "hybridq_recognize", self._recognize, _LABELS)
        registry.macro(
            "recognize", ("image", "operator"), "hybridq_recognize(image, operator, 1)[1].label"
        )
        registry.macro(
            "recognize",
            ("image", "operator", "top := 5"),
            _ROWS.format("hybridq_recognize(image, operator, top)"),
            table=True,
        )
        self._scalar(registry, "hybridq_commodity", self._commodity, _COMMODITY)
        registry.macro(
            "commodity_attributes",
            ("image", "within := NULL"),
            "hybridq_commodity(image, within)",
        )

    @staticmethod
    def _scalar(registry: Registry, name: str, function: Callable[..., Any], returns: str) -> None:
        registry.scalar(name, function, parameters=None, returns=returns, reads_images=True)

    def _register_views(self, registry: Registry) -> None:
        for name, listing, kind in (
            ("operators", self._operators, _OPERATORS),
            ("current_pipelines", self._current, _PIPELINES),
        ):
            registry.scalar(
                f"hybridq_{name}", listing, parameters=("VARCHAR",), returns=kind, volatile=True
            )
            registry.view(f"open_analytic.{name}", _ROWS.format(f"hybridq_{name}('')"))

    # -- views ----------------------------------------------------------------------

    def _operators(self, asked: Any) -> Any:
        known = self._pipelines.catalog.operators()
        rows = [_row(known[name]) for name in sorted(known)]
        return pa.array([rows] * len(asked))

    def _current(self, asked: Any) -> Any:
        kind = pa.struct([(name, pa.string()) for name in ("name", "stages", "output")])
        return pa.array([self._pipelines.listing()] * len(asked), pa.list_(kind))

    # -- results ----------------------------------------------------------------------

    def _feature(self, names: Any, inputs: Any) -> Any:
        """Return the vector that a pipeline makes."""
        given = names.to_pylist()
        vectors: list[Any] = [None] * len(given)
        for name in dict.fromkeys(name for name in given if name is not None):
            rows = [row for row, other in enumerate(given) if other == name]
            for row, result in zip(rows, self._pipelines.found(name, inputs, rows), strict=True):
                vectors[row] = None if result is None else _only_vector(name, result)
        return lists(vectors)

    def _recognize(self, inputs: Any, names: Any, tops: Any) -> Any:
        """Return the labels that an operator gives to pictures, or to vectors."""
        pairs = list(zip(names.to_pylist(), tops.to_pylist(), strict=True))
        labels: list[Any] = [None] * len(pairs)
        for name, top in dict.fromkeys(pairs):
            if name is None or top is None:
                continue
            rows = [row for row, pair in enumerate(pairs) if pair == (name, top)]
            operator = self._pipelines.catalog.operator(name)
            if operator.gives != "labels":
                raise ProgrammingError(
                    f'operator "{name}" gives {operator.gives}, not labels',
                    hint="SELECT name FROM open_analytic.operators WHERE output = 'labels'",
                )
            found = self._labels(operator, top, inputs, rows)
            for row, one in zip(rows, found, strict=True):
                labels[row] = one
        shown = [None if row is None else [one._asdict() for one in row] for row in labels]
        kind = pa.struct([("label", pa.string()), ("score", pa.float32())])
        return pa.array(shown, pa.list_(kind))

    def _labels(self, operator: Operator, top: int, inputs: Any, rows: Sequence[int]) -> list[Any]:
        if operator.takes == "vector":
            return self._labels_of_vectors(operator, top, inputs, rows)
        stage: dict[str, Any] = {"operator": operator.name}
        if any(parameter.name == "top" for parameter in operator.parameters):
            stage["top"] = top
        definition, runner = self._pipelines.passing(stage)
        found = self._pipelines.results("recognize", definition, runner, inputs, rows)
        return [None if one is None else one[str(operator.key)][:top] for one in found]

    def _labels_of_vectors(
        self, operator: Operator, top: int, inputs: Any, rows: Sequence[int]
    ) -> list[Any]:
        if not pa.types.is_list(inputs.type) and not pa.types.is_fixed_size_list(inputs.type):
            raise ProgrammingError(
                f'operator "{operator.name}" takes a vector, not {inputs.type}',
                hint="it was trained on vectors: give one of the same model",
            )
        try:
            apply = operator.load(operator.checked({"top": top}))
        except ImportError as error:
            raise missing_package(operator.name, operator.extra, error) from error
        usable = [row for row in rows if inputs[row].is_valid]
        outcomes = apply([np.array(inputs[row].as_py(), np.float32) for row in usable])
        found = dict(zip(usable, outcomes, strict=True))
        for row, outcome in found.items():
            if isinstance(outcome, DataError):
                raise DataError(f"vector {row + 1:,} of this batch: {outcome.message}")
        self._context.progress.advance(len(rows))
        return [found.get(row) for row in rows]

    def _commodity(self, images: Any, kinds: Any) -> Any:
        """Return the attributes of product photos."""
        given = kinds.to_pylist()
        shown: list[Any] = [None] * len(given)
        for within in dict.fromkeys(given):
            rows = [row for row, other in enumerate(given) if other == within]
            stage: Mapping[str, Any] = {"operator": "recognize_commodity", "within": within}
            definition, runner = self._pipelines.passing(stage)
            found = self._pipelines.results(
                "commodity_attributes", definition, runner, images, rows
            )
            for row, one in zip(rows, found, strict=True):
                shown[row] = one and {name: one[name] for name in commodity.ATTRIBUTES}
        kind = pa.struct([(name, pa.string()) for name in commodity.ATTRIBUTES])
        return pa.array(shown, kind)


def _row(operator: Operator) -> dict[str, Any]:
    parameters = (
        f"{one.name} = {'none' if one.default is None else one.default}: {one.description}"
        for one in operator.parameters
    )
    return {
        "name": operator.name,
        "input": operator.takes,
        "output": operator.gives,
        "model": operator.model,
        "licence": operator.licence,
        "extra": operator.extra,
        "parameters": "; ".join(parameters) or None,
        "description": operator.description,
    }


def _only_vector(name: str, result: Mapping[str, Any]) -> Any:
    vectors = [value for value in result.values() if isinstance(value, np.ndarray)]
    if len(vectors) != 1:
        raise ProgrammingError(
            f'pipeline "{name}" gives {len(vectors)} vectors at the top of its result, not one',
            hint="open_analytic.pipeline_run returns all it finds, as JSON",
        )
    return vectors[0]
