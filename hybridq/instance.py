"""An open database: DuckDB, its vector indexes, and what all its connections share.

    album.duckdb            the tables, and ours in the schema `hybridq` (storage.manifest)
    album.duckdb.hybridq/   segment files, and state.json: the file's signature at our last close

One Instance exists per file and process; every Connection works on a DuckDB cursor of its own.
An index is published by replacing `IndexState.snapshot`, one reference assignment under `lock`.
Keys that committed writes changed are only queued (`pending`); the next reader folds them in.
A segment that is missing or damaged is said once, and the index is rebuilt from its table.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa

from hybridq import definition, extensions
from hybridq.errors import (
    Error,
    OperationalError,
    ProgrammingError,
)
from hybridq.functions import Functions
from hybridq.index import maintain
from hybridq.index.ivf import IndexSpec, Snapshot
from hybridq.index.locks import TableLocks
from hybridq.index.measure import unit_costs
from hybridq.index.state import IndexState
from hybridq.nodes import CreateIndex
from hybridq.pipelines import StoredObjects
from hybridq.plan.calibration import calibrated
from hybridq.plan.cost import REFERENCE
from hybridq.progress import NoProgress, Progress
from hybridq.segments import build_segment, load_part, recalibrate, remove_leftovers
from hybridq.storage import manifest, signature
from hybridq.storage.database import open_duckdb
from hybridq.storage.files import OsFiles
from hybridq.storage.manifest import IndexRow, TableInfo

log = logging.getLogger(__name__)

MEMORY = ":memory:"
_REBUILD_MIN_BYTES = 16 << 20
_REBUILD_SHARE = 0.25

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


class Instance:
    """See the module's text. `lock` guards indexes and their publication."""

    def __init__(self, path: str, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.users = 1
        self.lock = threading.RLock()
        self.locks = TableLocks()
        self.files = OsFiles()
        self.indexes: dict[str, IndexState] = {}
        self.unusable: dict[str, IndexSpec] = {}
        self._builds = itertools.count(1)
        self.epoch = 0
        self.notices: list[str] = []
        self.unit = REFERENCE
        self.calibrated = False
        before = signature.signature(Path(path))
        self.duck = open_duckdb(path, read_only=read_only)
        row = manifest.first_row(self.duck, "SELECT current_database()")
        self.catalog: str = row[0] if row is not None else ""
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if path == MEMORY:
            self._temporary = tempfile.TemporaryDirectory(prefix="hybridq-")
            self.directory = Path(self._temporary.name)
        else:
            self.directory = Path(path + ".hybridq")
        self.objects = StoredObjects(self.duck, read_only=read_only)
        self.functions = Functions(self.duck, self.objects)
        try:
            for name in extensions.BUILT_IN:
                if name in extensions.installed():
                    extensions.load(name)(self.functions)
            self._load(before)
            if not self.read_only and self.path != MEMORY:
                remove_leftovers(self.duck, self.files, self.directory)
        except BaseException:
            self.duck.close()
            raise

    # -- opening and closing --------------------------------------------------

    def _load(self, before: list[int]) -> None:
        if not manifest.has_manifest(self.duck):
            return
        if not self.read_only:
            manifest.create_manifest(self.duck)
        for name in manifest.extensions(self.duck):
            extensions.load(name)(self.functions)
        costs = manifest.calibration(self.duck)
        self.unit, self.calibrated = calibrated(costs), bool(costs)
        trusted = self.path == MEMORY or before == signature.recorded(self.directory)
        for row in manifest.indexes(self.duck):
            spec = definition.spec_from_json(row.spec, self.catalog)
            try:
                self._load_index(row, spec, trusted=trusted)
            except Error as error:
                self._notice(f'{error.message}; index "{row.name}" is not used')
                self.indexes.pop(row.name.lower(), None)
                self.unusable[row.name.lower()] = spec

    def _load_index(self, row: IndexRow, spec: IndexSpec, *, trusted: bool) -> None:
        """Load one index; an Error leaves it unusable, and DuckDB answers exactly."""
        if definition.unfit(spec, self.duck) is not None:
            raise OperationalError(
                f'index "{row.name}" no longer fits table {spec.schema}.{spec.table}'
            )
        try:
            part, size = load_part(self.duck, spec, self.files, self.directory / row.segment)
        except OperationalError as error:
            if self.read_only:
                raise
            try:
                self._rebuild(spec)
            except Error as failure:
                raise OperationalError(
                    f"{error.message} and cannot be rebuilt: {failure.message}"
                ) from failure
            self._notice(f'{error.message}; index "{row.name}" was rebuilt from its table')
            return
        snapshot = Snapshot(spec=spec, parts=(part,), version=0, size_bytes=size)
        state = IndexState(spec=spec, snapshot=snapshot, segment=row.segment)
        self.indexes[spec.name.lower()] = state
        log_keys = [f"k{i}" for i in range(spec.key_count)]
        logged = self.duck.sql(
            f"SELECT {', '.join(log_keys)} FROM {manifest.changes_table(spec.name)}"
        ).to_arrow_table()
        if logged.num_rows:
            state.pending.append(maintain.plain_keys(logged, spec))
            state.version += 1
        if not trusted or row.duckdb_version != duckdb.__version__:
            self._reconcile(state, same_hash=row.duckdb_version == duckdb.__version__)

    def _reconcile(self, state: IndexState, *, same_hash: bool) -> None:
        """Find what another program, or a crash, changed behind the index."""
        if not same_hash and not self.read_only:
            self._notice(
                f'index "{state.name}" was built by another version of DuckDB; it is rebuilt'
            )
            self._rebuild(state.spec)
            return
        snapshot = self.snapshot(state)
        keys = maintain.difference(self.duck, snapshot)
        if keys is None:
            return
        if not self.read_only:
            self.log_changes(self.duck, state, keys)
        self.committed(state, keys)
        self.snapshot(state)
        self._notice(
            f"{len(keys[0]):,} rows of {state.spec.schema}.{state.spec.table} were changed by "
            f'another program; index "{state.name}" was brought up to date'
        )

    def close(self) -> None:
        """Leave the instance; the last user closes it."""
        with _open_lock:
            self.users -= 1
            if self.users > 0:
                return
            _open.pop(self.path, None)
        self.objects.save()
        self.functions.close()
        self.indexes.clear()
        try:
            self.duck.close()
            if self.path != MEMORY and not self.read_only and self.directory.exists():
                if self.unusable:
                    # Writes to its table were not captured.
                    signature.forget(self.files, self.directory)
                else:
                    signature.record(self.files, self.directory, Path(self.path))
        finally:
            if self._temporary is not None:
                shutil.rmtree(self._temporary.name, ignore_errors=True)
                self._temporary.cleanup()

    def _notice(self, message: str) -> None:
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
        progress: Progress,
    ) -> None:
        """Build an index over the committed rows of a table."""
        name = node.name if node.name is not None else f"{table.name}_{node.column}_ann"
        if self.index_named(name) is not None:
            if node.if_not_exists:
                return
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
        spec = definition.new_spec(duck, node, table, name)
        with self.lock:
            self._build(duck, spec, progress)
            self.epoch += 1

    def _build(self, duck: duckdb.DuckDBPyConnection, spec: IndexSpec, progress: Progress) -> None:
        old = self.index_named(spec.name)
        part, size, segment = build_segment(duck, spec, self.files, self.directory, progress)
        # No version comes twice, for an index dropped and made again neither.
        version = next(self._builds) << 32
        snapshot = Snapshot(spec=spec, parts=(part,), version=version, size_bytes=size)
        self.indexes[spec.name.lower()] = IndexState(
            spec=spec, snapshot=snapshot, segment=segment, version=version
        )
        self.unusable.pop(spec.name.lower(), None)
        if old is not None and (self.directory / old.segment).exists():
            self.files.remove(self.directory / old.segment)

    def _rebuild(self, spec: IndexSpec) -> None:
        with self.duck.cursor() as cursor:
            self._build(cursor, spec, NoProgress())

    def reindex(self, name: str, progress: Progress) -> None:
        """Rebuild an index from its table."""
        state = self.index_named(name)
        unusable = self.unusable.get(name.lower())
        if unusable is not None:
            with self.lock:
                self._rebuild(unusable)
                self.epoch += 1
            return
        if state is None:
            known = ", ".join(sorted(s.name for s in self.indexes.values())) or "none"
            raise ProgrammingError(
                f'vector index "{name}" does not exist', hint=f"vector indexes: {known}"
            )
        with self.lock, self.duck.cursor() as cursor:
            state.refuse_busy()
            self._build(cursor, state.spec, progress)
            self.epoch += 1

    def drop_index(self, duck: duckdb.DuckDBPyConnection, state: IndexState) -> None:
        """Drop an index: from the manifest, then its file."""
        with self.lock:
            manifest.remove_index(duck, state.name)
            self.forget(state)

    def drop_unusable(self, duck: duckdb.DuckDBPyConnection, name: str) -> None:
        """Drop an index that could not be loaded; its file goes at the next open."""
        with self.lock:
            spec = self.unusable.pop(name.lower())
            manifest.remove_index(duck, spec.name)
            self.epoch += 1

    def forget(self, state: IndexState) -> None:
        """Take an index out of this instance, and its file away."""
        self.indexes.pop(state.name.lower(), None)
        path = self.directory / state.segment
        if path.exists():
            self.files.remove(path)
        self.epoch += 1

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
        recalibrate(self.duck, self.lock, state, progress)

    # -- snapshots and changes ------------------------------------------------

    def snapshot(self, state: IndexState) -> Snapshot:
        """Return the index as of its last commit, folding queued changes in first."""
        with self.lock:
            if state.pending:
                with self.duck.cursor() as cursor:
                    keys = maintain.distinct_keys(state.spec, state.pending)
                    state.snapshot = maintain.apply_changes(
                        cursor, state.snapshot, keys, state.version
                    )
                state.pending.clear()
            return state.snapshot

    def log_changes(
        self, duck: duckdb.DuckDBPyConnection, state: IndexState, keys: Sequence[pa.Array]
    ) -> None:
        """Write changed keys to the index's log, in the caller's transaction."""
        table = pa.table({f"k{i}": k for i, k in enumerate(keys)})
        duck.register("__hybridq_log", table)
        try:
            duck.execute(
                f"INSERT INTO {manifest.changes_table(state.name)} SELECT * FROM __hybridq_log"
            )
        finally:
            duck.unregister("__hybridq_log")

    def committed(self, state: IndexState, keys: list[pa.Array]) -> None:
        """Queue the keys a committed transaction changed."""
        with self.lock:
            state.pending.append(keys)
            state.version += 1

    def written_beside(self, state: IndexState) -> None:
        """Take a new version after a write to other columns: what DuckDB said of rows is past."""
        with self.lock:
            state.version += 1
            if not state.pending:
                state.snapshot = replace(state.snapshot, version=state.version)

    def rebuild_outgrown(self, state: IndexState, progress: Progress) -> None:
        """Rebuild an index if much was written since its build; that stays in any case."""
        if state.writer is not None or self.index_named(state.name) is not state:
            return
        snapshot = self.snapshot(state)
        base = snapshot.live_rows - snapshot.delta_rows
        delta_bytes = 4 * snapshot.delta_rows * state.spec.dim
        if delta_bytes < _REBUILD_MIN_BYTES or snapshot.delta_rows < _REBUILD_SHARE * base:
            return
        try:
            self.reindex(state.name, progress)
        except Error as error:
            self._notice(f'index "{state.name}" could not be rebuilt: {error.message}')
