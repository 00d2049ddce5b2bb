"""Predicate cells: a WHERE whose parameters may differ from query to query (`label = the own one`).

Besides its terms a cell may ask for rows nearer than a radius, for rows by way of a join, or for
several pages. Which cells there are for a data set is said in `workloads`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.dataset import Columns

Value = int | float | str


@dataclass(frozen=True)
class Term:
    """`column operator ?`, with the parameter of every query. LIKE has one form: `%text%`."""

    column: str
    operator: str
    values: npt.NDArray[Any]

    def passing(self, column: npt.NDArray[Any], query: int) -> npt.NDArray[np.bool_]:
        value = self.values[query]
        match self.operator:
            case "<":
                return column < value
            case "<=":
                return column <= value
            case ">":
                return column > value
            case ">=":
                return column >= value
            case "=":
                return column == value
            case "LIKE":
                return np.char.find(column, str(value)[1:-1]) >= 0
            case _:
                raise AssertionError(self.operator)


@dataclass(frozen=True)
class Join:
    """Rows join `side(id, kind)` on `column = side.id`; `values` are the kind of every query."""

    column: str
    ids: tuple[int, ...]
    kinds: tuple[int, ...]
    values: npt.NDArray[Any]

    def passing(self, column: npt.NDArray[Any], query: int) -> npt.NDArray[np.bool_]:
        wanted = [i for i, k in zip(self.ids, self.kinds, strict=True) if k == self.values[query]]
        return np.isin(column, wanted)


@dataclass(frozen=True)
class Cell:
    """A conjunction of terms; none passes every row."""

    name: str
    terms: tuple[Term, ...] = ()
    workload: str = ""
    join: Join | None = None
    radius: npt.NDArray[np.float64] | None = None
    """Per query: only rows nearer than this."""
    pages: int = 1
    """Answers are this many pages of k rows each, by LIMIT and OFFSET."""

    @property
    def plain(self) -> bool:
        """Say whether there is nothing but terms."""
        return self.join is None and self.radius is None and self.pages == 1

    def where(self, placeholder: str = "?", prefix: str = "") -> str:
        """Return the WHERE clause, with a blank before it, or nothing."""
        terms = " AND ".join(f"{prefix}{t.column} {t.operator} {placeholder}" for t in self.terms)
        return f" WHERE {terms}" if terms else ""

    def parameters(self, query: int) -> tuple[Value, ...]:
        return tuple(t.values[query].item() for t in self.terms)

    def mask(self, attributes: Columns, query: int, rows: Any = slice(None)) -> npt.NDArray[Any]:
        """Say of each of `rows` whether it passes; radius aside."""
        mask = np.ones(len(attributes["id"][rows]), np.bool_)
        for term in self.terms:
            mask &= term.passing(attributes[term.column][rows], query)
        if self.join is not None:
            mask &= self.join.passing(attributes[self.join.column][rows], query)
        return mask

    def passing(self, attributes: Columns, query: int) -> npt.NDArray[np.int64]:
        """Return the rows that pass, ascending; radius aside."""
        return np.flatnonzero(self.mask(attributes, query))

    def key(self, query: int) -> tuple[Any, ...]:
        """Return what tells the rows that pass for this query from those of others."""
        joined = () if self.join is None else (self.join.values[query].item(),)
        return (self.name, *self.parameters(query), *joined)

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        for part in (*content["terms"], content["join"] or {}):
            if "values" in part:
                part["values"] = part["values"].tolist()
        if self.radius is not None:
            content["radius"] = self.radius.tolist()
        return content


def from_json(content: dict[str, Any]) -> Cell:
    """Return the cell that `Cell.as_json` described."""
    join, radius = content.get("join"), content.get("radius")
    return Cell(
        content["name"],
        tuple(Term(t["column"], t["operator"], np.array(t["values"])) for t in content["terms"]),
        content["workload"],
        join
        and Join(
            join["column"], tuple(join["ids"]), tuple(join["kinds"]), np.array(join["values"])
        ),
        None if radius is None else np.array(radius),
        content.get("pages", 1),
    )
