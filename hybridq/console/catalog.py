"""The names that completion offers, read from the database when they may have changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybridq.errors import Error

if TYPE_CHECKING:
    from hybridq.console.shell import Shell

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_OWN_KEYWORDS = ("extension", "reindex", "ann", "include", "indexes", "settings")


@dataclass(frozen=True, slots=True)
class Names:
    """Names as they are written in SQL, quoted where they have to be."""

    tables: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    schemas: list[str] = field(default_factory=list)
    members: dict[str, list[str]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    table_functions: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    keywords: list[str] = field(default_factory=list)

    def columns_of(self, table: str) -> Sequence[str]:
        """Return the columns of a table, none where it is not known."""
        return self.columns.get(table.rsplit(".", 1)[-1].strip('"').lower(), ())


class Catalog:
    """Reads names lazily: at the first completion after a statement that may have changed them."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._names = Names()
        self._version = -1

    def names(self) -> Names:
        """Return the names, those of before where they cannot be read now.

        An open transaction is left alone: a question of ours must not be what fails it.
        """
        version = self._shell.schema_version
        if version != self._version and not self._shell.connection.in_transaction:
            try:
                self._names = self._read()
                self._version = version
            except Error:
                pass
        return self._names

    def _column(self, sql: str) -> list[str]:
        return [str(row[0]) for row in self._shell.query(sql)[1]]

    def _read(self) -> Names:
        keywords = self._column("SELECT keyword_name FROM duckdb_keywords() ORDER BY ALL")
        reserved = set(
            self._column(
                "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
            )
        )

        def quoted(name: str) -> str:
            if _PLAIN.fullmatch(name) and name not in reserved:
                return name
            return '"' + name.replace('"', '""') + '"'

        tables: dict[str, None] = {}
        columns: dict[str, list[str]] = {}
        schemas: dict[str, None] = {}
        members: dict[str, list[str]] = {}
        for schema, table, column in self._shell.query(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns() "
            "WHERE NOT internal AND schema_name <> 'hybridq' ORDER BY table_oid, column_index"
        )[1]:
            tables[quoted(table)] = None
            if schema != "main":
                schemas[quoted(schema)] = None
            of_schema = members.setdefault(schema.lower(), [])
            if quoted(table) not in of_schema:
                of_schema.append(quoted(table))
            columns.setdefault(table.lower(), []).append(quoted(column))
        functions: dict[str, None] = {}
        table_functions: dict[str, None] = {}
        for schema, function, of_table in self._shell.query(
            "SELECT DISTINCT schema_name, function_name, function_type LIKE 'table%' "
            "FROM duckdb_functions() "
            "WHERE regexp_matches(function_name, '^[a-z_]\\w*$') ORDER BY ALL"
        )[1]:
            (table_functions if of_table else functions)[function] = None
            if schema != "main":
                members.setdefault(schema.lower(), []).append(function)
                schemas[quoted(schema)] = None
        return Names(
            tables=list(tables),
            columns=columns,
            schemas=[s for s in schemas if s not in ("pg_catalog", "information_schema")],
            members=members,
            functions=list(functions),
            table_functions=list(table_functions),
            settings=self._column("SHOW SETTINGS")
            + self._column("SELECT name FROM duckdb_settings() ORDER BY ALL"),
            keywords=sorted({*keywords, *_OWN_KEYWORDS}),
        )
