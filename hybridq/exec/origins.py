"""Where the inputs of functions come from: which row an error is about, and how many there are.

A function knows its input's place in DuckDB's batch and no more. Its value is looked for among the
files that the statement reads, then in the tables that it names.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from hybridq.errors import Error
from hybridq.exec.reader import FileBatches
from hybridq.instance import Instance
from hybridq.nodes import literal, quote
from hybridq.progress import Cancellable, RowsDone
from hybridq.sql import extent

_MOST_SECONDS = 5.0  # of a search for a row: pictures may be large


class Origins:
    """Knows where inputs come from, for the statement that a session runs or ran last."""

    def __init__(self, instance: Instance, told: Cancellable) -> None:
        self._instance = instance
        self.rows_done = RowsDone(told, self.rows)
        self._text = ""
        self.files: Mapping[str, FileBatches] = {}
        """The files that the statement reads."""

    def begin(self, text: str) -> None:
        """Forget the statement before."""
        self._text = text
        self.files = {}

    def named(self, error: Error | None) -> Error | None:
        """Return `error` with the place of the input that it is about in front of its message."""
        if error is None or error.given is None:
            return error
        place = self._file(error.given) or self._row(error.given)
        if place is not None:
            error.message = f"{place}: {error.message}"
        return error

    def rows(self, function: str) -> int | None:
        """Return how many rows the statement gives `function`, None where that is not plain."""
        if self.files or len(re.findall(function, self._text.lower())) != 1:
            return None
        table = extent.scanned_table(self._text)
        if table is None:
            return None
        try:
            with self._instance.duck.cursor() as cursor:
                base = "SELECT count(*) FROM duckdb_tables() WHERE lower(table_name) = lower(?)"
                if cursor.execute(base, [table.name]).fetchall() != [(1,)]:
                    return None  # a view, or one of several
                count = cursor.execute(f"SELECT count(*) FROM {table.sql()}").fetchall()[0][0]
                return int(count)
        except (duckdb.Error, RuntimeError):
            return None

    def _file(self, given: bytes | str) -> str | None:
        if isinstance(given, str):
            return None
        names = (files.name_of(given) for files in self.files.values())
        return next((name for name in names if name is not None), None)

    def _row(self, given: bytes | str) -> str | None:
        # On a connection of its own, for an error ends the transaction: it sees what is committed.
        with self._instance.duck.cursor() as cursor:
            timer = threading.Timer(_MOST_SECONDS, cursor.interrupt)
            timer.daemon = True
            timer.start()
            try:
                return next(_rows(cursor, self._text, given), None)
            except (duckdb.Error, RuntimeError):  # the error itself is what has to be told
                return None
            finally:
                timer.cancel()


def _rows(cursor: duckdb.DuckDBPyConnection, text: str, given: bytes | str) -> Iterator[str]:
    """Yield the rows of the tables named in `text` that hold what was given, first ones only."""
    words = set(re.findall(r"\w+", text.lower()))
    columns = cursor.execute(
        "SELECT database_name, schema_name, table_name, column_name FROM duckdb_columns() "
        "WHERE NOT internal AND data_type = ? AND schema_name <> 'hybridq' ORDER BY ALL",
        ["BLOB" if isinstance(given, bytes) else "VARCHAR"],
    ).fetchall()
    for database, schema, table, column in columns:
        # Another column, which the statement does not name, may hold the same by chance.
        if not words.issuperset(re.findall(r"\w+", f"{table} {column}".lower())):
            continue
        names = _key(cursor, database, schema, table) or ["rowid"]
        found = cursor.execute(
            f"SELECT {', '.join(names)} FROM {quote(database)}.{quote(schema)}.{quote(table)} "
            f"WHERE {quote(column)} = ? LIMIT 1",
            [given],
        ).fetchall()
        for row in found:
            parts = (f"{n} = {_shown(v)}" for n, v in zip(names, row, strict=True))
            yield f"table {table}, {', '.join(parts)}"


def _key(cursor: duckdb.DuckDBPyConnection, database: str, schema: str, table: str) -> list[str]:
    found = cursor.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() WHERE constraint_type = "
        "'PRIMARY KEY' AND database_name = ? AND schema_name = ? AND table_name = ?",
        [database, schema, table],
    ).fetchall()
    return [quote(name) for name in found[0][0]] if found else []


def _shown(value: Any) -> str:
    return literal(value) if isinstance(value, str) else str(value)
