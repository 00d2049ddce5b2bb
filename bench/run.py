"""`python -m bench run`: workloads by engines into a result file, one line for what is measured.

A run that was interrupted goes on where it was when it is given the same --out; engines that a
search has not yet are measured beside hybridq, and join its line. An engine or data set that cannot
be had is one line, and the rest goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import data as sets
from bench.cells import Cell
from bench.data.dataset import DataError, Dataset
from bench.measure import Effort, Measurer
from bench.peers.base import CannotError
from bench.peers.environments import MissingError
from bench.peers.registry import ENGINES
from bench.peers.remote import PeerError, Remote
from bench.results import OWN, RESULTS, Writer, head, joined, key
from bench.truth import Truth, truths
from bench.workloads import WORKLOADS, asked

_TWO_STEPS = (OWN, "faiss-pre", "faiss-post")
_FIG_12 = ((50, 0.95), (250, 0.9), (500, 0.85))
_DEPTHS = (1, 10, 100, 1_000)
_BATCH = 1_000
_WRITTEN_ROWS = 20_000
_RATES = (200.0, 2_000.0, None)
_CURVES = ("all", "price 10 %", "price 1 %")


class Run:
    """One call of `python -m bench run`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.workloads = arguments.workload or list(WORKLOADS)
        self.effort = Effort(
            arguments.queries,
            arguments.passes,
            arguments.seconds,
            arguments.threads,
            arguments.retune,
            arguments.equal,
        )
        self.names = [OWN, *(p for p in arguments.peer or ENGINES if p != OWN)]
        self._writer: Writer | None = None

    def __call__(self) -> int:
        arguments = self.arguments
        loaded: list[Dataset] = []
        for name in arguments.data:
            try:
                loaded.append(sets.load(name, arguments.rows, make=True))
            except (DataError, OSError) as error:
                say(f"{name}: skipped: {error}")
        if not loaded:
            say("no data set is left")
            return 1
        settings = {
            "k": arguments.k,
            "recall": arguments.recall,
            "seed": 11,
            **{n: v for n, v in asdict(self.effort).items() if n not in ("retune", "equal")},
            **({"equal": True} if self.effort.equal else {}),
        }
        path = arguments.out or RESULTS / time.strftime("run-%Y%m%d-%H%M%S.jsonl")
        rows = {d.kind: len(d.vectors) for d in loaded}
        self._writer = Writer(path, head(settings, rows))
        say(f"results: {path}")
        measured = [self._data(data) for data in loaded]
        if not all(measured):
            say("hybridq was not measured on every data set: see above")
            return 1
        say(f"done; python -m bench report {path}")
        return 0

    def _data(self, data: Dataset) -> bool:
        """Measure what is not measured yet; say whether hybridq was there."""
        with contextlib.ExitStack() as stack:
            engines: list[Remote] = []
            for name in self.names:
                engine = self._started(name, data)
                if engine is not None:
                    engines.append(engine)
                    stack.callback(engine.close)
            if not engines or engines[0].name != OWN:
                return False
            measurer = Measurer(data, engines, self.effort)
            steps = list(self._steps(measurer))
            started, done = time.perf_counter(), 0
            for line, measure in steps:
                done += 1
                if self._known(line, measurer):
                    continue
                before = time.perf_counter()
                try:
                    content = measure()
                except (CannotError, PeerError) as error:
                    content = {"error": str(error)}
                self._write({**line, **content, "seconds": round(time.perf_counter() - before, 1)})
                _progress(done, len(steps), started, line, content)
        return True

    def _started(self, name: str, data: Dataset) -> Remote | None:
        line = {"kind": "cost", "data": data.name, "engine": name}
        try:
            say(f"{data.name}: {name} …")
            engine = Remote(name, data)
            ready = engine.start()
            again = ready
            if "cost" in self.workloads and key(line) not in self._done():
                # What was built now is opened once more: that is a start to be measured.
                engine.close()
                again = engine.start()
                first = engine.answers(Cell("all"), 10, [0], _default(engine))
                self._write(
                    {
                        **line,
                        "version": engine.version,
                        "about": ENGINES[name].about,
                        "build": again["build"],
                        "ready_seconds": again["ready_seconds"],
                        "first_query_seconds": first.seconds[0],
                        "resident_bytes": engine.ask("memory"),
                    }
                )
        except (MissingError, PeerError, CannotError, OSError) as error:
            say(f"{data.name}: {name} is left out: {error}")
            self._write({"kind": "absent", "data": data.name, "engine": name, "reason": str(error)})
            return None
        return engine

    def _steps(self, measurer: Measurer) -> Iterator[tuple[dict[str, Any], Callable[[], Any]]]:
        """Yield what is to be measured: the line's key and how."""
        data, arguments = measurer.data, self.arguments
        k, target = arguments.k, arguments.recall
        wanted = set(self.workloads)
        two_steps = "T3" in wanted and not wanted & {"W2", "W3"}
        every = asked(data, wanted | ({"W0", "W2", "W3", "W4"} if wanted & _NEEDING else set()))
        if arguments.cell:
            every = [c for c in every if any(c.name.startswith(n) for n in arguments.cell)]
        exact = truths(data, every)

        def line(kind: str, cell: Cell, k: int, **more: Any) -> dict[str, Any]:
            share = float(exact[cell.name].matches.mean()) / len(data.vectors)
            names = {"cell": cell.name, "workload": cell.workload, "share": share, "k": k}
            return {"kind": kind, "data": data.name, **names, **more}

        for cell in every:
            if cell.workload in wanted or (two_steps and cell.workload in ("W2", "W3")):
                one = line("search", cell, k, target=target)
                yield one, partial(self._search, one, measurer, cell, exact[cell.name])
        own = next((e for e in measurer.engines if e.name == OWN), None)
        plain = [c for c in every if c.workload in ("W0", "W2", "W3", "W4") and c.plain]
        forced = [(n, target) for n in _DEPTHS] if "plans" in wanted else []
        forced += _FIG_12 if "F12" in wanted else []
        if own is not None:
            for depth, recall in forced:
                for cell in plain if (depth, recall) not in _FIG_12 else plain[:8]:
                    yield (
                        line("forced", cell, depth, target=recall),
                        partial(measurer.forced, own, cell, exact[cell.name], depth, recall),
                    )
        if "curves" in wanted:
            for cell in (c for c in plain if c.name in _CURVES):
                for engine in measurer.engines:
                    yield (
                        line("curve", cell, k, engine=engine.name),
                        partial(_curve, measurer, engine, cell, exact[cell.name], k),
                    )
        for name, measure in (("W9", _batch), ("W10", _writes)):
            if name in wanted:
                for engine in measurer.engines:
                    kind = {"W9": "batch", "W10": "writes"}[name]
                    yield (
                        {"kind": kind, "data": data.name, "engine": engine.name, "k": k},
                        partial(measure, measurer, engine, k, target),
                    )

    def _search(
        self, line: dict[str, Any], measurer: Measurer, cell: Cell, truth: Truth
    ) -> dict[str, Any]:
        earlier = {} if self.arguments.again else self._done().get(key(line), {}).get("engines", {})
        engines = [e for e in measurer.engines if e.name == OWN or e.name not in earlier]
        found = measurer.search(cell, truth, line["k"], line["target"], engines)
        return {"engines": joined(earlier, found)}

    def _known(self, line: dict[str, Any], measurer: Measurer) -> bool:
        known = self._done().get(key(line))
        if known is None or self.arguments.again:
            return False
        return all(e.name in known.get("engines", [e.name]) for e in measurer.engines)

    def _done(self) -> dict[str, dict[str, Any]]:
        assert self._writer is not None
        return self._writer.done

    def _write(self, line: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(line)


_NEEDING = {"T3", "F12", "plans", "curves"}


def _curve(measurer: Measurer, engine: Remote, cell: Cell, truth: Truth, k: int) -> dict[str, Any]:
    return {"points": measurer.curve(engine, cell, truth, k)}


def _batch(measurer: Measurer, engine: Remote, k: int, target: float) -> dict[str, Any]:
    """Top k of 1,000 queries in one statement; fewer where that would take minutes."""
    if "batch" not in ENGINES[engine.name].can:
        raise CannotError("no batch of queries")
    data, cell = measurer.data, Cell("all")
    exact = truths(data, [cell])["all"]
    tuned = measurer.tuned(engine, cell, exact, k, target)
    setting = tuned.setting
    queries = [n % len(data.queries) for n in range(_BATCH)]
    few = engine.ask("batch", queries=queries[:20], k=k, setting=setting)
    count = min(_BATCH, max(20, int(20 * 20 / max(few["seconds"], 1e-6))))
    found = engine.ask("batch", queries=queries[:count], k=k, setting=setting)
    recalls = [exact.recall(data, q, k, ids) for q, ids in zip(queries, found["ids"], strict=False)]
    return {
        "queries": count,
        "batch_seconds": found["seconds"],
        "per_second": count / found["seconds"],
        "recall": float(np.mean(recalls)),
        "short": sum(len(ids) < k for ids in found["ids"]),
        "version": engine.version,
        **tuned.marks(),
    }


def _writes(measurer: Measurer, engine: Remote, k: int, target: float) -> dict[str, Any]:
    """Searches beside a writer, on a database of its own."""
    if "writes" not in ENGINES[engine.name].can:
        raise CannotError("no writes")
    exact = truths(measurer.data, [Cell("all")])["all"]
    tuned = measurer.tuned(engine, Cell("all"), exact, k, target)
    setting = {n: v for n, v in tuned.setting.items() if n != "start"}
    data = sets.load(measurer.data.kind, min(len(measurer.data.vectors), _WRITTEN_ROWS))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        own = Remote(engine.name, data, Path(folder) / "database")
        try:
            own.start("writes")
            rates = own.ask(
                "writes",
                start="writes",
                k=k,
                setting=setting,
                seconds=max(1.0, measurer.effort.seconds),
                rates=_RATES,
            )
        finally:
            own.close()
    known = {"rows": len(data.vectors), "version": engine.version, **tuned.marks()}
    return {**known, "rates": rates}


def _default(engine: Remote) -> dict[str, Any]:
    """Return a setting in the middle of the first ladder that has several."""
    if engine.name == OWN:
        return {}
    ladders = engine.ladders(10)
    ladder = next((x for x in ladders if len(x) > 1), ladders[0])
    return {n: v for n, v in ladder[len(ladder) // 2].items() if n != "start"}


def _progress(
    done: int, steps: int, started: float, line: dict[str, Any], content: dict[str, Any]
) -> None:
    elapsed = time.perf_counter() - started
    left = elapsed / done * (steps - done)
    text = " ".join(str(line[n]) for n in ("kind", "cell", "engine") if n in line)
    if "engines" in content:
        times = [f"{n} {e['p50']:.3f}" for n, e in content["engines"].items() if "p50" in e]
        text += f" (p50 ms: {', '.join(times)})"
    bar = "#" * (done * 20 // steps)
    say(f"[{bar:20}] {done}/{steps} {line['data']} {text}; {left / 60:.0f} min left")


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def words(text: str, known: Sequence[str], what: str) -> list[str]:
    """Return names that were given by commas; says which there are where one is not known."""
    names = [n for n in text.split(",") if n]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no {what} {name!r}; there are: {', '.join(known)}")
    return names
