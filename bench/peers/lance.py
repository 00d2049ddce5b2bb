"""LanceDB: IVF_HNSW_SQ and IVF_PQ with refinement; B-trees and bitmaps on the attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.cells import Cell
from bench.data.dataset import Columns
from bench.peers.base import Ask, Peer, Setting, arrow, geometric, literal

_CHUNK = 50_000
_FEW = 1_000


class Lance(Peer):
    name = "lancedb"
    family = "lancedb"
    packages = ("lancedb",)
    modules = ("lancedb",)
    can = frozenset({"radius", "pages", "LIKE", "writes"})
    about = "IVF_HNSW_SQ and IVF_PQ, refined; B-trees and bitmaps; prefilter"
    INDEXES = ("IVF_HNSW_SQ", "IVF_PQ")

    def build(self) -> None:
        import lancedb
        import numpy as np

        self._db = lancedb.connect(str(self.folder / "db"))
        self._tables: dict[str, Any] = {}
        dim = self.data.dim
        parts = next(m for m in (dim // 8, dim // 4, dim // 5, 1) if m and dim % m == 0)
        for index in self.INDEXES:
            table = None
            for columns, vectors in self.chunks(_CHUNK):
                rows = arrow(columns, vectors)
                if table is None:
                    table = self._db.create_table(index.lower(), rows)
                else:
                    table.add(rows)
            assert table is not None
            for name in self.columns():
                values = self.data.attributes[name]
                few = len(np.unique(values)) <= _FEW and values.dtype.kind != "f"  # it takes none
                table.create_scalar_index(name, index_type="BITMAP" if few else "BTREE")
            partitions = max(1, round(len(self.data.vectors) ** 0.5))
            more: dict[str, Any] = {"num_sub_vectors": parts} if index == "IVF_PQ" else {}
            if index == "IVF_HNSW_SQ":
                partitions = max(1, len(self.data.vectors) // 1_000_000)
            table.create_index(
                metric="l2",
                vector_column_name="v",
                index_type=index,
                num_partitions=partitions,
                **more,
            )
            table.optimize()

    def open(self, start: str | None) -> None:
        import lancedb

        db = lancedb.connect(str(self.folder / "db"))
        self._tables = {index: db.open_table(index.lower()) for index in self.INDEXES}

    def ladders(self, k: int) -> list[list[Setting]]:
        # It refuses an ef below what it refines.
        efs = [ef for ef in geometric(16, 8_000, 1.5) if ef >= 4 * k]
        graph = [{"index": "IVF_HNSW_SQ", "ef": ef, "refine": 4} for ef in efs]
        coarse = [
            [
                {"index": "IVF_PQ", "nprobes": nprobes, "refine": refine}
                for nprobes in geometric(4, 1_000, 1.6)
            ]
            for refine in (4, 16)
        ]
        return [graph, *coarse]

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
        # What is written goes where is searched.
        self._used = setting["index"]
        table, asked = self._tables[self._used], self.data.queries
        where = cell.where("{}").removeprefix(" WHERE ")
        texts = {q: where.format(*map(literal, cell.parameters(q))) for q in queries}
        radius = cell.radius

        def run(query: int) -> Any:
            search = table.search(asked[query]).limit(k).select(["id", "_distance"])
            if "ef" in setting:
                search = search.ef(setting["ef"]).refine_factor(setting["refine"])
            else:
                search = (
                    search.maximum_nprobes(0)
                    .minimum_nprobes(setting["nprobes"])
                    .refine_factor(setting["refine"])
                )
            if texts[query]:
                search = search.where(texts[query], prefilter=True)
            if offset:
                search = search.offset(offset)
            if radius is not None:
                search = search.distance_range(upper_bound=float(radius[query] ** 2))
            return search.to_arrow()

        return run

    def ids(self, answer: Any) -> list[int]:
        return [int(i) for i in answer["id"].to_pylist()]

    def insert(self, columns: Columns, vectors: Any) -> None:
        self._tables[self._used].add(arrow(columns, vectors))

    def delete(self, ids: Sequence[int]) -> None:
        listed = ", ".join(map(str, ids))
        self._tables[self._used].delete(f"id IN ({listed})")
