"""Scalar columns inside the index: values as order-preserving int64 keys, and back.

    value  --encode-->  key (int64)        NULL is the smallest int64
    leaf   --intervals-->  [(low, high)]   closed intervals of keys, one program leaf

Keys keep DuckDB's order: NaN above infinity, -0.0 just below 0.0 and equal to it in comparisons,
text by its UTF-8 bytes through a sorted dictionary of the part, enums by their ordinal.
A leaf whose types DuckDB would not compare in this order yields None: DuckDB evaluates it then.
"""

from __future__ import annotations

import bisect
import datetime as dt
import enum
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hybridq.errors import DataError
from hybridq.nodes import (
    Between,
    Compare,
    Constant,
    InList,
    IsNull,
    Leaf,
    LiteralKind,
    Parameter,
    Value,
)

Keys: TypeAlias = npt.NDArray[np.int64]
Interval: TypeAlias = tuple[int, int]

NULL_KEY = -(2**63)
MIN_KEY = NULL_KEY + 1
MAX_KEY = 2**63 - 1
ALL: list[Interval] = [(MIN_KEY, MAX_KEY)]
SHORT_TEXT_BYTES = 64
_EXACT_DOUBLE = 2**53
_EPOCH = dt.date(1970, 1, 1)
_EPOCH_TIME = dt.datetime(1970, 1, 1)
_MICROSECONDS = dt.timedelta(microseconds=1)


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


# -- encode and decode ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Encoded:
    """Keys (n,) of one column, and the sorted distinct values behind codes where there are any."""

    keys: Keys
    dictionary: pa.Array | None


def encode(column: pa.ChunkedArray | pa.Array, kind: AttributeType) -> Encoded:
    """Encode one column; raises DataError for the one BIGINT that is reserved for NULL."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if kind.has_dictionary:
        return _encode_dictionary(array)
    nulls = np.asarray(array.is_null())
    keys = _ENCODERS[kind.kind](array, kind)
    if nulls.any():
        keys = np.where(nulls, NULL_KEY, keys)
    if (keys == NULL_KEY).sum() != nulls.sum():
        raise DataError(
            f"a column of type {kind.sql} holds the value {NULL_KEY}, which the index reserves",
            hint="leave the column out with INCLUDE (…)",
        )
    return Encoded(np.ascontiguousarray(keys, dtype=np.int64), None)


def _integers(array: pa.Array, kind: AttributeType) -> Keys:
    filled = pc.fill_null(array.cast(pa.int64()), 0)
    return np.asarray(filled)


def _booleans(array: pa.Array, kind: AttributeType) -> Keys:
    return np.asarray(pc.fill_null(array.cast(pa.int8()), 0)).astype(np.int64)


def _unsigned(array: pa.Array, kind: AttributeType) -> Keys:
    values = np.asarray(pc.fill_null(array, 0)).astype(np.uint64)
    if values.size and values.max() == np.uint64(2**64 - 1):
        raise DataError(
            f"a column of type {kind.sql} holds {2**64 - 1}, which the index cannot hold",
            hint="leave the column out with INCLUDE (…)",
        )
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


def find_codes(values: pa.Array, dictionary: pa.Array) -> Keys:
    """Return the codes of text `values` in another part's dictionary, -1 where absent."""
    codes = pc.index_in(values.cast(pa.large_string()), value_set=dictionary)
    return np.asarray(pc.fill_null(codes.cast(pa.int64()), -1))


def decode(keys: Keys, kind: AttributeType, dictionary: pa.Array | None) -> list[Any]:
    """Return the Python objects DuckDB's client gives for these keys; OverflowError past Python's dates."""
    match kind.kind:
        case Kind.INTEGER:
            return [None if k == NULL_KEY else k for k in keys.tolist()]
        case Kind.BOOLEAN:
            return [None if k == NULL_KEY else k == 1 for k in keys.tolist()]
        case Kind.UBIGINT:
            return [None if k == NULL_KEY else k - 1 + 2**63 for k in keys.tolist()]
        case Kind.FLOAT | Kind.DOUBLE:
            bits = np.where(keys >= 0, keys, keys ^ np.int64(MAX_KEY))
            values = np.ascontiguousarray(bits).view(np.float64).tolist()
            return _with_nulls(values, keys)
        case Kind.DECIMAL:
            exponent = -kind.scale
            return [None if k == NULL_KEY else Decimal(k).scaleb(exponent) for k in keys.tolist()]
        case Kind.DATE:
            return [None if k == NULL_KEY else _EPOCH + dt.timedelta(days=k) for k in keys.tolist()]
        case Kind.TIME:
            return [None if k == NULL_KEY else _time(k) for k in keys.tolist()]
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return [
                None if k == NULL_KEY else _EPOCH_TIME + dt.timedelta(microseconds=k)
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
    return (_EPOCH_TIME + dt.timedelta(microseconds=microseconds)).time()


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


# -- leaves to intervals ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound value: a Python object and how it came (`literal` True for a constant of the text)."""

    value: Any
    literal: bool
    kind: LiteralKind | None = None


def bound_of(value: Value, parameters: Mapping[str, Any]) -> Bound:
    """Resolve a constant or a parameter."""
    if isinstance(value, Parameter):
        given = parameters[value.name]
        return Bound(given.item() if isinstance(given, np.generic) else given, literal=False)
    return Bound(_constant(value), literal=True, kind=value.kind)


def _constant(constant: Constant) -> Any:
    match constant.kind:
        case LiteralKind.INTEGER:
            return int(constant.text)
        case LiteralKind.DECIMAL:
            return Decimal(constant.text)
        case LiteralKind.BOOLEAN:
            return constant.text == "true"
        case LiteralKind.NULL:
            return None
        case LiteralKind.DATE:
            return _iso_date(constant.text) or constant.text
        case LiteralKind.TIMESTAMP:
            return _iso_timestamp(constant.text) or constant.text
        case LiteralKind.STRING:
            return constant.text


def intervals(
    leaf: Leaf,
    kind: AttributeType,
    dictionary: pa.Array | None,
    parameters: Mapping[str, Any],
) -> list[Interval] | None:
    """Return the keys that satisfy `leaf`, ascending and disjoint; None if DuckDB must decide."""
    domain = _Domain(kind, dictionary)
    match leaf:
        case IsNull(_, negated):
            return list(ALL) if negated else [(NULL_KEY, NULL_KEY)]
        case Compare(_, op, value):
            return domain.compare(op, bound_of(value, parameters))
        case Between(_, low, high):
            above = domain.compare(">=", bound_of(low, parameters))
            below = domain.compare("<=", bound_of(high, parameters))
            return None if above is None or below is None else intersect(above, below)
        case InList(_, values):
            found: list[Interval] = []
            for value in values:
                equal = domain.compare("=", bound_of(value, parameters))
                if equal is None:
                    return None
                found.extend(equal)
            return union(found)


def union(parts: Sequence[Interval]) -> list[Interval]:
    """Merge intervals into ascending disjoint ones."""
    merged: list[Interval] = []
    for low, high in sorted(parts):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def intersect(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """Return the common part of two interval lists."""
    return union(
        [(max(a, c), min(b, d)) for a, b in left for c, d in right if max(a, c) <= min(b, d)]
    )


def _clip(low: int, high: int) -> list[Interval]:
    low, high = max(low, MIN_KEY), min(high, MAX_KEY)
    return [(low, high)] if low <= high else []


def _from_points(op: str, first: int, last: int) -> list[Interval]:
    """Intervals of `op` where the keys first…last (possibly none: last = first - 1) are equal."""
    match op:
        case "=":
            return _clip(first, last)
        case "<>":
            return _clip(MIN_KEY, first - 1) + _clip(last + 1, MAX_KEY)
        case "<":
            return _clip(MIN_KEY, first - 1)
        case "<=":
            return _clip(MIN_KEY, last)
        case ">":
            return _clip(last + 1, MAX_KEY)
        case _:
            return _clip(first, MAX_KEY)


def _around(op: str, exact: Fraction) -> list[Interval]:
    """Intervals over integers for a comparison with a possibly fractional value."""
    floor = math.floor(exact)
    return _from_points(op, math.ceil(exact), floor)


@dataclass(frozen=True, slots=True)
class _Domain:
    kind: AttributeType
    dictionary: pa.Array | None

    def compare(self, op: str, bound: Bound) -> list[Interval] | None:
        if bound.value is None:
            return []
        match self.kind.kind:
            case Kind.BOOLEAN:
                if isinstance(bound.value, bool):
                    return _from_points(op, int(bound.value), int(bound.value))
                return None
            case Kind.INTEGER | Kind.UBIGINT:
                return self._integer(op, bound)
            case Kind.DECIMAL:
                exact = _exact_number(bound)
                return None if exact is None else _around(op, exact * 10**self.kind.scale)
            case Kind.FLOAT | Kind.DOUBLE:
                return self._floating(op, bound)
            case Kind.DATE:
                return self._date(op, bound)
            case Kind.TIME:
                return self._time(op, bound)
            case Kind.TIMESTAMP:
                return self._timestamp(op, bound)
            case Kind.TIMESTAMPTZ:
                return self._timestamptz(op, bound)
            case Kind.TEXT:
                return self._text(op, bound.value) if isinstance(bound.value, str) else None
            case Kind.UUID:
                return self._uuid(op, bound.value)
            case Kind.ENUM:
                return self._enum(op, bound.value)

    def _integer(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        exact: Fraction | None
        if isinstance(value, float):
            # DuckDB compares as DOUBLE, which is exact only where every integer is one.
            usable = math.isfinite(value) and abs(value) < _EXACT_DOUBLE
            exact = Fraction(value) if usable else None
        else:
            exact = _exact_number(bound)
        if exact is None:
            return None
        if self.kind.kind is Kind.UBIGINT:
            exact = exact - 2**63 + 1
        return _around(op, exact)

    def _floating(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return None
        try:
            number = float(value)
        except OverflowError:
            return None
        if self.kind.kind is Kind.FLOAT and not isinstance(value, float):
            # DuckDB rounds an integer or a decimal to FLOAT before it compares with a FLOAT.
            with np.errstate(over="ignore"):
                number = float(np.float32(number))
            if math.isinf(number):
                return None
        low = high = int(float_keys(np.array([number]))[0])
        if number == 0.0:
            low, high = -1, 0
        return _from_points(op, low, high)

    def _date(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, str):
            value = _iso_date(value)
        if isinstance(value, dt.datetime):
            if value.tzinfo is not None:
                return None
            return _around(op, Fraction((value - _EPOCH_TIME) // _MICROSECONDS, 86_400_000_000))
        if isinstance(value, dt.date):
            return _around(op, Fraction((value - _EPOCH).days))
        return None

    def _time(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, str):
            value = _iso_time(value)
        if not isinstance(value, dt.time) or value.tzinfo is not None:
            return None
        moment = dt.datetime.combine(_EPOCH, value)
        return _around(op, Fraction((moment - _EPOCH_TIME) // _MICROSECONDS))

    def _timestamp(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, str):
            value = _iso_timestamp(value)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            value = dt.datetime.combine(value, dt.time())
        if not isinstance(value, dt.datetime) or value.tzinfo is not None:
            return None
        return _around(op, Fraction((value - _EPOCH_TIME) // _MICROSECONDS))

    def _timestamptz(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if not isinstance(value, dt.datetime) or value.tzinfo is None:
            return None
        moment = value.astimezone(dt.UTC).replace(tzinfo=None)
        return _around(op, Fraction((moment - _EPOCH_TIME) // _MICROSECONDS))

    def _text(self, op: str, value: str) -> list[Interval]:
        assert self.dictionary is not None
        words = _Words(self.dictionary)
        raw = value.encode()
        first = bisect.bisect_left(words, raw)
        present = first < len(words) and words[first] == raw
        return _from_points(op, first, first if present else first - 1)

    def _uuid(self, op: str, value: Any) -> list[Interval] | None:
        if isinstance(value, str):
            try:
                value = uuid.UUID(value)
            except ValueError:
                return None
        return self._text(op, str(value)) if isinstance(value, uuid.UUID) else None

    def _enum(self, op: str, value: Any) -> list[Interval] | None:
        # DuckDB compares an enum with a string as text.
        if not isinstance(value, str):
            return None
        raw = value.encode()
        holds = _HOLDS[op]
        return union(
            [(i, i) for i, label in enumerate(self.kind.labels) if holds(label.encode(), raw)]
        )


_HOLDS: dict[str, Callable[[bytes, bytes], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class _Words(Sequence[bytes]):
    """A dictionary as a sequence of UTF-8 bytes, for bisection."""

    def __init__(self, dictionary: pa.Array) -> None:
        self.dictionary = dictionary

    def __len__(self) -> int:
        return len(self.dictionary)

    def __getitem__(self, index: Any) -> Any:
        word: bytes = self.dictionary[index].as_py().encode()
        return word


def _exact_number(bound: Bound) -> Fraction | None:
    value = bound.value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, Decimal):
        return Fraction(value) if value.is_finite() else None
    if isinstance(value, str) and bound.literal and re.fullmatch(r"-?\d{1,18}", value):
        return Fraction(int(value))
    return None


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?)?")
_TIME = re.compile(r"\d{2}:\d{2}:\d{2}(\.\d{1,6})?")


def _iso_date(text: str) -> dt.date | None:
    return _parse(dt.date.fromisoformat, text) if _DATE.fullmatch(text) else None


def _iso_timestamp(text: str) -> dt.datetime | None:
    return _parse(dt.datetime.fromisoformat, text) if _TIMESTAMP.fullmatch(text) else None


def _iso_time(text: str) -> dt.time | None:
    return _parse(dt.time.fromisoformat, text) if _TIME.fullmatch(text) else None


def _parse(parser: Callable[[str], Any], text: str) -> Any:
    try:
        return parser(text)
    except (ValueError, InvalidOperation):
        return None
