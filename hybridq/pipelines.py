"""What plug-ins keep in a database: named definitions, some with arrays, in one table.

    hybridq.objects    kind ('pipeline', 'precision', 'model', …), name, options (JSON), data (BLOB)

Functions meet an object on DuckDB's threads, inside a statement: it is written by a connection of
its own, and kept in memory while a transaction is changing our tables.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from typing import Any

import duckdb

from hybridq.errors import OperationalError
from hybridq.extensions import StoredObject
from hybridq.storage import manifest

log = logging.getLogger(__name__)

_TABLE = "hybridq.objects"
_Key = tuple[str, str]


class StoredObjects:
    """The objects of one database. Safe to call from several threads."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        self._duck = duck
        self._read_only = read_only
        self._lock = threading.Lock()
        self._unsaved: dict[_Key, StoredObject | None] = {}  # None: dropped
        self._known: dict[_Key, StoredObject] = {}
        self._all_known = False

    def get(self, kind: str, name: str) -> StoredObject | None:
        """Return an object, None where there is none of that name."""
        with self._lock:
            self._load()
            return self._known.get((kind, name))

    def names(self, kind: str) -> list[str]:
        """Return the names there are of a kind, sorted."""
        with self._lock:
            self._load()
            return sorted(name for other, name in self._known if other == kind)

    def put(self, kind: str, name: str, options: Mapping[str, Any], data: bytes = b"") -> None:
        """Keep an object, in the place of one of that name."""
        with self._lock:
            self._change((kind, name), StoredObject(dict(options), data))

    def drop(self, kind: str, name: str) -> bool:
        """Forget an object; tell whether there was one."""
        with self._lock:
            self._load()
            if (kind, name) not in self._known:
                return False
            self._change((kind, name), None)
            return True

    def save(self) -> None:
        """Write down what could not be written yet."""
        with self._lock:
            self._save()

    def _change(self, key: _Key, stored: StoredObject | None) -> None:
        if self._read_only:
            raise OperationalError(
                f'{key[0]} "{key[1]}" cannot be kept: the database is open read-only',
                hint="open it for writing",
            )
        self._load()
        if stored is None:
            self._known.pop(key, None)
        else:
            self._known[key] = stored
        self._unsaved[key] = stored
        self._save()

    def _load(self) -> None:
        # Only this process writes the file while we have it open, so one look is enough.
        if self._all_known:
            return
        with self._duck.cursor() as cursor:
            if manifest.has_table(cursor, "objects"):
                rows = cursor.execute(f"SELECT kind, name, options, data FROM {_TABLE}").fetchall()
                self._known = {
                    (kind, name): StoredObject(json.loads(options), data)
                    for kind, name, options, data in rows
                }
        self._all_known = True

    def _save(self) -> None:
        if self._read_only or not self._unsaved:
            return
        try:
            with self._duck.cursor() as cursor:
                manifest.create_manifest(cursor)
                cursor.execute(
                    f"CREATE TABLE IF NOT EXISTS {_TABLE} (kind TEXT, name TEXT, "
                    "options TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, name))"
                )
                for (kind, name), stored in self._unsaved.items():
                    if stored is None:
                        cursor.execute(
                            f"DELETE FROM {_TABLE} WHERE kind = ? AND name = ?", [kind, name]
                        )
                        continue
                    cursor.execute(
                        f"INSERT OR REPLACE INTO {_TABLE} VALUES (?, ?, ?, ?)",
                        [kind, name, json.dumps(stored.options), stored.data],
                    )
        except duckdb.TransactionException as error:
            log.info("objects are kept in memory for now: %s", error)
            return
        self._unsaved.clear()
