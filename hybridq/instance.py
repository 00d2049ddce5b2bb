"""An open database: DuckDB, its vector indexes, and what all its connections share.

    album.duckdb            the tables, and ours in the schema `hybridq` (storage.manifest)
    album.duckdb.hybridq/   segment files, and state.json: the file's signature at our last close

One Instance exists per file and process; every Connection works on a DuckDB cursor of its own.
An index is published by replacing `IndexState.snapshot`, one reference assignment under `lock`.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from hybridq import definition, extensions
from hybridq.builder import Builder
from hybridq.errors import DamagedError, Error, OperationalError, ProgrammingError
from hybridq.functions import Functions
from hybridq.index import maintain
from hybridq.index.delta import Change, fold
from hybridq.index.ivf import IndexSpec, Snapshot
from hybridq.index.locks import TableLocks
from hybridq.index.measure import unit_costs
from hybridq.index.state import IndexState
from hybridq.merger import Merger
from hybridq.nodes import CreateIndex
from hybridq.pipelines import StoredObjects
from hybridq.plan.calibration import calibrated
from hybridq.plan.cost import REFERENCE
from hybridq.progress import Cancellable, NoProgress, Progress
from hybridq.recovery import Recovery
from hybridq.segments import Store, recalibrate, remove_leftovers
from hybridq.storage import manifest, signature
from hybridq.storage.database import open_duckdb
from hybridq.storage.files import OsFiles
from hybridq.storage.manifest import TableInfo

log = logging.getLogger(__name__)

MEMORY = ":memory:"
_WAIT_FOR_WRITERS_SECONDS = 5.0
_open: dict[str, Instance] = {}
_open_lock = threading.Lock()


def open_instance(path: str, *, read_only: bool = False) -> Instance:
    """Open a database file, or share the instance that has it open in this process."""
    if path == MEMORY or path == "":
        return Instance(MEMORY, read_only=False)
    resolved = str(Path(path).expanduser().resolve())
    with _open_lock:
        instance = _open.get(resolved)
        if instance is not None:
            if instance.read_only != read_only:
                mode = "read-only" if instance.read_only else "for writing"
                raise OperationalError(
                    f"{path} is already open {mode} in this process",
                    hint="close that connection first, or open it the same way",
                )
            instance.users += 1
            return instance
        instance = Instance(resolved, read_only=read_only)
        _open[resolved] = instance
        return instance


@dataclass(frozen=True, slots=True)
class Prepared:
    """A change of an index that is logged, and what is published once it is committed."""

    state: IndexState
    snapshot: Snapshot
    version: int
    tx: uuid.UUID
    rows: int


class Instance:
    """See the module's text. `lock` guards indexes and their publication."""

    def __init__(self, path: str, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.users = 1
        self.lock = threading.RLock()
        self.locks = TableLocks()
        self.indexes: dict[str, IndexState] = {}
        self.unusable: dict[str, IndexSpec] = {}
        self.epoch = 0
        self.commits = 0
        self.notices: list[str] = []
        self.unit = REFERENCE
        self.calibrated = False
        before = signature.signature(OsFiles(), Path(path))
        self.duck = open_duckdb(path, read_only=read_only)
        row = manifest.first_row(self.duck, "SELECT current_database()")
        self.catalog: str = row[0] if row is not None else ""
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if path == MEMORY:
            self._temporary = tempfile.TemporaryDirectory(prefix="hybridq-")
            self.directory = Path(self._temporary.name)
        else:
            self.directory = Path(path + ".hybridq")
        self.store = Store(self.duck, OsFiles(), self.directory, self.lock)
        self.merger = Merger(self, read_only=read_only)
        self.builder = Builder(self)
        self.objects = StoredObjects(self.duck, read_only=read_only)
        self.functions = Functions(self.duck, self.objects)
        try:
            for name in extensions.BUILT_IN:
                if name in extensions.installed():
                    extensions.load(name)(self.functions)
            self._load(before)
        except BaseException:
            self.duck.close()
            raise

    # -- opening and closing --------------------------------------------------

    def _load(self, before: list[int]) -> None:
        version = manifest.version(self.duck)
        if manifest.has_table(self.duck, "extensions"):
            for name in manifest.extensions(self.duck):
                extensions.load(name)(self.functions)
        if version == manifest.VERSION:
            if not self.read_only:
                manifest.create_manifest(self.duck)
            costs = manifest.calibration(self.duck)
            self.unit, self.calibrated = calibrated(costs), bool(costs)
        trusted = self.path == MEMORY or before == signature.recorded(
            self.store.files, self.directory
        )
        recovery = Recovery(
            self.store,
            self.notice,
            catalog=self.catalog,
            read_only=self.read_only,
            trusted=trusted,
        )
        found = recovery.run()
        self.indexes |= found.indexes
        self.unusable |= found.unusable
        if found.verified and not self.read_only and self.path != MEMORY:
            remove_leftovers(self.duck, self.store)
        if self.indexes:
            self.merger.wake()

    def close(self) -> None:
        """Leave the instance; the last user closes it."""
        with _open_lock:
            self.users -= 1
            if self.users > 0:
                return
            _open.pop(self.path, None)
        self.merger.close()
        self.objects.save()
        self.functions.close()
        self.indexes.clear()
        try:
            self.duck.close()
            files = self.store.files
            written = self.path != MEMORY and not self.read_only
            if written and files.stat(self.directory) is not None:
                if self.unusable:
                    # Writes to its table were not captured.
                    signature.forget(files, self.directory)
                else:
                    signature.record(files, self.directory, Path(self.path))
        except Error as error:
            # All is committed; without a signature the next open compares tables with indexes.
            log.warning("the state of the indexes was not recorded: %s", error.message)
        finally:
            if self._temporary is not None:
                shutil.rmtree(self._temporary.name, ignore_errors=True)
                self._temporary.cleanup()

    def states(self) -> list[IndexState]:
        """Return the indexes that are open."""
        return [*self.indexes.values()]

    def notice(self, message: str) -> None:
        """Say what the user should know of the database."""
        log.warning("%s", message)
        self.notices.append(message)

    # -- functions and extensions ---------------------------------------------

    def new_session(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection for a session, with the macros it needs."""
        cursor = self.duck.cursor()
        self.functions.create_macros(cursor)
        return cursor

    # -- indexes --------------------------------------------------------------

    def index_named(self, name: str) -> IndexState | None:
        """Return the index called `name`."""
        return self.indexes.get(name.lower())

    def indexes_of(self, table: TableInfo) -> list[IndexState]:
        """Return the indexes over a table of this file."""
        if table.temporary:
            return []
        return [
            s
            for s in self.indexes.values()
            if s.spec.table.lower() == table.name.lower()
            and s.spec.schema.lower() == table.schema.lower()
        ]

    def create_index(
        self,
        duck: duckdb.DuckDBPyConnection,
        node: CreateIndex,
        table: TableInfo,
        progress: Cancellable,
    ) -> None:
        """Build an index over the committed rows of a table."""
        name = node.name if node.name is not None else f"{table.name}_{node.column}_ann"
        with self.builder.naming(name, progress):
            if self.index_named(name) is not None and node.if_not_exists:
                return
            self._refuse_taken(duck, name)
            self.builder.build(definition.new_spec(duck, node, table, name), progress)

    def _refuse_taken(self, duck: duckdb.DuckDBPyConnection, name: str) -> None:
        if self.index_named(name) is not None:
            raise ProgrammingError(
                f'index "{name}" already exists', hint="DROP INDEX it, or use IF NOT EXISTS"
            )
        if name.lower() in self.unusable:
            raise ProgrammingError(
                f'index "{name}" already exists, unusable', hint="REINDEX or DROP INDEX it"
            )
        taken = manifest.first_row(
            duck,
            "SELECT count(*) FROM duckdb_indexes() WHERE lower(index_name) = ?",
            [name.lower()],
        )
        if taken is not None and taken[0]:
            raise ProgrammingError(f'index "{name}" already exists', hint="choose another name")

    def adopt(self, progress: Cancellable) -> None:
        """Build the indexes that an imported database has, whose files stayed where they were."""
        with self.duck.cursor() as cursor:
            known = manifest.version(cursor) == manifest.VERSION
            rows = manifest.indexes(cursor) if known else []
        for row in rows:
            spec = definition.spec_from_json(row.spec, self.catalog)
            with self.builder.naming(row.name, progress):
                if row.name.lower() in {*self.indexes, *self.unusable}:
                    continue
                try:
                    if definition.unfit(spec, self.duck) is not None:
                        raise OperationalError(f"it no longer fits {spec.schema}.{spec.table}")
                    self.builder.build(spec, progress)
                except Error as error:
                    self.unusable[row.name.lower()] = spec
                    self.notice(f'index "{row.name}" was imported and is not used: {error.message}')

    def rebuild_damaged(self, state: IndexState) -> None:
        """Build a damaged index anew, unless someone writes its table: then it waits."""
        progress = Cancellable(NoProgress())
        with self.builder.naming(state.name, progress):
            if self.index_named(state.name) is state and state.writer is None:
                self.builder.build(
                    state.spec, progress, old=state, timeout_seconds=_WAIT_FOR_WRITERS_SECONDS
                )

    def reindex(self, name: str, progress: Cancellable, timeout_seconds: float) -> None:
        """Rebuild an index from its table."""
        with self.builder.naming(name, progress):
            state, unusable = self.index_named(name), self.unusable.get(name.lower())
            spec = unusable if state is None else state.spec
            if spec is None:
                known = ", ".join(sorted(s.name for s in self.indexes.values())) or "none"
                raise ProgrammingError(
                    f'vector index "{name}" does not exist', hint=f"vector indexes: {known}"
                )
            self.builder.build(spec, progress, old=state, timeout_seconds=timeout_seconds)
        self.merger.wake()

    def drop_index(self, duck: duckdb.DuckDBPyConnection, state: IndexState) -> None:
        """Drop an index: from the manifest, then its files."""
        with state.merging, self.lock:
            current = self.index_named(state.name)
            state = state if current is None else current  # it may have been rebuilt meanwhile
            # Its log may have uncommitted keys, which would not commit without their table.
            state.refuse_busy("dropped")
            manifest.remove_index(duck, state.name)
            self.forget(state)

    def drop_unusable(self, duck: duckdb.DuckDBPyConnection, name: str) -> None:
        """Drop an index that could not be loaded; its files go at the next open."""
        with self.lock:
            spec = self.unusable.pop(name.lower())
            manifest.remove_index(duck, spec.name)
            self.epoch += 1

    def forget(self, state: IndexState) -> None:
        """Take an index out of this instance, and its files away."""
        self.indexes.pop(state.name.lower(), None)
        self.store.remove([p.segment for p in state.snapshot.parts if p.segment is not None])
        self.epoch += 1

    def merge(self, state: IndexState) -> None:
        """Merge all parts of an index into one segment now; a damaged one is built anew."""
        try:
            self.merger.run(state, whole=True)
        except DamagedError as error:
            self.found_damage(error)
        if state.damage is not None:
            self.rebuild_damaged(state)

    def calibrate(self, state: IndexState) -> None:
        """Measure the unit costs of this host on an index and keep them."""
        costs = unit_costs(state.snapshot.parts[0])
        if not costs:
            return
        self.unit, self.calibrated = calibrated(costs), True
        if not self.read_only:
            with self.duck.cursor() as cursor:
                manifest.put_calibration(cursor, costs)

    def recalibrate(self, state: IndexState, progress: Progress) -> None:
        """Calibrate the stopping rule of an index anew, on the rows it has now."""
        with state.merging:
            recalibrate(self.store, state, progress)

    # -- snapshots and changes ------------------------------------------------

    def snapshot(self, state: IndexState) -> Snapshot:
        """Return the index as of its last commit."""
        return state.snapshot

    def prepare(
        self, duck: duckdb.DuckDBPyConnection, state: IndexState, change: Change
    ) -> Prepared:
        """Log a change in the caller's transaction, and make the snapshot it will publish.

        All that can fail is done here, before COMMIT; `lock` is held until it is published.
        """
        tx = manifest.new_transaction()
        maintain.log_keys(duck, state.name, tx, change.keys)
        return self.folded(state, change, tx, len(change.keys[0]))

    def folded(self, state: IndexState, change: Change, tx: uuid.UUID, rows: int) -> Prepared:
        """Do as `prepare` for a change of which `tx` logs the `rows` keys by other means."""
        version = state.version + 1
        snapshot = fold(state.snapshot, change, version, state.busy)
        return Prepared(state, snapshot, version, tx, rows)

    def log(
        self, duck: duckdb.DuckDBPyConnection, state: IndexState, change: Change
    ) -> Callable[[], None]:
        """Log a change in the caller's transaction; return what publishes it."""
        prepared = self.prepare(duck, state, change)
        return lambda: self.publish(prepared)

    def publish(self, prepared: Prepared) -> None:
        """Show a committed change."""
        state = prepared.state
        state.snapshot = prepared.snapshot
        state.version = prepared.version
        state.published.append(prepared.tx)
        self.commits += 1
        state.logged_rows += prepared.rows
        self.merger.changed(state)

    def found_damage(self, error: Error) -> None:
        """Stop using the indexes whose files are damaged, say so once, and have them rebuilt."""
        for state in [*self.indexes.values()]:
            if state.damage is None and any(
                p.unverified is not None and p.unverified.is_damaged for p in state.snapshot.parts
            ):
                state.damage = error.message
                self.notice(f'{error.message}; index "{state.name}" is rebuilt from its table')
        self.merger.wake()

    def fell_back(self, table: TableInfo | None) -> None:
        """Count a query of an indexed table that DuckDB answered."""
        for state in self.indexes_of(table) if table is not None else ():
            state.fallbacks += 1

    def written_beside(self, state: IndexState) -> None:
        """Take a new version after a write to other columns: what DuckDB said of rows is past."""
        with self.lock:
            state.version += 1
            state.snapshot = replace(state.snapshot, version=state.version)
