"""Scalar columns inside the index: values as order-preserving int64 keys, and back.

    value  --encode-->  key (int64)  --decode-->  value        NULL is the smallest int64

Keys keep DuckDB's order: NaN above infinity, -0.0 just below 0.0 and equal to it in comparisons,
text by its UTF-8 bytes through a sorted dictionary of the part, enums by their ordinal.
`leaves` turns comparisons into intervals of keys.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import re
import struct
import uuid
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa, pc
from hybridq.errors import DataError

Keys: TypeAlias = npt.NDArray[np.int64]

NULL_KEY = -(2**63)
MAX_KEY = 2**63 - 1
SHORT_TEXT_BYTES = 64
EPOCH = dt.date(1970, 1, 1)
EPOCH_TIME = dt.datetime(1970, 1, 1)


class Kind(enum.Enum):
    """How a SQL type becomes keys."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    UBIGINT = "ubigint"
    FLOAT = "float"
    DOUBLE = "double"
    DECIMAL = "decimal"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    TEXT = "text"
    UUID = "uuid"
    ENUM = "enum"


@dataclass(frozen=True, slots=True)
class AttributeType:
    """A SQL type that can be an attribute; `scale` of a DECIMAL, `labels` of an ENUM."""

    sql: str
    kind: Kind
    scale: int = 0
    labels: tuple[str, ...] = ()

    @property
    def has_dictionary(self) -> bool:
        """Tell whether keys are codes of a sorted dictionary kept beside them."""
        return self.kind in (Kind.TEXT, Kind.UUID)

    @property
    def covered(self) -> bool:
        """Tell whether rows can be answered from keys with the very objects DuckDB would give."""
        return self.kind is not Kind.TIMESTAMPTZ

    @property
    def identifies(self) -> bool:
        """Tell whether the type can be (part of) a key."""
        return self.kind not in (Kind.FLOAT, Kind.DOUBLE)


_PLAIN = {
    "BOOLEAN": Kind.BOOLEAN,
    "TINYINT": Kind.INTEGER,
    "SMALLINT": Kind.INTEGER,
    "INTEGER": Kind.INTEGER,
    "BIGINT": Kind.INTEGER,
    "UTINYINT": Kind.INTEGER,
    "USMALLINT": Kind.INTEGER,
    "UINTEGER": Kind.INTEGER,
    "UBIGINT": Kind.UBIGINT,
    "FLOAT": Kind.FLOAT,
    "DOUBLE": Kind.DOUBLE,
    "DATE": Kind.DATE,
    "TIME": Kind.TIME,
    "TIMESTAMP": Kind.TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": Kind.TIMESTAMPTZ,
    "VARCHAR": Kind.TEXT,
    "UUID": Kind.UUID,
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_LABEL = re.compile(r"'((?:[^']|'')*)'")


def attribute_type(sql_type: str) -> AttributeType | None:
    """Return how `sql_type` (as DuckDB prints it) is indexed, None if it is not."""
    kind = _PLAIN.get(sql_type)
    if kind is not None:
        return AttributeType(sql_type, kind)
    decimal = _DECIMAL.fullmatch(sql_type)
    if decimal and int(decimal[1]) <= 18:
        return AttributeType(sql_type, Kind.DECIMAL, scale=int(decimal[2]))
    if sql_type.startswith("ENUM("):
        labels = tuple(label.replace("''", "'") for label in _LABEL.findall(sql_type))
        return AttributeType(sql_type, Kind.ENUM, labels=labels)
    return None


# -- encode and decode -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Encoded:
    """Keys (n,) of one column, and the sorted distinct values behind codes where there are any."""

    keys: Keys
    dictionary: pa.Array | None


def reserved_value(kind: AttributeType) -> int | None:
    """Return the one value of BIGINT or UBIGINT that no key is left for: NULL has it."""
    return {"BIGINT": NULL_KEY, "UBIGINT": 2**64 - 1}.get(kind.sql)


def cannot_hold(kind: AttributeType) -> DataError:
    """Return the error for a column with its type's reserved value."""
    return DataError(
        f"a column of type {kind.sql} holds the value {reserved_value(kind)}, "
        "which a vector index cannot hold",
        hint="leave the column out with INCLUDE (…)",
    )


def encode(column: pa.ChunkedArray | pa.Array, kind: AttributeType) -> Encoded:
    """Encode one column; raises DataError for a reserved value."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if kind.has_dictionary:
        return _encode_dictionary(array)
    keys = _ENCODERS[kind.kind](array, kind)
    if array.null_count:
        keys = np.where(np.asarray(array.is_null()), NULL_KEY, keys)
    if (keys == NULL_KEY).sum() != array.null_count:
        raise cannot_hold(kind)
    return Encoded(np.ascontiguousarray(keys, dtype=np.int64), None)


def _integers(array: pa.Array, kind: AttributeType) -> Keys:
    whole = array.cast(pa.int64())
    return np.asarray(pc.fill_null(whole, 0) if array.null_count else whole)


def _booleans(array: pa.Array, kind: AttributeType) -> Keys:
    return np.asarray(pc.fill_null(array.cast(pa.int8()), 0)).astype(np.int64)


def _unsigned(array: pa.Array, kind: AttributeType) -> Keys:
    values = np.asarray(pc.fill_null(array, 0)).astype(np.uint64)
    if values.size and values.max() == np.uint64(2**64 - 1):
        raise cannot_hold(kind)
    shifted = values ^ np.uint64(2**63)
    return shifted.view(np.int64) + 1


def float_keys(values: npt.NDArray[np.float64]) -> Keys:
    """Map doubles to keys in DuckDB's order: -inf … -0.0 < 0.0 … inf < NaN."""
    canonical = np.where(np.isnan(values), np.nan, values)
    bits = np.ascontiguousarray(canonical).view(np.int64)
    return np.where(bits >= 0, bits, bits ^ np.int64(MAX_KEY))


def _doubles(array: pa.Array, kind: AttributeType) -> Keys:
    return float_keys(np.asarray(pc.fill_null(array.cast(pa.float64()), 0.0)))


def _decimals(array: pa.Array, kind: AttributeType) -> Keys:
    wide = pc.fill_null(array.cast(pa.decimal128(38, kind.scale)), Decimal(0))
    raw = np.frombuffer(wide.buffers()[1], dtype=np.int64)
    start = wide.offset * 2
    return raw[start : start + 2 * len(wide) : 2].copy()


def _dates(array: pa.Array, kind: AttributeType) -> Keys:
    return np.asarray(pc.fill_null(array.cast(pa.date32()).cast(pa.int32()), 0)).astype(np.int64)


def _times(array: pa.Array, kind: AttributeType) -> Keys:
    return np.asarray(pc.fill_null(array.cast(pa.time64("us")).cast(pa.int64()), 0))


def _timestamps(array: pa.Array, kind: AttributeType) -> Keys:
    return np.asarray(pc.fill_null(array.cast(pa.int64()), 0))


def _enums(array: pa.Array, kind: AttributeType) -> Keys:
    values = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    codes = pc.index_in(values, value_set=pa.array(kind.labels, pa.string()))
    return np.asarray(pc.fill_null(codes, 0)).astype(np.int64)


_ENCODERS: dict[Kind, Callable[[pa.Array, AttributeType], Keys]] = {
    Kind.BOOLEAN: _booleans,
    Kind.INTEGER: _integers,
    Kind.UBIGINT: _unsigned,
    Kind.FLOAT: _doubles,
    Kind.DOUBLE: _doubles,
    Kind.DECIMAL: _decimals,
    Kind.DATE: _dates,
    Kind.TIME: _times,
    Kind.TIMESTAMP: _timestamps,
    Kind.TIMESTAMPTZ: _timestamps,
    Kind.ENUM: _enums,
}


def _encode_dictionary(array: pa.Array) -> Encoded:
    text = array.cast(pa.large_string())
    distinct = pc.drop_null(pc.unique(text))
    # Arrow sorts strings by their bytes, as DuckDB's binary collation does.
    dictionary = distinct.take(pc.array_sort_indices(distinct))
    codes = pc.index_in(text, value_set=dictionary)
    keys = np.asarray(pc.fill_null(codes.cast(pa.int64()), NULL_KEY))
    return Encoded(np.ascontiguousarray(keys), dictionary)


_DOUBLE, _BITS = struct.Struct("<d"), struct.Struct("<q")

_FEW = 4

PLAIN = (Kind.INTEGER, Kind.UBIGINT, Kind.BOOLEAN, Kind.FLOAT, Kind.DOUBLE, Kind.TEXT)
"""Kinds whose values Python's objects hold without loss."""


def plain_keys_of(values: list[Any], kind: AttributeType) -> tuple[Keys, pa.Array | None]:
    """Return the keys and the dictionary of a few values, as `encode` would, of a PLAIN kind.

    Reserved values must have been refused.
    """
    match kind.kind:
        case Kind.INTEGER | Kind.BOOLEAN:
            return np.array([NULL_KEY if v is None else v for v in values], np.int64), None
        case Kind.UBIGINT:
            return np.array([NULL_KEY if v is None else v - 2**63 + 1 for v in values]), None
        case Kind.TEXT:
            distinct = sorted({v for v in values if v is not None}, key=str.encode)
            places = {v: i for i, v in enumerate(distinct)}
            keys = [NULL_KEY if v is None else places[v] for v in values]
            return np.array(keys, np.int64), pa.array(distinct, pa.large_string())
        case _:
            numbers = float_keys(np.array([0.0 if v is None else v for v in values], np.float64))
            null = np.array([v is None for v in values], np.bool_)
            return np.where(null, NULL_KEY, numbers), None


def plain_key_of(value: Any, kind: AttributeType) -> int:
    """Return the key of one value as `plain_keys_of` would, of a kind without a dictionary."""
    if value is None:
        return NULL_KEY
    match kind.kind:
        case Kind.INTEGER | Kind.BOOLEAN:
            return int(value)
        case Kind.UBIGINT:
            return int(value) - 2**63 + 1
        case _:
            return float_key(value)


def float_key(value: float) -> int:
    """Return the key of a double, as `float_keys` does of many."""
    bits: int
    (bits,) = _BITS.unpack(_DOUBLE.pack(value if value == value else math.nan))
    return bits if bits >= 0 else bits ^ MAX_KEY


def find_codes(values: pa.Array, dictionary: pa.Array) -> Keys:
    """Return the codes of text `values` in another part's dictionary, -1 where absent."""
    if len(values) <= _FEW:  # to go through the dictionary takes longer
        texts = values.cast(pa.large_string()).to_pylist()
        return np.array([_find_code(text, dictionary) for text in texts], np.int64)
    codes = pc.index_in(values.cast(pa.large_string()), value_set=dictionary)
    return np.asarray(pc.fill_null(codes.cast(pa.int64()), -1))


def _find_code(value: str | None, dictionary: pa.Array) -> int:
    if value is None:
        return -1
    wanted = value.encode()
    at = bisect_left(range(len(dictionary)), wanted, key=lambda i: dictionary[i].as_py().encode())
    return at if at < len(dictionary) and dictionary[at].as_py() == value else -1


def decode(keys: Keys, kind: AttributeType, dictionary: pa.Array | None) -> list[Any]:
    """Return what DuckDB's client gives for these keys; OverflowError past Python's dates."""
    match kind.kind:
        case Kind.INTEGER:
            found: list[Any] = keys.tolist()
            return [None if k == NULL_KEY else k for k in found] if NULL_KEY in found else found
        case Kind.BOOLEAN:
            return [None if k == NULL_KEY else k == 1 for k in keys.tolist()]
        case Kind.UBIGINT:
            return [None if k == NULL_KEY else k - 1 + 2**63 for k in keys.tolist()]
        case Kind.FLOAT | Kind.DOUBLE:
            if min(keys.tolist(), default=0) >= 0:
                positive: list[Any] = np.ascontiguousarray(keys).view(np.float64).tolist()
                return positive
            bits = np.where(keys >= 0, keys, keys ^ np.int64(MAX_KEY))
            values = np.ascontiguousarray(bits).view(np.float64).tolist()
            return _with_nulls(values, keys)
        case Kind.DECIMAL:
            exponent = -kind.scale
            return [None if k == NULL_KEY else Decimal(k).scaleb(exponent) for k in keys.tolist()]
        case Kind.DATE:
            return [None if k == NULL_KEY else EPOCH + dt.timedelta(days=k) for k in keys.tolist()]
        case Kind.TIME:
            return [None if k == NULL_KEY else _time(k) for k in keys.tolist()]
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return [
                None if k == NULL_KEY else EPOCH_TIME + dt.timedelta(microseconds=k)
                for k in keys.tolist()
            ]
        case Kind.TEXT | Kind.UUID:
            return _decode_dictionary(keys, kind, dictionary)
        case Kind.ENUM:
            return [None if k == NULL_KEY else kind.labels[k] for k in keys.tolist()]


def _with_nulls(values: list[Any], keys: Keys) -> list[Any]:
    if not (keys == NULL_KEY).any():
        return values
    return [None if k == NULL_KEY else v for v, k in zip(values, keys.tolist(), strict=True)]


def _time(microseconds: int) -> dt.time:
    return (EPOCH_TIME + dt.timedelta(microseconds=microseconds)).time()


def _decode_dictionary(keys: Keys, kind: AttributeType, dictionary: pa.Array | None) -> list[Any]:
    assert dictionary is not None
    out: list[Any] = []
    for key in keys.tolist():
        if key == NULL_KEY:
            out.append(None)
        else:
            text = dictionary[key].as_py()
            out.append(uuid.UUID(text) if kind.kind is Kind.UUID else text)
    return out
