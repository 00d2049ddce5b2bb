"""Statements of our own: indexes, extensions, settings, EXPLAIN."""

from __future__ import annotations

from collections.abc import Sequence

from hybridq import extensions
from hybridq.definition import unfit
from hybridq.errors import (
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from hybridq.exec.host import Host, home
from hybridq.exec.result import Field, Result, Row
from hybridq.exec.transaction import Transaction
from hybridq.index.state import IndexState
from hybridq.nodes import (
    Analyze,
    CreateExtension,
    CreateIndex,
    DropIndex,
    Reindex,
    ResetSetting,
    SetSetting,
    Show,
    quote,
)
from hybridq.settings import (
    Settings,
    is_setting,
    listing,
    value_text,
    with_setting,
    without_setting,
)
from hybridq.storage import manifest


def refuse_in_transaction(session: Host, what: str) -> None:
    """Raise if a transaction is open: the statement commits on its own."""
    if session.transaction is not None:
        raise NotSupportedError(
            f"{what} cannot run inside a transaction", hint="COMMIT first, or set autocommit"
        )


def create_index(session: Host, node: CreateIndex) -> Result:
    """CREATE INDEX … USING ann."""
    refuse_in_transaction(session, "CREATE INDEX USING ann")
    table = session.describe(node.table)
    if table is None:
        raise ProgrammingError(
            f"table {node.table.sql()} does not exist in this database",
            hint="vector indexes are over tables of the open file, not of attached databases",
        )
    if table.temporary:
        raise NotSupportedError(
            f"a vector index over the temporary table {table.name}",
            hint="create the table without TEMP",
        )
    if session.instance.read_only:
        raise OperationalError("the database is open read-only", hint="open it for writing")
    with home(session):
        session.instance.create_index(session.duck, node, table, session.progress)
    if not session.instance.calibrated:
        name = node.name if node.name is not None else f"{table.name}_{node.column}_ann"
        state = session.instance.index_named(name)
        if state is not None:
            session.instance.calibrate(state)
    return Result(None, [])


def drop_index(session: Host, node: DropIndex) -> Result:
    """DROP INDEX, of ours or of DuckDB's."""
    state = session.instance.index_named(node.name)
    unusable = node.name.lower() in session.instance.unusable
    if state is None and not unusable:
        return session.run_verbatim(node.text)
    refuse_in_transaction(session, "DROP INDEX of a vector index")
    if state is not None:
        with home(session):
            session.instance.drop_index(session.duck, state)
    else:
        with home(session):
            session.instance.drop_unusable(session.duck, node.name)
    return Result(None, [])


def reindex(session: Host, node: Reindex) -> Result:
    """REINDEX an index, or all of a table."""
    refuse_in_transaction(session, "REINDEX")
    timeout_seconds = session.settings.lock_timeout / 1000
    if node.kind == "index":
        session.instance.reindex(node.name, session.progress, timeout_seconds)
        return Result(None, [])
    usable = [s.spec for s in session.instance.indexes.values()]
    specs = [
        s
        for s in (*usable, *session.instance.unusable.values())
        if s.table.lower() == node.name.lower()
    ]
    if not specs:
        raise ProgrammingError(f'table "{node.name}" has no vector index')
    for spec in specs:
        session.instance.reindex(spec.name, session.progress, timeout_seconds)
    return Result(None, [])


def analyze(session: Host, node: Analyze) -> Result:
    """ANALYZE: DuckDB's statistics, the stopping rules and the planner's unit costs anew."""
    result = session.run_verbatim(node.text)
    result.drain()
    states = list(session.instance.indexes.values())
    if node.table is not None:
        table = session.describe(node.table)
        states = session.instance.indexes_of(table) if table is not None else []
    if states and session.transaction is None:
        for state in states if not session.instance.read_only else ():
            session.instance.recalibrate(state, session.progress)
        largest = max(states, key=lambda s: s.snapshot.live_rows)
        session.instance.calibrate(largest)
    return Result(None, [])


def create_extension(session: Host, node: CreateExtension) -> Result:
    """CREATE EXTENSION."""
    name = node.name.lower()
    functions = session.instance.functions
    # Loading an extension again changes nothing, with or without IF NOT EXISTS.
    extensions.load(name)(functions)
    functions.create_macros(session.duck)
    if name in extensions.BUILT_IN:
        return Result(None, [])
    manifest.create_manifest(session.duck)
    manifest.put_extension(session.duck, name)
    for macro in functions.macros:
        if macro.schema is not None:
            session.duck.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(macro.schema)}")
            session.duck.execute(macro.sql())
    session.schema_changed()
    return Result(None, [])


def set_setting(session: Host, node: SetSetting) -> Result:
    """SET of ours changes the session; others are DuckDB's."""
    if is_setting(node.name):
        _use(session, with_setting(session.settings, node.name, node.value))
        return Result(None, [])
    session.run_verbatim(node.text).drain()
    return Result(None, [])


def _use(session: Host, settings: Settings) -> None:
    if settings.merge_memory != session.settings.merge_memory:
        session.instance.merger.memory_bytes = settings.merge_memory
    session.settings = settings


def reset_setting(session: Host, node: ResetSetting) -> Result:
    """RESET of ours goes back to the default; others are DuckDB's."""
    if is_setting(node.name):
        _use(session, without_setting(session.settings, node.name))
        return Result(None, [])
    session.run_verbatim(node.text).drain()
    return Result(None, [])


def show(session: Host, node: Show) -> Result:
    """SHOW INDEXES, SHOW SETTINGS, SHOW name; others are DuckDB's."""
    if node.name == "indexes":
        return _show_indexes(session)
    if node.name == "settings":
        names = ("name", "value", "default", "description")
        rows: list[Row] = list(listing(session.settings))
        return Result([Field(n, "VARCHAR") for n in names], rows)
    if is_setting(node.name):
        value = value_text(session.settings, node.name)
        return Result([Field(node.name.rpartition(".")[2], "VARCHAR")], [(value,)])
    return session.run_verbatim(node.text)


def _show_indexes(session: Host) -> Result:
    fields = [
        Field("name", "VARCHAR"),
        Field("table", "VARCHAR"),
        Field("column", "VARCHAR"),
        Field("metric", "VARCHAR"),
        Field("dim", "INTEGER"),
        Field("nlist", "INTEGER"),
        Field("rows", "BIGINT"),
        Field("delta_rows", "BIGINT"),
        Field("size_bytes", "BIGINT"),
        Field("attributes", "VARCHAR[]"),
    ]
    rows: list[Row] = []
    for state in sorted(session.instance.indexes.values(), key=lambda s: s.name):
        spec, snapshot = state.spec, session.instance.snapshot(state)
        rows.append(
            (
                spec.name,
                f"{spec.schema}.{spec.table}",
                spec.column,
                spec.metric.name.lower(),
                spec.dim,
                snapshot.parts[0].nlist,
                snapshot.live_rows,
                snapshot.delta_rows,
                snapshot.size_bytes,
                [c.name for c in spec.columns],
            )
        )
    return Result(fields, rows)


# -- schema changes, bulk writes ---------------------------------------------


def check_schema(
    session: Host, states: Sequence[IndexState], transaction: Transaction, *, renames: bool
) -> None:
    """After DDL: forget indexes of dropped tables, refuse changes an index depends on.

    `renames` tells that a table which is gone was renamed, not dropped.
    """
    for state in states:
        why = unfit(state.spec, session.duck)
        if why == "dropped" and renames:
            why = "the name"
        if why == "dropped":
            with home(session):
                manifest.remove_index(session.duck, state.name)
            transaction.dropped.append(state)
            transaction.states.pop(state.name, None)
        elif why is not None:
            raise NotSupportedError(
                f"the statement changes {why} of table {state.spec.table}, on which index "
                f'"{state.name}" depends',
                hint=f"DROP INDEX {state.name} first, and create it again afterwards",
            )
