"""PEP 249's type objects and constructors, and parameters as DuckDB takes them."""

from __future__ import annotations

import array
import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class TypeCode(str):
    """The type of a result column: its SQL text, equal to the type object that holds it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DBAPIType):
            return other.holds(str(self))
        return str.__eq__(self, other) if isinstance(other, str) else NotImplemented

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = str.__hash__


class DBAPIType:
    """One of PEP 249's type objects."""

    def __init__(self, name: str, *prefixes: str) -> None:
        self.name = name
        self._prefixes = prefixes

    def holds(self, sql_type: str) -> bool:
        """Tell whether a SQL type belongs to this group."""
        return not sql_type.endswith("]") and sql_type.split("(", 1)[0] in self._prefixes

    def __repr__(self) -> str:
        return f"hybridq.{self.name}"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TypeCode):
            return self.holds(str(other))
        return self is other

    def __hash__(self) -> int:
        return id(self)


STRING = DBAPIType("STRING", "VARCHAR", "ENUM", "UUID", "JSON")
BINARY = DBAPIType("BINARY", "BLOB", "BIT")
NUMBER = DBAPIType(
    "NUMBER",
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "BIGNUM"),
    *("FLOAT", "DOUBLE", "DECIMAL"),
)
DATETIME = DBAPIType(
    "DATETIME",
    *("DATE", "TIME", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"),
    *("TIMESTAMP WITH TIME ZONE", "TIME WITH TIME ZONE", "INTERVAL"),
)
ROWID = DBAPIType("ROWID", "ROWID")

Date = dt.date
Time = dt.time
Timestamp = dt.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> dt.date:  # noqa: N802 - PEP 249 names it so
    """Return the local date of seconds since the epoch."""
    return dt.date.fromtimestamp(ticks)


def TimeFromTicks(ticks: float) -> dt.time:  # noqa: N802 - PEP 249 names it so
    """Return the local time of seconds since the epoch."""
    return dt.datetime.fromtimestamp(ticks).time()


def TimestampFromTicks(ticks: float) -> dt.datetime:  # noqa: N802 - PEP 249 names it so
    """Return the local timestamp of seconds since the epoch."""
    return dt.datetime.fromtimestamp(ticks)


_TAKEN = (np.ndarray, int, str, float, bytes, list, type(None))
"""What DuckDB's client takes as it is."""


def adapt(value: Any) -> Any:
    """Return a parameter as DuckDB's client takes it: columns of other libraries become lists."""
    if isinstance(value, _TAKEN):
        return value
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if isinstance(value, array.array):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    for method in ("to_pylist", "to_list", "as_py"):
        convert = getattr(value, method, None)
        if convert is not None:
            return convert()
    return value


def adapt_rows(rows: Sequence[Any]) -> Sequence[Any]:
    """Adapt the parameters of many rows; of plain ones value by value would take the longest."""
    if set(map(type, rows)) <= {tuple, list}:
        kinds = set(map(type, itertools.chain.from_iterable(rows)))
        if kinds <= set(_TAKEN):
            return rows
    return [adapt_all(row) for row in rows]


def adapt_all(parameters: Any) -> Sequence[Any] | Mapping[str, Any] | None:
    """Adapt a sequence or a mapping of parameters."""
    if parameters is None:
        return None
    if isinstance(parameters, list | tuple):
        return [adapt(v) for v in parameters]
    if isinstance(parameters, Mapping):
        return {str(k).lstrip(":$"): adapt(v) for k, v in parameters.items()}
    return [adapt(v) for v in parameters]
