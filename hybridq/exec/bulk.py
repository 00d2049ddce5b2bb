"""executemany of INSERT … VALUES (row) as one INSERT … SELECT over an Arrow table.

    INSERT INTO t VALUES (?, ?, lower(?))  ->  INSERT INTO t SELECT q.p1, q.p2, lower(q.p3) FROM q

None is returned where the parameters do not form columns; each row is inserted by itself then.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hybridq.arrow import pa
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
    given = _columns(rows, names)
    if given is None:
        return None
    columns: dict[str, pa.Array] = {}
    for i, values in enumerate(given):
        try:
            columns[f"p{i}"] = _column(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
            return None
    return pa.table(columns) if columns else None


def _columns(rows: Sequence[Parameters], names: Sequence[int | str]) -> list[Sequence[Any]] | None:
    """Return the values of each parameter; None if the rows are not all of one form.

    By functions in C alone where rows are: other threads search meanwhile.
    """
    numbers = [n for n in names if isinstance(n, int)]
    if set(map(type, rows)) <= {tuple, list}:
        if len(numbers) < len(names) or set(map(len, rows)) != {max(numbers, default=-1) + 1}:  # type: ignore[arg-type] # of tuples and lists
            return None
        columns = list(zip(*rows, strict=True))
        return [columns[n] for n in numbers]
    if numbers or not all(isinstance(row, Mapping) for row in rows):
        return None
    try:
        return [[row[name] for row in rows] for name in names]  # type: ignore[index] # of mappings
    except KeyError:
        return None


_FORM = operator.attrgetter("dtype", "shape")


def _column(values: Sequence[Any]) -> pa.Array:
    if np.ndarray not in set(map(type, values)):
        return pa.array(values)
    # DuckDB reads no half floats.
    values = [
        v.astype(np.float32) if isinstance(v, np.ndarray) and v.dtype == np.float16 else v
        for v in values
    ]
    if set(map(type, values)) == {np.ndarray}:
        forms = set(map(_FORM, values))
        if len(forms) == 1 and values[0].ndim == 1:
            flat = pa.array(np.concatenate(values))
            return pa.FixedSizeListArray.from_arrays(flat, len(values[0]))
    return pa.array([v.tolist() if isinstance(v, np.ndarray) else v for v in values])
