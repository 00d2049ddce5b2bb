"""What every engine is to the harness: asked a cell's queries one call at a time, in one thread.

A class below names the packages it needs, builds its database once into a folder, and makes
callables that answer a query through the engine's public interface; only their calls are timed.
This module and the peers' import NumPy only: an engine's own packages are imported when it starts.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from bench.cells import Cell, Value
from bench.data.dataset import Columns, Dataset

# `start` in a setting goes to the peer's constructor: such a setting has a process of its own.
Setting = dict[str, Any]
Ask = Callable[[int], Any]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class CannotError(Exception):
    """An engine has no way of its own to answer such a cell; says what is missing."""


@dataclass(frozen=True)
class Answers:
    """Per query: the seconds of the whole call and the ids it returned."""

    seconds: list[float]
    ids: list[list[int]]


class Engine(Protocol):
    """What is measured."""

    @property
    def name(self) -> str: ...

    def answers(self, cell: Cell, k: int, queries: Sequence[int], setting: Setting) -> Answers: ...


class Tunable(Engine, Protocol):
    """An engine with settings to sweep: ladders of rising recall and cost."""

    def ladders(self, k: int) -> list[list[Setting]]: ...


class Peer:
    """One engine. `folder` is for its database; `built` in it says that it is whole."""

    name: ClassVar[str]
    family: ClassVar[str]
    """Names of one family share an environment and a database."""
    packages: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ()
    """What must be importable; the last one has the version that is shown."""
    can: ClassVar[frozenset[str]] = frozenset()
    """Of `join`, `radius`, `pages`, `LIKE`, `batch`, `writes`."""
    about: ClassVar[str] = ""
    tuned_as: ClassVar[str | None] = None
    """Who answers by the same index at the same settings, faster: its best setting is tried first,
    and beyond it only the ladders that the other has not."""
    version: str | None = None
    """Where the package's version is not the engine's."""

    def __init__(self, data: Dataset, folder: Path, start: str | None = None) -> None:
        self.data = data
        self.folder = folder
        if not (folder / "built").exists():
            self.clear()
            before = _from_here()
            started = time.perf_counter()
            there, load = any(folder.iterdir()), loads()
            self.build()
            report = {
                "seconds": round(time.perf_counter() - started, 2),
                "load": [*load, *loads()],
                "peak_bytes": peak_bytes() - before,
                "disk_bytes": bytes_in(folder),
            }
            # The time of a build that was completed says nothing.
            if not there:
                (folder / "build.json").write_text(json.dumps(report))
            (folder / "built").touch()
        self.open(start)

    def clear(self) -> None:
        """Remove what an interrupted build left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def build(self) -> None:
        """Make the database and its indexes."""
        raise NotImplementedError

    def open(self, start: str | None) -> None:
        """Open what `build` made."""
        raise NotImplementedError

    def ladders(self, k: int) -> list[list[Setting]]:
        """Return settings of rising recall and cost, in one or several ladders."""
        return [[{}]]

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
        """Return what answers a query; what a user would do once, and the parameters, are ready."""
        raise NotImplementedError

    def ids(self, answer: Any) -> list[int]:
        """Return the ids of an answer; not timed."""
        return [int(i) for i in answer]

    def close(self) -> None:
        """Close what `open` opened."""

    def insert(self, columns: Columns, vectors: Any) -> None:
        """Insert rows, and make them found."""
        raise CannotError("writes")

    def delete(self, ids: Sequence[int]) -> None:
        raise CannotError("writes")

    def batch(self, queries: Sequence[int], k: int, setting: Setting) -> list[list[int]]:
        """Answer all queries, without a filter, in one call."""
        raise CannotError("a batch of queries")

    def answers(self, cell: Cell, k: int, queries: Sequence[int], setting: Setting) -> Answers:
        ask, ids = self._asking(cell, k, queries, setting)
        seconds, found = timed(ask, queries)
        return Answers(seconds, [ids(f) for f in found])

    def _asking(
        self, cell: Cell, k: int, queries: Sequence[int], setting: Setting, worker: int = 0
    ) -> tuple[Ask, Callable[[Any], list[int]]]:
        missing = needs(cell) - self.can
        if missing:
            raise CannotError(f"no {', '.join(sorted(missing))}")
        if cell.pages == 1:
            return self.ask(cell, k, queries, setting, worker=worker), self.ids
        pages = [
            self.ask(cell, k, queries, setting, offset=n * k, worker=worker)
            for n in range(cell.pages)
        ]
        return (
            lambda query: [page(query) for page in pages],
            lambda found: [i for page in found for i in self.ids(page)],
        )

    def throughput(
        self,
        cell: Cell,
        k: int,
        queries: Sequence[int],
        setting: Setting,
        threads: int,
        seconds: float,
    ) -> float:
        """Return answers per second of so many threads that ask one query after the other."""
        asks = [self._asking(cell, k, queries, setting, n)[0] for n in range(threads)]
        for ask in asks:
            ask(queries[0])
        done = [0] * threads
        failed: list[BaseException] = []
        end = time.perf_counter() + seconds

        def work(n: int) -> None:
            at = n * len(queries) // threads
            try:
                while time.perf_counter() < end:
                    asks[n](queries[at % len(queries)])
                    at += 1
                    done[n] += 1
            except Exception as error:  # noqa: BLE001 - told to whoever started the thread
                failed.append(error)

        started = time.perf_counter()
        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
        if failed:
            raise failed[0]
        return sum(done) / (time.perf_counter() - started)

    def columns(self) -> dict[str, str]:
        """Return the attributes that are filtered by: name to `INT`, `REAL` or `TEXT`."""
        return {name: kind(self.data.attributes[name]) for name in self.data.filters}

    def chunks(self, size: int) -> Iterator[tuple[Columns, Any]]:
        """Yield the columns with `id`, and the vectors, of so many rows at a time."""
        for at in range(0, len(self.data.vectors), size):
            there = slice(at, at + size)
            columns = {n: self.data.attributes[n][there] for n in ("id", *self.data.filters)}
            yield columns, np.ascontiguousarray(self.data.vectors[there])

    def fill(self, size: int) -> None:
        """Insert every row, so many at a time."""
        for columns, vectors in self.chunks(size):
            self.insert(columns, vectors)


def arrow(columns: Columns, vectors: Any) -> Any:
    """Return rows as a table of Arrow's, the vectors as `v`."""
    import pyarrow as pa

    found = {n: pa.array(c.tolist() if c.dtype.kind == "U" else c) for n, c in columns.items()}
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    found["v"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.table(found)


def tuples(columns: Columns, vectors: Any) -> Iterator[tuple[Any, ...]]:
    """Yield rows as Python's values; the vector comes last."""
    return zip(*(c.tolist() for c in columns.values()), vectors, strict=True)


def kind(column: Any) -> str:
    return {"f": "REAL", "U": "TEXT"}.get(column.dtype.kind, "INT")


def needs(cell: Cell) -> set[str]:
    """Return what an engine must be able to do besides comparisons."""
    found = {"LIKE"} if any(t.operator == "LIKE" for t in cell.terms) else set()
    found |= {"join"} if cell.join is not None else set()
    found |= {"radius"} if cell.radius is not None else set()
    return found | ({"pages"} if cell.pages > 1 else set())


def literal(value: Value) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def timed(run: Ask, queries: Sequence[int]) -> tuple[list[float], list[Any]]:
    """Return the seconds and results of `run` for each query."""
    seconds: list[float] = []
    results: list[Any] = []
    for query in queries:
        started = time.perf_counter()
        result = run(query)
        seconds.append(time.perf_counter() - started)
        results.append(result)
    return seconds, results


def geometric(first: int, last: int, ratio: float) -> list[int]:
    steps = int(np.ceil(np.log(last / first) / np.log(ratio)))
    return sorted({*(round(first * ratio**i) for i in range(steps)), last})


def bytes_in(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())


def loads() -> list[float]:
    """Return the load average of the last minute, where the system has one."""
    return [round(os.getloadavg()[0], 1)] if hasattr(os, "getloadavg") else []


def peak_bytes() -> int:
    """Return this process's own peak: getrusage's is its parent's where that was larger."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _from_here() -> int:
    """Let the peak begin at what this process holds now, and return that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident_bytes()


def resident_bytes() -> int:
    """Return the memory this process holds now, mapped files included."""
    return _status("VmRSS")


def _status(name: str) -> int:
    file = Path("/proc/self/status")
    if not file.exists():
        return 0
    line = next(line for line in file.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
