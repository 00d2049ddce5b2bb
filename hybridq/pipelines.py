"""Feature pipelines of a database, kept in its manifest.

Functions meet a pipeline on DuckDB's threads, inside a statement: it is written by a connection of
its own, and kept in memory while a transaction is changing our tables.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import duckdb

from hybridq.storage import manifest

log = logging.getLogger(__name__)


class StoredPipelines:
    """Named pipelines and their fixed options."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        self._duck = duck
        self._read_only = read_only
        self._lock = threading.Lock()
        self._unsaved: dict[str, dict[str, Any]] = {}

    def get(self, name: str) -> Mapping[str, Any] | None:
        """Return the options `name` was created with."""
        with self._lock:
            if name in self._unsaved:
                return self._unsaved[name]
            with self._duck.cursor() as cursor:
                known = manifest.has_table(cursor, "pipelines")
                return manifest.pipeline(cursor, name) if known else None

    def put(self, name: str, options: Mapping[str, Any]) -> None:
        """Create the pipeline unless it exists."""
        with self._lock:
            self._unsaved[name] = dict(options)
            self._save()

    def save(self) -> None:
        """Write down what could not be written yet."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        if self._read_only or not self._unsaved:
            return
        try:
            with self._duck.cursor() as cursor:
                manifest.create_manifest(cursor)
                for name, options in self._unsaved.items():
                    manifest.put_pipeline(cursor, name, options)
        except duckdb.TransactionException as error:
            log.info("pipelines are kept in memory for now: %s", error)
            return
        self._unsaved.clear()
