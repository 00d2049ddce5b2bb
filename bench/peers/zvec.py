"""zvec's HNSW with inverted indexes on the attributes, by its shortest call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.cells import Cell
from bench.data.dataset import Columns
from bench.peers.base import Ask, Peer, Setting, geometric, literal, tuples


class Zvec(Peer):
    name = "zvec"
    family = "zvec"
    packages = ("zvec",)
    modules = ("zvec",)
    can = frozenset({"LIKE", "writes"})
    about = "HNSW, inverted indexes"

    # The share of rows that pass below which the vector index is not used; .1 is zvec's own.
    STARTS = ("0.1", "0.01")

    def _zvec(self, start: str | None = None) -> Any:
        import zvec

        if not getattr(self, "_ready", False):
            zvec.init(
                query_threads=1,
                log_level=zvec.LogLevel.ERROR,
                brute_force_by_keys_ratio=float(start if start in self.STARTS else self.STARTS[0]),
            )
            self._ready = True
        return zvec

    def build(self) -> None:
        zvec = self._zvec()
        inverted = zvec.InvertIndexParam(enable_range_optimization=True)
        types = {
            "INT": zvec.DataType.INT32,
            "REAL": zvec.DataType.FLOAT,
            "TEXT": zvec.DataType.STRING,
        }
        fields = [
            zvec.FieldSchema(name, types[type], index_param=inverted)
            for name, type in self.columns().items()
        ]
        hnsw = zvec.HnswIndexParam(zvec.MetricType.L2, m=16, ef_construction=200)
        vector = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, self.data.dim, index_param=hnsw)
        schema = zvec.CollectionSchema("items", fields=fields, vectors=vector)
        self._collection = zvec.create_and_open(str(self.folder / "collection"), schema)
        self.fill(1_000)
        self._collection.optimize()
        self._collection.close()

    def open(self, start: str | None) -> None:
        zvec = self._zvec(start)
        # A collection that was opened for reading only refuses writes.
        self._writable = start == "writes"
        option = zvec.CollectionOption(read_only=not self._writable, enable_mmap=True)
        self._collection = zvec.open(str(self.folder / "collection"), option)

    def ladders(self, k: int) -> list[list[Setting]]:
        efs = [ef for ef in geometric(10, 4_000, 1.2) if ef >= k]
        return [[{"start": start, "ef": ef} for ef in efs] for start in self.STARTS]

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
        zvec, collection, asked = self._zvec(), self._collection, self.data.queries
        where = cell.where("{}").removeprefix(" WHERE ").replace(" AND ", " and ") or None
        parameters = {q: [literal(v) for v in cell.parameters(q)] for q in queries}
        param = zvec.HnswQueryParam(ef=setting["ef"])

        def run(query: int) -> Any:
            text = where and where.format(*parameters[query])
            one = zvec.Query("v", vector=asked[query], param=param)
            if self._writable:
                # The shorter call is for collections that are read only.
                found = collection.query(one, topk=k, filter=text, output_fields=[])
                return [document.id for document in found]
            internal, _ = collection.query_internal_ids(
                one, topk=k, filter=text, return_scores=True
            )
            return collection.resolve_internal_ids(internal)

        return run

    def ids(self, answer: Any) -> list[int]:
        return [int(i) for i in answer if i is not None]

    def insert(self, columns: Columns, vectors: Any) -> None:
        zvec = self._zvec()
        names = list(columns)[1:]
        docs = [
            zvec.Doc(id=str(i), vectors={"v": v}, fields=dict(zip(names, values, strict=True)))
            for i, *values, v in tuples(columns, vectors)
        ]
        for status in self._collection.insert(docs):
            assert status.ok(), status.message()

    def delete(self, ids: Sequence[int]) -> None:
        self._collection.delete([str(i) for i in ids])
