"""sqlite-vec: brute force in a vec0 table with the attributes as metadata columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.cells import Cell
from bench.data.dataset import Columns
from bench.peers.base import Ask, Peer, Setting, tuples

_CHUNK = 10_000


class SqliteVec(Peer):
    name = "sqlite-vec"
    family = "sqlite-vec"
    # Python's own sqlite3 may be built without loadable extensions.
    packages = ("sqlite-vec", "apsw")
    modules = ("apsw", "sqlite_vec")
    can = frozenset({"writes"})
    about = "no index: brute force in SQL"

    def _connect(self) -> Any:
        import apsw
        import sqlite_vec

        con = apsw.Connection(str(self.folder / "items.sqlite"))
        con.enable_load_extension(True)
        con.load_extension(sqlite_vec.loadable_path())
        con.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = normal")
        con.execute("PRAGMA mmap_size = 8000000000; PRAGMA busy_timeout = 10000")
        return con

    def build(self) -> None:
        types = {"INT": "integer", "REAL": "float", "TEXT": "text"}
        listed = ", ".join(f"{n} {types[t]}" for n, t in self.columns().items())
        self._connections: dict[int, Any] = {1: self._connect()}
        self._connections[1].execute(
            f"CREATE VIRTUAL TABLE items USING vec0(id integer primary key, {listed}, "
            f"v float[{self.data.dim}])"
        )
        self.fill(_CHUNK)
        self._connections[1].close()

    def open(self, start: str | None) -> None:
        self._connections = {}

    def close(self) -> None:
        for con in self._connections.values():
            con.close()

    def _connection(self, worker: int) -> Any:
        if worker not in self._connections:
            self._connections[worker] = self._connect()
        return self._connections[worker]

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
        con = self._connection(worker)
        terms = cell.where().replace(" WHERE ", " AND ")
        text = (
            f"SELECT id, distance FROM items WHERE v MATCH ? AND k = {k}{terms} ORDER BY distance"
        )
        parameters = {q: (self.data.queries[q].tobytes(), *cell.parameters(q)) for q in queries}
        return lambda q: list(con.execute(text, parameters[q]))

    def ids(self, answer: Any) -> list[int]:
        return [row[0] for row in answer]

    def insert(self, columns: Columns, vectors: Any) -> None:
        con = self._connection(1)
        holes = ", ".join("?" * (len(columns) + 1))
        text = f"INSERT INTO items ({', '.join(columns)}, v) VALUES ({holes})"
        rows = [(*row, vector.tobytes()) for *row, vector in tuples(columns, vectors)]
        with con:
            con.executemany(text, rows)

    def delete(self, ids: Sequence[int]) -> None:
        con = self._connection(1)
        with con:
            con.executemany("DELETE FROM items WHERE id = ?", [(i,) for i in ids])
