"""Functions of one pipeline each whose results are rows and values, so that nobody parses JSON.

SELECT p.id, f.gender, f.age FROM portraits AS p, detect_faces(p.image) AS f;
SELECT name FROM people ORDER BY feature <-> extract_face_feature(?) LIMIT 5;
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hybridq.arrow import pa
from hybridq.errors import DataError, OperationalError
from hybridq.extensions import Context, Registry
from udfs.image.extract import bad_input, in_batches
from udfs.image.inputs import Inputs
from udfs.open_analytic.pipelines import Pipelines

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A function of one input and options: which stages it runs, and what it returns of them."""

    name: str
    input: str
    options: Mapping[str, str]
    """Names and their defaults, as SQL."""
    stages: Callable[[Options], list[Any]]
    columns: Mapping[str, str] | None = None
    """Names and SQL types of its columns, where it returns rows."""
    returns: str = ""
    """SQL type of its value, where it returns one."""
    pick: Callable[[Mapping[str, Any]], Any]
    """From what the pipeline found to rows (dicts) or the value."""

    @property
    def sql_type(self) -> str:
        """What the function behind it returns."""
        if self.columns is None:
            return self.returns
        return "STRUCT(" + ", ".join(f'"{n}" {t}' for n, t in self.columns.items()) + ")[]"


def _embedded(**options: Any) -> dict[str, Any]:
    return {"operator": "embed", **options}


def _decoded(key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda found: base64.b64decode(found[key])


FUNCTIONS: Final = (
    Typed(
        name="detect_faces",
        input="image",
        options={"min_score": "0.5"},
        stages=lambda given: [
            "decode",
            {"operator": "detect_faces", "min_score": float(given["min_score"])},
            "embed_face",
            "recognize_gender_and_age",
        ],
        columns={
            "box": "FLOAT[]",
            "score": "FLOAT",
            "feature": "FLOAT[]",
            "gender": "VARCHAR",
            "gender_score": "FLOAT",
            "age": "FLOAT",
        },
        pick=lambda found: found["faces"],
    ),
    Typed(
        name="extract_face_feature",
        input="image",
        options={},
        stages=lambda _: [
            "decode",
            {"operator": "detect_faces", "limit": 1, "required": True},
            "embed_face",
        ],
        returns="FLOAT[]",
        pick=lambda found: found["faces"][0]["feature"],
    ),
    Typed(
        name="detect_objects",
        input="image",
        options={"min_score": "0.4"},
        stages=lambda given: [
            "decode",
            {"operator": "detect_objects", "min_score": float(given["min_score"])},
        ],
        columns={"box": "FLOAT[]", "label": "VARCHAR", "score": "FLOAT"},
        pick=lambda found: found["objects"],
    ),
    Typed(
        name="main_object",
        input="image",
        options={},
        stages=lambda _: ["decode", "crop_main_object", "encode"],
        returns="BLOB",
        pick=_decoded("png"),
    ),
    Typed(
        name="read_text",
        input="image",
        options={"min_score": "0.5"},
        stages=lambda given: [
            "decode",
            {"operator": "read_lines", "min_score": float(given["min_score"])},
        ],
        columns={"text": "VARCHAR", "score": "FLOAT", "corners": "FLOAT[][]"},
        pick=lambda found: found["lines"],
    ),
    Typed(
        name="read_text",
        input="image",
        options={},
        stages=lambda _: ["decode", "read_image"],
        returns="VARCHAR",
        pick=lambda found: found["text"],
    ),
    Typed(
        name="extract_text_feature",
        input="text",
        options={},
        stages=lambda _: ["read_text", "embed_text"],
        returns="FLOAT[]",
        pick=lambda found: found["feature"],
    ),
    Typed(
        name="extract_voiceprint",
        input="sound",
        options={},
        stages=lambda _: ["decode_sound", "embed_voice"],
        returns="FLOAT[]",
        pick=lambda found: found["feature"],
    ),
    Typed(
        name="key_frames",
        input="clip",
        options={"model": "'general_feature_extractor'"},
        stages=lambda given: ["key_frames", "encode", _embedded(model=given["model"])],
        columns={"seconds": "DOUBLE", "image": "BLOB", "feature": "FLOAT[]"},
        pick=lambda found: [
            frame | {"image": base64.b64decode(frame["png"])} for frame in found["frames"]
        ],
    ),
)


class TypedFunctions:
    """The functions above, and `crop`, for one database."""

    def __init__(self, context: Context, pipelines: Pipelines) -> None:
        self._context = context
        self._pipelines = pipelines

    def register(self, registry: Registry) -> None:
        """Add the functions and their macros."""
        for typed in FUNCTIONS:
            self._add(registry, typed)
        registry.scalar(
            "hybridq_crop", self._crop, parameters=None, returns="BLOB", reads_images=True
        )
        registry.macro("crop", ("image", "box"), "hybridq_crop(image, box)")

    def _add(self, registry: Registry, typed: Typed) -> None:
        rows = typed.columns is not None
        behind = f"hybridq_{typed.name}" + ("_rows" if rows else "")

        def function(inputs: Any, *options: Any) -> Any:
            return self._run(typed, inputs, options)

        registry.scalar(
            behind, function, parameters=None, returns=typed.sql_type, reads_images=True
        )
        call = f"{behind}({', '.join((typed.input, *typed.options))})"
        registry.macro(
            typed.name,
            (typed.input, *(f"{name} := {default}" for name, default in typed.options.items())),
            f"SELECT unnest({call}, max_depth := 2)" if rows else call,
            table=rows,
        )

    def _run(self, typed: Typed, inputs: Any, options: Sequence[Any]) -> Any:
        given = list(zip(*(option.to_pylist() for option in options), strict=True))
        given = given or [()] * len(inputs)
        values: list[Any] = [None] * len(given)
        for choice in dict.fromkeys(given):
            rows = [row for row, other in enumerate(given) if other == choice]
            stages = typed.stages(dict(zip(typed.options, choice, strict=True)))
            definition, runner = self._pipelines.passing(*stages)
            found = self._pipelines.results(typed.name, definition, runner, inputs, rows)
            for row, one in zip(rows, found, strict=True):
                values[row] = None if one is None else typed.pick(one)
        return pa.array(values, _arrow(typed))

    def _crop(self, images: Any, boxes: Any) -> Any:
        """Return the part of each picture in its box (left, top, right, bottom), as PNG."""
        inputs = Inputs("crop", images, self._context)
        wanted = boxes.to_pylist()
        rows = [
            row for row, box in enumerate(wanted) if box is not None and not inputs.is_null(row)
        ]
        cut: list[bytes | None] = [None] * len(wanted)
        self._context.progress.advance(len(wanted) - len(rows))

        def work(batch: Sequence[int]) -> list[Any]:
            return [_cut(inputs, row, wanted[row]) for row in batch]

        _require_pillow()
        for batch, outcomes in in_batches(rows, 8, work):
            for row, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, DataError):
                    bad_input(self._context, inputs, row, outcome)
                else:
                    cut[row] = outcome
            self._context.progress.advance(len(batch))
        return pa.array(cut, pa.binary())


def _require_pillow() -> None:
    try:
        import udfs.image.decode  # noqa: F401
    except ImportError as error:
        raise OperationalError(
            f"crop needs a package that is not installed: {error}",
            hint='pip install "hybridq-engine[image]"',
        ) from error


def _cut(inputs: Inputs, row: int, box: Sequence[float]) -> bytes | DataError:
    from udfs.image import decode

    try:
        return decode.cropped(inputs.content(row), box)
    except DataError as error:
        return error


_ARROW: Final = {
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "FLOAT[]": pa.list_(pa.float32()),
    "FLOAT[][]": pa.list_(pa.list_(pa.float32())),
}


def _arrow(typed: Typed) -> Any:
    if typed.columns is None:
        return _ARROW[typed.returns]
    return pa.list_(pa.struct([(name, _ARROW[kind]) for name, kind in typed.columns.items()]))
