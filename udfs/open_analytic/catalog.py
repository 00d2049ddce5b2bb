"""The operators of a database: those everyone has, and those it trained itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from hybridq.errors import DataError, ProgrammingError
from hybridq.extensions import Context
from udfs.image import precision as precisions
from udfs.image import stored
from udfs.image.arrays import Precision
from udfs.image.models import DEFAULT_MODEL, ModelInfo
from udfs.open_analytic import commodity, heads
from udfs.open_analytic.definition import Definition, Stage
from udfs.open_analytic.models import operators as of_models
from udfs.open_analytic.operators import (
    Apply,
    Operator,
    Parameter,
    Parameters,
    one_of,
)
from udfs.open_analytic.values import Picture

_LITE0: Final = "EfficientNet-Lite0"


def _decode(parameters: Parameters) -> Apply:
    return lambda files: [Picture(data) for data in files]


def _encode(parameters: Parameters) -> Apply:
    from udfs.image.decode import png

    def encode(pictures: Sequence[Picture]) -> list[Any]:
        found: list[Any] = []
        for picture in pictures:
            try:
                found.append({"png": base64.b64encode(png(picture.pixels())).decode()})
            except DataError as error:
                found.append(error)
        return found

    return encode


def _read_text(parameters: Parameters) -> Apply:
    def read(given: Sequence[Any]) -> list[Any]:
        return [_text(one) for one in given]

    return read


def _text(given: str | bytes) -> Any:
    try:
        return given if isinstance(given, str) else bytes(given).decode("utf-8")
    except UnicodeDecodeError as error:
        return DataError(f"the text is not UTF-8: {error.reason} at byte {error.start:,}")


SOURCES: Final = (
    Operator(
        name="decode",
        description="the bytes of an image file to an upright RGB picture on white",
        takes="bytes",
        gives="image",
        extra="image",
        load=_decode,
    ),
    Operator(
        name="encode",
        description="a picture, a crop or a frame to a PNG file, in base64",
        takes="image",
        gives="json",
        extra="image",
        load=_encode,
    ),
    Operator(
        name="read_text",
        description="a text, or its UTF-8 bytes",
        takes="bytes",
        gives="text",
        load=_read_text,
    ),
)


class Catalog:
    """Finds the operators of one database by name."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._models = stored.Models(context)
        self._fixed = {operator.name: operator for operator in (*SOURCES, self._embed())}
        self._fixed |= {
            operator.name: operator for operator in (*commodity.OPERATORS, *of_models.OPERATORS)
        }

    def operators(self) -> Mapping[str, Operator]:
        """Return all operators by name."""
        trained = {
            name: heads.trained(self._context, name)
            for name in self._context.objects.names(heads.KIND)
        }
        return self._fixed | trained

    def operator(self, name: str) -> Operator:
        """Return one operator; ProgrammingError lists those there are."""
        if name in self._fixed:
            return self._fixed[name]
        if self._context.objects.get(heads.KIND, name) is not None:
            return heads.trained(self._context, name)
        raise ProgrammingError(
            f'operator "{name}" does not exist',
            hint="operators: " + ", ".join(sorted(self.operators())),
        )

    def _embed(self) -> Operator:
        def model(value: Any) -> str:
            if not isinstance(value, str):
                raise ValueError("the name of a model")
            return value

        return Operator(
            name="embed",
            description="a picture to the vector of an image model",
            takes="image",
            gives="vector",
            key="feature",
            model=_LITE0,
            licence="Apache-2.0",
            extra="image",
            parameters=(
                Parameter(
                    name="model",
                    default=DEFAULT_MODEL,
                    description="a model of extract_feature",
                    check=model,
                ),
                Parameter(name="weights", default=None, description="a file of weights"),
                Parameter(
                    name="pooling", default=None, description="avg, max, gem or rmac", check=str
                ),
                Parameter(name="scales", default=None, description="factors of the model's size"),
                Parameter(
                    name="precision",
                    default=None,
                    description="bf16 or fp32: fixed when a pipeline is created",
                    check=one_of("bf16", "fp32"),
                ),
                Parameter(
                    name="version",
                    default=None,
                    description="of the model: fixed when a pipeline is created",
                ),
            ),
            load=self._load_embed,
        )

    def _load_embed(self, parameters: Parameters) -> Apply:
        from udfs.open_analytic.embed import Embed  # imports torch

        info = self.model(parameters)
        if parameters["version"] not in (None, info.version):
            precisions.warn_version(info.name, str(parameters["version"]), info.version)
        if parameters["precision"] is None:
            precision = precisions.of_database(self._context, info)
        else:
            precision = precisions.honoured(cast("Precision", parameters["precision"]))
        return Embed(info, precision)

    def model(self, parameters: Parameters) -> ModelInfo:
        """Return the model that the parameters of `embed` mean."""
        scales = parameters["scales"]
        return self._models.model(
            parameters["model"],
            parameters["weights"],
            parameters["pooling"],
            None if scales is None else tuple(scales),
        )

    def fixed(self, definition: Definition) -> Definition:
        """Return a pipeline whose vectors stay what they are now: model, version, precision."""
        return replace(definition, stages=tuple(map(self._fixed_stage, definition.stages)))

    def _fixed_stage(self, stage: Stage) -> Stage:
        if stage.operator.name != "embed":
            return stage
        info = self.model(stage.parameters)
        given = stage.parameters["precision"]
        # Unless the session insists, its vectors shall compare with those of extract_feature.
        precision = given if given is not None else precisions.wanted(self._context)
        if precision is None:
            precision = precisions.of_database(self._context, info)
        else:
            precisions.fix(self._context, info, cast("Precision", precision))
        fixed = {"precision": precision, "version": info.version}
        return replace(stage, parameters={**stage.parameters, **fixed})
