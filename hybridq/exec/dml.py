"""Statements that write: DuckDB's own, and captured ones of indexed tables.

What cannot be captured is opaque: it runs as it is, and one pass over the table finds what it
changed before COMMIT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybridq.exec.blobs import with_batched_files
from hybridq.exec.bulk import insert_many
from hybridq.exec.host import Host, Parameters, duck_parameters
from hybridq.exec.result import Result
from hybridq.exec.statements import check_schema, has_triggers
from hybridq.exec.transaction import Transaction as Tx
from hybridq.exec.write import check_table, is_opaque, run_captured
from hybridq.instance import IndexState
from hybridq.nodes import AnyTable, Passthrough, Statement, Write


def run_passthrough(session: Host, statement: Passthrough, parameters: Parameters) -> Result:
    """Run DuckDB's own SQL; one that may write an indexed table is compared before COMMIT."""
    given = duck_parameters(parameters, named=statement.rewritten)
    text, given, views = with_batched_files(session, statement.text, given)
    try:
        states = _written_by(session, statement)
        if not states and not statement.schema_change:
            is_read = statement.writes is None
            return session.run_duck(text, given, read=is_read)
        if not states:
            result = session.run_duck(text, given, read=False)
            result.drain()
            session.schema_changed()
            return result
        return _opaque(session, statement, text, given, states)
    finally:
        if views:
            session.free_connection()
            session.progress.finish()
        for view in views:
            session.duck.unregister(view)


def _written_by(session: Host, statement: Passthrough) -> list[IndexState]:
    """Return the indexes whose table the statement may write or alter."""
    if statement.writes is None or not session.instance.indexes:
        return []
    if isinstance(statement.writes, AnyTable):
        first = statement.text.split(None, 1)[0].upper() if statement.text.split() else ""
        harmless = first in ("CREATE", "ATTACH", "DETACH", "COMMENT") and (
            " OR REPLACE " not in f" {' '.join(statement.text.upper().split())} "
        )
        return [] if harmless else list(session.instance.indexes.values())
    table = session.describe(statement.writes)
    return session.instance.indexes_of(table) if table is not None else []


def _opaque(
    session: Host, statement: Passthrough, text: str, given: Any, states: list[IndexState]
) -> Result:
    """Run a write whose rows cannot be captured: its changes are found before COMMIT."""

    def work(transaction: Tx) -> Result:
        for state in states:
            transaction.begin_write(state, session)
        result = session.run_duck(text, given, read=False)
        result.drain()
        session.free_connection()
        if statement.schema_change:
            session.schema_changed()
            renames = statement.text.split(None, 1)[0].upper() == "ALTER"
            check_schema(session, states, transaction, renames=renames)
        for state in states:
            if state in transaction.dropped:
                continue
            check_table(session.duck, state.spec)
            transaction.opaque.add(state.name)
        return result

    return session.in_transaction(work)


def run_write(session: Host, write: Write, parameters: Parameters) -> Result:
    """Run INSERT, UPDATE or DELETE; keys of an indexed table's rows are captured."""
    given = duck_parameters(parameters, named=write.rewritten)
    table = session.describe(write.table)
    states = session.instance.indexes_of(table) if table is not None else []
    text, given, views = with_batched_files(session, write.text, given)
    try:
        if not states:
            result = session.run_duck(text, given, read=write.has_returning)
            result.drain()
            session.free_connection()
            return result
        if is_opaque(write, states) or has_triggers(session, table):
            plain = Passthrough(text=text, writes=write.table)
            return _opaque(session, plain, text, given, states)

        def work(transaction: Tx) -> Result:
            written = run_captured(
                session.duck.execute, write, text, given, states, transaction, session
            )
            return Result(written.fields, written.rows, rowcount=written.count)

        return session.in_transaction(work)
    finally:
        if views:
            session.progress.finish()
        for view in views:
            session.duck.unregister(view)


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
