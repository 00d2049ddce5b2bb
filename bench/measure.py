"""Measures one cell: tunes the engines, lets them take turns, and says what hybridq planned."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.cells import Cell
from bench.data.dataset import Dataset
from bench.peers.base import CannotError, Setting
from bench.peers.own import PLANS
from bench.peers.registry import ENGINES
from bench.peers.remote import PeerError, Remote
from bench.results import OWN
from bench.timing import Summary, Tuned, Tuner, side_by_side, summarize
from bench.truth import Truth

# Who is this much short of the target still counts as meeting it: that much is noise.
SLACK = 0.01
_EXPLAINED = 20
# A peer's settings for a cell are swept for so many times as long as it is measured.
_TUNING = 4
_POINTS = 6

Entry = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured: queries, passes, seconds for an engine in a cell, most threads.

    `equal` tunes hybridq as the peers are: to the lowest recall it can be set to that reaches it.
    """

    queries: int = 100
    passes: int = 3
    seconds: float = 2.0
    threads: int = 2
    retune: bool = False
    equal: bool = False


class Measurer:
    """Measures cells of one data set by engines that are running."""

    def __init__(self, data: Dataset, engines: Sequence[Remote], effort: Effort) -> None:
        self.data, self.engines, self.effort = data, list(engines), effort
        self.queries = list(range(min(effort.queries, len(data.queries))))
        self._tuner = Tuner(
            data,
            self.queries,
            budget_seconds=effort.seconds / 4,
            limit_seconds=_TUNING * effort.seconds,
        )

    def search(
        self,
        cell: Cell,
        truth: Truth,
        k: int,
        target: float,
        engines: Sequence[Remote] | None = None,
    ) -> dict[str, Entry]:
        """Return what each engine, or each of those given, did, or why it could not, by name."""
        engines = self.engines if engines is None else engines
        entries: dict[str, Entry] = {}
        able: list[tuple[Remote, Tuned]] = []
        for engine in engines:
            try:
                tuned = self.tuned(engine, cell, truth, k, target)
                engine.answers(cell, k, self.queries[:1], tuned.setting)
                able.append((engine, tuned))
            except CannotError as error:
                entries[engine.name] = {"cannot": str(error)}
            except PeerError as error:
                entries[engine.name] = {"error": error.reason}
        summaries = self._turns([(e, t.setting) for e, t in able], cell, truth, k, entries)
        for (engine, tuned), summary in zip(able, summaries, strict=True):
            if summary is None:
                continue
            entry = {**asdict(summary), "setting": tuned.setting, "version": engine.version}
            entry["reached"] = summary.recall >= target - SLACK and summary.wrong == 0
            entry |= tuned.marks()
            try:
                for threads in range(1, self.effort.threads + 1):
                    entry[f"qps{threads}"] = engine.throughput(
                        cell, k, self.queries, tuned.setting, threads, self.effort.seconds / 4
                    )
                if engine.name == OWN and cell.join is None:
                    entry |= self.planned(engine, cell, k, tuned.setting)
            except (CannotError, PeerError) as error:
                entry["error_after"] = str(error)
            entries[engine.name] = entry
        return {e.name: entries[e.name] for e in engines if e.name in entries}

    def forced(self, engine: Remote, cell: Cell, truth: Truth, k: int, target: float) -> Entry:
        """Return every plan by force beside the choice, and the regret of the choice."""
        settings: dict[str, Setting] = {}
        for plan in ("auto", *PLANS):
            setting = {"recall": target, "plan": plan}
            try:
                engine.answers(cell, k, self.queries[:1], setting)
            except PeerError as error:
                if "cannot run" not in error.reason and "plan" not in error.reason:
                    raise
                continue
            settings[plan] = setting
        found = self._turns(
            [(engine, s) for s in settings.values()], cell, truth, k, {}, seconds=0.5
        )
        plans = {n: asdict(s) for n, s in zip(settings, found, strict=True) if s is not None}
        auto = plans.pop("auto")
        able = {n: p["p50"] for n, p in plans.items() if p["recall"] >= target - SLACK}
        met = auto["recall"] >= target - SLACK
        return {
            "auto": auto,
            "plans": plans,
            "best": min(able, key=lambda n: able[n]) if able else None,
            "regret": auto["p50"] / min(able.values()) if able and met else None,
            **self.planned(engine, cell, k, settings["auto"]),
        }

    def planned(self, engine: Remote, cell: Cell, k: int, setting: Setting) -> Entry:
        """Return the plans chosen, most frequent first, and estimated and actual selectivity."""
        explained = engine.about("explained", cell, k, self.queries[:_EXPLAINED], setting)
        explained = [e for e in explained if "plan" in e]
        actual = [e.get("actual", {}).get("selectivity") for e in explained]
        if not explained:
            return {}
        names = Counter(
            f"{e['plan']}{' → other' if e.get('actual', {}).get('switched') else ''}"
            for e in explained
        )
        text = ", ".join(f"{n} {c * 100 // len(explained)} %" for n, c in names.most_common())
        return {
            "plan": next(iter(names)) if len(names) == 1 else text,
            "estimated_selectivity": _mean([e.get("estimated_selectivity") for e in explained]),
            "actual_selectivity": _mean(actual),
        }

    def curve(self, engine: Remote, cell: Cell, truth: Truth, k: int) -> list[Entry]:
        """Return recall and latency along the engine's ladders, from cheap to thorough."""
        points: list[Entry] = []
        for ladder in engine.ladders(k):
            last = -1.0
            for at in sorted(
                {round(i * (len(ladder) - 1) / (_POINTS - 1)) for i in range(_POINTS)}
            ):
                (found,) = self._turns([(engine, ladder[at])], cell, truth, k, {}, seconds=0.3)
                if found is None:
                    break
                points.append({"setting": ladder[at], "recall": found.recall, "p50": found.p50})
                if found.recall >= 0.999 or (at > 2 and found.recall - last < 1e-4):
                    break
                last = found.recall
        return points

    def tuned(self, engine: Remote, cell: Cell, truth: Truth, k: int, target: float) -> Tuned:
        own = engine.name == OWN
        if own and not self.effort.equal:
            return Tuned({"recall": target}, target, reached=True)
        # What sufficed for an earlier state of the engine says nothing of this one.
        again = self.effort.retune or own
        other = ENGINES[engine.name].tuned_as
        twin = next((e for e in self.engines if e.name == other), None)
        return self._tuner.tuned(engine, cell, truth, k, target, again=again, twin=twin)

    def _turns(
        self,
        able: Sequence[tuple[Remote, Setting]],
        cell: Cell,
        truth: Truth,
        k: int,
        failures: dict[str, Entry],
        seconds: float | None = None,
    ) -> list[Summary | None]:
        """Measure side by side; an engine that fails is left out, and the others begin again."""
        left = list(able)
        while left:
            try:
                answers = side_by_side(
                    left,
                    cell,
                    k,
                    self.queries,
                    passes=self.effort.passes,
                    budget_seconds=self.effort.seconds if seconds is None else seconds,
                )
            except PeerError as error:
                failures[error.engine] = {"error": error.reason}
                left = [e for e in left if e[0].name != error.engine]
                continue
            found = iter(answers)
            return [
                summarize(self.data, truth, cell, k, self.queries, next(found))
                if entry in left
                else None
                for entry in able
            ]
        return [None for _ in able]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.mean(known) if known else None
