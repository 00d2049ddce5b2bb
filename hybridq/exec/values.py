"""Values of a statement: query vectors, LIMIT and OFFSET, as parameters and constants give them."""

from __future__ import annotations

import array
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hybridq.errors import DataError, ProgrammingError
from hybridq.index.bounds import bound_of
from hybridq.index.ivf import Float32s
from hybridq.nodes import Parameter, QueryText, QueryVector, Value

Evaluate = Callable[[str], Any]
"""Evaluates the text of a scalar expression in DuckDB, with the statement's parameters."""


def query_vector(
    query: QueryVector, parameters: Mapping[str, Any], evaluate: Evaluate
) -> Float32s | None:
    """Return the query vector (d,) float32, None for NULL; DataError for what is no vector."""
    if isinstance(query, QueryText):
        value = evaluate(f"CAST(({query.text}) AS FLOAT[])")
    elif isinstance(query.value, Parameter):
        value = parameters[query.value.name]
    else:
        value = bound_of(query.value, parameters).value
    if value is None:
        return None
    return finite_vector(value)


def finite_vector(value: Any) -> Float32s:
    """Return a vector as (d,) float32; DataError for what is no vector, or not finite."""
    vector = as_vector(value)
    # As bytes, for it is the same and reducing costs more than all else here.
    if 0 in np.isfinite(vector).tobytes():
        component = int(np.argmin(np.isfinite(vector)))
        raise DataError(
            f"component {component + 1} of the query vector is {vector[component]}",
            hint="a query vector holds finite numbers",
        )
    return vector


def as_vector(value: Any) -> Float32s:
    """Return a vector as (d,) float32: a list, numpy, Arrow, pandas, '[1,2]' or '{1,2}'."""
    if isinstance(value, np.ndarray):
        pass
    elif isinstance(value, str):
        value = _from_text(value)
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    elif isinstance(value, bytes | bytearray | memoryview):
        raise DataError(
            "a query vector cannot be given as bytes",
            hint="give a list or an array of numbers, or extract_feature(?) for an image",
        )
    elif isinstance(value, array.array):
        value = np.frombuffer(value, value.typecode)
    try:
        vector = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the query vector holds something that is not a number: {error}",
            hint="give a list or an array of numbers",
        ) from error
    if vector.ndim != 1 or vector.size == 0:
        raise DataError(
            f"the query vector has shape {vector.shape}, not one dimension",
            hint="give a list or an array of numbers",
        )
    return np.ascontiguousarray(vector)


def _from_text(text: str) -> list[float]:
    inner = text.strip()
    if (inner[:1], inner[-1:]) not in (("[", "]"), ("{", "}")):
        raise DataError(f"'{text[:40]}' is not a vector", hint="write '[1, 2, 3]' or '{1, 2, 3}'")
    try:
        return [float(component) for component in inner[1:-1].split(",")]
    except ValueError as error:
        raise DataError(
            f"'{text[:40]}' is not a vector: {error}", hint="write '[1, 2, 3]' or '{1, 2, 3}'"
        ) from error


def count_of(value: Value, parameters: Mapping[str, Any], what: str) -> int | None:
    """Return a LIMIT or OFFSET, None for NULL (no limit)."""
    bound = bound_of(value, parameters).value
    if bound is None:
        return None
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        raise ProgrammingError(f"{what} must be a whole number, not {bound!r}")
    if bound < 0 or bound != int(bound):
        raise ProgrammingError(f"{what} must be a whole number from 0 on, not {bound}")
    return int(bound)


def same_query(
    left: QueryVector, right: QueryVector, parameters: Mapping[str, Any], known: Float32s
) -> bool:
    """Tell whether `left` gives the vector `known`, which `right` gave."""
    if left == right:
        return True
    if isinstance(left, QueryText) or isinstance(right, QueryText):
        return False
    value = bound_of(left.value, parameters).value
    if value is None:
        return False
    try:
        vector = as_vector(value)
    except DataError:
        return False
    return vector.shape == known.shape and bool((vector == known).all())
