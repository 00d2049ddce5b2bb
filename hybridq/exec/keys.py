"""Rows of the table by their keys, in SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hybridq.arrow import pa
from hybridq.exec.bind import BoundTopK
from hybridq.index.attributes import Kind
from hybridq.index.maintain import key_arrays
from hybridq.nodes import quote

Register = Callable[[str, "pa.Table"], None]

_IN_LIST = 256
"""Up to so many keys the primary key's index finds them faster than a join does."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """A FROM clause and a WHERE clause that leave the rows of some keys; their parameters."""

    source: str
    where: str
    given: dict[str, Any]


def key_names(bound: BoundTopK) -> list[str]:
    """Return the key's columns as the statement can name them."""
    alias = quote(bound.topk.table.alias or bound.topk.table.name)
    return [f"{alias}.{quote(c.name)}" for c in bound.spec.key_columns]


def keyed(bound: BoundTopK, keys: Sequence[Sequence[Any]], view: str, register: Register) -> Keyed:
    """Return SQL for the rows of `keys` (values per key column); many are registered as `view`."""
    names, columns = key_names(bound), bound.spec.key_columns
    if len(names) == 1 and 0 < len(keys[0]) <= _IN_LIST:
        kind = columns[0].type
        if kind.kind is Kind.INTEGER:
            return Keyed(bound.source, f" WHERE {names[0]} IN ({', '.join(map(str, keys[0]))})", {})
        given = {
            f"hqkey{i}": str(key) if kind.kind is Kind.UUID else key
            for i, key in enumerate(keys[0])
        }
        marks = ", ".join(f"CAST(${name} AS {kind.sql})" for name in given)
        return Keyed(bound.source, f" WHERE {names[0]} IN ({marks})", given)
    arrays = key_arrays(bound.spec, list(zip(*keys, strict=True)))
    register(view, pa.table({f"k{i}": a for i, a in enumerate(arrays)}))
    match = " AND ".join(
        f"{name} = CAST({view}.k{i} AS {column.type.sql})"
        for i, (name, column) in enumerate(zip(names, columns, strict=True))
    )
    return Keyed(f"{bound.source} SEMI JOIN {view} ON ({match})", "", {})
