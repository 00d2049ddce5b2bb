"""Tell whether a DuckDB file was written since we last closed it.

DuckDB counts a header iteration at every checkpoint and appends every other commit to the log, so
(iteration, log size) changes with each write. It is recorded in `state.json` at a clean close.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

from hybridq.storage.files import Files

_HEADERS = (4096, 8192)


def signature(path: Path) -> list[int]:
    """Return (header iteration, log size) of a database file, [] if there is none."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        head = file.read(3 * 4096)
    iterations = [
        struct.unpack_from("<Q", head, offset + 8)[0]
        for offset in _HEADERS
        if len(head) >= offset + 16
    ]
    wal = Path(f"{path}.wal")
    return [max(iterations, default=0), wal.stat().st_size if wal.exists() else 0]


def recorded(directory: Path) -> list[int] | None:
    """Return the signature of our last close, None if there is none to be read."""
    state = directory / "state.json"
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
    files.write_atomic(directory / "state.json", lambda sink: sink.write(data))
