"""The registry that plug-ins fill: scalar functions and macros of one DuckDB instance.

DuckDB registers scalar functions per instance and temporary macros per connection, so functions
are created once and macros again for every session. An error that a function raises reaches
DuckDB as text; the error itself is kept here for the session to raise.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
from duckdb.func import FunctionNullHandling, PythonUDFType

from hybridq.arrow import pa
from hybridq.errors import Error, ProgrammingError
from hybridq.extensions import ArrowFunction, ObjectStore
from hybridq.nodes import quote
from hybridq.progress import Cancellable, NoProgress, Progress, RowsDone
from hybridq.settings import Settings

Connect = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]


@dataclass(frozen=True, slots=True)
class Macro:
    """A SQL macro, or a view; `schema` None makes it temporary, on every connection."""

    schema: str | None
    name: str
    parameters: tuple[str, ...]
    body: str
    kind: Literal["scalar", "table", "view"] = "scalar"

    def sql(self) -> str:
        """Return the statement that creates it."""
        place = f"{quote(self.schema)}." if self.schema is not None else ""
        lasting = "" if self.schema is not None else "TEMP "
        if self.kind == "view":
            return f"CREATE OR REPLACE {lasting}VIEW {place}{quote(self.name)} AS {self.body}"
        name = f"{place}{quote(self.name)}({', '.join(self.parameters)})"
        what = "TABLE " if self.kind == "table" else ""
        return f"CREATE OR REPLACE {lasting}MACRO {name} AS {what}{self.body}"


class FunctionContext:
    """What functions may ask of the session that runs a statement."""

    def __init__(self, objects: ObjectStore, connect: Connect) -> None:
        self._objects = objects
        self._connect = connect
        self.settings = Settings()
        self.rows_done = RowsDone(Cancellable(NoProgress()))

    def serve(self, settings: Settings, rows_done: RowsDone) -> None:
        """Run the functions of a new statement, for the session that has these."""
        self.settings = settings
        self.rows_done = rows_done
        rows_done.begin()

    @property
    def objects(self) -> ObjectStore:
        """What plug-ins keep in this database."""
        return self._objects

    @property
    def progress(self) -> Progress:
        """Where to report rows done."""
        return self.rows_done

    def setting(self, name: str) -> Any:
        """Return the value of a setting."""
        return getattr(self.settings, name)

    def query(self, text: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a query, on a connection of its own."""
        with self._connect() as cursor:
            try:
                statements = cursor.extract_statements(text)
                if [s.type for s in statements] != [duckdb.StatementType.SELECT]:
                    raise ProgrammingError(f"not a query: {text!r}", hint="give one SELECT")
                yield from cursor.sql(text).to_arrow_reader(batch_rows)
            except duckdb.Error as error:
                raise ProgrammingError(f"the query {text!r} fails: {error}") from error


class Functions:
    """Functions and macros of one instance; the `Registry` that plug-ins see."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, objects: ObjectStore) -> None:
        self._duck = duck
        self._context = FunctionContext(objects, self._connect)
        self._names: set[str] = set()
        self.macros: list[Macro] = []
        self._has_macros: dict[int, int] = {}
        """How many there were when a connection, by its id, was given them."""
        self.image_functions: set[str] = set()
        self._last_failure: Error | None = None

    @property
    def context(self) -> FunctionContext:
        """The database the plug-in is being loaded into."""
        return self._context

    def knows(self, name: str) -> bool:
        """Tell whether the scalar function `name` was added."""
        return name in self._names

    def scalar(
        self,
        name: str,
        function: ArrowFunction,
        *,
        parameters: Sequence[str] | None,
        returns: str,
        volatile: bool = False,
        reads_images: bool = False,
    ) -> None:
        """Add an Arrow-vectorised scalar function, once per instance."""
        if name in self._names:
            return
        types: list[Any] | None = (
            None if parameters is None else [duckdb.sqltype(p) for p in parameters]
        )
        guarded = self._guarded(function, _shown(name) if reads_images else None)
        if parameters is not None:
            # DuckDB counts the parameters of a function by its signature.
            guarded.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # read by inspect
                [
                    inspect.Parameter(f"a{i}", inspect.Parameter.POSITIONAL_ONLY)
                    for i in range(len(parameters))
                ]
            )
        self._duck.create_function(
            name,
            guarded,
            types,
            duckdb.sqltype(returns),
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
            side_effects=volatile,
        )
        self._names.add(name)
        if reads_images:
            self.image_functions.add(name.upper())

    def macro(
        self, name: str, parameters: Sequence[str], body: str, *, table: bool = False
    ) -> None:
        """Add the SQL macro `name`; that of a table has a query for its body."""
        schema, _, bare = name.rpartition(".")
        kind: Literal["scalar", "table"] = "table" if table else "scalar"
        self._add(Macro(schema or None, bare, tuple(parameters), body, kind))
        if any(name in body.upper() for name in self.image_functions):
            self.image_functions.add(bare.upper())

    def view(self, name: str, body: str) -> None:
        """Add the view `schema.name` with the query `body`."""
        schema, _, bare = name.rpartition(".")
        self._add(Macro(schema or None, bare, (), body, "view"))

    def _add(self, macro: Macro) -> None:
        key = (macro.schema, macro.name, macro.kind)
        self.macros = [m for m in self.macros if (m.schema, m.name, m.kind) != key]
        self.macros.append(macro)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._duck.cursor() as cursor:
            self.create_macros(cursor)
            try:
                yield cursor
            finally:
                self._has_macros.pop(id(cursor), None)

    def _guarded(self, function: ArrowFunction, shown: str | None) -> Callable[..., pa.Array]:
        """Keep the errors of `function`; one that is `shown` tells of its rows by that name."""

        def call(*columns: pa.Array) -> pa.Array:
            try:
                if shown is not None:
                    self._context.rows_done.call(shown, len(columns[0]) if columns else 0)
                return function(*columns)
            except Error as error:
                self._last_failure = error
                raise

        return call

    def take_failure(self) -> Error | None:
        """Return and forget the error a function raised during the statement."""
        failure, self._last_failure = self._last_failure, None
        return failure

    def create_macros(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Create the temporary macros on one connection."""
        for macro in self.macros:
            if macro.schema is None:
                cursor.execute(macro.sql())
        self._has_macros[id(cursor)] = len(self.macros)

    def renew_macros(self, cursor: duckdb.DuckDBPyConnection, *, outside: bool) -> None:
        """Create the macros that came since the connection was opened.

        Only `outside` a transaction: its end may take them away again.
        """
        if outside and self._has_macros.get(id(cursor)) != len(self.macros):
            self.create_macros(cursor)

    def close(self) -> None:
        """Take the functions away, so that the interpreter can end quietly."""
        for name in self._names:
            self._duck.remove_function(name)
        self._names.clear()


def _shown(name: str) -> str:
    """Return the name of the macro that a function is behind."""
    return name.removeprefix("hybridq_").removesuffix("_rows")
