"""Leaves of a WHERE as intervals of keys: `price < 10` on a DECIMAL(6,2) is (-inf, 999].

A leaf whose types DuckDB would not compare in the keys' order yields None: DuckDB evaluates it.
"""

from __future__ import annotations

import bisect
import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from hybridq.index.attributes import (
    EPOCH,
    EPOCH_TIME,
    MAX_KEY,
    NULL_KEY,
    AttributeType,
    Kind,
    float_keys,
)
from hybridq.index.iso import iso_date, iso_time, iso_timestamp
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

Interval: TypeAlias = tuple[int, int]

MIN_KEY = NULL_KEY + 1
ALL: list[Interval] = [(MIN_KEY, MAX_KEY)]
_EXACT_DOUBLE = 2**53
_MICROSECONDS = dt.timedelta(microseconds=1)
_UNREAD = object()
"""Stands for a typed constant whose text only DuckDB can read."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound value: a Python object, and whether it was a constant of the text."""

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
            # With an exponent it is a DOUBLE to DuckDB.
            exponent = "e" in constant.text.lower()
            return float(constant.text) if exponent else Decimal(constant.text)
        case LiteralKind.BOOLEAN:
            return constant.text == "true"
        case LiteralKind.NULL:
            return None
        case LiteralKind.DATE:
            return iso_date(constant.text) or _UNREAD
        case LiteralKind.TIMESTAMP:
            return iso_timestamp(constant.text) or _UNREAD
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
            bounds = [bound_of(low, parameters), bound_of(high, parameters)]
            if not _of_one_type(bounds, kind):
                return None
            above = domain.compare(">=", bounds[0])
            below = domain.compare("<=", bounds[1])
            return None if above is None or below is None else intersect(above, below)
        case InList(_, values):
            bounds = [bound_of(value, parameters) for value in values]
            if not _of_one_type(bounds, kind):
                return None
            found: list[Interval] = []
            for bound in bounds:
                equal = domain.compare("=", bound)
                if equal is None:
                    return None
                found.extend(equal)
            return union(found)


def _of_one_type(bounds: Sequence[Bound], kind: AttributeType) -> bool:
    """Tell whether the values are of one type; DuckDB compares mixed ones in a common type."""
    present = [b for b in bounds if b.value is not None]
    types = {type(b.value) for b in present}
    if types == {str} and kind.kind is not Kind.TEXT:
        # A string constant becomes the column's type, a string parameter stays VARCHAR.
        return len({b.literal for b in present}) == 1
    return len(types) <= 1


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
        if isinstance(value, str):
            exact = self._integer_text(bound)
        elif isinstance(value, float):
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

    def _integer_text(self, bound: Bound) -> Fraction | None:
        """Read a string constant as DuckDB casts it to the column's type, which must hold it."""
        text = bound.value
        low, high = _RANGES[self.kind.sql]
        if bound.literal and re.fullmatch(r"-?[0-9]{1,18}", text) and low <= int(text) <= high:
            return Fraction(int(text))
        return None

    def _floating(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, float):
            number = value
        elif isinstance(value, int | Decimal) and not isinstance(value, bool):
            # DuckDB casts the constant to the column's type before it compares.
            cast = _as_float(value, single=self.kind.kind is Kind.FLOAT)
            if cast is None:
                return None
            number = cast
        else:
            return None
        low = high = int(float_keys(np.array([number]))[0])
        if number == 0.0:
            low, high = -1, 0
        return _from_points(op, low, high)

    def _date(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, str):
            value = iso_date(value)
        if isinstance(value, dt.datetime):
            if value.tzinfo is not None:
                return None
            return _around(op, Fraction((value - EPOCH_TIME) // _MICROSECONDS, 86_400_000_000))
        if isinstance(value, dt.date):
            return _around(op, Fraction((value - EPOCH).days))
        return None

    def _time(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, str):
            value = iso_time(value)
        if not isinstance(value, dt.time) or value.tzinfo is not None:
            return None
        moment = dt.datetime.combine(EPOCH, value)
        return _around(op, Fraction((moment - EPOCH_TIME) // _MICROSECONDS))

    def _timestamp(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, str):
            value = iso_timestamp(value)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            value = dt.datetime.combine(value, dt.time())
        if not isinstance(value, dt.datetime) or value.tzinfo is not None:
            return None
        return _around(op, Fraction((value - EPOCH_TIME) // _MICROSECONDS))

    def _timestamptz(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if not isinstance(value, dt.datetime) or value.tzinfo is None:
            return None
        moment = value.astimezone(dt.UTC).replace(tzinfo=None)
        return _around(op, Fraction((moment - EPOCH_TIME) // _MICROSECONDS))

    def _text(self, op: str, value: str) -> list[Interval]:
        assert self.dictionary is not None
        words = _Words(self.dictionary)
        raw = value.encode()
        first = bisect.bisect_left(words, raw)
        present = first < len(words) and words[first] == raw
        return _from_points(op, first, first if present else first - 1)

    def _uuid(self, op: str, value: Any) -> list[Interval] | None:
        if isinstance(value, str):
            # DuckDB refuses some spellings that Python reads.
            if not _UUID.fullmatch(value):
                return None
            value = uuid.UUID(value)
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
    """Return an integer or a decimal that DuckDB compares exactly with any column's."""
    value = bound.value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value) if abs(value) < 2**64 else None
    if isinstance(value, Decimal):
        # Of more digits, the common DECIMAL type may not hold the column's values.
        return Fraction(value) if _unscaled(value) is not None else None
    return None


def _unscaled(value: Decimal) -> tuple[int, int] | None:
    """Return (digits as an integer, scale) of a decimal of up to 18 digits."""
    if not value.is_finite():
        return None
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if exponent > 0 or len(digits) > 18 or -exponent > 18:
        return None
    number = int("".join(map(str, digits)))
    return (-number if sign else number), -exponent


def _as_float(value: int | Decimal, *, single: bool) -> float | None:
    """Return DuckDB's cast to FLOAT or DOUBLE, where it rounds but once."""
    if isinstance(value, int):
        if abs(value) > _EXACT_DOUBLE:
            return None
        return float(np.float32(value)) if single else float(value)
    parts = _unscaled(value)
    if parts is None:
        return None
    number, scale = parts
    if single:
        if abs(number) > 2**24 or scale > 10:
            return None
        return float(np.float32(number) / np.float32(10**scale))
    return number / 10**scale if abs(number) <= _EXACT_DOUBLE else None


_RANGES = {
    "TINYINT": (-(2**7), 2**7 - 1),
    "SMALLINT": (-(2**15), 2**15 - 1),
    "INTEGER": (-(2**31), 2**31 - 1),
    "BIGINT": (-(2**63), 2**63 - 1),
    "UTINYINT": (0, 2**8 - 1),
    "USMALLINT": (0, 2**16 - 1),
    "UINTEGER": (0, 2**32 - 1),
    "UBIGINT": (0, 2**64 - 1),
}
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
