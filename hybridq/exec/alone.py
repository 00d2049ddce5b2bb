"""A write of one row that is a transaction of its own: one statement, which logs what it changes.

What it will publish is made before it runs, and it is published when it has; so there is no BEGIN
and no COMMIT beside it. As with any COMMIT, an index is marked meanwhile: see `transaction`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from hybridq.exec import transaction as tx
from hybridq.exec.host import Host
from hybridq.exec.result import Result
from hybridq.exec.transaction import Transaction
from hybridq.index.state import IndexState
from hybridq.instance import Prepared


@dataclass(frozen=True, slots=True)
class Ready:
    """A statement, what it changes of indexes, and how many rows it writes then, None for any.

    `beside` are the indexes of which it writes no column.
    """

    statement: duckdb.Statement
    given: Any
    changes: Sequence[Prepared]
    count: int | None = 1
    beside: Sequence[IndexState] = ()


def run_alone(
    session: Host, states: Sequence[IndexState], epoch: int, ready: Callable[[], Ready]
) -> Result | None:
    """Take the tables of `states` and run what `ready` gives then; None if nothing was done.

    `epoch` is that of the schema the statement was planned for.
    """
    transaction = Transaction(explicit=False)
    try:
        for state in states:
            transaction.lock(state, session)
        with session.instance.lock:
            result = _run(session, transaction, states, epoch, ready)
        tx.release(transaction, session.instance)
    except BaseException:
        tx.release(transaction, session.instance)
        raise
    return result


def _run(
    session: Host,
    transaction: Transaction,
    states: Sequence[IndexState],
    epoch: int,
    ready: Callable[[], Ready],
) -> Result | None:
    instance = session.instance
    if instance.epoch != epoch or any(s.publishing is not None for s in states):
        return None
    found = ready()
    instance.commits += 1
    for state in states:
        state.publishing = transaction
    try:
        count = session.duck.execute(found.statement, found.given).fetchall()[0][0]
    except duckdb.InterruptException:
        raise  # nobody knows when it came: before the statement committed, or after
    except duckdb.Error:
        for state in states:
            state.publishing = None
        raise
    # Else it stays marked, for the index is not what the table was.
    if found.count is None or count == found.count:
        for one in found.changes:
            instance.publish(one)
        for state in found.beside if count else ():
            instance.written_beside(state)
        for state in states:
            state.publishing = None
    return Result(None, [], rowcount=count)


def parsed(session: Host, text: str) -> duckdb.Statement:
    """Parse a statement once for all its rows: that is a tenth of the time one takes."""
    (statement,) = session.duck.extract_statements(text)
    return statement
