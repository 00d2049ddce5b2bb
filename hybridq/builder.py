"""Builds indexes while their tables are read and written.

    read      the table, in one snapshot of DuckDB's
    build     a segment of its rows, which takes nearly all of the time: nobody waits for it
    publish   in one transaction of DuckDB's the manifest names the segment, and what was committed
              since the snapshot goes to the index's log; then the index is there

Commits wait while it is published: for one pass over the table, if any came meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import duckdb

from hybridq.definition import unfit
from hybridq.errors import OperationalError
from hybridq.index import maintain
from hybridq.index.delta import Change
from hybridq.index.generation import Generation
from hybridq.index.ivf import IndexSpec, Part, Snapshot
from hybridq.index.locks import TableLocks
from hybridq.index.state import IndexState
from hybridq.progress import Cancellable
from hybridq.segments import Store, build_segment, name_segment
from hybridq.storage import manifest

_SLICE_SECONDS = 0.05


class Owner(Protocol):
    """The instance whose indexes are built; `commits` counts the commits that may have written."""

    store: Store
    locks: TableLocks
    indexes: dict[str, IndexState]
    unusable: dict[str, IndexSpec]
    epoch: int
    commits: int

    def index_named(self, name: str) -> IndexState | None:
        """Return the index called `name`."""

    def log(
        self, duck: duckdb.DuckDBPyConnection, state: IndexState, change: Change
    ) -> Callable[[], None]:
        """Log a change in the caller's transaction; return what publishes it."""


@dataclass(eq=False)
class _Locker:
    thread: int = field(default_factory=threading.get_ident)


@dataclass(frozen=True, slots=True)
class _Built:
    part: Part
    generation: Generation
    as_of: tuple[int, int]


class Builder:
    """Builds the indexes of one database, those of different names at the same time."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._versions = itertools.count(1)
        self._changed = threading.Condition(threading.Lock())
        self._names: weakref.WeakValueDictionary[str, _Locker] = weakref.WeakValueDictionary()

    @property
    def active(self) -> bool:
        """Whether an index is being built."""
        return bool(self._names)

    @contextlib.contextmanager
    def naming(self, name: str, progress: Cancellable) -> Iterator[None]:
        """Keep a name to the caller; wait while others build the index."""
        key, mine = name.lower(), _Locker()
        with self._changed:
            while key in self._names:
                self._changed.wait(_SLICE_SECONDS)
                progress.check()
            self._names[key] = mine
        try:
            yield
        finally:  # should Ctrl-C come just here, `mine` goes, and the name with it
            with self._changed:
                self._names.pop(key, None)
                self._changed.notify_all()

    def build(
        self,
        spec: IndexSpec,
        progress: Cancellable,
        *,
        old: IndexState | None = None,
        timeout_seconds: float = 0.0,
    ) -> None:
        """Build an index from its table, in the place of `old` if there is one; call in `naming`.

        Transactions that write the table of `old` must end before it is replaced: OperationalError
        if they have not after `timeout_seconds`. A failure leaves everything as it was.
        """
        built = self._build(spec, progress)
        try:
            with self._taken(old, timeout_seconds, progress):
                self._publish(spec, built, old)
        except BaseException:
            if not self._is_named(built.part):
                assert built.part.segment is not None
                self._owner.store.remove([built.part.segment])
            raise

    def _now(self) -> tuple[int, int]:
        return self._owner.commits, self._owner.epoch

    def _build(self, spec: IndexSpec, progress: Cancellable) -> _Built:
        store = self._owner.store
        with store.transaction() as cursor:
            with store.lock:
                # Reading something takes DuckDB's snapshot.
                row = manifest.first_row(cursor, f"SELECT count(*) FROM {spec.table_name.sql()}")
                as_of = self._now()
            part, generation = build_segment(
                cursor, spec, store, progress, total=int(row[0]) if row else None
            )
        return _Built(part, generation, as_of)

    @contextlib.contextmanager
    def _taken(
        self, old: IndexState | None, timeout_seconds: float, progress: Cancellable
    ) -> Iterator[None]:
        """Have nobody merge an index nor write its table: to a log that goes, none could commit."""
        if old is None:
            yield
            return
        locker = _Locker()
        with old.merging, contextlib.ExitStack() as stack:
            # Said before the table is taken: Ctrl-C may come between any two lines.
            stack.callback(self._owner.locks.release, locker)
            self._take(old, locker, timeout_seconds, progress)
            yield

    def _take(
        self, old: IndexState, locker: _Locker, timeout_seconds: float, progress: Cancellable
    ) -> None:
        table = (old.spec.schema.lower(), old.spec.table.lower())
        try:
            self._owner.locks.acquire(table, locker, timeout_seconds, progress.check)
        except OperationalError as error:
            raise OperationalError(
                f'index "{old.name}" cannot be rebuilt: {error.message}',
                hint="commit or roll back there first, or raise SET lock_timeout",
            ) from error

    def _publish(self, spec: IndexSpec, built: _Built, old: IndexState | None) -> None:
        owner, store = self._owner, self._owner.store
        # No version comes twice, for an index dropped and made again neither.
        version = next(self._versions) << 32
        snapshot = Snapshot(
            spec=spec, parts=(built.part,), version=version, generation=built.generation
        )
        state = IndexState(spec=spec, snapshot=snapshot, version=version)
        with store.lock, store.transaction() as cursor:
            if owner.index_named(spec.name) is not old:
                raise OperationalError(f'index "{spec.name}" was dropped while it was built')
            why = unfit(spec, cursor)
            if why is not None:
                what = "the table was dropped" if why == "dropped" else f"{why} was changed"
                raise OperationalError(
                    f'index "{spec.name}" was not built: {what} meanwhile', hint="create it again"
                )
            before = manifest.segments(cursor, spec.name) if manifest.version(cursor) else []
            name_segment(cursor, built.part)
            publish = None
            if built.as_of != self._now():
                missed = maintain.difference(cursor, snapshot)
                if missed is not None:
                    change = maintain.read_change(cursor, snapshot, missed)
                    publish = owner.log(cursor, state, change)
            try:
                cursor.execute("COMMIT")
                self._show(state, publish)
            except BaseException:
                if self._is_named(built.part):  # Ctrl-C came after COMMIT
                    self._show(state, publish)
                raise
        store.remove([row.segment for row in before])

    def _show(self, state: IndexState, publish: Callable[[], None] | None) -> None:
        owner, name = self._owner, state.name.lower()
        if publish is not None and not state.published:
            publish()  # first: readers take no lock
        owner.indexes[name] = state
        owner.unusable.pop(name, None)
        owner.epoch += 1

    def _is_named(self, part: Part) -> bool:
        with self._owner.store.duck.cursor() as cursor:
            known = manifest.version(cursor) is not None
            return known and part.segment in manifest.all_segments(cursor)
