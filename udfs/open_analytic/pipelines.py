"""The pipelines of one database: created, dropped, listed, run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from hybridq.arrow import pa
from hybridq.errors import DataError, Error, ProgrammingError
from hybridq.extensions import Context, StoredObject
from udfs.image import models
from udfs.image import precision as precisions
from udfs.image.arrays import Precision
from udfs.image.extract import bad_input, in_batches
from udfs.image.inputs import Inputs
from udfs.open_analytic import definition as definitions
from udfs.open_analytic import ready_made
from udfs.open_analytic.catalog import Catalog
from udfs.open_analytic.definition import Definition
from udfs.open_analytic.run import Runner, json_text

KIND: Final = "pipeline"
Finish = Callable[[dict[str, Any]], Any]
_NOUNS: Final = {
    "decode": "image",
    "read_text": "text",
    "decode_sound": "sound",
    "key_frames": "clip",
}


def _as_it_is(found: dict[str, Any]) -> dict[str, Any]:
    return found


class Pipelines:
    """Creates and runs the pipelines of one database. Safe to call from several threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.catalog = Catalog(context)
        self._stored: dict[str, tuple[StoredObject, Definition, Runner]] = {}
        self._passing: dict[str, tuple[Definition, Runner]] = {}

    # -- create, drop, list -----------------------------------------------------

    def create(self, names: Any, given: Any) -> Any:
        """Create the named pipelines and return their names; the same one again changes nothing."""
        for name, text in zip(names.to_pylist(), given.to_pylist(), strict=True):
            if name is not None:
                self._create(name, text)
        return names.cast(pa.string())

    def _create(self, name: str, text: str | None) -> None:
        if not name.strip():
            raise ProgrammingError("a pipeline needs a name")
        wanted = self._checked(name, text)
        kept = self._context.objects.get(KIND, name)
        if kept is None:
            fixed = self.catalog.fixed(wanted)
            self._context.objects.put(KIND, name, fixed.to_json())
            return
        if text is not None and not _same(wanted.to_json(), kept.options):
            raise ProgrammingError(
                f'pipeline "{name}" exists with another definition',
                hint=f"SELECT open_analytic.pipeline_drop('{name}'), then create it again",
            )

    def _checked(self, name: str, text: str | None) -> Definition:
        if text is not None:
            given = definitions.parsed(text)
        elif name in ready_made.DEFINITIONS:
            given = ready_made.DEFINITIONS[name]
        elif name in models.known() or self._context.objects.get("model", name) is not None:
            given = ["decode", {"operator": "embed", "model": name}]
        else:
            raise ProgrammingError(
                f'pipeline "{name}" is not ready-made and needs a definition',
                hint=f"open_analytic.pipeline_create('{name}', '[\"decode\", …]'); ready-made: "
                + ", ".join(ready_made.DEFINITIONS),
            )
        checked = definitions.checked(given, self.catalog.operators())
        for stage in checked.stages:
            if stage.operator.name == "embed":
                self.catalog.model(stage.parameters)
        return checked

    def drop(self, names: Any) -> Any:
        """Drop the named pipelines; tell for each whether there was one."""
        return pa.array(
            [None if name is None else self._drop(name) for name in names.to_pylist()], pa.bool_()
        )

    def _drop(self, name: str) -> bool:
        self._stored.pop(name, None)
        return self._context.objects.drop(KIND, name)

    def listing(self) -> list[dict[str, Any]]:
        """Return the name, stages and output of every pipeline of this database."""
        rows = []
        for name in self._context.objects.names(KIND):
            stored = self._context.objects.get(KIND, name)
            if stored is None:
                continue
            definition = self._read(name, stored)
            rows.append(
                {
                    "name": name,
                    "stages": json.dumps(stored.options["stages"], ensure_ascii=False),
                    "output": ", ".join(output_keys(definition)),
                }
            )
        return rows

    def _read(self, name: str, stored: StoredObject) -> Definition:
        try:
            return definitions.checked(dict(stored.options), self.catalog.operators())
        except ProgrammingError as error:
            error.message = f'pipeline "{name}": {error.message}'
            raise

    # -- run ----------------------------------------------------------------------

    def run(self, names: Any, inputs: Any) -> Any:
        """Return the JSON text of what each input's pipeline found, NULL for NULL."""
        given = names.to_pylist()
        texts: list[str | None] = [None] * len(given)
        for name in dict.fromkeys(name for name in given if name is not None):
            rows = [row for row, other in enumerate(given) if other == name]
            for row, text in zip(rows, self.found(name, inputs, rows, json_text), strict=True):
                texts[row] = text
        self._context.progress.advance(given.count(None))
        return pa.array(texts, pa.string())

    def found(
        self, name: str, inputs: Any, rows: Sequence[int], finish: Finish = _as_it_is
    ) -> list[Any]:
        """Return what the pipeline `name` finds in each of the rows, as `results` does."""
        definition, runner = self._runner(name)
        return self.results(f'pipeline "{name}"', definition, runner, inputs, rows, finish)

    def results(
        self,
        function: str,
        definition: Definition,
        runner: Runner,
        column: Any,
        rows: Sequence[int],
        finish: Finish = _as_it_is,
    ) -> list[Any]:
        """Return what was found in each of the rows, None for NULL and, if so set, a bad input.

        `finish` makes something of it, batch by batch on the pool's threads.
        """
        noun = _NOUNS.get(definition.stages[0].operator.name, "input")
        inputs = Inputs(function, column, self._context, noun)
        results: dict[int, Any] = dict.fromkeys(rows)
        usable = [row for row in rows if not inputs.is_null(row)]
        self._context.progress.advance(len(rows) - len(usable))

        def work(batch: Sequence[int]) -> list[Any]:
            values = [_content(inputs, row) for row in batch]
            good = [value for value in values if not isinstance(value, Error)]
            found = runner.run(good)
            made = iter([one if isinstance(one, Error) else finish(one) for one in found])
            return [value if isinstance(value, Error) else next(made) for value in values]

        for batch, outcomes in in_batches(usable, runner.batch_rows, work):
            for row, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Error):
                    bad_input(self._context, inputs, row, outcome)
                else:
                    results[row] = outcome
            self._context.progress.advance(len(batch))
        return list(results.values())

    def passing(self, *stages: Any) -> tuple[Definition, Runner]:
        """Return the pipeline of these stages, which is kept nowhere."""
        key = json.dumps(stages)
        if key not in self._passing:
            definition = definitions.checked(list(stages), self.catalog.operators())
            self._passing[key] = (definition, Runner(definition))
        return self._passing[key]

    def forget(self) -> None:
        """Forget what was loaded: an operator or a model has changed."""
        self._passing.clear()
        self._stored.clear()

    def _runner(self, name: str) -> tuple[Definition, Runner]:
        stored = self._context.objects.get(KIND, name)
        if stored is None:
            self._stored.pop(name, None)
            raise ProgrammingError(
                f'pipeline "{name}" was not created in this database',
                hint=f"SELECT open_analytic.pipeline_create('{name}')",
            )
        kept = self._stored.get(name)
        if kept is None or kept[0] is not stored:
            definition = self._read(name, stored)
            self._check_precision(name, definition)
            kept = self._stored[name] = (stored, definition, Runner(definition))
        return kept[1], kept[2]

    def _check_precision(self, name: str, definition: Definition) -> None:
        for stage in definition.stages:
            precision = stage.parameters.get("precision")
            if precision is not None:
                info = self.catalog.model(stage.parameters)
                precisions.check_pipeline(self._context, name, info, cast("Precision", precision))


def output_keys(definition: Definition) -> list[str]:
    """Return the keys at the top of a pipeline's JSON that are known before it runs."""
    return [
        stage.key if stage.key is not None else f"({stage.operator.name})"
        for stage in definition.stages
        if stage.owner is None and definition.shown(stage) and stage.shows
    ]


def _content(inputs: Inputs, row: int) -> Any:
    try:
        return inputs.value(row) if inputs.noun == "text" else inputs.content(row)
    except DataError as error:
        return error


def _same(wanted: dict[str, Any], kept: Any) -> bool:
    """Compare definitions, leaving out what was fixed when the kept one was created."""

    def bare(stages: Any) -> list[dict[str, Any]]:
        return [{k: v for k, v in s.items() if k not in ("precision", "version")} for s in stages]

    return bare(wanted["stages"]) == bare(kept["stages"]) and wanted["output"] == kept["output"]
