"""How an index learns what a statement changes: captured row by row, or opaque.

A statement that reads alone has no tracking. A write of an indexed table is captured when its keys
can be had from it, and opaque otherwise: it runs as it is, and before COMMIT one pass over the
table finds what it changed. There is nothing in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybridq.exec.host import Host
from hybridq.index.state import IndexState
from hybridq.nodes import AnyTable, Passthrough, Statement, Write
from hybridq.storage.manifest import TableInfo


@dataclass(frozen=True, slots=True)
class Tracking:
    """Indexes whose rows a statement may change, and how they learn of it.

    `kept` are those among them whose vectors stay as they are, `beside` those of the same table
    that the statement cannot concern: it writes none of their columns. `opaque` says why keys
    cannot be told, None where they are captured.
    """

    states: tuple[IndexState, ...] = ()
    beside: tuple[IndexState, ...] = ()
    opaque: str | None = None
    kept: tuple[IndexState, ...] = ()

    @property
    def all(self) -> tuple[IndexState, ...]:
        """Every index of the tables written."""
        return self.states + self.beside


def tracking_of(session: Host, statement: Statement) -> Tracking:
    """Return how the indexes there are learn what `statement` changes."""
    if not session.instance.indexes:
        return Tracking()
    if isinstance(statement, Write):
        return _of_write(session, statement)
    if isinstance(statement, Passthrough) and statement.writes is not None:
        return _of_passthrough(session, statement)
    return Tracking()


def written_by(session: Host, statement: Statement) -> Sequence[IndexState]:
    """Return the indexes whose table the statement takes for writing."""
    if isinstance(statement, Passthrough) and statement.keeps_rows:
        return ()
    return tracking_of(session, statement).all


def _of_write(session: Host, write: Write) -> Tracking:
    if session.has_triggers():
        return Tracking(_all(session), opaque="a trigger may write any table")
    table = session.describe(write.table)
    states = _of(session, table)
    if table is None or not states:
        return Tracking()
    changes = tuple(s for s in states if not _is_beside(write, s, table))
    beside = tuple(s for s in states if s not in changes)
    if any(_assigns_key(write, state) for state in changes):
        return Tracking(changes, beside, opaque="it may change keys")
    if table.collated:
        return Tracking(changes, beside)  # DuckDB's hash of a text depends on it
    kept = tuple(s for s in changes if _leaves(write, table, {s.spec.column.lower()}))
    return Tracking(changes, beside, kept=kept)


def _of_passthrough(session: Host, statement: Passthrough) -> Tracking:
    if isinstance(statement.writes, AnyTable):
        first = statement.text.split(None, 1)[0].upper()
        if statement.keeps_rows and first not in ("DROP", "ALTER"):
            return Tracking()
        return Tracking(_all(session), opaque=statement.why_opaque)
    if session.has_triggers():
        return Tracking(_all(session), opaque="a trigger may write any table")
    assert statement.writes is not None
    states = _of(session, session.describe(statement.writes))
    return Tracking(states, opaque=None if statement.inserts else statement.why_opaque)


def _all(session: Host) -> tuple[IndexState, ...]:
    return tuple(s for s in session.instance.indexes.values() if not _dropped(session, s))


def _of(session: Host, table: TableInfo | None) -> tuple[IndexState, ...]:
    states = session.instance.indexes_of(table) if table is not None else []
    return tuple(s for s in states if not _dropped(session, s))


def _dropped(session: Host, state: IndexState) -> bool:
    return session.transaction is not None and session.transaction.has_dropped(state)


def _assigns_key(write: Write, state: IndexState) -> bool:
    keys = {c.name.lower() for c in state.spec.key_columns}
    return "*" in write.assigned or not keys.isdisjoint(write.assigned)


def _is_beside(write: Write, state: IndexState, table: TableInfo) -> bool:
    """Tell whether an UPDATE assigns none of the index's columns, nor what they follow from."""
    return _leaves(
        write, table, {state.spec.column.lower(), *(c.name.lower() for c in state.spec.columns)}
    )


def _leaves(write: Write, table: TableInfo, columns: set[str]) -> bool:
    """Tell whether an UPDATE leaves columns, and what they follow from, as they are."""
    if write.kind != "UPDATE" or table.generated or "*" in write.assigned:
        return False
    return columns.isdisjoint(write.assigned)


def told(tracking: Tracking) -> list[str]:
    """Return a line for each index, for EXPLAIN."""
    lines = [
        f"Index {s.name}: changed keys are captured."
        if tracking.opaque is None
        else f"Index {s.name}: compared with its table before COMMIT, for {tracking.opaque}."
        for s in tracking.states
    ]
    lines += [f"Index {s.name}: none of its columns is written." for s in tracking.beside]
    return lines
