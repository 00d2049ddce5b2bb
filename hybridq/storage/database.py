"""Open a DuckDB file so that nothing else in this process can write past our indexes."""

from __future__ import annotations

from pathlib import Path

import duckdb

from hybridq.errors import OperationalError
from hybridq.storage.manifest import SCHEMA

# A connection with another configuration is refused by DuckDB: a plain duckdb.connect of the same
# file in this process fails while we have it open.
_USER_AGENT = "hybridq/0.1"

# DuckDB's own 16 MB are 30,000 vectors of 128 dimensions: writers of batches would wait for a
# checkpoint, which writes row groups of the table anew, for a third of their time.
_CHECKPOINT_THRESHOLD = "256MB"


def open_duckdb(path: str, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open or make the file; OperationalError names what is in the way."""
    if Path(path).stem.lower() == SCHEMA:
        # DuckDB calls a database after its file, and could not tell it from the schema.
        raise OperationalError(
            f'cannot open {path}: "{SCHEMA}" is the name of a schema in every database',
            hint="give the file another name",
        )
    try:
        return duckdb.connect(
            path,
            read_only=read_only,
            config={
                "custom_user_agent": _USER_AGENT,
                "checkpoint_threshold": _CHECKPOINT_THRESHOLD,
            },
        )
    except duckdb.Error as error:
        text = str(error).strip()
        if "lock" in text:
            hint = "close the program that has it open, or open it read-only in both"
        elif "different configuration" in text:
            hint = "close the plain duckdb.connect of this file in this process"
        else:
            hint = "give the path of a DuckDB database, or of a new file in an existing folder"
        raise OperationalError(f"cannot open {path}: {text.splitlines()[0]}", hint=hint) from error
