"""Exact answers that cells are judged by: distances of the nearest 1,000 passing rows.

What comes no farther than the k-th of them is right, so ties count. Truths are cached.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.cells import Cell
from bench.data.dataset import CACHE, Dataset

DEEPEST = 1_000

_SPARE = 64
_QUERIES_AT_ONCE = 50
_ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Truth:
    """Squared distances of the nearest passing rows (queries, 1000), inf beyond `matches`."""

    squared: npt.NDArray[np.float64]
    matches: npt.NDArray[np.int64]

    def rows(self, query: int, k: int) -> int:
        """Return how many rows an answer has."""
        return min(k, int(self.matches[query]))

    def recall(self, data: Dataset, query: int, k: int, ids: Sequence[int]) -> float:
        """Return the share of the answer that is right; a row counts once."""
        wanted = self.rows(query, k)
        if wanted == 0:
            return 1.0
        last = self.squared[query, wanted - 1] * (1 + 1e-9)
        found = np.fromiter(dict.fromkeys(ids), np.int64)
        return min(1.0, int((squared(data, query, found) <= last).sum()) / wanted)

    def within(self, radius: npt.NDArray[np.float64]) -> Truth:
        """Return the truth of the same question for rows nearer than `radius`."""
        near = self.squared < (radius**2)[:, None]
        return Truth(np.where(near, self.squared, np.inf), near.sum(1))


def squared(data: Dataset, query: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the squared distances of rows in float64."""
    difference = data.vectors[rows].astype(np.float64) - data.queries[query]
    return np.einsum("ij,ij->i", difference, difference)


def truths(data: Dataset, wanted: Iterable[Cell]) -> dict[str, Truth]:
    """Return the truth of each cell by its name, computed where it is not cached."""
    wanted = list(wanted)
    folder = CACHE / "truth" / data.name
    folder.mkdir(parents=True, exist_ok=True)
    files = {cell.name: folder / f"{_slug(cell)}.npz" for cell in wanted}
    found: dict[str, Truth] = {}
    for name, file in files.items():
        try:
            with np.load(file) as arrays:
                found[name] = Truth(arrays["squared"], arrays["matches"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            file.unlink(missing_ok=True)
    missing = [replace(c, radius=None) for c in wanted if c.name not in found]
    if missing:
        for name, truth in _search(data, missing).items():
            unfinished = folder / "unfinished.npz"
            np.savez(unfinished, squared=truth.squared, matches=truth.matches)
            unfinished.rename(files[name])
            found[name] = truth
    for cell in wanted:
        if cell.radius is not None:
            found[cell.name] = found[cell.name].within(cell.radius)
    return found


def radii(data: Dataset, matches: int) -> npt.NDArray[np.float64]:
    """Return per query a radius that `matches` rows lie in, midway to the next one."""
    nearest = np.sqrt(truths(data, [Cell("all")])["all"].squared)
    at = min(matches, nearest.shape[1] - 1, len(data.vectors) - 1)
    return (nearest[:, at - 1] + nearest[:, at]) / 2


def _slug(cell: Cell) -> str:
    """Return a file name that changes with the cell's parameters; a radius does not count."""
    digest = hashlib.sha256(cell.where().encode())
    for term in cell.terms:
        if term.values.dtype.kind == "U":
            digest.update("\0".join(term.values.tolist()).encode())
        else:
            digest.update(np.asarray(term.values, np.float64).tobytes())
    if cell.join is not None:
        digest.update(repr((cell.join.column, cell.join.ids, cell.join.kinds)).encode())
        digest.update(np.asarray(cell.join.values, np.float64).tobytes())
    readable = re.sub(r"\W+", "-", cell.name).strip("-")
    return f"{readable}-{digest.hexdigest()[:10]}"


def _search(data: Dataset, wanted: Sequence[Cell]) -> dict[str, Truth]:
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
                key = cell.key(query)
                if key not in passing:
                    passing[key] = cell.passing(data.attributes, query)
                nearest = _nearest(data, query, distances[query - first], passing[key])
                found[cell.name].squared[query, : len(nearest)] = nearest
                found[cell.name].matches[query] = len(passing[key])
    return found


def _nearest(
    data: Dataset,
    query: int,
    approximate: npt.NDArray[np.float32],
    passing: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return the nearest squared distances, exact: float32 chooses, with a margin."""
    if len(passing) > DEEPEST + _SPARE:
        chosen = np.argpartition(approximate[passing], DEEPEST + _SPARE)[: DEEPEST + _SPARE]
        passing = passing[chosen]
    return np.sort(squared(data, query, np.sort(passing)))[:DEEPEST]
