"""Statements that write: DuckDB's own, and captured ones of indexed tables.

What cannot be captured is opaque: it runs as it is, and one pass over the table finds what it
changed before COMMIT.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from hybridq.exec.blobs import with_batched_files
from hybridq.exec.bulk import insert_many
from hybridq.exec.by_key import write_by_key
from hybridq.exec.host import Host, Parameters, drop_view, duck_parameters
from hybridq.exec.reader import FileBatches
from hybridq.exec.result import Result
from hybridq.exec.single import insert_one
from hybridq.exec.statements import check_schema
from hybridq.exec.tracking import tracking_of, written_by
from hybridq.exec.transaction import Transaction as Tx
from hybridq.exec.transaction import catch_up
from hybridq.exec.write import Inserted, check_table, run_captured
from hybridq.nodes import Passthrough, Statement, Write

_NOBODY = contextlib.nullcontext()


def run_passthrough(session: Host, statement: Passthrough, parameters: Parameters) -> Result:
    """Run DuckDB's own SQL; one that may write an indexed table is compared before COMMIT."""
    given = duck_parameters(parameters, named=statement.rewritten)
    text, given, views = with_batched_files(session, statement.text, given)
    try:
        return _run_passthrough(session, statement, text, given)
    finally:
        _release(session, views)


def _run_passthrough(session: Host, statement: Passthrough, text: str, given: Any) -> Result:
    if statement.writes is None and not statement.schema_change:
        return session.run_duck(text, given, read=not _begins(text, "COPY"))
    _note_write(session)
    tracking = tracking_of(session, statement)
    if tracking.states and not statement.keeps_rows:
        return _tracked(session, statement, text, given)

    def work(transaction: Tx) -> Result:
        result = session.run_duck(text, given, read=False)
        result.drain()
        session.free_connection()
        if statement.schema_change:
            session.schema_changed()
            check_schema(session, tracking.states, transaction, renames=_begins(text, "ALTER"))
        return result

    if tracking.states:
        return session.in_transaction(work)
    instance = session.instance
    # The schema stays as it is while an index is published.
    alone = instance.lock if statement.schema_change and instance.builder.active else _NOBODY
    with alone:
        result = session.run_duck(text, given, read=False)
        if statement.schema_change:
            result.drain()
            session.schema_changed()
    if session.transaction is None:
        result.drain()
        session.free_connection()
        _catch_up(session, statement)
    if _begins(text, "IMPORT"):
        _note_import(session)
    return result


def _catch_up(session: Host, statement: Statement) -> None:
    """Show a write that committed by itself to an index that was built while it ran."""
    if session.transaction is None:
        with session.instance.lock:
            session.instance.commits += 1
            states = written_by(session, statement)
            if states:
                catch_up(session.duck, states, session.instance)


def _release(session: Host, views: Mapping[str, FileBatches]) -> None:
    """End a statement that read files in batches."""
    if not views:
        return
    try:
        session.free_connection()
    finally:
        session.progress.finish()
        for view in views:
            drop_view(session, view)


def _note_write(session: Host) -> None:
    if session.transaction is not None:
        session.transaction.wrote = True


def _note_import(session: Host) -> None:
    if session.transaction is not None:
        session.transaction.imported = True
    else:
        session.instance.adopt(session.progress)


def _begins(text: str, word: str) -> bool:
    return text.lstrip()[: len(word) + 1].upper() == f"{word} "


def _tracked(session: Host, statement: Passthrough, text: str, given: Any) -> Result:
    """Run a write that stays as it is: what it inserted is looked up, or it is opaque."""

    def work(transaction: Tx) -> Result:
        tracking = tracking_of(session, statement)  # as things are in this transaction's snapshot
        for state in tracking.all:
            transaction.begin_write(state, session)
        inserted = [Inserted(session, s, transaction) for s in tracking.states]
        result = session.run_duck(text, given, read=statement.returns, counts=statement.counts)
        result.drain()
        session.free_connection()
        if statement.schema_change:
            session.schema_changed()
            check_schema(session, tracking.states, transaction, renames=_begins(text, "ALTER"))
        for state, before in zip(tracking.states, inserted, strict=True):
            if transaction.has_dropped(state):
                continue
            captured = before.rows(result.rowcount) if tracking.opaque is None else None
            if captured is not None:
                if result.rowcount:
                    transaction.record(state, captured)
                continue
            check_table(session.duck, state.spec)
            transaction.record_opaque(state)
        for state in tracking.beside:
            transaction.record_beside(state)
        return result

    return session.in_transaction(work, lambda: written_by(session, statement))


def run_write(session: Host, write: Write, parameters: Parameters) -> Result:
    """Run INSERT, UPDATE, DELETE or MERGE; keys of an indexed table's rows are captured."""
    given = duck_parameters(parameters, named=write.rewritten)
    done = insert_one(session, write, given)
    if done is None:
        done = write_by_key(session, write, given)
    if done is not None:
        return done
    _note_write(session)
    text, given, views = with_batched_files(session, write.text, given)
    try:
        return _run_write(session, write, text, given)
    finally:
        _release(session, views)


def _run_write(session: Host, write: Write, text: str, given: Any) -> Result:
    tracking = tracking_of(session, write)
    plain = Passthrough(
        text=text,
        writes=write.table,
        counts=not write.has_returning,
        returns=write.has_returning,
        inserts=write.inserts_query,
        why_opaque=tracking.opaque or "",
    )
    if not tracking.all:
        result = _run_plain(session, write, text, given)
        _catch_up(session, write)
        return result
    if tracking.opaque is not None or (write.inserts_query and not write.has_returning):
        return _tracked(session, plain, text, given)

    def work(transaction: Tx) -> Result:
        now = tracking_of(session, write)  # as things are in this transaction's snapshot
        for state in now.all:
            transaction.begin_write(state, session)
        for state in now.beside:
            transaction.record_beside(state)
        if not now.states:
            return _run_plain(session, write, text, given)
        captured = run_captured(session, write, text, given, now, transaction)
        return Result(captured.fields, captured.rows, rowcount=captured.count)

    return session.in_transaction(work, lambda: written_by(session, write))


def _run_plain(session: Host, write: Write, text: str, given: Any) -> Result:
    result = session.run_duck(text, given, read=write.has_returning, counts=not write.has_returning)
    result.drain()
    session.free_connection()
    return result


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
