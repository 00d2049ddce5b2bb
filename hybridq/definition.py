"""What a vector index may be over: CREATE INDEX checked against its table, and specs as JSON."""

from __future__ import annotations

from typing import Any

from hybridq.errors import DataError, NotSupportedError, OperationalError, ProgrammingError
from hybridq.index.attributes import SHORT_TEXT_BYTES, Kind, attribute_type
from hybridq.index.ivf import IndexColumn, IndexSpec
from hybridq.nodes import CreateIndex, Metric, TableName, quote
from hybridq.storage.manifest import Duck, TableInfo, describe, first_row

_MAX_DIM = 8192
_METRICS = {"l2": Metric.L2, "cosine": Metric.COSINE, "ip": Metric.IP}
_OPTIONS = ("dim", "metric", "nlist", "lists", "recall")


def new_spec(duck: Duck, node: CreateIndex, table: TableInfo, name: str) -> IndexSpec:
    """Return what CREATE INDEX asks for; every error names the thing and the remedy."""
    options = dict(node.options)
    for option in options:
        if option not in _OPTIONS:
            raise ProgrammingError(
                f'option "{option}" of a vector index does not exist',
                hint="options: dim, metric ('l2', 'cosine', 'ip'), nlist, recall",
            )
    column = table.column(node.column)
    if column is None:
        raise ProgrammingError(
            f'column "{node.column}" of table {table.name} does not exist',
            hint="columns: " + ", ".join(c.name for c in table.columns),
        )
    key = _usable_key(table)
    dim = _dimension(duck, table, column.name, column.type, options.get("dim"))
    names = node.include if node.include is not None else _default_include(duck, table)
    attributes = [
        _attribute(table, n, explicit=node.include is not None)
        for n in names
        if n.lower() not in {k.lower() for k in key} and n.lower() != column.name.lower()
    ]
    key_columns = [_attribute(table, n, explicit=True) for n in key]
    metric = options.get("metric", node.metric or "l2")
    if str(metric).lower() not in _METRICS:
        raise ProgrammingError(f'metric "{metric}" does not exist', hint="metrics: l2, cosine, ip")
    return IndexSpec(
        name=name,
        schema=table.schema,
        table=table.name,
        column=column.name,
        metric=_METRICS[str(metric).lower()],
        dim=dim,
        key_count=len(key_columns),
        columns=(*key_columns, *(a for a in attributes if a is not None)),  # type: ignore[arg-type] # explicit keys are never None
        nlist=_count_option(options, "nlist", "lists"),
        recall=_recall_option(options),
        catalog=table.catalog,
    )


def _dimension(
    duck: Duck,
    table: TableInfo,
    column: str,
    sql_type: str,
    given: object,
) -> int:
    fixed = vector_dimension(sql_type)
    if fixed is None:
        raise ProgrammingError(
            f'column "{column}" has type {sql_type}, which is not a vector',
            hint="a vector is FLOAT[n], vector(n) or REAL[]",
        )
    if given is not None and (not isinstance(given, int) or not 1 <= given <= _MAX_DIM):
        raise ProgrammingError(f"dim must be a number from 1 to {_MAX_DIM}, not {given}")
    if fixed > 0:
        if given is not None and given != fixed:
            raise ProgrammingError(
                f'dim = {given}, but column "{column}" has type {sql_type}',
                hint="leave dim out",
            )
        if fixed > _MAX_DIM:
            raise NotSupportedError(f"vectors of more than {_MAX_DIM} dimensions")
        return fixed
    if isinstance(given, int):
        return given
    source = TableName(name=table.name, schema=table.schema, catalog=table.catalog).sql()
    row = first_row(
        duck,
        f"SELECT len({quote(column)}) FROM {source} WHERE {quote(column)} IS NOT NULL LIMIT 1",
    )
    if row is None:
        raise ProgrammingError(
            f'the dimension of column "{column}" of type {sql_type} is not known yet',
            hint="give it: WITH (dim = …)",
        )
    if not 1 <= int(row[0]) <= _MAX_DIM:
        raise DataError(f'column "{column}" holds vectors of {row[0]} dimensions')
    return int(row[0])


def _default_include(duck: Duck, table: TableInfo) -> list[str]:
    """Every scalar column of fixed width, and text that is short on average."""
    names: list[str] = []
    texts: list[str] = []
    for column in table.columns:
        kind = attribute_type(column.type)
        if kind is None or (kind.kind is Kind.TEXT and table.collated):
            continue
        (texts if kind.kind is Kind.TEXT else names).append(column.name)
    if texts:
        source = TableName(name=table.name, schema=table.schema, catalog=table.catalog).sql()
        lengths = ", ".join(f"avg(strlen({quote(t)}))" for t in texts)
        row = first_row(duck, f"SELECT {lengths} FROM {source}")
        average = row if row is not None else ()
        names.extend(
            t
            for t, length in zip(texts, average, strict=True)
            if length is None or length <= SHORT_TEXT_BYTES
        )
    wanted = set(names)
    return [c.name for c in table.columns if c.name in wanted]


def unfit(spec: IndexSpec, duck: Duck) -> str | None:
    """Return why the table no longer fits its index, 'dropped' if the table is gone."""
    table = describe(duck, spec.table_name)
    if table is None or table.temporary:
        return "dropped"
    vector = table.column(spec.column)
    if vector is None or vector_dimension(vector.type) is None:
        return f"column {spec.column}"
    for column in spec.columns:
        now = table.column(column.name)
        if now is None or now.type != column.type.sql:
            return f"column {column.name}"
    names = tuple(c.name.lower() for c in spec.key_columns)
    if not any(tuple(n.lower() for n in key) == names for key in table.keys):
        return "its key"
    return None


def vector_dimension(sql_type: str) -> int | None:
    """Return n of FLOAT[n], 0 for FLOAT[], None for what is not a vector."""
    for base in ("FLOAT", "DOUBLE"):
        if sql_type == base + "[]":
            return 0
        if sql_type.startswith(base + "[") and sql_type[len(base) + 1 : -1].isdigit():
            return int(sql_type[len(base) + 1 : -1])
    return None


def _usable_key(table: TableInfo) -> tuple[str, ...]:
    refused: str | None = None
    for key in table.keys:
        columns = [table.column(name) for name in key]
        if any(c is None or c.nullable for c in columns):
            continue
        kinds = [attribute_type(c.type) for c in columns if c is not None]
        if all(k is not None and k.identifies for k in kinds):
            return key
        refused = ", ".join(f"{c.name} {c.type}" for c in columns if c is not None)
    if refused is not None:
        raise NotSupportedError(
            f"the key ({refused}) of table {table.name} cannot identify rows of a vector index",
            hint="use an integer, text, uuid, date, time, decimal or enum key",
        )
    raise ProgrammingError(
        f"table {table.name} has no key, which a vector index needs to identify rows",
        hint=f"ALTER TABLE {quote(table.name)} ADD PRIMARY KEY (…), or a UNIQUE NOT NULL column",
    )


def _attribute(table: TableInfo, name: str, *, explicit: bool) -> IndexColumn | None:
    column = table.column(name)
    if column is None:
        raise ProgrammingError(
            f'column "{name}" of table {table.name} does not exist',
            hint="columns: " + ", ".join(c.name for c in table.columns),
        )
    kind = attribute_type(column.type)
    if kind is None:
        if explicit:
            raise ProgrammingError(
                f'column "{name}" of type {column.type} cannot be an attribute of a vector index',
                hint="leave it out of INCLUDE; the query may use it all the same",
            )
        return None
    return IndexColumn(column.name, kind)


def _count_option(options: dict[str, object], *names: str) -> int | None:
    for name in names:
        value = options.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 20:
                raise ProgrammingError(f"{name} must be a whole number from 1 on, not {value}")
            return value
    return None


def _recall_option(options: dict[str, object]) -> float | None:
    value = options.get("recall")
    if value is None:
        return None
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise ProgrammingError(f"recall must be above 0 and up to 1, not {value}")
    return number


def spec_to_json(spec: IndexSpec) -> dict[str, Any]:
    """Return a spec as JSON values."""
    return {
        "name": spec.name,
        "schema": spec.schema,
        "table": spec.table,
        "column": spec.column,
        "metric": spec.metric.name,
        "dim": spec.dim,
        "key_count": spec.key_count,
        "columns": [[c.name, c.type.sql] for c in spec.columns],
        "nlist": spec.nlist,
        "recall": spec.recall,
    }


def spec_from_json(data: dict[str, Any], catalog: str) -> IndexSpec:
    """Return the spec that was stored as `data`; OperationalError for a type we do not know.

    `catalog` is what DuckDB calls the file that it was stored in.
    """
    columns: list[IndexColumn] = []
    for name, sql_type in data["columns"]:
        kind = attribute_type(sql_type)
        if kind is None:
            raise OperationalError(
                f'index "{data["name"]}" holds a column of unknown type {sql_type}',
                hint="it was made by another version of hybridq; DROP INDEX and create it again",
            )
        columns.append(IndexColumn(name, kind))
    return IndexSpec(
        name=data["name"],
        schema=data["schema"],
        table=data["table"],
        column=data["column"],
        metric=Metric[data["metric"]],
        dim=data["dim"],
        key_count=data["key_count"],
        columns=tuple(columns),
        nlist=data["nlist"],
        recall=data["recall"],
        catalog=catalog,
    )
