"""Times engines side by side, judges their answers, and tunes peers to a recall.

Engines take turns every 50 queries, because a shared machine drifts; each turn starts with a few
calls that do not count. A query's time is its best of the passes: when another process held the
core, that was not the engine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cells import Cell
from bench.data.dataset import CACHE, Dataset
from bench.peers.base import Answers, Engine, Setting, Tunable
from bench.truth import Truth

_TURN = 50
_WARM = 3
_SLOW_SECONDS = 0.01
_TUNED = CACHE / "tuned"


@dataclass(frozen=True)
class Summary:
    """Milliseconds and recall over the queries.

    `short` are answers with too few rows; `wrong` rows that fail the WHERE, come twice, are spare.
    """

    p50: float
    p95: float
    p99: float
    recall: float
    recall_p5: float
    rows: int
    short: int
    wrong: int
    queries: int


def summarize(
    data: Dataset, truth: Truth, cell: Cell, k: int, queries: Sequence[int], answers: Answers
) -> Summary:
    """Judge answers; those of several pages as one of as many rows."""
    recalls: list[float] = []
    short = wrong = 0
    depth = k * cell.pages
    for query, ids in zip(queries, answers.ids, strict=False):
        rows = np.asarray(ids, np.int64)
        passes = cell.mask(data.attributes, query, rows)
        wanted = truth.rows(query, depth)
        wrong += (
            int((~passes).sum()) + len(rows) - len(np.unique(rows)) + max(0, len(rows) - wanted)
        )
        recalls.append(truth.recall(data, query, depth, rows[passes].tolist()))
        short += len(ids) < wanted
    milliseconds = np.array(answers.seconds) * 1e3
    return Summary(
        p50=float(np.median(milliseconds)),
        p95=float(np.quantile(milliseconds, 0.95)),
        p99=float(np.quantile(milliseconds, 0.99)),
        recall=float(np.mean(recalls)),
        recall_p5=float(np.quantile(recalls, 0.05)),
        rows=min(len(ids) for ids in answers.ids),
        short=short,
        wrong=wrong,
        queries=len(answers.seconds),
    )


def affordable(
    engine: Engine, cell: Cell, k: int, queries: Sequence[int], setting: Setting, seconds: float
) -> tuple[int, float]:
    """Return how many queries fit into `seconds`, at least 10, and the seconds of one."""
    # Twice, for what an engine does once (open, map, compile) would be taken for its speed.
    one = min(engine.answers(cell, k, queries[:1], setting).seconds[0] for _ in range(2))
    if one < seconds / 20:
        engine.answers(cell, k, queries[1:_WARM], setting)
        one = float(np.median(engine.answers(cell, k, queries[:5], setting).seconds))
    return min(len(queries), max(10, int(seconds / one))), one


def side_by_side(
    entries: Sequence[tuple[Engine, Setting]],
    cell: Cell,
    k: int,
    queries: Sequence[int],
    *,
    passes: int = 3,
    budget_seconds: float = 6.0,
) -> list[Answers]:
    """Return each engine's answers; a slow one answers the first queries only, and once."""
    limits = [affordable(e, cell, k, queries, s, budget_seconds) for e, s in entries]
    times: list[list[list[float]]] = [[] for _ in entries]
    ids: list[list[list[int]]] = [[] for _ in entries]
    for turn in range(passes):
        rounds: list[list[float]] = [[] for _ in entries]
        for at in range(0, len(queries), _TURN):
            warm = [queries[at - i] for i in range(_WARM, 0, -1)]
            for n, (engine, setting) in enumerate(entries):
                count, one = limits[n]
                part = queries[at : min(at + _TURN, count)]
                if not part or (turn > 0 and one > _SLOW_SECONDS):
                    continue
                if one < _SLOW_SECONDS:
                    engine.answers(cell, k, warm, setting)
                answers = engine.answers(cell, k, part, setting)
                rounds[n].extend(answers.seconds)
                if turn == 0:
                    ids[n].extend(answers.ids)
        for n, seconds in enumerate(rounds):
            if seconds:
                times[n].append(seconds)
    return [
        Answers(np.min(np.array(t), axis=0).tolist(), i) for t, i in zip(times, ids, strict=True)
    ]


@dataclass(frozen=True)
class Tuned:
    """The cheapest setting that reaches the target, or the one of the highest recall.

    `cut` says that time ended the sweep: what was not tried might be faster, or reach the target.
    """

    setting: Setting
    recall: float
    reached: bool
    cut: bool = False

    def marks(self) -> dict[str, bool]:
        """Return what a result says of the sweep."""
        return {"cut": True} if self.cut else {}


class Tuner:
    """Sweeps a peer's settings for a cell, on the queries that will be measured.

    A try takes `budget_seconds`; after `limit_seconds` each ladder that is left is tried once.
    """

    def __init__(
        self,
        data: Dataset,
        queries: Sequence[int],
        *,
        budget_seconds: float = 2.5,
        limit_seconds: float = float("inf"),
    ) -> None:
        self._data = data
        self._limit = limit_seconds
        self._queries = queries
        self._budget = budget_seconds

    def tuned(
        self,
        peer: Tunable,
        cell: Cell,
        truth: Truth,
        k: int,
        target: float,
        *,
        again: bool = False,
        twin: Tunable | None = None,
    ) -> Tuned:
        """Return the choice, remembered from an earlier run unless `again`.

        A `twin` gives the same answers by the same settings: what it is tuned to is tried.
        """
        file = _TUNED / f"{self._data.name}.json"
        key = f"{peer.name} {cell.name} k={k} recall={target} queries={len(self._queries)}"
        known = json.loads(file.read_text()) if file.exists() else {}
        if key not in known or again:
            ladders, other = peer.ladders(k), None
            if twin is not None:
                other, known_to_it = self.tuned(twin, cell, truth, k, target), twin.ladders(k)
                ladders = [[other.setting], *(x for x in ladders if x not in known_to_it)]
            found = self._sweep(peer, cell, truth, k, target, ladders, other)
            known = json.loads(file.read_text()) if file.exists() else {}
            known[key] = found.__dict__
            _write(file, known)
        return Tuned(**known[key])

    def _sweep(
        self,
        peer: Tunable,
        cell: Cell,
        truth: Truth,
        k: int,
        target: float,
        ladders: list[list[Setting]],
        other: Tuned | None,
    ) -> Tuned:
        reaching: list[tuple[float, Setting, float]] = []
        highest: tuple[float, Setting] = (-1.0, {})
        end, cut = time.perf_counter() + self._limit, other is not None and other.cut
        for ladder in self._by_cost(peer, cell, k, ladders):
            limit = 1.5 * min((s for s, _, _ in reaching), default=float("inf"))
            tried: dict[int, tuple[float, float]] = {}

            def at(
                step: int,
                ladder: list[Setting] = ladder,
                tried: Any = tried,
                limit: float = limit,
            ) -> float:
                nonlocal highest
                if step not in tried:
                    recall, seconds = self._try(peer, cell, truth, k, ladder[step], limit)
                    if other is not None and ladder[step] == other.setting:
                        # That was judged by more queries.
                        recall = other.recall
                    tried[step] = recall, seconds
                    highest = max(highest, (tried[step][0], ladder[step]), key=lambda h: h[0])
                return float(tried[step][0])

            low, step, previous = -1, 0, -1.0
            while at(step) < target:
                late = time.perf_counter() > end
                saturated = step >= 15 and at(step) > 0.5 and at(step) - previous < 0.001
                if step == len(ladder) - 1 or late or saturated or tried[step][1] > limit:
                    cut |= late and step < len(ladder) - 1
                    step = -1
                    break
                low, previous = step, at(step)
                step = min(2 * step + 1, len(ladder) - 1)
            if step < 0:
                continue
            while step - low > 1:
                if time.perf_counter() > end:
                    cut = True
                    break
                middle = (low + step) // 2
                low, step = (low, middle) if at(middle) >= target else (middle, step)
            reaching.append((tried[step][1], ladder[step], at(step)))
        if not reaching:
            return Tuned(highest[1], highest[0], reached=False, cut=cut)
        reaching.sort(key=lambda r: r[0])
        best = reaching[:3]
        if len(best) > 1:
            entries = [(peer, setting) for _, setting, _ in best]
            timed = side_by_side(entries, cell, k, self._queries[:100], budget_seconds=self._budget)
            fastest = min(range(len(best)), key=lambda n: np.median(timed[n].seconds))
        else:
            fastest = 0
        return Tuned(best[fastest][1], best[fastest][2], reached=True, cut=cut)

    def _by_cost(
        self, peer: Tunable, cell: Cell, k: int, ladders: list[list[Setting]]
    ) -> list[list[Setting]]:
        """Return the ladder first whose first setting is fastest: a slow one may take all time."""

        def cost(ladder: list[Setting]) -> float:
            asked = self._queries[:1]
            return min(peer.answers(cell, k, asked, ladder[0]).seconds[0] for _ in range(2))

        return sorted(ladders, key=cost) if len(ladders) > 1 else ladders

    def _try(
        self, peer: Tunable, cell: Cell, truth: Truth, k: int, setting: Setting, limit: float
    ) -> tuple[float, float]:
        """Return recall and median seconds; no recall where one answer takes twice the limit."""
        count, one = affordable(peer, cell, k, self._queries, setting, self._budget)
        if one > 2 * limit:
            return -1.0, one
        queries = self._queries[:count]
        answers = peer.answers(cell, k, queries, setting)
        found = summarize(self._data, truth, cell, k, queries, answers)
        return found.recall, found.p50 / 1e3


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1))
    unfinished.rename(file)
