"""Runs a pipeline over a batch of rows.

Every output of a stage is kept in a slot: the row it belongs to, the value, and the dict where what
is found out about it goes. A stage that is applied to each of several things opens a slot for each.
A row that fails keeps its error and takes no further part; the other rows go on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybridq.arrow import pa
from hybridq.errors import DataError, Error, OperationalError
from udfs.open_analytic.definition import Definition, Stage
from udfs.open_analytic.operators import Apply
from udfs.open_analytic.values import Label, Picture, Region

_BATCH_ROWS = 8


@dataclass(slots=True)
class _Slot:
    row: int
    value: Any
    facts: dict[str, Any]


class Runner:
    """A definition with its operators loaded. Safe to call from several threads."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._apply: list[Apply] = [loaded(stage) for stage in definition.stages]
        self.batch_rows = min(
            (stage.operator.batch_rows for stage in definition.stages), default=_BATCH_ROWS
        )

    def run(self, inputs: Sequence[Any]) -> list[dict[str, Any] | Error]:
        """Return what was found out about each input, or the error that says why nothing was."""
        results: list[dict[str, Any] | Error] = [{} for _ in inputs]
        alive = set(range(len(inputs)))
        given = [
            _Slot(row, value, result)
            for row, (value, result) in enumerate(zip(inputs, results, strict=True))
            if isinstance(result, dict)
        ]
        outputs: list[list[_Slot]] = []
        for stage, apply in zip(self._definition.stages, self._apply, strict=True):
            source = given if stage.source is None else outputs[stage.source]
            slots = [slot for slot in source if slot.row in alive]
            if stage.several:
                slots = [
                    _Slot(slot.row, _picture(item), item.facts)
                    for slot in slots
                    for item in slot.value
                ]
            made = []
            for slot, outcome in zip(slots, _outcomes(stage, apply, slots), strict=True):
                if isinstance(outcome, Exception):
                    if slot.row in alive:
                        alive.remove(slot.row)
                        results[slot.row] = _error(outcome)
                    continue
                self._note(stage, slot, outcome)
                made.append(_Slot(slot.row, outcome, slot.facts))
            outputs.append(made)
        return results

    def _note(self, stage: Stage, slot: _Slot, outcome: Any) -> None:
        gives = stage.operator.gives
        if gives in ("faces", "objects"):
            for region in outcome:
                region.facts = _described(region, slot.value) | region.facts
        if not self._definition.shown(stage):
            return
        if gives == "json":
            slot.facts.update(outcome)
        elif stage.key is not None:
            several = gives in ("faces", "objects", "images")
            slot.facts[stage.key] = [item.facts for item in outcome] if several else outcome


def loaded(stage: Stage) -> Apply:
    """Return the function of a stage; OperationalError where what it needs is not installed."""
    operator = stage.operator
    try:
        return operator.load(stage.parameters)
    except ImportError as error:
        raise missing_package(operator.name, operator.extra, error) from error


def missing_package(operator: str, extra: str | None, error: ImportError) -> OperationalError:
    """Return the error that says what to install."""
    return OperationalError(
        f'operator "{operator}" needs a package that is not installed: {error}',
        hint=f'pip install "hybridq-engine[{extra}]"' if extra is not None else None,
    )


def _picture(item: Any) -> Any:
    return item.picture


def _outcomes(stage: Stage, apply: Apply, slots: Sequence[_Slot]) -> list[Any]:
    outcomes: list[Any] = []
    size = stage.operator.batch_rows
    for at in range(0, len(slots), size):
        values = [slot.value for slot in slots[at : at + size]]
        found = apply(values)
        if len(found) != len(values):
            raise AssertionError(f"{stage.operator.name}: {len(found)} for {len(values)} inputs")
        outcomes.extend(found)
    return outcomes


def _error(outcome: Exception) -> Error:
    if isinstance(outcome, Error):
        return outcome
    return DataError(str(outcome) or type(outcome).__name__)


def _described(region: Region, picture: Any) -> dict[str, Any]:
    scale = picture.scale if isinstance(picture, Picture) else 1.0
    facts: dict[str, Any] = {"box": [round(side * scale, 1) for side in region.box]}
    if region.label is not None:
        facts["label"] = region.label
    facts["score"] = round(region.score, 4)
    if region.landmarks is not None:
        facts["landmarks"] = [
            [round(float(x) * scale, 1), round(float(y) * scale, 1)] for x, y in region.landmarks
        ]
    return facts


# -- JSON ----------------------------------------------------------------------


def json_text(value: Any) -> str:
    """Return a result as JSON text; numbers of a vector are those of its float32s, shortest."""
    match value:
        case np.ndarray():
            return _vector_json(value)
        case Label():
            return f'{{"label": {_encode(value.label)}, "score": {value.score:.4f}}}'
        case dict():
            inside = (f"{_encode(str(key))}: {json_text(item)}" for key, item in value.items())
            return "{" + ", ".join(inside) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(json_text, value)) + "]"
        case np.generic():
            return json_text(value.item())
        case float() if not math.isfinite(value):
            return "null"
        case _:
            return _encode(value)


@functools.cache
def _encoder() -> Callable[[Any], str]:
    import json

    return json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _encode(value: Any) -> str:
    return _encoder()(value)


def _vector_json(vector: Any) -> str:
    numbers = pa.array(vector).cast(pa.string()).to_pylist()
    # JSON readers take -0 for an integer, which has no sign of zero.
    return "[" + ", ".join("-0.0" if n == "-0" else n for n in numbers) + "]"
