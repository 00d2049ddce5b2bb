"""Bound values: what a constant, a parameter or an expression means, and its exact number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from hybridq.conditions import Constant, Evaluated, LiteralKind, Operand, Parameter
from hybridq.index.iso import iso_date, iso_timestamp

EXACT_DOUBLE = 2**53
"""Up to here every integer is a DOUBLE."""

_UNREAD = object()
"""Stands for a typed constant whose text only DuckDB can read."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound value: a Python object, and whether it was a constant of the text."""

    value: Any
    literal: bool
    kind: LiteralKind | None = None


def bound_of(value: Operand, parameters: Mapping[str, Any]) -> Bound:
    """Resolve a constant or a parameter; what an expression gave stands under its text."""
    if isinstance(value, Parameter | Evaluated):
        given = parameters[value.name if isinstance(value, Parameter) else value.text]
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


def exact_number(bound: Bound) -> Fraction | None:
    """Return an integer or a decimal that DuckDB compares exactly with any column's."""
    value = bound.value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value) if abs(value) < 2**64 else None
    if isinstance(value, Decimal):
        # Of more digits, the common DECIMAL type may not hold the column's values.
        return Fraction(value) if unscaled(value) is not None else None
    return None


def unscaled(value: Decimal) -> tuple[int, int] | None:
    """Return (digits as an integer, scale) of a decimal of up to 18 digits."""
    if not value.is_finite():
        return None
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if exponent > 0 or len(digits) > 18 or -exponent > 18:
        return None
    number = int("".join(map(str, digits)))
    return (-number if sign else number), -exponent


def as_float(value: int | Decimal, *, single: bool) -> float | None:
    """Return DuckDB's cast to FLOAT or DOUBLE, where it rounds but once."""
    if isinstance(value, int):
        if abs(value) > EXACT_DOUBLE:
            return None
        return float(np.float32(value)) if single else float(value)
    parts = unscaled(value)
    if parts is None:
        return None
    number, scale = parts
    if single:
        if abs(number) > 2**24 or scale > 10:
            return None
        return float(np.float32(number) / np.float32(10**scale))
    return number / 10**scale if abs(number) <= EXACT_DOUBLE else None
