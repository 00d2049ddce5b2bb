"""Training as SQL: the table functions of `train.Trainer`, and dropping what was trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from hybridq.arrow import pa
from hybridq.errors import ProgrammingError
from hybridq.extensions import Context, Registry
from udfs.image import models, stored
from udfs.open_analytic import heads
from udfs.open_analytic.pipelines import Pipelines
from udfs.open_analytic.rows import Source
from udfs.open_analytic.train import Trainer

_CLASSIFIER: Final = (
    "operator VARCHAR, classes BIGINT, rows BIGINT, held_out BIGINT, left_out BIGINT, "
    "accuracy DOUBLE, majority DOUBLE, seconds DOUBLE"
)
_PROJECTION: Final = (
    "model VARCHAR, dim BIGINT, classes BIGINT, rows BIGINT, held_out BIGINT, left_out BIGINT, "
    "precision_at_10 DOUBLE, accuracy DOUBLE, precision_at_10_before DOUBLE, "
    "accuracy_before DOUBLE, seconds DOUBLE"
)
_WHITENING: Final = (
    "model VARCHAR, dim BIGINT, rows BIGINT, left_out BIGINT, variance DOUBLE, seconds DOUBLE"
)
_MODEL: Final = (
    f"model := '{'efficientnet_lite0'}'",
    "weights := NULL",
    "pooling := NULL",
    "scales := NULL",
)


class Training:
    """The functions that train, for one database."""

    def __init__(self, context: Context, pipelines: Pipelines) -> None:
        self._context = context
        self._pipelines = pipelines
        self._trainer = Trainer(context)

    def register(self, registry: Registry) -> None:
        """Add the functions and their macros."""
        self._table(
            registry,
            "train_classifier",
            self._classifier,
            _CLASSIFIER,
            (*_MODEL, "colours := false", "held_out := 0.1"),
        )
        self._table(
            registry,
            "train_projection",
            self._projection,
            _PROJECTION,
            (*_MODEL, "dim := 128", "held_out := 0.1"),
        )
        self._table(
            registry,
            "fit_whitening",
            self._whitening,
            _WHITENING,
            (*_MODEL, "dim := 512", "whitening := 0.1"),
        )
        for kind, drop in (("operator", self._drop_operator), ("model", self._drop_model)):
            registry.scalar(
                f"hybridq_{kind}_drop",
                drop,
                parameters=("VARCHAR",),
                returns="BOOLEAN",
                volatile=True,
            )
            registry.macro(f"open_analytic.{kind}_drop", ("name",), f"hybridq_{kind}_drop(name)")

    def _table(
        self,
        registry: Registry,
        name: str,
        work: Callable[..., dict[str, Any]],
        columns: str,
        options: Sequence[str],
    ) -> None:
        def rows(*arguments: Any) -> Any:
            given = zip(*(argument.to_pylist() for argument in arguments), strict=True)
            reports = [[work(*_checked(name, one))] for one in given]
            self._pipelines.forget()
            return pa.array(reports)

        registry.scalar(
            f"hybridq_{name}",
            rows,
            parameters=None,
            returns=f"STRUCT({columns})[]",
            volatile=True,
        )
        parameters = ("name", "query", *options)
        given = ", ".join(parameter.split(" ")[0] for parameter in parameters)
        registry.macro(
            f"open_analytic.{name}",
            parameters,
            f"SELECT unnest(hybridq_{name}({given}), max_depth := 2)",
            table=True,
        )

    def _classifier(self, name: str, source: Source, colours: Any, held_out: Any) -> dict[str, Any]:
        known = self._pipelines.catalog.operators()
        if name in known and self._context.objects.get(heads.KIND, name) is None:
            raise ProgrammingError(
                f'operator "{name}" exists in every database', hint="choose another name"
            )
        if not isinstance(colours, bool):
            raise ProgrammingError(f"colours cannot be {colours!r}", hint="give true or false")
        return self._trainer.classifier(name, source, colours, _share("held_out", held_out))

    def _projection(self, name: str, source: Source, dim: Any, held_out: Any) -> dict[str, Any]:
        _refuse_known_model(name)
        return self._trainer.projection(name, source, _whole(dim), _share("held_out", held_out))

    def _whitening(self, name: str, source: Source, dim: Any, whitening: Any) -> dict[str, Any]:
        _refuse_known_model(name)
        share = _number("whitening", whitening)
        if not 0 <= share <= 1:
            raise ProgrammingError(f"whitening cannot be {share}", hint="give a number from 0 to 1")
        return self._trainer.whitening(name, source, _whole(dim), share)

    def _drop_operator(self, names: Any) -> Any:
        return self._dropped(heads.KIND, names)

    def _drop_model(self, names: Any) -> Any:
        return self._dropped(stored.KIND, names)

    def _dropped(self, kind: str, names: Any) -> Any:
        dropped = [
            None if name is None else self._context.objects.drop(kind, name)
            for name in names.to_pylist()
        ]
        self._pipelines.forget()
        return pa.array(dropped, pa.bool_())


def _checked(function: str, given: Sequence[Any]) -> tuple[Any, ...]:
    """Return (name, source, options …) of the arguments of one call."""
    name, query, model, weights, pooling, scales, *options = given
    for what, value in (("name", name), ("query", query), ("model", model)):
        if not isinstance(value, str) or not value.strip():
            raise ProgrammingError(f"the {what} of {function} is a text, not {value!r}")
    source = Source(
        query=query,
        model=model,
        weights=weights,
        pooling=pooling,
        scales=None if scales is None else tuple(map(float, scales)),
    )
    return (name, source, *options)


def _refuse_known_model(name: str) -> None:
    if name in models.known():
        raise ProgrammingError(
            f'model "{name}" exists in every database', hint="choose another name"
        )


def _number(what: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ProgrammingError(f"{what} cannot be {value!r}", hint="give a number") from error


def _share(what: str, value: Any) -> float:
    share = _number(what, value)
    if not 0 < share < 1:
        raise ProgrammingError(
            f"{what} cannot be {value}", hint="give the share of rows to measure with, e.g. 0.1"
        )
    return share


def _whole(value: Any) -> int:
    number = _number("dim", value)
    if number != int(number):
        raise ProgrammingError(f"dim cannot be {value}", hint="give a whole number")
    return int(number)
