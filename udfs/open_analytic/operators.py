"""What an operator is: the unit that pipelines are composed of.

An operator turns values of one type into values of another, a batch at a time:

    type      value                                   as JSON
    bytes     bytes: what the user gave                -
    image     values.Picture                           -
    faces     list[values.Region], aligned chips       {"faces": [{"box", "score", …}, …]}
    objects   list[values.Region], crops               {"objects": [{"box", "label", …}, …]}
    images    list[values.Picture], frames of a clip   {"frames": [{…}, …]}
    audio     values.Sound                             -
    text      str                                      {"text": "…"}
    vector    float32 (dim,)                           {"feature": […]}
    labels    list[values.Label], best first           {"labels": [{"label", "score"}, …]}
    json      dict of JSON values                      its keys

The JSON key is the operator's `key`. An operator that takes an image can be given faces, objects or
images instead: it is applied to each, and its output becomes a fact of each.

To add an operator, write its function in a module of its own (which may import what it likes: it is
imported by the first row) and list an `Operator` in `catalog.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from hybridq.errors import Error, ProgrammingError

Type = Literal[
    "bytes", "image", "images", "faces", "objects", "audio", "text", "vector", "labels", "json"
]
TYPES: tuple[str, ...] = get_args(Type)

Outcome = Any | Error
"""A row's output, or the error that says why it has none (it is in the place of the output)."""

Apply = Callable[[Sequence[Any]], list[Outcome]]
"""Maps a batch of inputs to as many outcomes. Called from several threads at once, each with one
torch thread. It raises only what concerns the whole batch; what is wrong with one row is returned
in its place, as a DataError whose message says what is wrong, without naming the row."""

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """`check` returns the value to use; ValueError says what to give instead."""

    name: str
    default: Any
    description: str
    check: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What is known of an operator before it is loaded."""

    name: str
    description: str
    takes: Type
    gives: Type
    key: str | None = None
    """The key of its output in JSON; None for what is not shown (images) or has keys of its own."""
    model: str | None = None
    """Name and version of the weights: outputs of different models do not compare."""
    licence: str | None = None
    """Licence of the weights."""
    extra: str | None = None
    """The extra of the package that installs what it needs."""
    parameters: tuple[Parameter, ...] = field(default=())
    batch_rows: int = 8
    """How many inputs a call should bring for the best speed."""
    load: Callable[[Parameters], Apply]
    """Imports, loads the weights (once per process: keep them in a cache), returns the function.

    An ImportError becomes an error that names `extra`.
    """

    def checked(self, given: Parameters) -> dict[str, Any]:
        """Return all parameters with their values; ProgrammingError says what is wrong."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise ProgrammingError(
                    f'operator "{self.name}" has no parameter "{name}"',
                    hint="parameters: " + (", ".join(known) or "none"),
                )
        values = {}
        for name, parameter in known.items():
            value = given.get(name, parameter.default)
            try:
                values[name] = value if value is None else parameter.check(value)
            except (TypeError, ValueError) as error:
                raise ProgrammingError(
                    f'parameter "{name}" of operator "{self.name}" cannot be {value!r}',
                    hint=f"give {error}",
                ) from error
        return values


def number(low: float, high: float) -> Callable[[Any], float]:
    """Return the check of a number from `low` to `high`."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"a number from {low:g} to {high:g}")
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def whole(low: int, high: int) -> Callable[[Any], int]:
    """Return the check of a whole number from `low` to `high`."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise ValueError(f"a whole number from {low} to {high}")
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return check


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return the check of one of some words."""

    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return str(value)

    return check
