"""FAISS: IVF + 4-bit PQ + exact refinement, predicates as bitmaps; and the two-step ways to use it.

The two indexes are those that were fastest of a wider choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.cells import Cell
from bench.peers.base import Ask, Peer, Setting, geometric

_CHUNK = 50_000


class Faiss(Peer):
    """The bitmap is given ready-made: making it is not timed."""

    name = "faiss"
    family = "faiss"
    packages = ("faiss-cpu", "duckdb")
    modules = ("faiss", "duckdb")
    can = frozenset({"join", "LIKE", "batch"})
    about = "IVF+PQ4+refine; the bitmap of the WHERE is given and costs nothing"
    FACTORIES = ("IVF1024,PQ64x4fs,RFlat", "IVF4096_HNSW32,PQ64x4fs,RFlat")

    def clear(self) -> None:
        """Keep what is whole: an index is written under another name first."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def factories(self) -> list[str]:
        """Return the kinds of index that so many rows can train, at this dimension."""
        dim = self.data.dim
        parts = next(m for m in (dim // 2, dim // 4, dim // 5, 1) if dim % m == 0 and m % 2 == 0)
        lists = 4 * round(len(self.data.vectors) ** 0.5)
        found = [f.replace("PQ64", f"PQ{parts}") for f in self.FACTORIES]
        return (
            found
            if lists > 1_000 or self.data.kind == "sift"
            else [f"IVF{lists},PQ{parts}x4fs,RFlat"]
        )

    def build(self) -> None:
        import faiss

        for factory in self.factories():
            file = self._file(factory)
            if file.exists():
                continue
            index = faiss.index_factory(self.data.dim, factory)
            rows = len(self.data.vectors)
            sample = np.random.default_rng(0).choice(rows, min(rows, 300_000), replace=False)
            index.train(np.ascontiguousarray(self.data.vectors[np.sort(sample)]))
            for at in range(0, rows, _CHUNK):
                index.add(np.ascontiguousarray(self.data.vectors[at : at + _CHUNK]))
            unfinished = file.with_suffix(".unfinished")
            faiss.write_index(index, str(unfinished))
            unfinished.rename(file)

    def _file(self, factory: str) -> Path:
        return self.folder / f"{factory.replace(',', '-')}.faiss"

    def open(self, start: str | None) -> None:
        import faiss

        self._faiss = faiss
        self._indexes = {f: faiss.read_index(str(self._file(f))) for f in self.factories()}
        self._selectors: dict[tuple[Any, ...], Any] = {}
        faiss.omp_set_num_threads(1)

    def ladders(self, k: int) -> list[list[Setting]]:
        factors = [f for f in (1, 2, 4, 8, 16, 32, 64) if k <= k * f <= 4_000]
        return [
            [
                {"index": factory, "k_factor": factor, "nprobe": nprobe}
                for nprobe in geometric(2, 4096 if "IVF4096" in factory else 1024, 1.06)
            ]
            for factory in self.factories()
            for factor in factors
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
        index, asked = self._indexes[setting["index"]], self.data.queries
        parameters = {q: self.probing(setting, self.selector(cell, q)) for q in queries}
        return lambda q: index.search(asked[q : q + 1], k, params=parameters[q])

    def ids(self, answer: Any) -> list[int]:
        return [int(i) for i in answer[1][0] if i >= 0]

    def batch(self, queries: Sequence[int], k: int, setting: Setting) -> list[list[int]]:
        index = self._indexes[setting["index"]]
        asked = self.data.queries[list(queries)]
        _, found = index.search(asked, k, params=self.probing(setting, None))
        return [[int(i) for i in row if i >= 0] for row in found]

    def selector(self, cell: Cell, query: int) -> Any:
        if not cell.terms and cell.join is None:
            return None
        key = cell.key(query)
        if key not in self._selectors:
            self._selectors[key] = self.bitmap(cell.mask(self.data.attributes, query))
        return self._selectors[key]

    def bitmap(self, mask: Any) -> Any:
        return self._faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))

    def probing(self, setting: Setting, selector: Any) -> Any:
        faiss = self._faiss
        probing: dict[str, Any] = {"nprobe": setting["nprobe"]}
        if "HNSW" in setting["index"]:
            probing["quantizer_params"] = faiss.SearchParametersHNSW(
                efSearch=max(16, setting["nprobe"])
            )
        if selector is not None:
            probing["sel"] = selector
        return faiss.IndexRefineSearchParameters(
            k_factor=setting["k_factor"],
            base_index_params=faiss.SearchParametersIVF(**probing),
        )


class FaissBuilt(Faiss):
    """The bitmap is made from NumPy columns within the call."""

    name = "faiss-built"
    about = "the same; the bitmap is built by NumPy within the call"
    tuned_as = "faiss"

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
        if not cell.terms and cell.join is None:
            return super().ask(cell, k, queries, setting)
        index, asked, attributes = (
            self._indexes[setting["index"]],
            self.data.queries,
            self.data.attributes,
        )

        def run(query: int) -> Any:
            selector = self.bitmap(cell.mask(attributes, query))
            return index.search(asked[query : query + 1], k, params=self.probing(setting, selector))

        return run


class _TwoStep(Faiss):
    """A DuckDB table of the attributes beside FAISS."""

    can = frozenset({"LIKE"})

    def open(self, start: str | None) -> None:
        import duckdb

        super().open(start)
        self._duckdb = duckdb.connect(config={"threads": 1})
        self._duckdb.execute("SET enable_progress_bar = false")
        columns = ", ".join(f"{n} {t}" for n, t in self.columns().items())
        self._duckdb.execute(f"CREATE TABLE items (id INT PRIMARY KEY, {columns})")
        for rows, _ in self.chunks(_CHUNK):
            given = {n: c.astype(object) if c.dtype.kind == "U" else c for n, c in rows.items()}
            self._duckdb.register("source", given)
            self._duckdb.execute("INSERT INTO items SELECT * FROM source")
            self._duckdb.unregister("source")
        self._cursors = {0: self._duckdb}

    def cursor(self, worker: int) -> Any:
        if worker not in self._cursors:
            self._cursors[worker] = self._duckdb.cursor()
        return self._cursors[worker]


class FaissPre(_TwoStep):
    """DuckDB finds the rows that pass; FAISS searches these: all of them, or by the index."""

    name = "faiss-pre"
    about = "two steps: DuckDB's filter, then FAISS on the rows that pass"
    tuned_as = "faiss"

    def ladders(self, k: int) -> list[list[Setting]]:
        return [[{"index": "all that pass"}], *super().ladders(k)]

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
        if not cell.terms and setting["index"] in self._indexes:
            return super().ask(cell, k, queries, setting)
        faiss, vectors, asked = self._faiss, self.data.vectors, self.data.queries
        con, text = self.cursor(worker), f"SELECT id FROM items{cell.where()}"
        parameters = {q: cell.parameters(q) for q in queries}

        def run(query: int) -> Any:
            ids = con.execute(text, parameters[query]).fetchnumpy()["id"]
            if setting["index"] in self._indexes:
                mask = np.zeros(len(vectors), np.bool_)
                mask[ids] = True
                index = self._indexes[setting["index"]]
                probing = self.probing(setting, self.bitmap(mask))
                return index.search(asked[query : query + 1], k, params=probing)
            if len(ids) == 0:
                return None, [[]]
            distances, found = faiss.knn(asked[query : query + 1], vectors[ids], min(k, len(ids)))
            return distances, [ids[found[0]]]

        return run


class FaissPost(_TwoStep):
    """FAISS finds `amplification` times k rows; DuckDB keeps those that pass."""

    name = "faiss-post"
    about = "two steps: FAISS for more than k, then DuckDB's filter on these"

    def ladders(self, k: int) -> list[list[Setting]]:
        rows = len(self.data.vectors)
        amplifications = [a for a in geometric(1, 4_096, 1.6) if k * a <= min(rows, 20_000)]
        return [
            [
                {
                    "index": f,
                    "k_factor": 2,
                    "nprobe": min(nprobe * max(1, a // 16), 1024),
                    "amplification": a,
                }
                for a in amplifications
            ]
            for f in self.factories()[:1]
            for nprobe in (16, 64)
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
        con, index, asked = self.cursor(worker), self._indexes[setting["index"]], self.data.queries
        terms = cell.where().replace(" WHERE ", " AND ")
        text = f"SELECT id FROM items WHERE id IN (SELECT unnest(?::INT[])){terms}"
        parameters = {q: cell.parameters(q) for q in queries}
        wanted = k * setting["amplification"]
        probing = self.probing(setting, None)

        def run(query: int) -> Any:
            distances, found = index.search(asked[query : query + 1], wanted, params=probing)
            near = found[0][found[0] >= 0]
            if not cell.terms:
                return distances, [near[:k]]
            passing = con.execute(text, (near.tolist(), *parameters[query])).fetchnumpy()["id"]
            return distances, [near[np.isin(near, passing)][:k]]

        return run
