"""executemany of INSERT … VALUES (row) as one INSERT … SELECT over an Arrow table.

    INSERT INTO t VALUES (?, ?, lower(?))  ->  INSERT INTO t SELECT q.p1, q.p2, lower(q.p3) FROM q

None is returned where the parameters do not form columns; each row is inserted by itself then.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.arrow import pa
from hybridq.exec.host import Host, Parameters, drop_view
from hybridq.exec.result import Result
from hybridq.nodes import Write
from hybridq.sql import lexical

_VIEW = "__hybridq_rows"


_CHUNK_ROWS = 256
"""So many rows become columns by calls in C: other threads wait for Python's lock meanwhile."""

_PAUSE_SECONDS = 5e-5
"""What a thread that waits for the lock needs to take it; else it is asked for every 5 ms."""


def insert_many(session: Host, write: Write, rows: Sequence[Parameters]) -> Result | None:
    """Run the insert for all rows at once, or return None if it cannot be."""
    values = write.single_values
    if values is None or len(rows) < 2:
        return None
    row, names = _row_text(values.row)
    if _has_parameters(values.tail):
        return None
    table = _table(rows, names, shared=session.instance.users > 1)
    if table is None:
        return None
    session.duck.register(_VIEW, table)
    try:
        text = f"{values.head}SELECT {row} FROM {_VIEW}{values.tail}"
        query = replace(write, text=text, single_values=None, inserts_query=write.adds_only)
        return session.run_statement(query, None)
    finally:
        drop_view(session, _VIEW)


@functools.lru_cache
def _row_text(row: str) -> tuple[str, tuple[int | str, ...]]:
    """Return the row's expressions over columns p0, p1 …, and the parameter behind each."""
    piece = lexical.piece_of(f"({row})")
    edits = []
    names: list[int | str] = []
    for i, found in enumerate(lexical.placeholders(piece)):
        names.append(found.name if found.index is None else found.index - 1)
        edits.append((found.start, found.end, f"{_VIEW}.p{i}"))
    return lexical.apply_edits(piece.text, edits)[1:-1], tuple(names)


@functools.lru_cache
def _has_parameters(tail: str) -> bool:
    return any(True for _ in lexical.placeholders(lexical.piece_of(tail)))


def _table(
    rows: Sequence[Parameters], names: Sequence[int | str], *, shared: bool
) -> pa.Table | None:
    """Return the values of each parameter as a column, None if the rows do not form columns.

    If the database is `shared`, other connections have turns.
    """
    chunks: list[pa.Table] = []
    for at in range(0, len(rows), _CHUNK_ROWS):
        if at and shared:
            time.sleep(_PAUSE_SECONDS)
        chunk = _columns_of(rows[at : at + _CHUNK_ROWS], names)
        if chunk is None:
            return None
        chunks.append(chunk)
    if any(chunk.schema != chunks[0].schema for chunk in chunks):
        # What a column holds is told from all its values: 1 and 1.5 are doubles.
        return _columns_of(rows, names)
    return pa.concat_tables(chunks)


def _columns_of(rows: Sequence[Parameters], names: Sequence[int | str]) -> pa.Table | None:
    given = _values(rows, names)
    if not given:
        return None
    try:
        return pa.table({f"p{i}": _column(values) for i, values in enumerate(given)})
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
        return None


def _values(rows: Sequence[Parameters], names: Sequence[int | str]) -> list[Sequence[Any]] | None:
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


_PLAIN: dict[type, type] = {int: np.int64, float: np.float64}


def _column(values: Sequence[Any]) -> pa.Array:
    kinds = set(map(type, values))
    if len(kinds) == 1 and (plain := _PLAIN.get(next(iter(kinds)))) is not None:
        with contextlib.suppress(OverflowError):  # of what is no INT64
            # Much faster than to infer the type of each value.
            return pa.array(np.array(values, plain), from_pandas=False)
    if np.ndarray not in kinds:
        return pa.array(values)
    if len(kinds) == 1:
        with contextlib.suppress(ValueError):  # of several lengths
            vectors = np.array(values)
            # In doubles, integers may not be what they were.
            exact = vectors.dtype != np.float64 or all(v.dtype == np.float64 for v in values)
            if vectors.ndim == 2 and vectors.dtype == values[0].dtype and exact:
                return pa.FixedSizeListArray.from_arrays(
                    pa.array(_readable(vectors.ravel())), vectors.shape[1]
                )
    return pa.array([_readable(v).tolist() if isinstance(v, np.ndarray) else v for v in values])


def _readable(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values as DuckDB reads them: it knows no half floats."""
    return values.astype(np.float32) if values.dtype == np.float16 else values
