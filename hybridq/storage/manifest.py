"""What hybridq keeps in the user's DuckDB file: tables of the schema `hybridq`.

    hybridq.indexes            one row per vector index: its spec (JSON) and its segment file
    hybridq."changes_<index>"  keys of rows written since the segment was built, one row per write
    hybridq.extensions         extensions to load at open
    hybridq.objects            what plug-ins keep: pipelines, models (hybridq.pipelines)
    hybridq.calibration        unit costs measured on this host
    hybridq.ladders            stopping rules calibrated since a segment was written (JSON)

A write and the keys it changed commit in one DuckDB transaction, so an index can always be brought
up to date: segment, minus the keys in `changes`, plus the current rows of those keys.
Nothing is created before it is needed, so a file that never saw CREATE INDEX stays plain.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hybridq.nodes import TableName, literal, quote

SCHEMA = "hybridq"


class Duck(Protocol):
    """The little of a DuckDB connection that is used below the session."""

    def execute(self, query: str, parameters: Any = ...) -> Any:
        """Run a statement."""

    def sql(self, query: str, *, params: Any = ...) -> Any:
        """Return a relation."""

    def register(self, view_name: str, python_object: Any) -> Any:
        """Make data available as a view of this connection."""

    def unregister(self, view_name: str) -> Any:
        """Take such a view away."""


def first_row(duck: Duck, query: str, parameters: Any = None) -> tuple[Any, ...] | None:
    """Return the first row of a query, read to its end: DuckDB holds one result at a time."""
    rows = duck.execute(query, parameters).fetchall()
    return rows[0] if rows else None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: DuckDB's type text, and whether NULL is allowed."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TableInfo:
    """A table as DuckDB's catalog has it; `keys` are its primary key, then unique constraints."""

    catalog: str
    schema: str
    name: str
    temporary: bool
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...]
    collated: bool
    generated: bool = False

    def column(self, name: str) -> Column | None:
        """Return the column called `name` (case-insensitive)."""
        wanted = name.lower()
        return next((c for c in self.columns if c.name.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A row of hybridq.indexes."""

    name: str
    spec: dict[str, Any]
    segment: str
    duckdb_version: str


def has_manifest(duck: Duck) -> bool:
    """Tell whether the file has our schema."""
    found = first_row(
        duck,
        "SELECT count(*) FROM duckdb_tables() "
        "WHERE schema_name = 'hybridq' AND table_name = 'indexes' AND NOT temporary "
        "AND database_name = current_database()",
    )
    return bool(found and found[0])


def create_manifest(duck: Duck) -> None:
    """Create our schema and tables where they are missing."""
    for statement in (
        "CREATE SCHEMA IF NOT EXISTS hybridq",
        "CREATE TABLE IF NOT EXISTS hybridq.indexes (name TEXT PRIMARY KEY, spec TEXT NOT NULL, "
        "segment TEXT NOT NULL, duckdb_version TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS hybridq.extensions (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS hybridq.calibration (name TEXT PRIMARY KEY, seconds DOUBLE)",
        "CREATE TABLE IF NOT EXISTS hybridq.ladders (segment TEXT PRIMARY KEY, ladder TEXT)",
    ):
        duck.execute(statement)


def indexes(duck: Duck) -> list[IndexRow]:
    """Return the indexes of the file."""
    rows = duck.execute(
        "SELECT name, spec, segment, duckdb_version FROM hybridq.indexes ORDER BY name"
    ).fetchall()
    return [
        IndexRow(name, json.loads(spec), segment, version) for name, spec, segment, version in rows
    ]


def put_index(duck: Duck, row: IndexRow, key_types: Sequence[str]) -> None:
    """Record an index (or its new segment) and start its change log anew."""
    duck.execute("DELETE FROM hybridq.indexes WHERE name = ?", [row.name])
    duck.execute(
        "INSERT INTO hybridq.indexes VALUES (?, ?, ?, ?)",
        [row.name, json.dumps(row.spec), row.segment, row.duckdb_version],
    )
    columns = ", ".join(f"k{i} {kind}" for i, kind in enumerate(key_types))
    duck.execute(f"CREATE OR REPLACE TABLE {changes_table(row.name)} ({columns})")


def remove_index(duck: Duck, name: str) -> None:
    """Forget an index."""
    duck.execute("DELETE FROM hybridq.indexes WHERE name = ?", [name])
    duck.execute(f"DROP TABLE IF EXISTS {changes_table(name)}")


def changes_table(index: str) -> str:
    """Return the quoted name of the change log of an index."""
    return f"{SCHEMA}.{quote('changes_' + index)}"


def extensions(duck: Duck) -> list[str]:
    """Return the extensions to load."""
    return [name for (name,) in duck.execute("SELECT name FROM hybridq.extensions").fetchall()]


def put_extension(duck: Duck, name: str) -> None:
    """Remember an extension."""
    duck.execute("INSERT INTO hybridq.extensions VALUES (?) ON CONFLICT DO NOTHING", [name])


def calibration(duck: Duck) -> dict[str, float]:
    """Return the measured unit costs, empty before the first measurement."""
    return dict(duck.execute("SELECT name, seconds FROM hybridq.calibration").fetchall())


def put_calibration(duck: Duck, costs: dict[str, float]) -> None:
    """Record measured unit costs."""
    duck.execute("DELETE FROM hybridq.calibration")
    for name, seconds in costs.items():
        duck.execute("INSERT INTO hybridq.calibration VALUES (?, ?)", [name, seconds])


def ladder(duck: Duck, segment: str) -> dict[str, Any] | None:
    """Return the stopping rule calibrated for a segment after it was written."""
    row = first_row(duck, "SELECT ladder FROM hybridq.ladders WHERE segment = ?", [segment])
    return None if row is None else dict(json.loads(row[0]))


def put_ladder(duck: Duck, segment: str, ladder: dict[str, Any]) -> None:
    """Record a segment's stopping rule, and forget those of segments that are gone."""
    duck.execute(
        "DELETE FROM hybridq.ladders WHERE segment = ? "
        "OR segment NOT IN (SELECT segment FROM hybridq.indexes)",
        [segment],
    )
    duck.execute("INSERT INTO hybridq.ladders VALUES (?, ?)", [segment, json.dumps(ladder)])


def describe(duck: Duck, table: TableName) -> TableInfo | None:
    """Return what a table name means on this connection, None if it names no table.

    An unqualified name means a temporary table first, then one of the current schema.
    """
    where = f"lower(table_name) = {literal(table.name.lower())}"
    if table.schema is not None:
        # `a.t` may name a schema or an attached database.
        owner = literal(table.schema.lower())
        if table.catalog is not None:
            catalog = literal(table.catalog.lower())
            where += f" AND lower(database_name) = {catalog} AND lower(schema_name) = {owner}"
        else:
            where += (
                f" AND ((lower(schema_name) = {owner} AND (temporary OR"
                f" database_name = current_database()))"
                f" OR (lower(database_name) = {owner} AND schema_name = 'main'))"
            )
    else:
        where += (
            " AND (temporary OR (database_name = current_database()"
            " AND schema_name IN (current_schema(), 'main')))"
        )
    rows = duck.execute(
        "SELECT database_name, schema_name, table_name, temporary, sql FROM duckdb_tables() "
        f"WHERE {where} ORDER BY temporary DESC, schema_name = current_schema() DESC LIMIT 1"
    ).fetchall()
    if not rows:
        return None
    catalog, schema, name, temporary, sql = rows[0]
    place = [catalog, schema, name]
    columns = duck.execute(
        "SELECT column_name, data_type, is_nullable FROM duckdb_columns() "
        "WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index",
        place,
    ).fetchall()
    keys = duck.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() "
        "WHERE database_name = ? AND schema_name = ? AND table_name = ? "
        "AND constraint_type IN ('PRIMARY KEY', 'UNIQUE') "
        "ORDER BY constraint_type, constraint_index",
        place,
    ).fetchall()
    return TableInfo(
        catalog=catalog,
        schema=schema,
        name=name,
        temporary=bool(temporary),
        columns=tuple(Column(n, t, bool(nullable)) for n, t, nullable in columns),
        keys=tuple(tuple(names) for (names,) in keys),
        collated=" COLLATE " in (sql or "").upper(),
        generated=" GENERATED " in (sql or "").upper(),
    )
