"""A session's transaction: what it began with, what it wrote, and what must happen at COMMIT.

    BEGIN     DuckDB's snapshot and ours of every index are pinned together
    a write   takes its table until the end of the transaction; keys it changes are recorded
    a query   searches the pinned snapshot, in which the current rows of recorded keys stand in
              for their old ones: a private delta that a rollback simply forgets
    COMMIT    logs the keys in the same DuckDB transaction, commits, and publishes

Where keys cannot be recorded, the write is opaque: one pass over the table finds what it changed,
at the next query or at COMMIT, whichever comes first.

An index is marked before COMMIT and no longer when the change is published, so whatever goes wrong
in between (Ctrl-C, no memory) leaves the mark. With the mark of a transaction that ended an index
is stale, and not used before `replay` has found what it missed.
"""

from __future__ import annotations

import itertools
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

import duckdb

from hybridq.errors import Error, OperationalError
from hybridq.index import maintain
from hybridq.index.capture import Captured, OneByOne, change_of
from hybridq.index.delta import Change, fold
from hybridq.index.ivf import Snapshot
from hybridq.index.state import IndexState
from hybridq.index.tail import OneRow
from hybridq.instance import Instance, Prepared
from hybridq.progress import Cancellable
from hybridq.settings import Settings
from hybridq.storage import manifest

log = logging.getLogger(__name__)

_PRIVATE = itertools.count(1)
"""Versions of private views are negative, for caches must not mix them with published ones."""


Writes: TypeAlias = Callable[[], Sequence[IndexState]]
"""Gives the indexes whose table a statement may write."""


class Writer(Protocol):
    """The session that writes."""

    instance: Instance
    settings: Settings

    @property
    def progress(self) -> Cancellable:
        """Tells whether to stop."""


@dataclass(slots=True)
class Pin:
    """One index as a transaction began with it, and as it changed it since.

    `view` is what its queries search, made when one needs it; the rows of `unseen` writes may be
    old in it. `changes` are all writes, `opaque` tells that there are more that nobody
    recorded, `beside` that columns were written that the index does not keep, `aged` that this
    happened after the view got its version: what DuckDB said of its rows is past. `tx` is under
    what the writes of `logged` keys logged them themselves.
    """

    state: IndexState
    version: int
    snapshot: Snapshot
    view: Snapshot | None = None
    unseen: list[Captured] = field(default_factory=list)
    changes: list[Captured] = field(default_factory=list)
    opaque: bool = False
    beside: bool = False
    aged: bool = False
    tx: uuid.UUID | None = None
    logged: int = 0


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction of one session. `failed` says what failed; `states` are written indexes."""

    explicit: bool
    pins: dict[str, Pin] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident)
    failed: str | None = None
    wrote: bool = False
    ended: bool = False
    changed_schema: bool = False
    imported: bool = False
    states: dict[str, IndexState] = field(default_factory=dict)
    dropped: list[IndexState] = field(default_factory=list)

    def begin_write(self, state: IndexState, session: Writer) -> None:
        """Take the index's table for writing until the end of the transaction.

        Raises OperationalError when another transaction keeps it, or committed to it since BEGIN.
        """
        self.lock(state, session)
        pin = self.pins.get(state.name)
        if state.stale and not replay(state, session.instance):
            raise OperationalError(
                f'index "{state.name}" is stale and could not be brought up to date',
                hint=f"REINDEX INDEX {state.name}",
            )
        # An index younger than this transaction is compared with its table after COMMIT.
        if pin is not None and pin.version != state.version:
            raise OperationalError(
                f"table {state.spec.table} was changed by another connection since this "
                "transaction began (serialization failure)",
                hint="roll back and retry",
            )
        state.writer = self
        self.states[state.name] = state

    def lock(self, state: IndexState, session: Writer) -> None:
        """Take the index's table, waiting for another writer to end."""
        table = (state.spec.schema.lower(), state.spec.table.lower())
        timeout_seconds = session.settings.lock_timeout / 1000
        session.instance.locks.acquire(table, self, timeout_seconds, session.progress.check)

    def record(self, state: IndexState, captured: Captured) -> None:
        """Remember rows that a statement changed."""
        pin = self.pins.get(state.name)
        if pin is not None:
            pin.changes.append(captured)
            pin.unseen.append(captured)

    def record_row(self, state: IndexState, row: OneRow) -> None:
        """Remember a row that a statement inserted and logged, with those inserted just before."""
        pin = self.pins[state.name]
        last = pin.unseen[-1] if pin.unseen else None
        if last is not None and last.named is None and isinstance(last.rows, OneByOne):
            last.rows.rows.append(row)
        else:
            inserted = OneByOne(state.spec, [row])
            self.record(state, Captured(None, inserted, fresh=True, logged=True))

    def record_opaque(self, state: IndexState) -> None:
        """Remember that a statement changed rows nobody knows."""
        pin = self.pins.get(state.name)
        if pin is not None:
            pin.opaque = True

    def record_beside(self, state: IndexState) -> None:
        """Remember that columns were written that the index does not keep."""
        pin = self.pins.get(state.name)
        if pin is not None:
            pin.beside = pin.aged = True

    def knows(self, state: IndexState) -> bool:
        """Tell whether this very build of the index was there at BEGIN."""
        pin = self.pins.get(state.name)
        return pin is not None and pin.state is state and not self.has_dropped(state)

    def log_name(self, state: IndexState, keys: int = 1) -> uuid.UUID:
        """Return under what a write logs its `keys` itself, which it is about to do."""
        pin = self.pins[state.name]
        if pin.tx is None:
            pin.tx = manifest.new_transaction()
        pin.logged += keys
        return pin.tx

    def sees(self, state: IndexState) -> bool:
        """Tell whether the transaction can search the index: it was there at BEGIN, and still is.

        An index rebuilt since will do, for its old snapshot is as good.
        """
        pin = self.pins.get(state.name)
        return pin is not None and pin.snapshot.spec == state.spec and not self.has_dropped(state)

    def has_dropped(self, state: IndexState) -> bool:
        """Tell whether this transaction dropped the index's table."""
        return any(dropped.name == state.name for dropped in self.dropped)


def begin(
    duck: duckdb.DuckDBPyConnection, transaction: Transaction, instance: Instance, *, pins: bool
) -> None:
    """Begin in DuckDB; if it `pins`, its snapshot and ours are of the same moment."""
    with instance.lock:
        states = [s for s in instance.indexes.values() if not s.stale or replay(s, instance)]
        duck.execute("BEGIN")
        if pins:
            _pin(duck, instance)
        for state in states:
            transaction.pins[state.name] = Pin(state, state.version, state.snapshot)


def _pin(duck: duckdb.DuckDBPyConnection, instance: Instance) -> None:
    """Take DuckDB's snapshot: it does so when something first touches the file."""
    if instance.indexes:
        # To look a name up takes a fifth of the time of any statement, even of this one:
        duck.get_table_names(f"FROM {manifest.in_catalog(instance.catalog)}")
    else:
        duck.execute("SELECT txid_current()").fetchall()


def view(
    duck: duckdb.DuckDBPyConnection, transaction: Transaction, state: IndexState, instance: Instance
) -> Snapshot:
    """Return the index as the transaction sees it, its own changes included."""
    pin = transaction.pins[state.name]
    if pin.opaque:
        _resolve(duck, pin, instance)
    snapshot = _base(pin, instance)
    if pin.unseen:
        snapshot = fold(snapshot, change_of(duck, snapshot, pin.unseen), -next(_PRIVATE))
        pin.unseen.clear()
    elif pin.aged:
        snapshot = replace(snapshot, version=-next(_PRIVATE))
    pin.aged = False
    pin.view = snapshot
    return snapshot


def seen(transaction: Transaction, state: IndexState, instance: Instance) -> Snapshot | None:
    """Return the index as the transaction sees it, None if that is to be made first."""
    pin = transaction.pins[state.name]
    return None if pin.opaque or pin.unseen else _base(pin, instance)


def _base(pin: Pin, instance: Instance) -> Snapshot:
    """Return the snapshot in which only the rows of `unseen` writes may be old."""
    if pin.view is None:
        with instance.lock:
            state = pin.state
            attached = instance.index_named(state.name) is state and not state.stale
            if attached and state.version == pin.version:
                pin.view = instance.snapshot(state)
        if pin.view is None:
            pin.view = pin.snapshot  # others committed since
    return pin.view


def _resolve(duck: duckdb.DuckDBPyConnection, pin: Pin, instance: Instance) -> None:
    """Find what opaque writes changed."""
    keys = maintain.difference(duck, _base(pin, instance))
    pin.unseen.clear()
    if keys is not None:
        pin.unseen.append(Captured(keys, None))
        pin.changes.append(Captured(keys, None))
    pin.opaque = False
    pin.beside = pin.aged = True


def commit(duck: duckdb.DuckDBPyConnection, transaction: Transaction, instance: Instance) -> None:
    """Commit: find what opaque writes changed, log it, COMMIT, publish."""
    # Rows are coded before the lock is taken.
    coded = {
        name: change_of(duck, pin.state.snapshot, pin.changes)
        for name, pin in transaction.pins.items()
        if pin.changes and not pin.opaque
    }
    with instance.lock:
        logged: list[Prepared] = []
        beside: list[IndexState] = []
        for name, state in transaction.states.items():
            if not _logs(transaction, state, instance):
                continue
            pin = transaction.pins[name]
            if pin.opaque:
                _resolve(duck, pin, instance)
            if pin.changes:
                change = coded.get(name) or change_of(duck, state.snapshot, pin.changes)
                logged.append(_log(duck, pin, change, instance))
            elif pin.beside:
                beside.append(state)
        younger: list[IndexState] = []
        if transaction.wrote or transaction.states:
            younger = [s for s in instance.indexes.values() if not _known(transaction, s)]
        touched = [*(p.state for p in logged), *beside, *younger, *transaction.dropped]
        doubtful = [state for state in touched if state.publishing is None]
        for state in doubtful:
            state.publishing = transaction
        try:
            duck.execute("COMMIT")
        except duckdb.Error:
            # DuckDB rolled back, so nothing is to be published.
            for state in doubtful:
                state.publishing = None
            raise
        instance.commits += 1
        if transaction.changed_schema:
            instance.epoch += 1  # what others looked up meanwhile was the schema before
        for prepared in logged:
            instance.publish(prepared)
        for state in beside:
            instance.written_beside(state)
        for state in transaction.dropped:
            instance.forget(state)
        _find_missed(duck, younger, instance)
        for state in doubtful:
            state.publishing = None
    release(transaction, instance)


def _log(duck: duckdb.DuckDBPyConnection, pin: Pin, change: Change, instance: Instance) -> Prepared:
    """Log the keys of a change that its writes did not log themselves, and prepare it."""
    if pin.tx is None:
        return instance.prepare(duck, pin.state, change)
    rest = [c.keys for c in pin.changes if not c.logged]
    if rest:
        keys = maintain.distinct_keys(pin.state.spec, rest)
        maintain.log_keys(duck, pin.state.name, pin.tx, keys)
        pin.logged += len(keys[0])
    return instance.folded(pin.state, change, pin.tx, pin.logged)


def _known(transaction: Transaction, state: IndexState) -> bool:
    """Tell whether this very build of the index was there at BEGIN and at our writes."""
    pin = transaction.pins.get(state.name)
    # The upper half of a version counts builds.
    return (
        pin is not None
        and pin.version >> 32 == state.version >> 32
        and transaction.states.get(state.name, state) is state
    )


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
        work = _CatchingUp()
        doubtful = list(states)
        for state in doubtful:
            state.publishing = work
        try:
            _find_missed(duck, doubtful, instance)
            for state in doubtful:
                state.publishing = None
        finally:
            work.ended = True


class _CatchingUp:
    ended = False


def _find_missed(
    duck: duckdb.DuckDBPyConnection, states: Iterable[IndexState], instance: Instance
) -> None:
    for state in states:
        keys = maintain.difference(duck, state.snapshot)
        if keys is not None:
            change = maintain.read_change(duck, state.snapshot, keys)
            instance.publish(instance.prepare(duck, state, change))
        else:
            instance.written_beside(state)


def replay(state: IndexState, instance: Instance) -> bool:
    """Bring a stale index up to date from its table; False if that cannot be done now."""
    with instance.lock:
        if not state.stale:
            return True
        try:
            with instance.duck.cursor() as cursor:
                names = [row.name for row in manifest.indexes(cursor)]
                if state.name not in names:  # it was dropped
                    instance.forget(state)
                    return False
                catch_up(cursor, [state], instance)
        except (duckdb.Error, Error, MemoryError, OSError) as error:
            log.warning('index "%s" is stale and not used: %s', state.name, error)
            return False
        return True


def release(transaction: Transaction, instance: Instance) -> None:
    """Give the tables back that the transaction took for writing."""
    transaction.ended = True
    for state in transaction.states.values():
        if state.writer is transaction:
            state.writer = None
    instance.locks.release(transaction)
