"""Statements that write: DuckDB's own, and captured ones of indexed tables.

What cannot be captured is opaque: it runs as it is, and one pass over the table finds what it
changed before COMMIT.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import duckdb

from hybridq.exec.blobs import name_file, with_batched_files
from hybridq.exec.bulk import insert_many
from hybridq.exec.host import Host, Parameters, drop_view, duck_parameters
from hybridq.exec.reader import FileBatches
from hybridq.exec.result import Result
from hybridq.exec.statements import check_schema
from hybridq.exec.transaction import Transaction as Tx
from hybridq.exec.transaction import catch_up
from hybridq.exec.write import check_table, is_opaque, run_captured
from hybridq.index.state import IndexState
from hybridq.nodes import AnyTable, Passthrough, Statement, TableName, Write
from hybridq.storage.manifest import TableInfo


def run_passthrough(session: Host, statement: Passthrough, parameters: Parameters) -> Result:
    """Run DuckDB's own SQL; one that may write an indexed table is compared before COMMIT."""
    given = duck_parameters(parameters, named=statement.rewritten)
    text, given, views = with_batched_files(session, statement.text, given)
    try:
        with _files_named(session, views):
            return _run_passthrough(session, statement, text, given)
    finally:
        _release(session, views)


def _run_passthrough(session: Host, statement: Passthrough, text: str, given: Any) -> Result:
    if statement.writes is None and not statement.schema_change:
        return session.run_duck(text, given, read=not _words(text).startswith("COPY "))
    _note_write(session)
    states = _written_by(session, statement)
    if states and not (statement.schema_change and _keeps_rows(statement.text)):
        return _opaque(session, statement, text, given)

    def work(transaction: Tx) -> Result:
        result = session.run_duck(text, given, read=False)
        result.drain()
        session.free_connection()
        if statement.schema_change:
            session.schema_changed()
            _check_schema(session, statement, states, transaction)
        return result

    if states:
        return session.in_transaction(work)
    result = session.run_duck(text, given, read=False)
    if statement.schema_change:
        result.drain()
        session.schema_changed()
    elif statement.writes is not None and session.transaction is None:
        result.drain()
        session.free_connection()
        _catch_up(session, lambda: _written_by(session, statement))
    return result


def _catch_up(session: Host, written: Callable[[], list[IndexState]]) -> None:
    """Show a write that committed by itself to an index that was built while it ran."""
    if session.transaction is None:
        with session.instance.lock:
            states = written()
            if states:
                catch_up(session.duck, states, session.instance)


@contextlib.contextmanager
def _files_named(session: Host, views: Mapping[str, FileBatches]) -> Iterator[None]:
    """Name the file in an error about one of the images that `views` read."""
    try:
        yield
    except duckdb.Error as error:
        own = session.failed(error)
        name_file(session, own, views)
        raise own from error


def _release(session: Host, views: Mapping[str, FileBatches]) -> None:
    """End a statement that read files in batches."""
    if views:
        session.free_connection()
        session.progress.finish()
    for view in views:
        drop_view(session, view)


def _note_write(session: Host) -> None:
    if session.transaction is not None:
        session.transaction.wrote = True


def _words(text: str) -> str:
    return " ".join(text.upper().split())


def _keeps_rows(text: str) -> bool:
    """Tell whether DDL leaves the rows of tables that stay as they are."""
    words = _words(text)
    first = words.partition(" ")[0]
    return first in ("DROP", "ALTER", "COMMENT") or (
        first == "CREATE" and not words.startswith("CREATE OR REPLACE")
    )


def _written_by(session: Host, statement: Passthrough) -> list[IndexState]:
    """Return the indexes whose table the statement may write or alter."""
    if statement.writes is None or not session.instance.indexes:
        return []
    if isinstance(statement.writes, AnyTable):
        words = _words(statement.text)
        first = words.partition(" ")[0]
        harmless = first in ("ATTACH", "DETACH", "COMMENT") or (
            first == "CREATE" and not words.startswith("CREATE OR REPLACE")
        )
        return [] if harmless else list(session.instance.indexes.values())
    if session.has_triggers():
        return list(session.instance.indexes.values())
    table = session.describe(statement.writes)
    return session.instance.indexes_of(table) if table is not None else []


def _opaque(session: Host, statement: Passthrough, text: str, given: Any) -> Result:
    """Run a write whose rows cannot be captured: its changes are found before COMMIT."""

    def work(transaction: Tx) -> Result:
        states = _written_by(session, statement)  # as they are in this transaction's snapshot
        for state in states:
            transaction.begin_write(state, session)
        result = session.run_duck(text, given, read=False, counts=statement.counts)
        result.drain()
        session.free_connection()
        if statement.schema_change:
            session.schema_changed()
            _check_schema(session, statement, states, transaction)
        for state in states:
            if state not in transaction.dropped:
                check_table(session.duck, state.spec)
                transaction.opaque.add(state.name)
        return result

    return session.in_transaction(work)


def _check_schema(
    session: Host, statement: Passthrough, states: list[IndexState], transaction: Tx
) -> None:
    renames = _words(statement.text).startswith("ALTER ")
    check_schema(session, states, transaction, renames=renames)


def run_write(session: Host, write: Write, parameters: Parameters) -> Result:
    """Run INSERT, UPDATE or DELETE; keys of an indexed table's rows are captured."""
    given = duck_parameters(parameters, named=write.rewritten)
    table = session.describe(write.table)
    _note_write(session)
    text, given, views = with_batched_files(session, write.text, given)
    try:
        with _files_named(session, views):
            return _run_write(session, write, text, given, table)
    finally:
        _release(session, views)


def _run_write(
    session: Host, write: Write, text: str, given: Any, table: TableInfo | None
) -> Result:
    def written() -> list[IndexState]:
        return session.instance.indexes_of(table) if table is not None else []

    def plain(writes: TableName | AnyTable) -> Passthrough:
        return Passthrough(text=text, writes=writes, counts=not write.has_returning)

    if session.instance.indexes and session.has_triggers():
        # A trigger may write any table, and RETURNING does not show it.
        return _opaque(session, plain(AnyTable()), text, given)
    if not written():
        result = session.run_duck(
            text, given, read=write.has_returning, counts=not write.has_returning
        )
        result.drain()
        session.free_connection()
        _catch_up(session, written)
        return result
    if is_opaque(write, written()):
        return _opaque(session, plain(write.table), text, given)

    def work(transaction: Tx) -> Result:
        states = written()  # as they are in this transaction's snapshot
        captured = run_captured(session.duck, write, text, given, states, transaction, session)
        return Result(captured.fields, captured.rows, rowcount=captured.count)

    return session.in_transaction(work)


def run_many(session: Host, statement: Statement, rows: Sequence[Parameters]) -> Result:
    """Run one statement for each set of parameters, all in one transaction."""
    if isinstance(statement, Write) and statement.single_values is not None:
        done = insert_many(session, statement, rows)
        if done is not None:
            return done

    def work(_: Tx) -> Result:
        total = 0
        for parameters in rows:
            result = session.run_statement(statement, parameters)
            result.drain()
            total += max(0, result.rowcount)
        return Result(None, [], rowcount=total)

    return session.in_transaction(work) if rows else Result(None, [], rowcount=0)
