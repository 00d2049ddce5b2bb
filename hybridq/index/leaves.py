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
from typing import Any

import numpy as np

from hybridq.arrow import pa
from hybridq.conditions import Between, Compare, InList, IsNull, Leaf, Operand, Truth
from hybridq.index.attributes import (
    EPOCH,
    EPOCH_TIME,
    NULL_KEY,
    AttributeType,
    Kind,
    float_keys,
)
from hybridq.index.bounds import EXACT_DOUBLE, Bound, as_float, bound_of, exact_number
from hybridq.index.intervals import (
    ALL,
    Interval,
    around,
    complement,
    from_points,
    intersect,
    union,
)
from hybridq.index.iso import iso_date, iso_time, iso_timestamp

_MICROSECONDS = dt.timedelta(microseconds=1)


def intervals(
    leaf: Leaf,
    kind: AttributeType,
    dictionary: pa.Array | None,
    parameters: Mapping[str, Any],
    truth: Truth = Truth.TRUE,
) -> list[Interval] | None:
    """Return the keys for which `leaf` is `truth`; None if DuckDB must decide."""
    match truth:
        case Truth.TRUE:
            return _true(leaf, kind, dictionary, parameters)
        case Truth.FALSE:
            return _false(leaf, kind, dictionary, parameters)
        case Truth.NOT_TRUE:
            found = _true(leaf, kind, dictionary, parameters)
        case Truth.NOT_FALSE:
            found = _false(leaf, kind, dictionary, parameters)
    return None if found is None else complement(found)


def _true(
    leaf: Leaf, kind: AttributeType, dictionary: pa.Array | None, parameters: Mapping[str, Any]
) -> list[Interval] | None:
    domain = _Domain(kind, dictionary)
    match leaf:
        case IsNull(_, negated):
            return list(ALL) if negated else [(NULL_KEY, NULL_KEY)]
        case Compare(_, "is" | "is not" as op, value):
            bound = bound_of(value, parameters)
            equal = [(NULL_KEY, NULL_KEY)] if bound.value is None else domain.compare("=", bound)
            return equal if equal is None or op == "is" else complement(equal)
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


def _false(
    leaf: Leaf, kind: AttributeType, dictionary: pa.Array | None, parameters: Mapping[str, Any]
) -> list[Interval] | None:
    """Return the keys for which `leaf` is false: neither true nor NULL."""
    match leaf:
        case Between(_, low, high):
            # One bound decides even where the other is NULL.
            bounds = [bound_of(low, parameters), bound_of(high, parameters)]
            domain = _Domain(kind, dictionary)
            below, above = domain.compare("<", bounds[0]), domain.compare(">", bounds[1])
            if below is None or above is None or not _of_one_type(bounds, kind):
                return None
            return union([*below, *above])
        case Compare(_, "is" | "is not") | IsNull():
            found = _true(leaf, kind, dictionary, parameters)
            return None if found is None else complement(found)
        case Compare(value=value):
            values: tuple[Operand, ...] = (value,)
        case InList(values=values):
            pass
    found = _true(leaf, kind, dictionary, parameters)
    if found is None or any(bound_of(value, parameters).value is None for value in values):
        return None if found is None else []
    return intersect(ALL, complement(found))


def _of_one_type(bounds: Sequence[Bound], kind: AttributeType) -> bool:
    """Tell whether the values are of one type; DuckDB compares mixed ones in a common type."""
    present = [b for b in bounds if b.value is not None]
    types = {type(b.value) for b in present}
    if types == {str} and kind.kind is not Kind.TEXT:
        # A string constant becomes the column's type, a string parameter stays VARCHAR.
        return len({b.literal for b in present}) == 1
    return len(types) <= 1


@dataclass(frozen=True, slots=True)
class _Domain:
    kind: AttributeType
    dictionary: pa.Array | None

    def compare(self, op: str, bound: Bound) -> list[Interval] | None:
        if bound.value is None:
            return []
        if op == "like" and self.kind.kind is not Kind.TEXT:
            return None
        match self.kind.kind:
            case Kind.BOOLEAN:
                if isinstance(bound.value, bool):
                    return from_points(op, int(bound.value), int(bound.value))
                return None
            case Kind.INTEGER | Kind.UBIGINT:
                return self._integer(op, bound)
            case Kind.DECIMAL:
                exact = exact_number(bound)
                return None if exact is None else around(op, exact * 10**self.kind.scale)
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
            usable = math.isfinite(value) and abs(value) < EXACT_DOUBLE
            exact = Fraction(value) if usable else None
        else:
            exact = exact_number(bound)
        if exact is None:
            return None
        if self.kind.kind is Kind.UBIGINT:
            exact = exact - 2**63 + 1
        return around(op, exact)

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
            cast = as_float(value, single=self.kind.kind is Kind.FLOAT)
            if cast is None:
                return None
            number = cast
        else:
            return None
        low = high = int(float_keys(np.array([number]))[0])
        if number == 0.0:
            low, high = -1, 0
        return from_points(op, low, high)

    def _date(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, str):
            value = iso_date(value)
        if isinstance(value, dt.datetime):
            if value.tzinfo is not None:
                return None
            return around(op, Fraction((value - EPOCH_TIME) // _MICROSECONDS, 86_400_000_000))
        if isinstance(value, dt.date):
            return around(op, Fraction((value - EPOCH).days))
        return None

    def _time(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, str):
            value = iso_time(value)
        if not isinstance(value, dt.time) or value.tzinfo is not None:
            return None
        moment = dt.datetime.combine(EPOCH, value)
        return around(op, Fraction((moment - EPOCH_TIME) // _MICROSECONDS))

    def _timestamp(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if isinstance(value, str):
            value = iso_timestamp(value)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            value = dt.datetime.combine(value, dt.time())
        if not isinstance(value, dt.datetime) or value.tzinfo is not None:
            return None
        return around(op, Fraction((value - EPOCH_TIME) // _MICROSECONDS))

    def _timestamptz(self, op: str, bound: Bound) -> list[Interval] | None:
        value = bound.value
        if not isinstance(value, dt.datetime) or value.tzinfo is None:
            return None
        moment = value.astimezone(dt.UTC).replace(tzinfo=None)
        return around(op, Fraction((moment - EPOCH_TIME) // _MICROSECONDS))

    def _text(self, op: str, value: str) -> list[Interval] | None:
        assert self.dictionary is not None
        words = _Words(self.dictionary)
        raw = value.encode()
        if op == "like":
            return _like(words, raw)
        first = bisect.bisect_left(words, raw)
        present = first < len(words) and words[first] == raw
        return from_points(op, first, first if present else first - 1)

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


def _like(words: _Words, pattern: bytes) -> list[Interval] | None:
    """Return the words with a prefix, or the one word: patterns that no other wildcard is in."""
    fixed = pattern.rstrip(b"%")
    if any(wildcard in fixed for wildcard in (b"%", b"_", b"\\")):
        return None
    first = bisect.bisect_left(words, fixed)
    # No UTF-8 text has the byte 0xff; nothing but a word itself lies before it and a zero.
    after = fixed + (b"\0" if fixed == pattern else b"\xff")
    return from_points("=", first, bisect.bisect_left(words, after, first) - 1)


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
