"""A session's transaction: what it wrote, and what must happen when it commits.

Changed keys are logged in the same DuckDB transaction as the write. Between BEGIN and COMMIT an
index whose table was written, or committed to by others since BEGIN, is not used: DuckDB answers
exactly from the transaction's own snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from hybridq.errors import OperationalError
from hybridq.index import maintain
from hybridq.index.state import IndexState
from hybridq.instance import Instance


@dataclass(slots=True)
class Transaction:
    """One transaction of one session; `versions` are those of BEGIN, `failed` what failed."""

    versions: dict[str, int]
    explicit: bool
    failed: str | None = None
    changes: dict[str, list[list[pa.Array]]] = field(default_factory=dict)
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

    def record(self, state: IndexState, keys: list[pa.Array]) -> None:
        """Remember keys that a statement changed."""
        self.changes.setdefault(state.name, []).append(keys)


def versions(instance: Instance) -> dict[str, int]:
    """Return the version of every index."""
    return {s.name: s.version for s in instance.indexes.values()}


def commit(
    duck: duckdb.DuckDBPyConnection, transaction: Transaction, instance: Instance
) -> list[IndexState]:
    """Commit: find what opaque writes changed, log it, COMMIT, publish. Returns changed indexes."""
    with instance.lock:
        logged: dict[str, list[pa.Array]] = {}
        for name, state in transaction.states.items():
            if not _logs(transaction, state, instance):
                continue
            if name in transaction.opaque:
                keys = maintain.difference(duck, instance.snapshot(state))
            else:
                logs = transaction.changes.get(name)
                keys = maintain.distinct_keys(state.spec, logs) if logs else None
            if keys is not None:
                logged[name] = keys
                instance.log_changes(duck, state, keys)
        duck.execute("COMMIT")
        if transaction.changed_schema:
            instance.epoch += 1  # what others looked up meanwhile was the schema before
        changed: list[IndexState] = []
        for name, keys in logged.items():
            state = transaction.states[name]
            instance.committed(state, keys)
            changed.append(state)
        for name in transaction.opaque - logged.keys():
            if name in transaction.states:
                instance.written_beside(transaction.states[name])
        for state in transaction.dropped:
            instance.forget(state)
        if transaction.wrote or transaction.states:
            younger = [s for s in instance.indexes.values() if not _known(transaction, s)]
            catch_up(duck, younger, instance)
    release(transaction)
    return changed


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
            keys = maintain.difference(duck, instance.snapshot(state))
            if keys is not None:
                instance.log_changes(duck, state, keys)
                instance.committed(state, keys)
            else:
                instance.written_beside(state)


def release(transaction: Transaction) -> None:
    """Give the tables back that the transaction took for writing."""
    for state in transaction.states.values():
        state.writer = None
