"""Open a DuckDB file so that nothing else in this process can write past our indexes."""

from __future__ import annotations

import duckdb

from hybridq.errors import OperationalError

# A connection with another configuration is refused by DuckDB: a plain duckdb.connect of the same
# file in this process fails while we have it open.
_USER_AGENT = "hybridq/0.1"


def open_duckdb(path: str, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open or make the file; OperationalError names what is in the way."""
    try:
        return duckdb.connect(path, read_only=read_only, config={"custom_user_agent": _USER_AGENT})
    except duckdb.Error as error:
        text = str(error).strip()
        if "lock" in text:
            hint = "close the program that has it open, or open it read-only in both"
        elif "different configuration" in text:
            hint = "close the plain duckdb.connect of this file in this process"
        else:
            hint = "give the path of a DuckDB database, or of a new file in an existing folder"
        raise OperationalError(f"cannot open {path}: {text.splitlines()[0]}", hint=hint) from error
