"""Rows as writes gave them, become a change of an index.

The last write of a key counts. Where a write did not tell the rows, they are read from the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hybridq.index import maintain
from hybridq.index.delta import Change, part_of
from hybridq.index.ivf import IndexSpec, Snapshot
from hybridq.index.rows import Rows
from hybridq.progress import NoProgress
from hybridq.storage.manifest import Duck


@dataclass(frozen=True, slots=True)
class Captured:
    """What one statement changed: keys (an array per key column), and their rows after it.

    `rows` has the columns of `maintain.row_columns`, row i having key i; None if it is not known,
    and no rows if they were deleted. `fresh` keys were not in the table before, and differ.
    """

    keys: list[pa.Array]
    rows: pa.Table | None
    fresh: bool = False


def change_of(duck: Duck, snapshot: Snapshot, captured: Sequence[Captured]) -> Change:
    """Return the change that statements made, one after the other, as `duck` sees them."""
    spec = snapshot.spec
    known = _last_of_each(spec, captured)
    if known is None:
        keys = maintain.distinct_keys(spec, [c.keys for c in captured])
        return maintain.read_change(duck, snapshot, keys)
    keys, tables = known
    if len(tables) > 1:  # they may come by ways that know types of other widths
        tables = [_plain(spec, table) for table in tables]
    batches = [batch for table in tables for batch in table.combine_chunks().to_batches()]
    part = part_of(Rows(spec, batches, NoProgress()), snapshot.generation)
    return Change(keys, part, fresh=all(c.fresh for c in captured) and len(captured) == 1)


def _plain(spec: IndexSpec, table: pa.Table) -> pa.Table:
    columns = {
        f"c{i}": maintain.plain_column(table.column(f"c{i}").combine_chunks(), spec, i)
        for i in range(len(spec.columns))
    }
    return pa.table({**columns, "v": table.column("v"), "h": table.column("h")})


def _last_of_each(
    spec: IndexSpec, captured: Sequence[Captured]
) -> tuple[list[pa.Array], list[pa.Table]] | None:
    """Return the distinct keys, and of each the row it has after all; None if that is not known."""
    if any(c.rows is None for c in captured):
        return None
    if len(captured) == 1 and (captured[0].fresh or len(captured[0].keys[0]) == 1):
        rows = captured[0].rows
        return captured[0].keys, [rows] if rows is not None and rows.num_rows else []
    names = [f"k{i}" for i in range(spec.key_count)]
    sizes = [len(c.keys[0]) for c in captured]
    together = pa.concat_tables(
        [pa.table(dict(zip(names, c.keys, strict=True))) for c in captured],
        promote_options="permissive",
    )
    together = together.append_column(
        "statement", pa.array(np.repeat(np.arange(len(sizes)), sizes))
    )
    together = together.append_column("at", pa.array(np.arange(len(together))))
    found = together.group_by([*names, "statement"]).aggregate([("at", "max")])
    if len(found) < len(together):
        return None  # a statement that names a row twice does not say what became of it
    if len(captured) > 1:
        found = together.group_by(names).aggregate([("at", "max")])
    keys = [found.column(n).combine_chunks() for n in names]
    last = np.sort(np.asarray(found.column("at_max")))
    tables: list[pa.Table] = []
    start = 0
    for c, size in zip(captured, sizes, strict=True):
        inside = last[(last >= start) & (last < start + size)] - start
        start += size
        assert c.rows is not None
        if c.rows.num_rows == 0:
            continue
        tables.append(c.rows if len(inside) == size else c.rows.take(pa.array(inside)))
    return keys, tables
