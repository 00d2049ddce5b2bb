"""Tell whether a DuckDB file was written since we last closed it.

(size, time of change, log size), recorded in `state.json` at a clean close. The file itself is
never opened here: closing it again would give up the locks that DuckDB holds on it, for POSIX
drops all locks of a process on a file with the first descriptor that is closed.
"""

from __future__ import annotations

import json
from pathlib import Path

from hybridq.storage.files import Files

_STATE = "state.json"


def signature(files: Files, path: Path) -> list[int]:
    """Return (size, time of change, log size) of a database file, [] if there is none."""
    now, wal = files.stat(path), files.stat(Path(f"{path}.wal"))
    return [] if now is None else [*now, 0 if wal is None else wal.size_bytes]


def recorded(files: Files, directory: Path) -> list[int] | None:
    """Return the signature of our last close, None if there is none to be read."""
    state = directory / _STATE
    if files.stat(state) is None:
        return None
    try:
        found: list[int] = json.loads(files.map_readonly(state).tobytes())["signature"]
    except (ValueError, KeyError, TypeError):
        return None
    return found


def record(files: Files, directory: Path, path: Path) -> None:
    """Record the signature of a file that was closed."""
    data = json.dumps({"signature": signature(files, path)}).encode()
    files.write_atomic(directory / _STATE, lambda sink: sink.write(data))


def forget(files: Files, directory: Path) -> None:
    """Have the next open compare the indexes with their tables."""
    files.remove(directory / _STATE)
