"""Files as batches: `read_blob(…)` for statements that turn images into vectors.

DuckDB hands a function one row at a time from read_blob. This reader gives the same columns in
batches of bounded bytes, so that a model works on many images at once, and it knows how many there
are, so that progress has a total.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybridq.arrow import pa

BATCH_ROWS = 64
BATCH_BYTES = 32 << 20


@functools.cache
def _schema() -> pa.Schema:
    return pa.schema(
        [
            ("filename", pa.string()),
            ("content", pa.binary()),
            ("size", pa.int64()),
            ("last_modified", pa.timestamp("us", tz="UTC")),
        ]
    )


class FileBatches:
    """An Arrow stream over files, read anew each time DuckDB asks for it."""

    def __init__(self, files: Sequence[tuple[str, int, Any]]) -> None:
        self.files = files

    def name_of(self, content: bytes) -> str | None:
        """Return the name of the file with this content."""
        for name, size, _ in self.files:
            if size == len(content) and Path(name).read_bytes() == content:
                return name
        return None

    def __arrow_c_schema__(self) -> Any:
        """Return the schema as Arrow's C interface has it."""
        return _schema().__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return a fresh stream as Arrow's C interface has it."""
        reader = pa.RecordBatchReader.from_batches(_schema(), self._batches())
        return reader.__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        batch: list[tuple[str, bytes, int, Any]] = []
        held = 0
        for name, size, modified in self.files:
            if batch and (len(batch) >= BATCH_ROWS or held + size > BATCH_BYTES):
                yield _record_batch(batch)
                batch, held = [], 0
            content = Path(name).read_bytes()
            batch.append((name, content, len(content), modified))
            held += len(content)
        if batch:
            yield _record_batch(batch)


def _record_batch(rows: Sequence[tuple[str, bytes, int, Any]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, _schema(), strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_schema())
