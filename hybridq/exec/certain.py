"""What a column will hold when it is given a value of Python, where that is certain.

Whatever is computed or cast, or will be refused, is for the database to say.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from hybridq.errors import Uncertain
from hybridq.index.attributes import NULL_KEY, Kind, float_key
from hybridq.index.ivf import Float32s, IndexSpec
from hybridq.nodes import Metric
from hybridq.storage.manifest import TableInfo

_VECTOR = re.compile(r"FLOAT\[\d*\]")
_EXACT_IN_FLOAT = 1 << 24
_EXACT_IN_DOUBLE = 1 << 53
_BEYOND = 1 << 63
_FLOAT = struct.Struct("f")
_NUMBERS = {float, int}
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def _integer(value: Any) -> int:
    if type(value) is int and -_BEYOND < value < _BEYOND:
        return value
    return _null(value)


def _unsigned(value: Any) -> int:
    if type(value) is int and 0 <= value < 2 * _BEYOND - 1:
        return value - _BEYOND + 1
    return _null(value)


def _boolean(value: Any) -> int:
    return int(value) if type(value) is bool else _null(value)


def _double(value: Any) -> int:
    if type(value) is int and -_EXACT_IN_DOUBLE <= value <= _EXACT_IN_DOUBLE:
        return float_key(float(value))
    return float_key(value) if type(value) is float else _null(value)


def _float(value: Any) -> int:
    if type(value) is int and -_EXACT_IN_FLOAT <= value <= _EXACT_IN_FLOAT:
        return float_key(float(value))
    if type(value) is not float:
        return _null(value)
    try:
        (held,) = _FLOAT.unpack(_FLOAT.pack(value))
    except OverflowError:
        raise Uncertain from None
    return float_key(held)


def _text_itself(value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is not str or "\0" in value:
        raise Uncertain
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Uncertain from None
    return value


def _null(value: Any) -> int:
    if value is not None:
        raise Uncertain
    return NULL_KEY


KeyOf: TypeAlias = Callable[[Any], int | str | None]
KEYS: Mapping[Kind, KeyOf] = {
    Kind.INTEGER: _integer,
    Kind.UBIGINT: _unsigned,
    Kind.BOOLEAN: _boolean,
    Kind.FLOAT: _float,
    Kind.DOUBLE: _double,
    Kind.TEXT: _text_itself,
}
"""The key of what a column of a kind will hold when given a value; Uncertain raised otherwise."""


def _uuid(value: Any) -> str:
    if type(value) is not uuid.UUID:
        raise Uncertain
    return str(value)


_FINDING = (Kind.INTEGER, Kind.UBIGINT, Kind.BOOLEAN, Kind.TEXT)
FOUND_BY: Mapping[Kind, KeyOf] = {**{kind: KEYS[kind] for kind in _FINDING}, Kind.UUID: _uuid}
"""The same for a column of the key that is compared with the value."""


def vector_of(value: Any, spec: IndexSpec) -> Float32s:
    """Return a vector that has a distance as the table will hold it; Uncertain raised otherwise."""
    dim = spec.dim
    if type(value) is list:
        kinds = set(map(type, value))
        if len(value) != dim or not kinds <= _NUMBERS:
            raise Uncertain
        if int in kinds and not -_EXACT_IN_DOUBLE <= min(value) <= max(value) <= _EXACT_IN_DOUBLE:
            raise Uncertain
        try:
            vector = np.frombuffer(struct.pack(f"{dim}f", *value), np.float32)
        except OverflowError:
            raise Uncertain from None
    elif isinstance(value, np.ndarray):
        if value.dtype not in _FLOATS or value.shape != (dim,):
            raise Uncertain
        with np.errstate(over="ignore"):
            vector = value.astype(np.float32)
    else:
        raise Uncertain
    # As bytes, for it is the same and reducing costs more.
    if 0 in np.isfinite(vector).tobytes():
        raise Uncertain
    if spec.metric is Metric.COSINE and not vector.any():
        raise Uncertain
    return vector


def is_vector(table: TableInfo, spec: IndexSpec) -> bool:
    """Tell whether the vectors of an index are in a column of floats: lists, or of fixed length."""
    column = table.column(spec.column)
    return column is not None and _VECTOR.fullmatch(column.type) is not None
