"""The commodity recognizers: what an item on a product photo is, for whom, of which colour.

Linear heads over EfficientNet-Lite0's vector and the colours of a picture, trained on 34,938
product photos (tools/train_commodity.py); docs/models.md has their accuracy on 5,000 others.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hybridq.errors import InternalError
from udfs.image import models
from udfs.image.precision import best
from udfs.open_analytic.heads import LABEL_PARAMETERS, Head, image_features, labelled
from udfs.open_analytic.operators import Apply, Operator, Parameter, Parameters, one_of
from udfs.open_analytic.values import Picture, Vector

ATTRIBUTES: Final = (
    *("category", "sub_category", "article_type"),
    *("gender", "colour", "season", "usage"),
)
"""What is recognized, in the order it is shown."""
SHAPES: Final = ATTRIBUTES[:3]
"""What must go together: a shirt is no footwear."""
MODEL: Final = "efficientnet_lite0"
WITHIN: Final = ("female_cloth", "male_cloth", "child_cloth", "shoe", "bag")
"""What a recognizer may be told that the item is: only classes that occur among these remain."""

_FILE: Final = "commodity.npz"
_SHA256: Final = "10e050565c92cbb8b97fdba5f36d15653a52e34fa6999030b144e91984cf646a"
_NAME: Final = "commodity heads 1 over EfficientNet-Lite0"
_LICENCE: Final = "Apache-2.0"


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """A head for each attribute, and which of its classes occur within a kind of items.

    `combinations` (n, 3) are the classes of `SHAPES` that occur together.
    """

    heads: dict[str, Head]
    within: dict[str, dict[str, npt.NDArray[np.bool_]]]
    combinations: npt.NDArray[np.intp]


@functools.cache
def shipped() -> Heads:
    """Return the heads of the package; InternalError where the file is not the one released."""
    data = files("udfs.open_analytic").joinpath("weights", _FILE).read_bytes()
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise InternalError(f"{_FILE} is not the file that was released")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        heads = {
            name: Head(
                arrays[f"{name}_weight"].astype(np.float32) * arrays[f"{name}_scale"],
                arrays[f"{name}_bias"].astype(np.float32),
                tuple(map(str, arrays[f"{name}_classes"])),
            )
            for name in ATTRIBUTES
        }
        within = {
            kind: {name: arrays[f"{name}_of_{kind}"].astype(np.bool_) for name in ATTRIBUTES}
            for kind in WITHIN
        }
        combinations = arrays["combinations"].astype(np.intp)
    return Heads(heads, within, combinations)


def _features() -> Callable[[Sequence[Picture]], list[Any]]:
    # bf16 and fp32 vectors differ far less than two photos of one item.
    return image_features(models.describe(MODEL), best(), with_colours=True)


def _load_all(parameters: Parameters) -> Apply:
    from udfs.open_analytic.embed import each_good

    features, within = _features(), parameters["within"]
    known = shipped()

    def describe(rows: list[Vector]) -> list[dict[str, Any]]:
        return [described(known, row, within) for row in rows]

    return lambda pictures: each_good(features(pictures), describe)


def described(known: Heads, features: Vector, within: str | None) -> dict[str, Any]:
    """Return the class of each attribute, and its probability in `scores`."""
    odds: dict[str, Vector] = {}
    for name, head in known.heads.items():
        odds[name] = head.probabilities(features[None])[0]
        if within is not None:
            allowed = odds[name] * known.within[within][name]
            odds[name] = allowed / max(float(allowed.sum()), 1e-12)
    chosen = {name: int(row.argmax()) for name, row in odds.items()}
    chosen |= together(known.combinations, [odds[name] for name in SHAPES])
    labels: dict[str, Any] = {name: known.heads[name].classes[at] for name, at in chosen.items()}
    named = ("gender", "colour", "season", "usage")
    return {
        **labels,
        "attributes": ", ".join(labels[name] for name in named),
        "scores": {name: round(float(odds[name][at]), 4) for name, at in chosen.items()},
    }


def together(combinations: npt.NDArray[np.intp], odds: Sequence[Vector]) -> dict[str, int]:
    """Return the combination of `SHAPES` that their probabilities together speak for most."""
    likely = sum(
        np.log(np.maximum(row[combinations[:, place]], 1e-12)) for place, row in enumerate(odds)
    )
    best_one = combinations[int(np.argmax(likely))]
    return {name: int(at) for name, at in zip(SHAPES, best_one, strict=True)}


def _load_one(name: str) -> Callable[[Parameters], Apply]:
    def load(parameters: Parameters) -> Apply:
        return labelled(_features(), shipped().heads[name], parameters)

    return load


def _operator(name: str, description: str, gives: Any, **rest: Any) -> Operator:
    return Operator(
        name=name,
        description=description,
        takes="image",
        gives=gives,
        model=_NAME,
        licence=_LICENCE,
        extra="image",
        **rest,
    )


OPERATORS: Final = (
    _operator(
        "recognize_commodity",
        "a product photo to " + ", ".join(ATTRIBUTES),
        "json",
        parameters=(
            Parameter(
                name="within",
                default=None,
                description="what the item is known to be: " + ", ".join(WITHIN),
                check=one_of(*WITHIN),
            ),
        ),
        load=_load_all,
    ),
    *(
        _operator(
            f"commodity_{name}",
            f"a product photo to its {name.replace('_', ' ')}",
            "labels",
            key=name,
            parameters=LABEL_PARAMETERS,
            load=_load_one(name),
        )
        for name in ATTRIBUTES
    ),
)
