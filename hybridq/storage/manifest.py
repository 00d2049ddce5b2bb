"""What hybridq keeps in the user's DuckDB file: tables of the schema `hybridq`.

    hybridq.manifest           the version of these tables
    hybridq.indexes            one row per vector index: its spec (JSON)
    hybridq.segments           its segment files, and their rows that were dead at the last merge
    hybridq."changes_<index>"  keys of rows written since, with the transaction that wrote them
    hybridq.extensions         extensions to load at open
    hybridq.objects            what plug-ins keep: pipelines, models (hybridq.pipelines)
    hybridq.calibration        unit costs measured on this host
    hybridq.ladders            stopping rules calibrated since a generation was built (JSON)

A write and the keys it changed commit in one DuckDB transaction, so an index can always be brought
up to date: segments, less their dead rows, less the keys in `changes`, plus the current rows of
those keys. A merge replaces segments and trims `changes` in one transaction too.
Nothing is created before it is needed, so a file that never saw CREATE INDEX stays plain.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hybridq.nodes import TableName, literal, quote

SCHEMA = "hybridq"

VERSION = 3
"""Of the tables; see docs/format.md. Earlier ones are replaced, later ones refused."""


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
    """A table as DuckDB's catalog has it; `keys` are its primary key, then unique constraints.

    `calls` tells that an INSERT may run functions of anybody: a default or a CHECK calls some.
    """

    catalog: str
    schema: str
    name: str
    temporary: bool
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...]
    collated: bool
    generated: bool = False
    calls: bool = False

    def column(self, name: str) -> Column | None:
        """Return the column called `name` (case-insensitive)."""
        wanted = name.lower()
        return next((c for c in self.columns if c.name.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A row of hybridq.indexes: the spec as JSON, and the DuckDB whose row hashes it has."""

    name: str
    spec: dict[str, Any]
    duckdb_version: str


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A row of hybridq.segments: a file, and the rows of it that were dead at the last merge."""

    segment: str
    deleted: bytes | None


def version(duck: Duck) -> int | None:
    """Return the version of the file's manifest: 0 before there were any, None without one."""
    if has_table(duck, "manifest"):
        found = first_row(duck, "SELECT max(version) FROM hybridq.manifest")
        return int(found[0]) if found is not None and found[0] is not None else 0
    return 0 if has_table(duck, "indexes") else None


def has_table(duck: Duck, name: str) -> bool:
    """Tell whether the file has a table of ours."""
    found = first_row(
        duck,
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'hybridq' AND NOT temporary "
        "AND database_name = current_database() AND table_name = ?",
        [name],
    )
    return bool(found and found[0])


def create_manifest(duck: Duck) -> None:
    """Create our schema and tables where they are missing."""
    for statement in (
        "CREATE SCHEMA IF NOT EXISTS hybridq",
        "CREATE TABLE IF NOT EXISTS hybridq.manifest (version INTEGER PRIMARY KEY)",
        f"INSERT INTO hybridq.manifest VALUES ({VERSION}) ON CONFLICT DO NOTHING",
        "CREATE TABLE IF NOT EXISTS hybridq.indexes (name TEXT PRIMARY KEY, spec TEXT NOT NULL, "
        "duckdb_version TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS hybridq.segments (segment TEXT NOT NULL, "
        "index_name TEXT NOT NULL, deleted BLOB)",
        "CREATE TABLE IF NOT EXISTS hybridq.extensions (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS hybridq.calibration (name TEXT PRIMARY KEY, seconds DOUBLE)",
        "CREATE TABLE IF NOT EXISTS hybridq.ladders (index_name TEXT PRIMARY KEY, "
        "generation TEXT NOT NULL, ladder TEXT NOT NULL)",
    ):
        duck.execute(statement)


def specs_of_old(duck: Duck) -> list[dict[str, Any]]:
    """Return the specs of the indexes of an earlier manifest: the one thing all versions have."""
    rows = duck.execute("SELECT spec FROM hybridq.indexes ORDER BY name").fetchall()
    return [json.loads(spec) for (spec,) in rows]


def forget_old(duck: Duck) -> None:
    """Drop what an earlier manifest knew of segments and changes; specs must be at hand."""
    logs = duck.execute(
        "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'hybridq' "
        "AND database_name = current_database() AND starts_with(table_name, 'changes_')"
    ).fetchall()
    for name in ("indexes", "segments", "ladders", "manifest", *(n for (n,) in logs)):
        duck.execute(f"DROP TABLE IF EXISTS {SCHEMA}.{quote(name)}")


def indexes(duck: Duck) -> list[IndexRow]:
    """Return the indexes of the file."""
    rows = duck.execute(
        "SELECT name, spec, duckdb_version FROM hybridq.indexes ORDER BY name"
    ).fetchall()
    return [IndexRow(name, json.loads(spec), version) for name, spec, version in rows]


def segments(duck: Duck, index: str) -> list[SegmentRow]:
    """Return the segments of an index."""
    rows = duck.execute(
        "SELECT segment, deleted FROM hybridq.segments WHERE index_name = ? ORDER BY segment",
        [index],
    ).fetchall()
    return [SegmentRow(segment, deleted) for segment, deleted in rows]


def all_segments(duck: Duck) -> set[str]:
    """Return the names of the segments of all indexes."""
    return {n for (n,) in duck.execute("SELECT segment FROM hybridq.segments").fetchall()}


def put_index(duck: Duck, row: IndexRow, segment: str | None, key_types: Sequence[str]) -> None:
    """Record an index as it was just built: one segment, and a change log that begins anew.

    One without a segment is rebuilt at the next open.
    """
    remove_index(duck, row.name)
    duck.execute(
        "INSERT INTO hybridq.indexes VALUES (?, ?, ?)",
        [row.name, json.dumps(row.spec), row.duckdb_version],
    )
    if segment is not None:
        put_segment(duck, row.name, SegmentRow(segment, None))
    columns = "".join(f", k{i} {kind}" for i, kind in enumerate(key_types))
    duck.execute(f"CREATE TABLE {changes_table(row.name)} (tx UUID NOT NULL{columns})")


def put_segment(duck: Duck, index: str, row: SegmentRow) -> None:
    """Record a segment of an index."""
    duck.execute("INSERT INTO hybridq.segments VALUES (?, ?, ?)", [row.segment, index, row.deleted])


def put_merge(
    duck: Duck, index: str, rows: Sequence[SegmentRow], published: Sequence[uuid.UUID]
) -> None:
    """Replace the segments of an index, and trim its log of the transactions they contain.

    Exactly those transactions: one that began before them may commit after them.
    """
    duck.execute("DELETE FROM hybridq.segments WHERE index_name = ?", [index])
    for row in rows:
        put_segment(duck, index, row)
    if published:
        duck.execute(
            # A join: of rows that came one by one there are as many transactions.
            f"DELETE FROM {changes_table(index)} WHERE tx IN (SELECT unnest(CAST(? AS UUID[])))",
            [[str(tx) for tx in published]],
        )


def remove_index(duck: Duck, name: str) -> None:
    """Forget an index."""
    duck.execute("DELETE FROM hybridq.indexes WHERE name = ?", [name])
    duck.execute("DELETE FROM hybridq.segments WHERE index_name = ?", [name])
    forget_ladder(duck, name)
    duck.execute(f"DROP TABLE IF EXISTS {changes_table(name)}")


def changes_table(index: str) -> str:
    """Return the quoted name of the change log of an index."""
    return f"{SCHEMA}.{quote('changes_' + index)}"


def in_catalog(catalog: str) -> str:
    """Return the qualified name of the manifest's own table."""
    return f"{quote(catalog)}.{SCHEMA}.manifest"


def new_transaction() -> uuid.UUID:
    """Return the name under which a transaction logs its changes."""
    return uuid.uuid4()


def logged(duck: Duck, index: str) -> list[uuid.UUID]:
    """Return the transactions in the change log of an index."""
    rows = duck.execute(f"SELECT DISTINCT tx FROM {changes_table(index)} ORDER BY tx").fetchall()
    return [tx for (tx,) in rows]


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


def ladder(duck: Duck, index: str, generation: str) -> dict[str, Any] | None:
    """Return the stopping rule calibrated for a generation of an index after it was built."""
    row = first_row(
        duck,
        "SELECT ladder FROM hybridq.ladders WHERE index_name = ? AND generation = ?",
        [index, generation],
    )
    return None if row is None else dict(json.loads(row[0]))


def put_ladder(duck: Duck, index: str, generation: str, ladder: dict[str, Any]) -> None:
    """Record the stopping rule of an index's generation."""
    forget_ladder(duck, index)
    duck.execute(
        "INSERT INTO hybridq.ladders VALUES (?, ?, ?)", [index, generation, json.dumps(ladder)]
    )


def forget_ladder(duck: Duck, index: str) -> None:
    """Forget an index's stopping rule."""
    duck.execute("DELETE FROM hybridq.ladders WHERE index_name = ?", [index])


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
        "SELECT column_name, data_type, is_nullable, column_default FROM duckdb_columns() "
        "WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index",
        place,
    ).fetchall()
    constraints = duck.execute(
        "SELECT constraint_type, constraint_column_names FROM duckdb_constraints() "
        "WHERE database_name = ? AND schema_name = ? AND table_name = ? "
        "AND constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'CHECK') "
        "ORDER BY constraint_type, constraint_index",
        place,
    ).fetchall()
    return TableInfo(
        catalog=catalog,
        schema=schema,
        name=name,
        temporary=bool(temporary),
        columns=tuple(Column(n, t, bool(nullable)) for n, t, nullable, _ in columns),
        keys=tuple(tuple(names) for kind, names in constraints if kind != "CHECK"),
        collated=" COLLATE " in (sql or "").upper(),
        generated=" GENERATED " in (sql or "").upper(),
        calls=any(kind == "CHECK" for kind, _ in constraints)
        or any(default is not None and _calls(default) for _, _, _, default in columns),
    )


_CALL = re.compile(r"(\w+)\"?\s*\(")
_HARMLESS = {"nextval", "now", "get_current_timestamp", "today", "uuid", "random", "cast"}
"""Functions of defaults that are quick, and come back to nobody."""


def _calls(default: str) -> bool:
    return not {name.lower() for name in _CALL.findall(default)} <= _HARMLESS
