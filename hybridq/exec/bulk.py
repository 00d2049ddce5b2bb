"""executemany of INSERT … VALUES (row) as one INSERT … SELECT over an Arrow table.

    INSERT INTO t VALUES (?, ?, lower(?))  ->  INSERT INTO t SELECT q.p1, q.p2, lower(q.p3) FROM q

None is returned where the parameters do not form columns; each row is inserted by itself then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from hybridq.exec.host import Host, Parameters, drop_view
from hybridq.exec.result import Result
from hybridq.nodes import Write
from hybridq.sql import lexical

_VIEW = "__hybridq_rows"


def insert_many(session: Host, write: Write, rows: Sequence[Parameters]) -> Result | None:
    """Run the insert for all rows at once, or return None if it cannot be."""
    values = write.single_values
    if values is None or len(rows) < 2:
        return None
    row, names = _row_text(values.row)
    if list(lexical.placeholders(lexical.piece_of(values.tail))):
        return None
    table = _table(rows, names)
    if table is None:
        return None
    session.duck.register(_VIEW, table)
    try:
        text = f"{values.head}SELECT {row} FROM {_VIEW}{values.tail}"
        return session.run_statement(replace(write, text=text, single_values=None), None)
    finally:
        drop_view(session, _VIEW)


def _row_text(row: str) -> tuple[str, list[int | str]]:
    """Return the row's expressions over columns p0, p1 …, and the parameter behind each."""
    piece = lexical.piece_of(f"({row})")
    edits = []
    names: list[int | str] = []
    for i, found in enumerate(lexical.placeholders(piece)):
        names.append(found.name if found.index is None else found.index - 1)
        edits.append((found.start, found.end, f"{_VIEW}.p{i}"))
    return lexical.apply_edits(piece.text, edits)[1:-1], names


def _table(rows: Sequence[Parameters], names: Sequence[int | str]) -> pa.Table | None:
    columns: dict[str, pa.Array] = {}
    width = max((n for n in names if isinstance(n, int)), default=-1) + 1
    for row in rows:
        if row is None or (isinstance(row, Mapping) != any(isinstance(n, str) for n in names)):
            return None
        if not isinstance(row, Mapping) and len(row) != width:
            return None
    for i, name in enumerate(names):
        try:
            values = [row[name] for row in rows]  # type: ignore[index] # the loop above checked it
            columns[f"p{i}"] = _column(values)
        except (
            KeyError,
            IndexError,
            pa.ArrowInvalid,
            pa.ArrowTypeError,
            OverflowError,
            ValueError,
        ):
            return None
    return pa.table(columns) if columns else None


def _column(values: list[Any]) -> pa.Array:
    # DuckDB reads no half floats.
    values = [
        v.astype(np.float32) if isinstance(v, np.ndarray) and v.dtype == np.float16 else v
        for v in values
    ]
    if all(isinstance(v, np.ndarray) and v.ndim == 1 for v in values):
        sizes = {(len(v), v.dtype) for v in values}
        if len(sizes) == 1:
            flat = pa.array(np.concatenate(values))
            return pa.FixedSizeListArray.from_arrays(flat, len(values[0]))
    return pa.array([v.tolist() if isinstance(v, np.ndarray) else v for v in values])
