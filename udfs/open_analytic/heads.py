"""Classifiers over frozen features: a linear layer that was trained on labelled pictures.

A head takes pictures (then it knows which model's vectors it was trained on, and whether colours
were added) or vectors. Training: `train.py`. Those shipped: `commodity.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from hybridq.errors import DataError, InternalError
from hybridq.extensions import Context
from udfs.image import stored
from udfs.image.arrays import Precision, packed, unpacked
from udfs.image.models import ModelInfo
from udfs.open_analytic.operators import Apply, Operator, Parameter, Parameters, number, whole
from udfs.open_analytic.values import Label, Picture, Vector

KIND: Final = "operator"
DEFAULT_TOP: Final = 1

LABEL_PARAMETERS: Final = (
    Parameter(
        name="top",
        default=DEFAULT_TOP,
        description="how many labels, best first",
        check=whole(1, 100_000),
    ),
    Parameter(
        name="min_score", default=0.0, description="the least probability", check=number(0, 1)
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear layer: weight (classes, d), bias (classes,), the names of the classes."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    classes: tuple[str, ...]

    def probabilities(self, features: Vector) -> npt.NDArray[np.float32]:
        """Return the probability (n, classes) of each class for features (n, d)."""
        # Row by row: a picture's scores must not depend on its neighbours in the batch.
        logits = np.stack([self.weight @ row for row in features]) + self.bias
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(odds / odds.sum(1, keepdims=True), np.float32)

    def labels(self, features: Vector, top: int, min_score: float) -> list[list[Label]]:
        """Return the best classes of each of the features (n, d)."""
        return [best(row, self.classes, top, min_score) for row in self.probabilities(features)]

    def to_bytes(self) -> bytes:
        """Return the arrays, for a database to keep; weights are rounded to float16."""
        return packed(
            weight=self.weight.astype(np.float16), bias=self.bias, classes=np.array(self.classes)
        )


def head_of(data: bytes) -> Head:
    """Return the head of `to_bytes`."""
    arrays = unpacked(data)
    return Head(
        np.asarray(arrays["weight"], np.float32),
        np.asarray(arrays["bias"], np.float32),
        tuple(map(str, arrays["classes"])),
    )


def best(
    probabilities: npt.NDArray[np.float32], classes: Sequence[str], top: int, min_score: float
) -> list[Label]:
    """Return the `top` classes with at least that probability, best first."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [
        Label(classes[at], float(probabilities[at]))
        for at in order
        if probabilities[at] >= min_score
    ]


def image_features(
    info: ModelInfo, precision: Precision, *, with_colours: bool
) -> Callable[[Sequence[Picture]], list[Any]]:
    """Return what maps pictures to features (d,): a model's vector, and colours. Imports torch."""
    from udfs.open_analytic.colours import colours
    from udfs.open_analytic.embed import Embed

    embed = Embed(info, precision)

    def features(pictures: Sequence[Picture]) -> list[Any]:
        vectors = embed(pictures)
        if not with_colours:
            return vectors
        return [
            vector
            if isinstance(vector, Exception)
            else np.concatenate([vector, colours(picture, info.side_pixels)])
            for picture, vector in zip(pictures, vectors, strict=True)
        ]

    return features


def trained(context: Context, name: str) -> Operator:
    """Return an operator that this database trained."""
    kept = context.objects.get(KIND, name)
    if kept is None:
        raise InternalError(f'operator "{name}" is not kept in this database')
    options, data = kept.options, kept.data
    takes_vectors = options["takes"] == "vector"

    def load(parameters: Parameters) -> Apply:
        head = head_of(data)
        features = _vectors(head) if takes_vectors else _pictures(context, options)
        return labelled(features, head, parameters)

    return Operator(
        name=name,
        description=f"one of {options['classes']:,} classes, trained on {options['rows']:,} rows: "
        f"{options['accuracy']:.1%} right on others",
        takes="vector" if takes_vectors else "image",
        gives="labels",
        key=name,
        model=options["version"],
        licence="yours",
        extra=None if takes_vectors else "image",
        parameters=LABEL_PARAMETERS,
        load=load,
    )


def labelled(
    features: Callable[[Sequence[Any]], list[Any]], head: Head, parameters: Parameters
) -> Apply:
    """Return the function that labels what `features` takes."""
    from udfs.open_analytic.embed import each_good

    top, min_score = parameters["top"], parameters["min_score"]

    def apply(values: Sequence[Any]) -> list[Any]:
        return each_good(
            features(values), lambda rows: list(head.labels(np.stack(rows), top, min_score))
        )

    return apply


def _pictures(
    context: Context, options: Mapping[str, Any]
) -> Callable[[Sequence[Picture]], list[Any]]:
    scales = options["scales"]
    info = stored.Models(context).model(
        options["model"],
        options["weights"],
        options["pooling"],
        None if scales is None else tuple(scales),
    )
    if info.version != options["version"]:
        raise DataError(
            f'its model "{info.name}" is not the one it was trained on: {info.version} instead of '
            f"{options['version']}",
            hint="train it again",
        )
    precision = cast("Precision", options["precision"])
    return image_features(info, precision, with_colours=options["colours"])


def _vectors(head: Head) -> Callable[[Sequence[Any]], list[Any]]:
    dim = head.weight.shape[1]

    def features(vectors: Sequence[Any]) -> list[Any]:
        return [
            vector
            if len(vector) == dim
            else DataError(f"the vector has {len(vector)} dimensions, not {dim}")
            for vector in vectors
        ]

    return features
