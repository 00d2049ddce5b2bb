"""Graph libraries: hnswlib with its filter callback, usearch with a filter afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.cells import Cell
from bench.data.dataset import Columns
from bench.peers.base import Ask, Peer, Setting, geometric

_CHUNK = 50_000


class _Masked(Peer):
    """Masks of the rows that pass are made before the calls: they are not timed."""

    def mask(self, cell: Cell, query: int) -> Any:
        if not hasattr(self, "_masks"):
            self._masks: dict[Any, Any] = {}
        key = cell.key(query)
        if key not in self._masks:
            self._masks[key] = cell.mask(self.data.attributes, query)
        return self._masks[key]


class Hnswlib(_Masked):
    name = "hnswlib"
    family = "hnswlib"
    packages = ("hnswlib",)
    modules = ("hnswlib",)
    can = frozenset({"join", "LIKE", "batch", "writes"})
    about = "HNSW with a Python callback that looks a row up in a ready-made mask"

    def build(self) -> None:
        import hnswlib

        index = hnswlib.Index(space="l2", dim=self.data.dim)
        index.init_index(len(self.data.vectors), ef_construction=200, M=16, random_seed=1)
        for columns, vectors in self.chunks(_CHUNK):
            index.add_items(vectors, columns["id"])
        index.save_index(str(self.folder / "index.bin"))

    def open(self, start: str | None) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="l2", dim=self.data.dim)
        room = len(self.data.vectors) * (2 if start == "writes" else 1)
        self._index.load_index(str(self.folder / "index.bin"), max_elements=room)
        self._index.set_num_threads(1)
        self._cell = ""
        self._lookups: dict[Any, Any] = {}

    def ladders(self, k: int) -> list[list[Setting]]:
        return [[{"ef": ef} for ef in geometric(10, 20_000, 1.3) if ef >= k]]

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
        index, asked = self._index, self.data.queries
        index.set_ef(setting["ef"])
        filters: dict[int, Any] = {}
        if cell.terms or cell.join is not None:
            filters = {q: self._lookup(cell, q) for q in queries}

        def run(query: int) -> Any:
            chosen = filters.get(query)
            try:
                return index.knn_query(asked[query], k, num_threads=1, filter=chosen)[0][0]
            except RuntimeError as error:
                # It refuses to return fewer than k.
                if "contiguous" in str(error):
                    return []
                raise

        return run

    def _lookup(self, cell: Cell, query: int) -> Any:
        """Return what says whether a row passes; those of the last cell are kept."""
        if cell.name != self._cell:
            self._cell, self._lookups = cell.name, {}
        key = cell.key(query)
        if key not in self._lookups:
            self._lookups[key] = self.mask(cell, query).tolist().__getitem__
        return self._lookups[key]

    def batch(self, queries: Sequence[int], k: int, setting: Setting) -> list[list[int]]:
        self._index.set_ef(setting["ef"])
        found, _ = self._index.knn_query(self.data.queries[list(queries)], k, num_threads=1)
        return [[int(i) for i in row] for row in found]

    def insert(self, columns: Columns, vectors: Any) -> None:
        self._index.add_items(vectors, columns["id"], num_threads=1, replace_deleted=False)

    def delete(self, ids: Sequence[int]) -> None:
        for i in ids:
            self._index.mark_deleted(i)


class Usearch(_Masked):
    name = "usearch"
    family = "usearch"
    packages = ("usearch",)
    modules = ("usearch",)
    can = frozenset({"join", "LIKE", "batch", "writes"})
    about = "HNSW; its Python interface has no filter: more than k, then a ready-made mask"

    def build(self) -> None:
        from usearch.index import Index

        index = Index(ndim=self.data.dim, metric="l2sq", dtype="f32")
        for columns, vectors in self.chunks(_CHUNK):
            index.add(columns["id"].astype(np.int64), vectors, threads=1)
        index.save(str(self.folder / "index.usearch"))

    def open(self, start: str | None) -> None:
        from usearch.index import Index

        self._index = Index(ndim=self.data.dim, metric="l2sq", dtype="f32")
        self._index.load(str(self.folder / "index.usearch"))

    def ladders(self, k: int) -> list[list[Setting]]:
        rows = len(self.data.vectors)
        efs = [ef for ef in geometric(16, 2_000, 1.4) if ef >= k]
        more = [f for f in geometric(2, 2_000, 1.6) if k * f <= min(rows, 20_000)]
        return [
            [{"ef": ef, "amplification": 1} for ef in efs],
            [{"ef": max(64, k), "amplification": f} for f in more],
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
        index, asked = self._index, self.data.queries
        wanted = k * setting["amplification"]
        index.expansion_search = max(setting["ef"], wanted)
        masks = {q: self.mask(cell, q) for q in queries} if cell.terms or cell.join else {}

        def run(query: int) -> Any:
            keys = index.search(asked[query], wanted, threads=1).keys
            if masks:
                keys = keys[masks[query][keys.astype(np.int64)]]
            return keys[:k]

        return run

    def batch(self, queries: Sequence[int], k: int, setting: Setting) -> list[list[int]]:
        self._index.expansion_search = setting["ef"]
        found = self._index.search(self.data.queries[list(queries)], k, threads=1)
        return [[int(i) for i in row] for row in found.keys]

    def insert(self, columns: Columns, vectors: Any) -> None:
        self._index.add(columns["id"].astype(np.int64), vectors, threads=1)

    def delete(self, ids: Sequence[int]) -> None:
        self._index.remove(np.array(ids, np.int64))
