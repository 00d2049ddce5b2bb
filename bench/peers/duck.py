"""DuckDB: brute force by `array_distance`, and DuckDB VSS's HNSW index (an older DuckDB)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bench.cells import Cell
from bench.data.dataset import Columns
from bench.peers.base import Ask, Peer, Setting, arrow, geometric

_CHUNK = 50_000


class Duckdb(Peer):
    """No vector index: every row that passes is measured."""

    name = "duckdb"
    family = "duckdb"
    packages: ClassVar[tuple[str, ...]] = ("duckdb",)
    modules: ClassVar[tuple[str, ...]] = ("duckdb", "pyarrow")
    can = frozenset({"join", "radius", "pages", "LIKE", "batch", "writes"})
    about = "no index: brute force in SQL"

    def build(self) -> None:
        self._con = self._connect()
        listed = ", ".join(f"{n} {t}" for n, t in self.columns().items())
        self._con.execute(
            f"CREATE TABLE items (id INT PRIMARY KEY, {listed}, v FLOAT[{self.data.dim}])"
        )
        self.fill(_CHUNK)
        self.index()
        self._con.close()

    def index(self) -> None:
        """Make the vector index, where there is one."""

    def _connect(self) -> Any:
        import duckdb

        con = duckdb.connect(str(self.folder / "items.duckdb"), config={"threads": 1})
        con.execute("SET enable_progress_bar = false")
        return con

    def open(self, start: str | None) -> None:
        self._con = self._connect()
        self._cursors = {0: self._con}

    def close(self) -> None:
        self._con.close()

    def _cursor(self, worker: int) -> Any:
        if worker not in self._cursors:
            self._cursors[worker] = self._con.cursor()
        return self._cursors[worker]

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
        con = self._cursor(worker)
        text, ends = self.statement(con, cell, k, queries, setting)
        text += f" OFFSET {offset}" if offset else ""
        vectors = {q: self.data.queries[q].tolist() for q in queries}
        parameters = {q: [vectors[q], *ends[q]] for q in queries}
        return lambda q: con.execute(text, parameters[q]).fetchall()

    def statement(
        self, con: Any, cell: Cell, k: int, queries: Sequence[int], setting: Setting
    ) -> tuple[str, dict[int, list[Any]]]:
        """Return the SQL and what follows the vector in each query's parameters."""
        distance = f"array_distance(i.v, $1::FLOAT[{self.data.dim}])"
        source, where, count = "items i", "", len(cell.terms)
        ends: dict[int, list[Any]] = {q: list(cell.parameters(q)) for q in queries}
        parts = [f"i.{t.column} {t.operator} ${n + 2}" for n, t in enumerate(cell.terms)]
        if cell.join is not None:
            con.execute("CREATE OR REPLACE TEMP TABLE side (id INT PRIMARY KEY, kind INT)")
            rows = list(zip(cell.join.ids, cell.join.kinds, strict=True))
            con.executemany("INSERT INTO side VALUES (?, ?)", rows)
            source += f" JOIN side s ON i.{cell.join.column} = s.id"
            parts.append(f"s.kind = ${count + 2}")
            ends = {q: [*ends[q], int(cell.join.values[q])] for q in queries}
        if cell.radius is not None:
            parts.append(f"{distance} < ${count + 2}")
            ends = {q: [*ends[q], float(cell.radius[q])] for q in queries}
        where = f" WHERE {' AND '.join(parts)}" if parts else ""
        return f"SELECT i.id, {distance} AS d FROM {source}{where} ORDER BY d LIMIT {k}", ends

    def ids(self, answer: Any) -> list[int]:
        return [row[0] for row in answer]

    def batch(self, queries: Sequence[int], k: int, setting: Setting) -> list[list[int]]:
        import pyarrow as pa

        flat = np.ascontiguousarray(self.data.queries[list(queries)]).ravel()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), self.data.dim)
        self._con.register("asked", pa.table({"n": range(len(queries)), "q": vectors}))
        found: list[list[int]] = [[] for _ in queries]
        text = (
            "SELECT a.n, t.id FROM asked a, LATERAL (SELECT id FROM items "
            f"ORDER BY array_distance(v, a.q) LIMIT {k}) t"
        )
        for n, row in self._con.execute(text).fetchall():
            found[n].append(row)
        self._con.unregister("asked")
        return found

    def insert(self, columns: Columns, vectors: Any) -> None:
        con = self._con.cursor()
        con.register("source", arrow(columns, vectors))
        con.execute("INSERT INTO items SELECT * FROM source")
        con.close()

    def delete(self, ids: Sequence[int]) -> None:
        con = self._con.cursor()
        con.execute(f"DELETE FROM items WHERE id IN ({', '.join(map(str, ids))})")
        con.close()


class Vss(Duckdb):
    """Its index answers, then the WHERE is applied; or more than k are asked for first."""

    name = "duckdb-vss"
    family = "vss"
    packages = (
        "duckdb-extension-vss==1.5.5",
        "duckdb==1.5.5",
        "duckdb-extensions==1.5.5",
        "pyarrow",
    )
    modules = ("duckdb_extensions", "pyarrow", "duckdb")
    can = frozenset({"LIKE", "pages", "radius", "join", "writes"})
    about = "HNSW; the WHERE after the index, or after more than k"

    def _connect(self) -> Any:
        from duckdb_extensions import import_extension

        import_extension("vss")
        con = super()._connect()
        con.execute("LOAD vss")
        con.execute("SET hnsw_enable_experimental_persistence = true")
        return con

    def index(self) -> None:
        self._con.execute("CREATE INDEX items_v ON items USING HNSW (v) WITH (metric = 'l2sq')")

    def ladders(self, k: int) -> list[list[Setting]]:
        rows = len(self.data.vectors)
        efs = [ef for ef in geometric(16, 1_000, 1.5) if ef >= k]
        more = [f for f in geometric(2, 1_000, 2) if k * f <= min(rows, 10_000)]
        return [
            [{"ef": ef} for ef in efs],
            [{"ef": max(64, k), "amplification": f} for f in more],
        ]

    def statement(
        self, con: Any, cell: Cell, k: int, queries: Sequence[int], setting: Setting
    ) -> tuple[str, dict[int, list[Any]]]:
        con.execute(f"SET hnsw_ef_search = {setting['ef']}")
        text, ends = super().statement(con, cell, k, queries, setting)
        if "amplification" in setting and cell.terms and cell.plain:
            wanted = k * setting["amplification"]
            distance = f"array_distance(v, $1::FLOAT[{self.data.dim}])"
            names = ", ".join(["id", *(t.column for t in cell.terms)])
            inner = f"SELECT {names}, {distance} AS d FROM items ORDER BY d LIMIT {wanted}"
            outer = text.partition(" WHERE ")[2].partition(" ORDER BY ")[0]
            text = f"SELECT i.id, d FROM ({inner}) i WHERE {outer} ORDER BY d LIMIT {k}"
        return text, ends
