"""From the JSON of a pipeline to its stages: which operator, with what, applied to whose output.

    ["decode", {"operator": "detect_faces", "min_score": 0.6}, "embed_face"]
    {"stages": [{"operator": "embed", "model": "efficientnet_lite1", "as": "vector"}, …],
     "output": ["vector"]}

A stage is an operator's name, or an object: `operator`, its parameters, `as` (the stage's name, by
default the operator's key or name; also its key in the result, unless the operator's output has
keys of its own), `input` (the name of an earlier stage). Without `input` a stage takes the output
of the last stage before it that gives what it needs: the thing itself, or several of them to each
of which it is applied. The first stage takes what the user gives, decoded if need be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hybridq.errors import ProgrammingError
from udfs.open_analytic.operators import Operator, Type

SEVERAL: Final[dict[Type, tuple[Type, ...]]] = {"image": ("faces", "objects", "images")}
"""What an operator can be applied to each of."""
SOURCE_TYPES: Final[dict[Type, str]] = {
    "image": "decode",
    "audio": "decode_sound",
    "text": "read_text",
}
"""The operators that turn what the user gives into what a first stage takes."""
MOST_STAGES: Final = 32
_EXAMPLE: Final = 'e.g. ["decode", "embed"], or [{"operator": "embed", "model": "…"}]'
_RESERVED: Final = ("operator", "as", "input")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One operator at its place."""

    name: str
    operator: Operator
    parameters: Mapping[str, Any]
    source: int | None
    """The place of the stage whose output it takes; None: what the user gives."""
    several: bool
    """Whether it is applied to each of several things of that output."""
    owner: int | None
    """The stage whose regions its outputs become facts of, directly or not."""
    key: str | None

    @property
    def shows(self) -> bool:
        """Whether its output can be part of a result."""
        return self.key is not None or self.operator.gives == "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A checked pipeline."""

    stages: tuple[Stage, ...]
    output: tuple[str, ...] | None
    """The names of the stages to show; None shows all that have something to show."""

    def shown(self, stage: Stage) -> bool:
        """Tell whether the stage's output is part of the result."""
        return self.output is None or stage.name in self.output

    def to_json(self) -> dict[str, Any]:
        """Return the definition with every default written out."""
        stages = []
        for stage in self.stages:
            one: dict[str, Any] = {"operator": stage.operator.name, "as": stage.name}
            if stage.source is not None:
                one["input"] = self.stages[stage.source].name
            stages.append(one | dict(stage.parameters))
        return {"stages": stages, "output": None if self.output is None else list(self.output)}


def parsed(text: str) -> Any:
    """Return the JSON of a definition; ProgrammingError says where it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ProgrammingError(f"the definition is no JSON: {error}", hint=_EXAMPLE) from error


def checked(given: Any, operators: Mapping[str, Operator]) -> Definition:
    """Return the pipeline a definition means; ProgrammingError names the stage that is wrong."""
    output = None
    if isinstance(given, dict):
        unknown = sorted(set(given) - {"stages", "output"})
        if unknown or "stages" not in given:
            what = f'"{unknown[0]}" is unknown' if unknown else '"stages" is missing'
            raise ProgrammingError(f"in the definition {what}", hint=_EXAMPLE)
        output = given.get("output")
        given = given["stages"]
    if not isinstance(given, list) or not given:
        raise ProgrammingError("a definition is a list of stages", hint=_EXAMPLE)
    if len(given) > MOST_STAGES:
        raise ProgrammingError(f"a pipeline has at most {MOST_STAGES} stages, not {len(given)}")
    described = [_described(place, stage, operators) for place, stage in enumerate(given)]
    first = described[0][0]
    if first.takes in SOURCE_TYPES:
        described.insert(0, (operators[SOURCE_TYPES[first.takes]], {}))
    stages: list[Stage] = []
    names = _names(described)
    for place in range(len(described)):
        stages.append(_stage(place, described, names, stages))
    definition = Definition(stages=tuple(stages), output=_output(output, stages))
    if not any(definition.shown(stage) and stage.shows for stage in stages):
        raise ProgrammingError("the pipeline gives nothing to show", hint=_EXAMPLE)
    return definition


def _described(
    place: int, given: Any, operators: Mapping[str, Operator]
) -> tuple[Operator, dict[str, Any]]:
    if isinstance(given, str):
        given = {"operator": given}
    if not isinstance(given, dict) or not isinstance(given.get("operator"), str):
        raise ProgrammingError(f"stage {place + 1} names no operator", hint=_EXAMPLE)
    operator = operators.get(given["operator"])
    if operator is None:
        raise ProgrammingError(
            f'stage {place + 1}: operator "{given["operator"]}" does not exist',
            hint="operators: " + ", ".join(sorted(operators)),
        )
    for word in ("as", "input"):
        if not isinstance(given.get(word, ""), str):
            raise ProgrammingError(f'stage {place + 1}: "{word}" is the name of a stage')
    return operator, given


def _names(described: Sequence[tuple[Operator, dict[str, Any]]]) -> list[str]:
    names: list[str] = []
    for place, (operator, given) in enumerate(described):
        name = given.get("as", operator.key or operator.name)
        if name in names:
            raise ProgrammingError(
                f'stages {names.index(name) + 1} and {place + 1} are both named "{name}"',
                hint='name one of them, e.g. {"operator": "…", "as": "other"}',
            )
        names.append(name)
    return names


def _stage(
    place: int,
    described: Sequence[tuple[Operator, dict[str, Any]]],
    names: Sequence[str],
    before: Sequence[Stage],
) -> Stage:
    operator, given = described[place]
    parameters = operator.checked({k: v for k, v in given.items() if k not in _RESERVED})
    source = None
    if place > 0 or "input" in given:
        source = (
            _named_source(place, operator, given["input"], names, before)
            if "input" in given
            else _nearest_source(place, operator, before)
        )
    elif operator.takes != "bytes":
        raise ProgrammingError(
            f'stage 1: "{operator.name}" takes {_a(operator.takes)}, which no stage before it gives'
        )
    several = source is not None and before[source].operator.gives != operator.takes
    owner = None
    if source is not None:
        owner = source if several else before[source].owner
    return Stage(
        name=names[place],
        operator=operator,
        parameters=parameters,
        source=source,
        several=several,
        owner=owner,
        key=names[place] if operator.key is not None else None,
    )


def _fits(operator: Operator, source: Stage) -> bool:
    gives = source.operator.gives
    return gives == operator.takes or gives in SEVERAL.get(operator.takes, ())


def _nearest_source(place: int, operator: Operator, before: Sequence[Stage]) -> int:
    for other in reversed(range(place)):
        if _fits(operator, before[other]):
            return other
    given = ", ".join(dict.fromkeys(stage.operator.gives for stage in before))
    raise ProgrammingError(
        f'stage {place + 1}: "{operator.name}" takes {_a(operator.takes)}, '
        f"the stages before it give: {given}"
    )


def _named_source(
    place: int, operator: Operator, name: str, names: Sequence[str], before: Sequence[Stage]
) -> int:
    if name not in names:
        raise ProgrammingError(
            f'stage {place + 1}: its input "{name}" is no stage', hint="stages: " + ", ".join(names)
        )
    source = names.index(name)
    if source >= place:
        raise ProgrammingError(
            f'stage {place + 1}: its input "{name}" is '
            + ("itself" if source == place else f"stage {source + 1}, which comes later")
            + ": stages must not form a cycle",
            hint="an input is an earlier stage",
        )
    if not _fits(operator, before[source]):
        raise ProgrammingError(
            f'stage {place + 1}: "{operator.name}" takes {_a(operator.takes)}, '
            f'its input "{name}" gives {_a(before[source].operator.gives)}'
        )
    return source


def _a(kind: str) -> str:
    if kind in ("image", "audio"):
        return {"image": "an image", "audio": "sound"}[kind]
    return f"a {kind}" if kind in ("text", "vector") else kind


def _output(given: Any, stages: Sequence[Stage]) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = [stage.name for stage in stages]
    if not isinstance(given, list) or not given or not all(name in names for name in given):
        raise ProgrammingError(
            f'"output" cannot be {json.dumps(given)}',
            hint="give a list of names of stages: " + ", ".join(names),
        )
    return tuple(given)
