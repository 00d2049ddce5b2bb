"""milvus-lite: HNSW, inverted indexes on the attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.cells import Cell
from bench.data.dataset import Columns
from bench.peers.base import Ask, Peer, Setting, geometric, tuples

_CHUNK = 5_000


class Milvus(Peer):
    name = "milvus-lite"
    family = "milvus-lite"
    packages = ("milvus-lite", "pymilvus", "setuptools<81")
    modules = ("pymilvus", "milvus_lite")
    can = frozenset({"pages", "LIKE", "writes"})
    about = "HNSW and IVF_FLAT, inverted indexes"
    INDEXES = ("HNSW", "IVF_FLAT")

    def build(self) -> None:
        from pymilvus import DataType

        self.open(None)
        types = {"INT": DataType.INT64, "REAL": DataType.FLOAT, "TEXT": DataType.VARCHAR}
        lists = max(16, 4 * round(len(self.data.vectors) ** 0.5))
        for index in self.INDEXES:
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            for name, type in self.columns().items():
                more = {"max_length": 400} if type == "TEXT" else {}
                schema.add_field(name, types[type], **more)
            schema.add_field("v", DataType.FLOAT_VECTOR, dim=self.data.dim)
            parameters = self._client.prepare_index_params()
            graph = {"M": 16, "efConstruction": 200}
            parameters.add_index(
                "v",
                index_type=index,
                metric_type="L2",
                params=graph if index == "HNSW" else {"nlist": lists},
            )
            for name in self.columns():
                parameters.add_index(name, index_type="INVERTED")
            self._client.create_collection(index, schema=schema, index_params=parameters)
            for columns, vectors in self.chunks(_CHUNK):
                self._client.insert(index, _rows(columns, vectors))
            self._client.flush(index)
        self._client.close()

    def open(self, start: str | None) -> None:
        from pymilvus import MilvusClient

        self._client = MilvusClient(str(self.folder / "items.db"))
        for index in self._client.list_collections():
            self._client.load_collection(index)

    def close(self) -> None:
        self._client.close()

    def ladders(self, k: int) -> list[list[Setting]]:
        graph = [{"index": "HNSW", "ef": ef} for ef in geometric(16, 4_000, 1.5) if ef >= k]
        lists = max(16, 4 * round(len(self.data.vectors) ** 0.5))
        return [
            graph,
            [{"index": "IVF_FLAT", "nprobe": nprobe} for nprobe in geometric(4, lists, 1.6)],
        ]

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
        client, asked, index = self._client, self.data.queries, setting["index"]
        # What is written goes where is searched.
        self._used = index
        where = cell.where("{}").removeprefix(" WHERE ").replace(" AND ", " and ")
        where = where.replace(" = ", " == ").replace(" LIKE ", " like ")
        texts = {q: where.format(*map(_literal, cell.parameters(q))) for q in queries}
        given: dict[str, Any] = {"params": {n: v for n, v in setting.items() if n != "index"}}
        if offset:
            given["offset"] = offset

        def run(query: int) -> Any:
            return client.search(
                index, data=[asked[query]], limit=k, filter=texts[query], search_params=given
            )

        return run

    def ids(self, answer: Any) -> list[int]:
        return [int(hit["id"]) for hit in answer[0]]

    def insert(self, columns: Columns, vectors: Any) -> None:
        self._client.insert(self._used, _rows(columns, vectors))

    def delete(self, ids: Sequence[int]) -> None:
        self._client.delete(self._used, ids=list(ids))


def _literal(value: Any) -> str:
    return '"' + value.replace('"', '\\"') + '"' if isinstance(value, str) else repr(value)


def _rows(columns: Columns, vectors: Any) -> list[dict[str, Any]]:
    names = [*columns, "v"]
    return [dict(zip(names, row, strict=True)) for row in tuples(columns, vectors)]
