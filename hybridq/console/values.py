"""How one value looks: shortened in tables, whole in CSV and JSON.

Text of values is spelled so that DuckDB reads it back with a cast to the column's type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from hybridq.console.images import sniff
from hybridq.console.messages import counted

_NUMERIC = re.compile(
    r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|BIGNUM|FLOAT|REAL|DOUBLE|DECIMAL(\(.*\))?)", re.ASCII
)
_FLOATS = re.compile(r"(FLOAT|REAL|DOUBLE)\[\d*\]")
_ESCAPED = re.compile(r"['\\]")
_VECTOR_SHOWN = 2
_VECTOR_WHOLE = 4
_HEX_BYTES = 12
_PLAIN_BYTES = frozenset(range(32, 127)) - {0x22, 0x27, 0x5C}
_BYTE_TEXT = [chr(b) if b in _PLAIN_BYTES else f"\\x{b:02X}" for b in range(256)]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result; `type` is spelled as DuckDB does."""

    name: str
    type: str

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers, to be aligned right."""
        return _NUMERIC.fullmatch(self.type) is not None


def columns_of(description: Sequence[Sequence[Any]]) -> list[Column]:
    """Return the columns of a PEP 249 description."""
    return [Column(str(entry[0]), str(entry[1])) for entry in description]


def cell(column: Column, *, compact: bool = False) -> Callable[[Any], str]:
    """Return the function that shortens values of `column` for a table; never called with None.

    `compact` shortens further what only describes a value, where there is little room.
    """
    if _FLOATS.fullmatch(column.type):
        return lambda value: _vector_cell(value, column.type, compact=compact)
    if column.type == "BLOB":
        return lambda value: blob_cell(bytes(value), compact=compact)
    return lambda value: to_text(value, column.type)


def _vector_cell(value: Any, kind: str, *, compact: bool) -> str:
    if len(value) <= _VECTOR_WHOLE:
        return to_text(value, kind)
    if compact:
        return f"[… {len(value)}]"
    shown = ", ".join("NULL" if x is None else f"{x:.3g}" for x in value[:_VECTOR_SHOWN])
    return f"[{shown}, … {len(value)}]"


def blob_cell(value: bytes, *, compact: bool = False) -> str:
    """Return what a table says of a BLOB: what kind of image it is, or its first bytes."""
    length = counted(len(value), "byte")
    image = sniff(value)
    if image is not None:
        size = f" {image.width}×{image.height}" if image.width else ""
        if compact:
            return f"<{image.mime.removeprefix('image/')}{size}>"
        return f"<{image.mime}{size}, {length}>"
    if compact or not value:
        return f"<{length}>"
    more = "…" if len(value) > _HEX_BYTES else ""
    return f"<{length}: {value[:_HEX_BYTES].hex(' ')}{more}>"


def to_text(value: Any, kind: str, *, nested: bool = False) -> str:
    """Return the whole of `value` as DuckDB would spell it."""
    match value:
        case None:
            return "NULL"
        case bool() | np.bool_():
            return "true" if value else "false"
        case str():
            return "'" + _ESCAPED.sub(r"\\\g<0>", value) + "'" if nested else value
        case float() | np.floating():
            return _float_text(value, kind)
        case Decimal():
            return format(value, "f")
        case bytes() | bytearray() | memoryview():
            return "".join([_BYTE_TEXT[byte] for byte in bytes(value)])
        case timedelta():
            return _interval_text(value)
        case Mapping():
            sign = "=" if kind.startswith("MAP(") else ": "
            pairs = [
                to_text(k, "", nested=True) + sign + to_text(v, _field(kind, str(k)), nested=True)
                for k, v in value.items()
            ]
            return "{" + ", ".join(pairs) + "}"
        case tuple() if not kind.endswith("]"):
            return "(" + ", ".join(to_text(v, "", nested=True) for v in value) + ")"
        case list() | tuple() | np.ndarray():
            element = _element(kind)
            return "[" + ", ".join([to_text(v, element, nested=True) for v in value]) + "]"
        case _:
            return str(value)


def to_json(value: Any, kind: str) -> str:
    """Return `value` as JSON; what JSON has no word for becomes DuckDB's text."""
    match value:
        case None:
            return "null"
        case bool() | np.bool_():
            return "true" if value else "false"
        case str() if kind == "JSON" and _is_json(value):
            return value
        case int() | np.integer():
            return str(value)
        case float() | np.floating():
            text = _float_text(value, kind)
            return text if math.isfinite(value) else f'"{text}"'
        case Decimal():
            return format(value, "f")
        case Mapping():
            inner = ", ".join(
                f"{_json_string(str(k))}: {to_json(v, _field(kind, str(k)))}"
                for k, v in value.items()
            )
            return "{" + inner + "}"
        case list() | tuple() | np.ndarray():
            element = _element(kind)
            return "[" + ", ".join([to_json(v, element) for v in value]) + "]"
        case _:
            return _json_string(to_text(value, kind))


def _json_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which Python's reader takes and JSON does not know."""
    raise ValueError(constant)


def _float_text(value: Any, kind: str) -> str:
    # A FLOAT comes as a Python float with digits that its 32 bits do not hold.
    number = np.float32(value) if kind in ("FLOAT", "REAL") else np.float64(value)
    return str(number)


def _interval_text(value: timedelta) -> str:
    days = f"{value.days} day{'' if value.days in (1, -1) else 's'}" if value.days else ""
    minutes, seconds = divmod(value.seconds, 60)
    time = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{value.microseconds:06}"
    rest = value.seconds or value.microseconds or not days
    return " ".join(filter(None, [days, time.rstrip("0").rstrip(".") if rest else ""]))


def _element(kind: str) -> str:
    return kind[: kind.rindex("[")] if kind.endswith("]") else ""


def _field(kind: str, name: str) -> str:
    """Return the type of a field of a STRUCT, '' where it is not plain to see."""
    found = re.search(rf'[(\s]"?{re.escape(name)}"? ([A-Z]+(?:\[\d*\])*)[,)]', kind)
    return found.group(1) if found and kind.startswith("STRUCT(") else ""
