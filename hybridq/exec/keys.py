"""Positions of the rows that satisfy a WHERE only DuckDB can evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from hybridq.exec.bind import BoundTopK
from hybridq.index.ivf import Int64s
from hybridq.index.maintain import plain_keys
from hybridq.index.search import positions_by_key
from hybridq.nodes import quote
from hybridq.sql import lexical

QueryArrow = Callable[[str, Mapping[str, Any]], pa.Table]


def positions_by_duckdb(bound: BoundTopK, query: QueryArrow) -> list[Int64s]:
    """Ask DuckDB for the keys that satisfy the WHERE; return live positions per part."""
    spec, table = bound.spec, bound.topk.table
    alias = quote(table.alias or table.name)
    keys = ", ".join(f"{alias}.{quote(c.name)} AS k{i}" for i, c in enumerate(spec.key_columns))
    where = " AND ".join(f"({c.text})" for c in bound.conjuncts)
    text = f"{bound.topk.with_text}SELECT {keys} FROM {bound.source}"
    if where:
        text += f" WHERE {where}"
    given = {name: bound.parameters[name] for name in lexical.used_parameters(text)}
    arrays = plain_keys(query(text, given), spec)
    return [positions_by_key(part, arrays) for part in bound.snapshot.parts]
