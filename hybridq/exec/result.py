"""Results: a table of Python rows, or a DuckDB result still on its connection.

A DuckDB connection holds one result at a time. `Pending` leaves it there, so that a data frame can
be made without Python rows in between, and drains it the moment the connection is needed again.
"""

from __future__ import annotations

import datetime as dt
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import duckdb

from hybridq.arrow import pa
from hybridq.errors import NotSupportedError
from hybridq.exec.translate import translate
from hybridq.nodes import quote

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a result: its name and DuckDB's type text."""

    name: str
    type: str


class Result:
    """Rows in memory. `fields` None means a statement without a result set."""

    def __init__(
        self, fields: Sequence[Field] | None, rows: list[Row], *, rowcount: int = -1
    ) -> None:
        self.fields = None if fields is None else tuple(fields)
        self.rowcount = rowcount
        self._rows: list[Row] = rows
        self._at = 0

    @property
    def position(self) -> int:
        """Rows fetched so far."""
        return self._at

    def fetch(self, count: int | None) -> list[Row]:
        """Return the next `count` rows, all that are left for None."""
        stop = len(self._rows) if count is None else self._at + count
        rows = self._rows[self._at : stop]
        self._at += len(rows)
        return rows

    def relation(self, duck: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
        """Return the remaining rows as a relation of `duck`, in their types."""
        fields = self.fields or ()
        return duck.sql(typed_select(duck, "__hybridq_result", fields, self.fetch(None)))

    def frame(self, method: str, duck: duckdb.DuckDBPyConnection) -> Any:
        """Return the remaining rows as `df`, `pl`, `fetchnumpy` or `to_arrow_table` gives them."""
        return getattr(self.relation(duck), method)()

    def drain(self) -> None:
        """Bring all rows into memory."""

    def discard(self) -> None:
        """Forget the rows that are left."""
        self._rows, self._at = [], 0


class Pending(Result):
    """A result that DuckDB still holds.

    `failed` is told when fetching it fails, `limit` bounds how long that takes.
    """

    def __init__(
        self,
        duck: duckdb.DuckDBPyConnection,
        fields: Sequence[Field],
        failed: Callable[[Exception], Exception],
        limit: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(fields, [])
        self._duck: duckdb.DuckDBPyConnection | None = duck
        self._failed = failed
        self._limit = limit

    def fetch(self, count: int | None) -> list[Row]:
        """Return the next rows, straight from DuckDB while it holds them."""
        if self._duck is None:
            return super().fetch(count)
        with self._limit():
            return self._fetch(self._duck, count)

    def _fetch(self, duck: duckdb.DuckDBPyConnection, count: int | None) -> list[Row]:
        try:
            if count is None:
                rows: list[Row] = duck.fetchall()
                self._duck = None
                self._at += len(rows)
                return rows
            if count == 1:
                row = duck.fetchone()
                rows = [] if row is None else [row]
            else:
                rows = duck.fetchmany(count)
            if len(rows) < count:
                self._duck = None
            self._at += len(rows)
            return rows
        except (duckdb.Error, RuntimeError) as error:
            self._duck = None
            raise self._failed(error) from error

    def frame(self, method: str, duck: duckdb.DuckDBPyConnection) -> Any:
        """Return the remaining rows in columns, without Python rows where DuckDB can do so."""
        with self._limit():
            return self._frame(method, duck)

    def _frame(self, method: str, duck: duckdb.DuckDBPyConnection) -> Any:
        if self._duck is not None and method in ("df", "fetchnumpy"):
            try:
                frame = getattr(self._duck, method)()
            except (duckdb.Error, RuntimeError) as error:
                raise self._failed(error) from error
            self._duck = None
            return frame
        if self._duck is not None and method in ("to_arrow_table", "pl"):
            table = self._arrow(self._duck)
            self._duck = None
            return table if method == "to_arrow_table" else _polars(table)
        return super().frame(method, duck)

    def _arrow(self, duck: duckdb.DuckDBPyConnection) -> pa.Table:
        try:
            with warnings.catch_warnings():
                # DuckDB would rather run the query again as a relation; it is running already.
                warnings.simplefilter("ignore", UserWarning)
                return duck.to_arrow_table()
        except (duckdb.Error, RuntimeError) as error:
            raise self._failed(error) from error

    def discard(self) -> None:
        """Forget the rows that are left, without reading them."""
        if self._duck is not None:
            self._duck.abort()
            self._duck = None
        super().discard()

    def drain(self) -> None:
        """Bring the rest into memory; the connection is needed."""
        if self._duck is not None:
            before = self._at
            rest = self.fetch(None)
            # Rows fetched already keep their count, not their contents.
            self._rows, self._at = [()] * before + rest, before


def _polars(table: pa.Table) -> Any:
    try:
        import polars
    except ImportError as error:
        raise NotSupportedError(
            "polars is not installed", hint="install it, or use arrow() or df()"
        ) from error
    return polars.from_arrow(table)


def typed_select(
    duck: duckdb.DuckDBPyConnection, view: str, fields: Sequence[Field], rows: list[Row]
) -> str:
    """Register `rows` as `view` on `duck` and return a SELECT that gives them their types."""
    columns = {
        f"c{i}": arrow_column([row[i] for row in rows], field) for i, field in enumerate(fields)
    }
    table = pa.table(columns) if columns else pa.table({"c0": pa.array([], pa.int8())})
    duck.register(view, table)
    casts = ", ".join(
        f"CAST(c{i} AS {field.type}) AS {quote(field.name)}" for i, field in enumerate(fields)
    )
    return f"SELECT {casts} FROM {view}"


def arrow_column(values: list[Any], field: Field) -> pa.Array:
    """Return values as Arrow, for DuckDB to cast to the field's type."""
    if field.type == "FLOAT":
        return pa.array(values, pa.float32())
    if field.type == "NULL" or all(v is None for v in values):
        return pa.nulls(len(values), pa.int32() if values else pa.string())
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError):
        return pa.array([None if v is None else _text(v) for v in values], pa.string())


def _text(value: Any) -> str:
    if isinstance(value, uuid.UUID | dt.timedelta):
        return str(value)
    return str(value)


def iterate(result: Result, size: int = 1024) -> Iterator[Row]:
    """Yield the remaining rows."""
    while rows := result.fetch(size):
        yield from rows


__all__ = ["Field", "Pending", "Result", "Row", "iterate", "translate", "typed_select"]
