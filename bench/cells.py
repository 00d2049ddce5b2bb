"""Predicate cells of the fusion benchmark, and the exact answers they are judged by.

A cell is a WHERE whose parameters may differ from query to query (`label = the query's own`).
Its truth is the distances of the nearest 1,000 passing rows of every query: what comes no farther
than the k-th of them is right, so ties count. Truths are cached beside the descriptors.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.descriptors import CACHE, STOCK, Columns, Descriptors

DEEPEST = 1_000
SHARES = (1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0001)

_SPARE = 64
_QUERIES_AT_ONCE = 50
_ROWS_AT_ONCE = 100_000

Value = int | float


@dataclass(frozen=True)
class Term:
    """`column operator ?`, with the parameter of every query."""

    column: str
    operator: str
    values: npt.NDArray[Any]

    def passing(self, column: npt.NDArray[Any], query: int) -> npt.NDArray[np.bool_]:
        value = self.values[query]
        match self.operator:
            case "<":
                return column < value
            case ">":
                return column > value
            case "=":
                return column == value
            case _:
                raise AssertionError(self.operator)


@dataclass(frozen=True)
class Cell:
    """A conjunction of terms; none passes every row."""

    name: str
    terms: tuple[Term, ...] = ()

    def where(self, placeholder: str = "?") -> str:
        """Return the WHERE clause, with a blank before it, or nothing."""
        terms = " AND ".join(f"{t.column} {t.operator} {placeholder}" for t in self.terms)
        return f" WHERE {terms}" if terms else ""

    def parameters(self, query: int) -> tuple[Value, ...]:
        return tuple(t.values[query].item() for t in self.terms)

    def passing(self, attributes: Columns, query: int) -> npt.NDArray[np.int64]:
        """Return the rows that pass, ascending."""
        mask = np.ones(len(attributes["id"]), np.bool_)
        for term in self.terms:
            mask &= term.passing(attributes[term.column], query)
        return np.flatnonzero(mask)


def cells(data: Descriptors) -> dict[str, Cell]:
    """Return every cell by name: independent, conjunctions, correlated, far."""
    rows, count = len(data.vectors), len(data.queries)
    generator = np.random.default_rng(17)

    def every(value: Value) -> npt.NDArray[Any]:
        return np.full(count, value)

    def cheaper(share: float) -> Term:
        return Term("price", "<", every(max(1, round(share * rows))))

    def stocked(share: float) -> Term:
        return Term("stock", "<", every(round(share * STOCK)))

    def other(own: npt.NDArray[Any], choices: int) -> npt.NDArray[Any]:
        return (own + generator.integers(1, choices, count)) % choices

    label = data.query_attributes["label"].astype(np.int64)
    kpt = data.query_attributes["kpt"].astype(np.int64)
    low, middle, high = np.quantile(data.attributes["contrast"], [0.2, 0.5, 0.8])
    above = data.query_attributes["contrast"] < middle
    found = [
        Cell("all"),
        *(Cell(f"price {share * 100:g} %", (cheaper(share),)) for share in SHARES[1:]),
        Cell("and 4 %", (cheaper(0.2), stocked(0.2))),
        Cell("and 1 %", (cheaper(0.1), stocked(0.1))),
        Cell("and .012 %", (cheaper(0.012), stocked(0.01))),
        Cell("label own", (Term("label", "=", label),)),
        Cell("label other", (Term("label", "=", other(label, 10)),)),
        Cell("kpt own", (Term("kpt", "=", kpt),)),
        Cell("kpt other", (Term("kpt", "=", other(kpt, 17)),)),
        Cell(
            "contrast far",
            (
                Term("contrast", ">", np.where(above, high.item(), -1.0)),
                Term("contrast", "<", np.where(above, 1e9, low.item())),
            ),
        ),
    ]
    return {cell.name: cell for cell in found}


@dataclass(frozen=True)
class Truth:
    """Squared distances of the nearest passing rows (queries, 1000), inf beyond `matches`."""

    squared: npt.NDArray[np.float64]
    matches: npt.NDArray[np.int64]

    def rows(self, query: int, k: int) -> int:
        """Return how many rows an answer has."""
        return min(k, int(self.matches[query]))

    def recall(self, data: Descriptors, query: int, k: int, ids: Sequence[int]) -> float:
        """Return the share of the answer that is right; rows must be distinct."""
        wanted = self.rows(query, k)
        if wanted == 0:
            return 1.0
        assert len(set(ids)) == len(ids) <= wanted, f"query {query}: duplicate or spare rows"
        last = self.squared[query, wanted - 1] * (1 + 1e-9)
        return int((squared(data, query, np.asarray(ids, np.int64)) <= last).sum()) / wanted


def squared(data: Descriptors, query: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the squared distances of rows in float64."""
    difference = data.vectors[rows].astype(np.float64) - data.queries[query]
    return np.einsum("ij,ij->i", difference, difference)


def truths(data: Descriptors, wanted: Iterable[Cell]) -> dict[str, Truth]:
    """Return the truth of each cell by its name, computed where it is not cached."""
    wanted = list(wanted)
    folder = CACHE / "truth" / data.name
    folder.mkdir(parents=True, exist_ok=True)
    files = {cell.name: folder / f"{_slug(cell)}.npz" for cell in wanted}
    missing = [cell for cell in wanted if not files[cell.name].exists()]
    if missing:
        for name, truth in _search(data, missing).items():
            unfinished = folder / "unfinished.npz"
            np.savez(unfinished, squared=truth.squared, matches=truth.matches)
            unfinished.rename(files[name])
    found: dict[str, Truth] = {}
    for name, file in files.items():
        with np.load(file) as arrays:
            found[name] = Truth(arrays["squared"], arrays["matches"])
    return found


def _slug(cell: Cell) -> str:
    """Return a file name that changes with the cell's parameters."""
    digest = hashlib.sha256(cell.where().encode())
    for term in cell.terms:
        digest.update(np.asarray(term.values, np.float64).tobytes())
    readable = re.sub(r"\W+", "-", cell.name).strip("-")
    return f"{readable}-{digest.hexdigest()[:10]}"


def _search(data: Descriptors, wanted: Sequence[Cell]) -> dict[str, Truth]:
    rows, count = len(data.vectors), len(data.queries)
    found = {
        cell.name: Truth(np.full((count, DEEPEST), np.inf), np.zeros(count, np.int64))
        for cell in wanted
    }
    passing: dict[tuple[Any, ...], npt.NDArray[np.int64]] = {}
    norms = np.empty(rows, np.float32)
    distances = np.empty((_QUERIES_AT_ONCE, rows), np.float32)
    for first in range(0, count, _QUERIES_AT_ONCE):
        block = data.queries[first : first + _QUERIES_AT_ONCE]
        for at in range(0, rows, _ROWS_AT_ONCE):
            chunk = np.asarray(data.vectors[at : at + _ROWS_AT_ONCE])
            there = slice(at, at + len(chunk))
            if first == 0:
                norms[there] = np.einsum("ij,ij->i", chunk, chunk)
            # |q|² is the same for all rows of a query: it does not change their order.
            distances[: len(block), there] = norms[there] - 2 * (block @ chunk.T)
        for cell in wanted:
            for query in range(first, first + len(block)):
                key = (cell.name, cell.parameters(query))
                if key not in passing:
                    passing[key] = cell.passing(data.attributes, query)
                nearest = _nearest(data, query, distances[query - first], passing[key])
                found[cell.name].squared[query, : len(nearest)] = nearest
                found[cell.name].matches[query] = len(passing[key])
    return found


def _nearest(
    data: Descriptors,
    query: int,
    approximate: npt.NDArray[np.float32],
    passing: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return the nearest squared distances, exact: float32 chooses, with a margin."""
    if len(passing) > DEEPEST + _SPARE:
        chosen = np.argpartition(approximate[passing], DEEPEST + _SPARE)[: DEEPEST + _SPARE]
        passing = passing[chosen]
    return np.sort(squared(data, query, np.sort(passing)))[:DEEPEST]
