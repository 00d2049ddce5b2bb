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


def signature(path: Path) -> list[int]:
    """Return (size, time of change, log size) of a database file, [] if there is none."""
    if not path.exists():
        return []
    now, wal = path.stat(), Path(f"{path}.wal")
    return [now.st_size, now.st_mtime_ns, wal.stat().st_size if wal.exists() else 0]


def recorded(directory: Path) -> list[int] | None:
    """Return the signature of our last close, None if there is none to be read."""
    state = directory / _STATE
    if not state.exists():
        return None
    try:
        found: list[int] = json.loads(state.read_text())["signature"]
    except (ValueError, KeyError, TypeError):
        return None
    return found


def record(files: Files, directory: Path, path: Path) -> None:
    """Record the signature of a file that was closed."""
    data = json.dumps({"signature": signature(path)}).encode()
    files.write_atomic(directory / _STATE, lambda sink: sink.write(data))


def forget(files: Files, directory: Path) -> None:
    """Have the next open compare the indexes with their tables."""
    files.remove(directory / _STATE)
