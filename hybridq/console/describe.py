"""Commands that show what is in the database."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from hybridq.console.commands import command
from hybridq.console.messages import counted, size
from hybridq.errors import ProgrammingError

if TYPE_CHECKING:
    from hybridq.console.shell import Shell

_OURS = "schema_name <> 'hybridq'"
_TABLES = f"""
SELECT table_name AS name, 'table' AS kind, estimated_size AS rows, column_count AS columns,
       schema_name AS schema, database_name AS database
FROM duckdb_tables() WHERE NOT internal AND {_OURS}
UNION ALL
SELECT view_name, 'view', NULL, column_count, schema_name, database_name
FROM duckdb_views() WHERE NOT internal AND {_OURS}
ORDER BY database, schema, name
"""
_COLUMNS = """
SELECT column_name AS column, data_type AS type,
       CASE WHEN is_nullable THEN '' ELSE 'not null' END AS nullable,
       coalesce(column_default, '') AS "default"
FROM duckdb_columns() WHERE table_oid = {oid} AND database_name = {database} ORDER BY column_index
"""
_CONSTRAINTS = """
SELECT constraint_text FROM duckdb_constraints()
WHERE table_oid = {oid} AND database_name = {database} AND constraint_type <> 'NOT NULL'
ORDER BY constraint_index
"""
_RELATIONS = f"""
SELECT table_name, schema_name, database_name, table_oid, sql FROM duckdb_tables()
WHERE NOT internal AND {_OURS}
UNION ALL
SELECT view_name, schema_name, database_name, view_oid, sql FROM duckdb_views()
WHERE NOT internal AND {_OURS}
"""
_FUNCTIONS = """
SELECT DISTINCT function_name AS function, function_type AS kind,
       '(' || array_to_string(parameters, ', ') || ')' AS parameters,
       return_type AS returns, description
FROM duckdb_functions()
WHERE function_name ILIKE {pattern} AND regexp_matches(function_name, '^\\w')
ORDER BY ALL
"""


@command(
    r"\d", ".tables", r"\dt", ".describe", usage="[TABLE]", summary="list tables, or describe one"
)
def describe(shell: Shell, arguments: list[str]) -> None:
    """List tables and views, or show columns, constraints and indexes of one."""
    if not arguments:
        columns, rows = shell.query(_TABLES)
        if not rows:
            shell.write("there are no tables\n")
            return
        keep = [i for i in range(6) if i < 4 or len({row[i] for row in rows}) > 1]
        shell.show([columns[i] for i in keep], [[row[i] for i in keep] for row in rows])
        return
    name, database, oid, _ = _relation(shell, arguments[0])
    of = {"oid": str(oid), "database": _literal(database)}
    columns, rows = shell.query(_COLUMNS.format(**of))
    shell.show(columns, rows)
    for row in shell.query(_CONSTRAINTS.format(**of))[1]:
        shell.write(f"  {row[0]}\n")
    for row in shell.query(
        "SELECT index_name, is_unique, expressions FROM duckdb_indexes() "
        f"WHERE table_oid = {oid} AND database_name = {of['database']} ORDER BY index_name"
    )[1]:
        shell.write(f"  {'UNIQUE ' if row[1] else ''}INDEX {row[0]} {row[2]}\n")
    for index in vector_indexes(shell):
        if _bare(str(index["table"])) == name.lower():
            shell.write(f"  {_index_line(index)}\n")


@command(r"\di", ".indexes", ".indices", summary="list the vector indexes", most=0)
def indexes(shell: Shell, arguments: list[str]) -> None:
    """List the vector indexes."""
    columns, rows = shell.query("SHOW INDEXES")
    if rows:
        shell.show(columns, rows)
    else:
        shell.write("there are no vector indexes (CREATE INDEX name ON table USING ann (column))\n")


@command(r"\df", ".functions", usage="[PATTERN]", summary="list functions, e.g. \\df l2_%")
def functions(shell: Shell, arguments: list[str]) -> None:
    """List the functions whose names match a LIKE pattern."""
    pattern = arguments[0] if arguments else "%"
    pattern = pattern.replace("*", "%")
    columns, rows = shell.query(_FUNCTIONS.format(pattern=_literal(pattern)))
    shell.show(columns, rows)
    shell.write(counted(len(rows), "function") + "\n")


@command(r"\l", ".databases", summary="list the attached databases", most=0)
def databases(shell: Shell, arguments: list[str]) -> None:
    """List the databases."""
    columns, rows = shell.query(
        "SELECT database_name AS name, path, readonly FROM duckdb_databases() "
        "WHERE NOT internal ORDER BY name"
    )
    shell.show(columns, rows)


@command(r"\settings", ".settings", summary="list the settings of hybridq", most=0)
def settings(shell: Shell, arguments: list[str]) -> None:
    """List the settings."""
    shell.show(*shell.query("SHOW SETTINGS"))


@command(r"\schema", ".schema", usage="[TABLE]", summary="show the statements that made the tables")
def schema(shell: Shell, arguments: list[str]) -> None:
    """Write the CREATE statements of one table or all."""
    if arguments:
        name, _, _, sql = _relation(shell, arguments[0])
        shell.write(_ended(sql))
        wanted = f"AND lower(table_name) = {_literal(name.lower())}"
    else:
        name, wanted = "", ""
        for row in shell.query(_RELATIONS + "ORDER BY ALL")[1]:
            shell.write(_ended(row[4]))
    for row in shell.query(
        f"SELECT sql FROM duckdb_indexes() WHERE {_OURS} AND sql IS NOT NULL {wanted} ORDER BY ALL"
    )[1]:
        shell.write(_ended(row[0]))
    for index in vector_indexes(shell):
        if not name or _bare(str(index["table"])) == name.lower():
            shell.write(
                f"CREATE INDEX {index['name']} ON {index['table']} USING ann ({index['column']}) "
                f"WITH (metric = '{index['metric']}', dim = {index['dim']});\n"
            )


def vector_indexes(shell: Shell) -> list[dict[str, Any]]:
    """Return the vector indexes as SHOW INDEXES tells them."""
    columns, rows = shell.query("SHOW INDEXES")
    names = [column.name for column in columns]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _index_line(index: dict[str, Any]) -> str:
    waiting = f" + {index['delta_rows']:,} not yet merged" if index["delta_rows"] else ""
    attributes = index["attributes"]
    if attributes and not isinstance(attributes, str):
        attributes = ", ".join(map(str, attributes))
    return (
        f"INDEX {index['name']} USING ann ({index['column']}): {index['metric']}, "
        f"{index['dim']} dimensions, {counted(int(index['rows'] or 0), 'row')}{waiting}, "
        f"{index['nlist']} lists, {size(int(index['size_bytes'] or 0))}"
        + (f"\n    with {attributes}" if attributes else "")
    )


def _relation(shell: Shell, name: str) -> tuple[str, str, int, str]:
    """Return name, database, oid and SQL of a table or view; raises ProgrammingError."""
    wanted = [part.strip('"').lower() for part in name.split(".")]
    rows = shell.query(_RELATIONS)[1]
    for row in rows:
        full = [str(row[2]).lower(), str(row[1]).lower(), str(row[0]).lower()]
        if full[-len(wanted) :] == wanted or [full[0], full[2]] == wanted:
            return str(row[0]), str(row[2]), int(row[3]), str(row[4])
    close = difflib.get_close_matches(wanted[-1], [str(row[0]) for row in rows], n=3)
    raise ProgrammingError(
        f'there is no table "{name}"',
        hint=f"did you mean {' or '.join(close)}?" if close else r"\d lists the tables",
    )


def _bare(name: str) -> str:
    return name.rsplit(".", 1)[-1].strip('"').lower()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _ended(sql: str) -> str:
    return sql.rstrip().rstrip(";") + ";\n"
