"""A session's transaction: what it wrote, and what must happen when it commits.

Changed keys are logged in the same DuckDB transaction as the write. Between BEGIN and COMMIT an
index whose table was written, or committed to by others since BEGIN, is not used: DuckDB answers
exactly from the transaction's own snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import duckdb

from hybridq.errors import OperationalError
from hybridq.index import maintain
from hybridq.index.capture import Captured, change_of
from hybridq.index.state import IndexState
from hybridq.instance import Instance, Prepared


@dataclass(slots=True)
class Transaction:
    """One transaction of one session; `versions` are those of BEGIN, `failed` what failed."""

    versions: dict[str, int]
    explicit: bool
    failed: str | None = None
    changes: dict[str, list[Captured]] = field(default_factory=dict)
    opaque: set[str] = field(default_factory=set)
    wrote: bool = False
    changed_schema: bool = False
    states: dict[str, IndexState] = field(default_factory=dict)
    dropped: list[IndexState] = field(default_factory=list)

    def begin_write(self, state: IndexState, session: object) -> None:
        """Take the index's table for writing until the end of the transaction.

        Raises OperationalError when another transaction has it, or committed to it since BEGIN.
        """
        if state.writer is not None and state.writer is not session:
            raise OperationalError(
                f"table {state.spec.table} is being written by another connection's transaction",
                hint="retry when it has committed",
            )
        if state.name not in self.versions:
            # The index is younger than this transaction's snapshot: what it holds is not known.
            self.opaque.add(state.name)
        elif self.versions[state.name] != state.version:
            raise OperationalError(
                f"table {state.spec.table} was changed by another connection since this "
                "transaction began (serialization failure)",
                hint="roll back and retry",
            )
        state.writer = session
        self.states[state.name] = state

    def touched(self, state: IndexState) -> bool:
        """Tell whether the transaction sees other rows than the index's snapshot has."""
        return state.name in self.states or self.versions.get(state.name) != state.version

    def record(self, state: IndexState, captured: Captured) -> None:
        """Remember rows that a statement changed."""
        self.changes.setdefault(state.name, []).append(captured)


def versions(instance: Instance) -> dict[str, int]:
    """Return the version of every index."""
    return {s.name: s.version for s in instance.indexes.values()}


def commit(duck: duckdb.DuckDBPyConnection, transaction: Transaction, instance: Instance) -> None:
    """Commit: find what opaque writes changed, log it, COMMIT, publish."""
    # Rows are coded before the lock is taken.
    changes = {
        name: change_of(duck, transaction.states[name].snapshot, captured)
        for name, captured in transaction.changes.items()
        if name in transaction.states and name not in transaction.opaque
    }
    with instance.lock:
        logged: dict[str, Prepared] = {}
        for name, state in transaction.states.items():
            if not _logs(transaction, state, instance):
                continue
            if name in transaction.opaque:
                keys = maintain.difference(duck, state.snapshot)
                if keys is not None:
                    changes[name] = maintain.read_change(duck, state.snapshot, keys)
            if name in changes:
                logged[name] = instance.prepare(duck, state, changes[name])
        duck.execute("COMMIT")
        if transaction.changed_schema:
            instance.epoch += 1  # what others looked up meanwhile was the schema before
        for prepared in logged.values():
            instance.publish(prepared)
        for name in transaction.opaque - logged.keys():
            if name in transaction.states:
                instance.written_beside(transaction.states[name])
        for state in transaction.dropped:
            instance.forget(state)
        if transaction.wrote or transaction.states:
            younger = [s for s in instance.indexes.values() if not _known(transaction, s)]
            catch_up(duck, younger, instance)
    release(transaction)


def _known(transaction: Transaction, state: IndexState) -> bool:
    """Tell whether this very build of the index was there at BEGIN and at our writes."""
    began = transaction.versions.get(state.name)
    ours = transaction.states.get(state.name, state)
    # The upper half of a version counts builds.
    return began is not None and began >> 32 == state.version >> 32 and ours is state


def _logs(transaction: Transaction, state: IndexState, instance: Instance) -> bool:
    """Tell whether the transaction can write the index's log: its snapshot has that table."""
    return instance.index_named(state.name) is state and _known(transaction, state)


def catch_up(
    duck: duckdb.DuckDBPyConnection, states: Iterable[IndexState], instance: Instance
) -> None:
    """Find and log what committed while these indexes were built, so that they missed it.

    Should the process end before, the next open finds it.
    """
    with instance.lock:
        for state in states:
            keys = maintain.difference(duck, state.snapshot)
            if keys is not None:
                change = maintain.read_change(duck, state.snapshot, keys)
                instance.publish(instance.prepare(duck, state, change))
            else:
                instance.written_beside(state)


def release(transaction: Transaction) -> None:
    """Give the tables back that the transaction took for writing."""
    for state in transaction.states.values():
        state.writer = None
