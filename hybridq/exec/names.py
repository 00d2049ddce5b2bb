"""What names mean to one session, remembered until the schema or the session's settings change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import duckdb

from hybridq.exec.environment import Environment
from hybridq.exec.prepare import Prepared, Unbound, prepare
from hybridq.instance import Instance
from hybridq.nodes import TableName, TopK, Write
from hybridq.storage.manifest import TableInfo, describe, first_row

_PREPARED = 512
_P = TypeVar("_P")


class Names:
    """Tables, triggers and prepared TopKs of one session; `forget` when their meaning may change.

    Every change of an index or of the schema raises the instance's epoch.
    """

    def __init__(
        self, duck: duckdb.DuckDBPyConnection, instance: Instance, environment: Environment
    ) -> None:
        self._duck = duck
        self._instance = instance
        self._environment = environment
        self._epoch = instance.epoch
        self._tables: dict[TableName, TableInfo | None] = {}
        self._triggers: bool | None = None
        self._settings: tuple[bool, int, bool] | None = None
        # By identity, for a statement parsed once is one object; the entry keeps it alive.
        self._prepared: dict[int, tuple[TopK, Prepared | Unbound]] = {}
        self._planned: dict[int, tuple[Write, Any]] = {}

    def describe(self, table: TableName) -> TableInfo | None:
        """Return what a table name means; None for a table that cannot have indexes of ours."""
        self._check_epoch()
        if table not in self._tables:
            found = describe(self._duck, table)
            if found is not None and found.catalog != self._instance.catalog:
                # An attached database has no indexes of ours.
                found = found if found.temporary else None
            self._tables[table] = found
        return self._tables[table]

    def has_triggers(self) -> bool:
        """Tell whether the database has triggers."""
        self._check_epoch()
        if self._triggers is None:
            row = first_row(self._duck, "SELECT count(*) FROM duckdb_triggers()")
            self._triggers = bool(row and row[0])
        return self._triggers

    @property
    def standard_order(self) -> bool:
        """Whether ORDER BY is ascending, NULLs last, in binary order of text where not told."""
        return self._of_settings()[0]

    @property
    def threads(self) -> int:
        """How many threads DuckDB uses."""
        return self._of_settings()[1]

    @property
    def at_home(self) -> bool:
        """Whether the database with our indexes is the current one, or USE chose another."""
        return self._of_settings()[2]

    def _of_settings(self) -> tuple[bool, int, bool]:
        """Read DuckDB's settings that matter here: other sessions, too, change them."""
        self._check_epoch()
        if self._settings is None:
            row = first_row(
                self._duck,
                "SELECT lower(current_setting('default_order')), "
                "lower(current_setting('default_null_order')), "
                "current_setting('default_collation'), current_setting('threads'), "
                "current_database()",
            )
            order, nulls, collation, threads, catalog = row or ("", "", "", 1, "")
            standard = (
                order.startswith("asc")
                and nulls in ("nulls_last", "last", "nulls last")
                and collation in ("", "binary", None)
            )
            self._settings = standard, threads, catalog == self._instance.catalog
        return self._settings

    def prepared(self, topk: TopK) -> Prepared | Unbound:
        """Return the TopK prepared for the schema as it is."""
        self._check_epoch()
        known = self._prepared.get(id(topk))
        if known is None:
            table = self.describe(topk.table)
            states = self._instance.indexes_of(table) if table is not None else []
            others = [self.describe(other) for other in topk.others]
            known = topk, prepare(topk, table, states, others)
            if len(self._prepared) >= _PREPARED:
                self._prepared.clear()
            self._prepared[id(topk)] = known
        return known[1]

    def planned(self, write: Write, plan: Callable[[], _P]) -> _P:
        """Return what `plan` makes of a write, for the schema as it is."""
        self._check_epoch()
        known = self._planned.get(id(write))
        if known is None:
            if len(self._planned) >= _PREPARED:
                self._planned.clear()
            known = self._planned[id(write)] = write, plan()
        found: _P = known[1]
        return found

    def _check_epoch(self) -> None:
        if self._epoch != self._instance.epoch:
            self.forget()

    def forget(self) -> None:
        """Look everything up again."""
        self._epoch = self._instance.epoch
        self._tables.clear()
        self._prepared.clear()
        self._planned.clear()
        self._triggers = None
        self._settings = None
        self._environment.changed()
