"""Cursors: PEP 249, and results in columns as DuckDB's client gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from hybridq.dbapi.types import TypeCode, adapt_all, adapt_rows
from hybridq.errors import InterfaceError, ProgrammingError
from hybridq.exec.result import Result

if TYPE_CHECKING:
    from hybridq.dbapi.connection import Connection

Row: TypeAlias = tuple[Any, ...]
Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
Description: TypeAlias = list[tuple[str, TypeCode, None, None, None, None, None]]


class Cursor:
    """One statement's result at a time; cursors of one connection share its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._result: Result | None = None
        self.arraysize = 1

    # -- execute --------------------------------------------------------------

    def execute(self, operation: str, parameters: Parameters = None) -> Cursor:
        """Run one statement, or several separated by semicolons (the last one's result stays).

        Parameters are a sequence for `?` and `$1`, or a mapping for `:name` and `$name`.
        """
        connection = self._connection
        if connection is None:
            connection = self._open()
        if self._result is not None:
            self._drop()
        _check_operation(operation)
        _check_parameters(parameters)
        self._result = connection.run(operation, adapt_all(parameters))
        return self

    def executemany(self, operation: str, seq_of_parameters: Sequence[Parameters]) -> Cursor:
        """Run one statement for each set of parameters, all or nothing."""
        connection = self._open()
        self._drop()
        _check_operation(operation)
        rows = list(seq_of_parameters)
        if not set(map(type, rows)) <= {tuple, list}:
            for parameters in rows:
                _check_parameters(parameters)
        self._result = connection.run_many(operation, adapt_rows(rows))
        return self

    def callproc(self, procname: str, parameters: Sequence[Any] = ()) -> Sequence[Any]:
        """Call a table function or macro as `CALL name(…)`; its rows can be fetched."""
        marks = ", ".join("?" for _ in parameters)
        self.execute(f"SELECT {procname}({marks})", parameters)
        return parameters

    # -- result ---------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The connection this cursor belongs to."""
        return self._open()

    @property
    def description(self) -> Description | None:
        """Columns of the result as PEP 249's 7-tuples, None where there is no result set."""
        if self._result is None or self._result.fields is None:
            return None
        return [
            (f.name, TypeCode(f.type), None, None, None, None, None) for f in self._result.fields
        ]

    @property
    def rowcount(self) -> int:
        """Rows written by the last statement; -1 for queries, whose rows are not counted ahead."""
        return -1 if self._result is None else self._result.rowcount

    @property
    def lastrowid(self) -> None:
        """DuckDB has no lasting row ids; use RETURNING."""
        return None

    @property
    def rownumber(self) -> int | None:
        """Rows fetched so far, None without a result set."""
        if self._result is None or self._result.fields is None:
            return None
        return self._result.position

    def fetchone(self) -> Row | None:
        """Return the next row, None at the end."""
        rows = self._with_rows().fetch(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """Return the next `size` rows (default `arraysize`)."""
        count = self.arraysize if size is None else size
        if count < 0:
            raise ProgrammingError(f"fetchmany cannot return {count} rows")
        return self._with_rows().fetch(count)

    def fetchall(self) -> list[Row]:
        """Return all rows that are left."""
        return self._with_rows().fetch(None)

    def __iter__(self) -> Iterator[Row]:
        self._with_rows()
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def df(self) -> Any:
        """Return the rows that are left as a pandas data frame."""
        return self._frame("df")

    def pl(self) -> Any:
        """Return the rows that are left as a polars data frame."""
        return self._frame("pl")

    def arrow(self) -> Any:
        """Return the rows that are left as a pyarrow table."""
        return self._frame("to_arrow_table")

    def fetchnumpy(self) -> Any:
        """Return the rows that are left as a dict of numpy arrays."""
        return self._frame("fetchnumpy")

    fetchdf = df
    fetch_df = df
    fetch_arrow_table = arrow

    def _frame(self, method: str) -> Any:
        result = self._with_rows()
        return self._open().frame(result, method)

    def nextset(self) -> None:
        """Tell that there is no further result set."""
        self._with_rows()

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Do nothing, as PEP 249 allows."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Do nothing, as PEP 249 allows."""

    # -- life -----------------------------------------------------------------

    def close(self) -> None:
        """Close the cursor; using it afterwards is an error."""
        self._drop()
        self._connection = None

    def __enter__(self) -> Cursor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _drop(self) -> None:
        result, self._result = self._result, None
        if result is not None and self._connection is not None:
            self._connection.drop(result)

    def _open(self) -> Connection:
        if self._connection is None:
            raise InterfaceError("the cursor is closed", hint="make a new one: connection.cursor()")
        self._connection.check_open()
        return self._connection

    def _with_rows(self) -> Result:
        self._open()
        if self._result is None or self._result.fields is None:
            raise ProgrammingError(
                "there are no rows to fetch", hint="execute a statement that returns rows first"
            )
        return self._result


def _check_operation(operation: object) -> None:
    if not isinstance(operation, str):
        raise InterfaceError(f"a statement must be a str, not {type(operation).__name__}")


def _check_parameters(parameters: object) -> None:
    if parameters is None or isinstance(parameters, (list, tuple, Mapping)):
        return
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Sequence):
        if hasattr(parameters, "__len__") and not isinstance(parameters, str | bytes):
            return
        raise ProgrammingError(
            f"parameters must be a sequence or a mapping, not {type(parameters).__name__}",
            hint="write (value,) for a single one",
        )
