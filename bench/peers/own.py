"""hybridq through its DB-API; a setting is a plan and a recall."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.cells import Cell
from bench.data.dataset import CACHE, Columns, Dataset
from bench.peers.base import Answers, Ask, Peer, Setting, arrow, timed
from bench.truth import squared

PLANS = ("exact", "prefilter", "fused", "bitmap", "postfilter")


class Hybridq(Peer):
    name = "hybridq"
    family = "hybridq"
    packages = ("hybridq-engine",)
    modules = ("hybridq",)
    can = frozenset({"join", "radius", "pages", "LIKE", "batch", "writes"})
    about = "the engine: SET recall, the planner's choice"

    def __init__(self, data: Dataset, folder: Path, start: str | None = None) -> None:
        from bench import items

        self.data, self.folder = data, folder
        place = CACHE / "items" if folder == CACHE / self.family / data.name else folder
        self._path = items.database(data, folder=place)
        self.build_report = items.build_report(self._path)
        self.open(start)

    def open(self, start: str | None) -> None:
        self._connections: dict[int, Any] = {}
        self._set: dict[int, Setting] = {}
        self._con = self._connection(0)

    def close(self) -> None:
        for con in self._connections.values():
            con.close()

    def ladders(self, k: int) -> list[list[Setting]]:
        return [[{"recall": r / 100} for r in (*range(50, 80, 3), *range(80, 100))]]

    def _connection(self, worker: int) -> Any:
        import hybridq

        if worker not in self._connections:
            con = hybridq.connect(self._path)
            con.execute("SET threads = 1")
            self._connections[worker], self._set[worker] = con, {}
        return self._connections[worker]

    def _apply(self, worker: int, setting: Setting) -> Any:
        con, known = self._connection(worker), self._set[worker]
        for name, value in {"plan": "auto", "recall": 0.95, **setting}.items():
            if known.get(name) != value:
                con.execute(f"SET {name} = '{value}'")
                known[name] = value
        return con

    def ask(
        self,
        cell: Cell,
        k: int,
        queries: Sequence[int],
        setting: Setting,
        *,
        offset: int = 0,
        worker: int = 0,
    ) -> Ask:
        con = self._apply(worker, setting)
        self._prepare(con, cell)
        text = sql(cell, k) + (f" OFFSET {offset}" if offset else "")
        parameters = {q: self._parameters(cell, q) for q in queries}
        return lambda q: con.execute(text, parameters[q]).fetchall()

    def ids(self, answer: Any) -> list[int]:
        return [row[0] for row in answer]

    def answers(self, cell: Cell, k: int, queries: Sequence[int], setting: Setting) -> Answers:
        """Answer, and check every distance that comes back."""
        if cell.pages > 1:
            return super().answers(cell, k, queries, setting)
        seconds, found = timed(self.ask(cell, k, queries, setting), queries)
        ids = [self.ids(answer) for answer in found]
        for query, rows, answer in zip(queries, ids, found, strict=True):
            exact = np.sqrt(squared(self.data, query, np.asarray(rows, np.int64)))
            given = np.array([row[1] for row in answer])
            if not np.allclose(given, exact, rtol=1e-6, atol=1e-5):
                raise AssertionError(f"{cell.name}, query {query}: wrong distances")
            if not (np.diff(given) >= 0).all():
                raise AssertionError(f"{cell.name}, query {query}: rows are not in order")
        return Answers(seconds, ids)

    def explained(
        self, cell: Cell, k: int, queries: Sequence[int], setting: Setting
    ) -> list[dict[str, Any]]:
        """Return EXPLAIN (ANALYZE, FORMAT JSON) of each query."""
        con = self._apply(0, setting)
        self._prepare(con, cell)
        text = f"EXPLAIN (ANALYZE, FORMAT JSON) {sql(cell, k)}"
        found: list[dict[str, Any]] = []
        for query in queries:
            rows = con.execute(text, self._parameters(cell, query)).fetchall()
            found.append(json.loads(rows[0][1]))
        return found

    def batch(self, queries: Sequence[int], k: int, setting: Setting) -> list[list[int]]:
        import pyarrow as pa

        con = self._apply(0, setting)
        flat = np.ascontiguousarray(self.data.queries[list(queries)]).ravel()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), self.data.dim)
        con.register("asked", pa.table({"n": range(len(queries)), "q": vectors}))
        found: list[list[int]] = [[] for _ in queries]
        text = (
            "SELECT a.n, t.id FROM asked a, LATERAL "
            f"(SELECT id, v <-> a.q AS d FROM items ORDER BY d LIMIT {k}) t"
        )
        for n, row in con.execute(text).fetchall():
            found[n].append(row)
        con.unregister("asked")
        return found

    def insert(self, columns: Columns, vectors: Any) -> None:
        con = self._connection(1)
        con.register("source", arrow(columns, vectors))
        con.execute(f"INSERT INTO items ({', '.join(columns)}, v) SELECT * FROM source")
        con.unregister("source")

    def delete(self, ids: Sequence[int]) -> None:
        con = self._connection(1)
        con.execute(f"DELETE FROM items WHERE id IN ({', '.join(map(str, ids))})")

    def _prepare(self, con: Any, cell: Cell) -> None:
        if cell.join is None:
            return
        con.execute("CREATE OR REPLACE TEMP TABLE side (id INT PRIMARY KEY, kind INT)")
        rows = list(zip(cell.join.ids, cell.join.kinds, strict=True))
        con.executemany("INSERT INTO side VALUES (?, ?)", rows)

    def _parameters(self, cell: Cell, query: int) -> tuple[Any, ...]:
        asked = self.data.queries[query]
        more: tuple[Any, ...] = ()
        if cell.join is not None:
            more += (int(cell.join.values[query]),)
        if cell.radius is not None:
            more += (asked, float(cell.radius[query]))
        return (asked, *cell.parameters(query), *more)


def sql(cell: Cell, k: int) -> str:
    """Return the statement; the vector is the first parameter."""
    if cell.join is None and cell.radius is None:
        return f"SELECT id, v <-> ? AS d FROM items{cell.where()} ORDER BY d LIMIT {k}"
    prefix = "" if cell.join is None else "i."
    where = cell.where(prefix=prefix)
    source = "items"
    if cell.join is not None:
        source = f"items i JOIN side s ON i.{cell.join.column} = s.id"
        where += (" AND" if where else " WHERE") + " s.kind = ?"
    if cell.radius is not None:
        where += (" AND" if where else " WHERE") + f" {prefix}v <-> ? < ?"
    return f"SELECT {prefix}id, {prefix}v <-> ? AS d FROM {source}{where} ORDER BY d LIMIT {k}"
