"""Open the indexes of a database: segments, less what changed, plus what is in the table now.

    index = segments - rows dead at the last merge - keys in the change log
            + the current rows of those keys

A file that another program wrote to is compared with its indexes, row by row. A segment that is
missing or damaged is said once, and the index is rebuilt from its table; where that cannot be, the
index is not used, and DuckDB answers exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import duckdb

from hybridq import definition
from hybridq.errors import Error, OperationalError
from hybridq.index import maintain
from hybridq.index.delta import fold
from hybridq.index.ivf import IndexSpec, Snapshot
from hybridq.index.state import IndexState
from hybridq.progress import NoProgress
from hybridq.segments import Store, build_segment, load_parts, name_segment
from hybridq.storage import manifest
from hybridq.storage.manifest import IndexRow


@dataclass(slots=True)
class Recovered:
    """What was found: usable indexes, the specs of the others, and whether all was in order."""

    indexes: dict[str, IndexState] = field(default_factory=dict)
    unusable: dict[str, IndexSpec] = field(default_factory=dict)
    verified: bool = True


class Recovery:
    """Opens the indexes of one database; `told` hears of each thing that is not as it should be.

    `catalog` is what DuckDB calls the file; `trusted`: nobody wrote to the file since we closed it.
    """

    def __init__(
        self,
        store: Store,
        told: Callable[[str], None],
        *,
        catalog: str,
        read_only: bool,
        trusted: bool,
    ) -> None:
        self._store = store
        self._told = told
        self._read_only = read_only
        self._catalog = catalog
        self._trusted = trusted
        self._found = Recovered()

    def run(self) -> Recovered:
        """Open all indexes."""
        version = manifest.version(self._store.duck)
        if version is None:
            return self._found
        if version > manifest.VERSION:
            raise OperationalError(
                f"the vector indexes of this database were written by a later hybridq (manifest "
                f"version {version}; this one reads {manifest.VERSION})",
                hint="open it with that version",
            )
        if version < manifest.VERSION:
            self._upgrade()
            return self._found
        for row in manifest.indexes(self._store.duck):
            spec = definition.spec_from_json(row.spec, self._catalog)
            try:
                self._load(row, spec)
            except Error as error:
                self._not_used(spec, error)
        return self._found

    def _not_used(self, spec: IndexSpec, error: Error) -> None:
        self._told(f'{error.message}; index "{spec.name}" is not used')
        self._found.verified = False
        self._found.indexes.pop(spec.name.lower(), None)
        self._found.unusable[spec.name.lower()] = spec

    def _upgrade(self) -> None:
        """Build the indexes of an earlier manifest anew: only their specs are taken over."""
        old = manifest.specs_of_old(self._store.duck)
        specs = [definition.spec_from_json(s, self._catalog) for s in old]
        if self._read_only:
            why = OperationalError("its files were written by an earlier hybridq")
            for spec in specs:
                self._not_used(spec, why)
            return
        with self._store.transaction() as cursor:
            manifest.forget_old(cursor)
            manifest.create_manifest(cursor)
            for spec in specs:
                row = IndexRow(spec.name, definition.spec_to_json(spec), duckdb.__version__)
                manifest.put_index(cursor, row, None, [c.type.sql for c in spec.key_columns])
            cursor.execute("COMMIT")
        for spec in specs:
            try:
                self._check_fit(spec)
                self._rebuild(spec)
            except Error as error:
                self._not_used(spec, error)
            else:
                self._told(
                    f'index "{spec.name}" was built by an earlier hybridq; it was built anew'
                )

    def _check_fit(self, spec: IndexSpec) -> None:
        if definition.unfit(spec, self._store.duck) is not None:
            raise OperationalError(
                f'index "{spec.name}" no longer fits table {spec.schema}.{spec.table}'
            )

    def _load(self, row: IndexRow, spec: IndexSpec) -> None:
        """Load one index; an Error leaves it unusable."""
        self._check_fit(spec)
        try:
            parts, generation = load_parts(self._store.duck, spec, self._store)
        except OperationalError as error:
            self._found.verified = False
            if self._read_only:
                raise
            try:
                self._rebuild(spec)
            except Error as failure:
                raise OperationalError(
                    f"{error.message} and cannot be rebuilt: {failure.message}"
                ) from failure
            self._told(f'{error.message}; index "{row.name}" was rebuilt from its table')
            return
        snapshot = Snapshot(spec=spec, parts=tuple(parts), version=0, generation=generation)
        state = IndexState(spec=spec, snapshot=snapshot)
        self._found.indexes[spec.name.lower()] = state
        self._replay(state)
        if not self._trusted or row.duckdb_version != duckdb.__version__:
            self._reconcile(state, same_hash=row.duckdb_version == duckdb.__version__)

    def _replay(self, state: IndexState) -> None:
        """Take in the changes that were logged since the segments were written."""
        duck, spec = self._store.duck, state.spec
        log_keys = ", ".join(f"k{i}" for i in range(spec.key_count))
        table = manifest.changes_table(spec.name)
        logged = duck.sql(f"SELECT {log_keys} FROM {table}").to_arrow_table()
        if logged.num_rows == 0:
            return
        keys = maintain.distinct_keys(spec, [maintain.plain_keys(logged, spec)])
        state.snapshot = maintain.apply_changes(duck, state.snapshot, keys, 1)
        state.version = 1
        state.published = manifest.logged(duck, spec.name)
        state.logged_rows = logged.num_rows

    def _reconcile(self, state: IndexState, *, same_hash: bool) -> None:
        """Find what another program, or a crash, changed behind the index."""
        if not same_hash and not self._read_only:
            self._told(
                f'index "{state.name}" was built by another version of DuckDB; it is rebuilt'
            )
            self._rebuild(state.spec)
            return
        duck = self._store.duck
        keys = maintain.difference(duck, state.snapshot)
        if keys is None:
            return
        change = maintain.read_change(duck, state.snapshot, keys)
        if not self._read_only:
            tx = manifest.new_transaction()
            maintain.log_keys(duck, state.name, tx, keys)
            state.published.append(tx)
            state.logged_rows += len(keys[0])
        state.version += 1
        state.snapshot = fold(state.snapshot, change, state.version)
        self._told(
            f"{len(keys[0]):,} rows of {state.spec.schema}.{state.spec.table} were changed by "
            f'another program; index "{state.name}" was brought up to date'
        )

    def _rebuild(self, spec: IndexSpec) -> None:
        with self._store.transaction() as cursor:
            part, generation = build_segment(cursor, spec, self._store, NoProgress(), total=None)
            try:
                name_segment(cursor, part)
                cursor.execute("COMMIT")
            except BaseException:
                assert part.segment is not None
                self._store.remove([part.segment])
                raise
        snapshot = Snapshot(spec=spec, parts=(part,), version=0, generation=generation)
        self._found.indexes[spec.name.lower()] = IndexState(spec=spec, snapshot=snapshot)
