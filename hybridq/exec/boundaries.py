"""Where a session's transactions begin and end, whatever happens in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import duckdb

from hybridq.exec import transaction as tx
from hybridq.exec.host import Host, home
from hybridq.exec.result import Result
from hybridq.exec.tracking import written_by
from hybridq.exec.transaction import Transaction, Writes
from hybridq.nodes import CreateIndex, DropIndex, Reindex, Statement


def begin(session: Host, *, explicit: bool, writes: Writes = tuple) -> Transaction:
    """Begin; tables of the indexes that `writes` gives are taken before the snapshot is.

    So a write that had to wait for another one sees what that committed.
    """
    session.transaction = transaction = Transaction(explicit=explicit)
    try:
        states = writes()
        for state in states:
            transaction.lock(state, session)
        # A statement of its own that has its tables sees no other state of them than we pin here.
        pins = explicit or not states
        tx.begin(session.duck, transaction, session.instance, pins=pins)
    except BaseException:
        rollback(session)
        raise
    return transaction


def begin_for(session: Host, statement: Statement) -> None:
    """Begin the transaction of a statement without autocommit, unless one is open."""
    if session.autocommit or session.transaction is not None:
        return
    if isinstance(statement, DropIndex):
        commits = session.instance.index_named(statement.name) is not None
    else:
        commits = isinstance(statement, CreateIndex | Reindex)
    if not commits:  # on their own
        begin(session, explicit=True, writes=lambda: written_by(session, statement))


def commit(session: Host, transaction: Transaction) -> None:
    """Commit, or roll back whatever prevents it."""
    with home(session) if transaction.states else contextlib.nullcontext():
        try:
            tx.commit(session.duck, transaction, session.instance)
        except BaseException:
            rollback(session)
            raise
    session.transaction = None
    if transaction.imported:
        session.instance.adopt(session.progress)


def rollback(session: Host) -> None:
    """Roll back; does nothing outside a transaction."""
    transaction = session.transaction
    if transaction is None:
        return
    try:
        # DuckDB may have rolled back on its own.
        with contextlib.suppress(duckdb.TransactionException):
            session.duck.execute("ROLLBACK")
    finally:
        session.transaction = None
        tx.release(transaction, session.instance)
        session.forget_names()


def in_transaction(
    session: Host, work: Callable[[Transaction], Result], writes: Writes = tuple
) -> Result:
    """Run `work` in the open transaction, or in one of its own."""
    if session.transaction is not None:
        return work(session.transaction)
    transaction = begin(session, explicit=False, writes=writes)
    try:
        result = work(transaction)
        result.drain()
    except BaseException:
        rollback(session)
        raise
    commit(session, transaction)
    return result
