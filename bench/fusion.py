"""hybridq against peers under filters: a million real descriptors, one thread, equal recall.

Whole calls `execute(sql, parameters).fetchall()` of the covered query

    SELECT id, v <-> ? AS d FROM items WHERE … ORDER BY d LIMIT 10

at target recall .95; peers answer at the cheapest swept setting whose recall over the same queries
is at least the target. Engines take turns in one run; a ratio is the peer's p50 over hybridq's.

    python -m bench.fusion [--peers faiss,pgvector,zvec] [--cells all,kpt] [--queries 300]
                           [--rows 100000] [--rebuild] [--k 10] [--recall 0.95]
    python -m bench.fusion --forced      every forced plan, and the regret of the planner's choice
    python -m bench.fusion --overhead    time outside the kernel; recall reached at four targets

`--cells` takes prefixes of their names. Results are appended to bench/results/ as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

import hybridq
from bench.brackets import INSIDE, bracket_kernels
from bench.cells import Cell
from bench.data.dataset import CACHE, Dataset
from bench.descriptors import load
from bench.items import build_report, database
from bench.peers.base import ONE_THREAD, Answers, Engine, Setting
from bench.peers.own import PLANS, Hybridq
from bench.peers.registry import PEERS
from bench.peers.remote import Remote
from bench.results import revision
from bench.timing import Summary, Tuner, side_by_side, summarize
from bench.truth import Truth, truths
from bench.workloads import cells

RESULTS = Path(__file__).parent / "results"
DEPTHS = (1, 10, 100, 1_000)
TARGETS = (0.8, 0.9, 0.95, 0.99)
# Who is this much short of the target still counts as meeting it: that much is noise.
SLACK = 0.01
_WORKLOADS = ("W0", "W2", "W3", "W4")


class Run:
    """What every mode of the benchmark needs."""

    def __init__(self, arguments: argparse.Namespace, data: Dataset) -> None:
        self.arguments = arguments
        self.data = data
        self.queries = list(range(min(arguments.queries, len(data.queries))))
        known = {n: c for n, c in cells(data).items() if c.workload in _WORKLOADS}
        prefixes = arguments.cells.split(",") if arguments.cells else [""]
        self.cells = [c for n, c in known.items() if any(n.startswith(p) for p in prefixes)]
        if not self.cells:
            sys.exit(f"no such cell; there are: {', '.join(known)}")
        self.truths = truths(data, self.cells)
        self.engine = Hybridq(data, CACHE / "hybridq" / data.name)
        self._revision = revision()

    def summary(self, cell: Cell, k: int, answers: Answers) -> Summary:
        return summarize(self.data, self.truths[cell.name], cell, k, self.queries, answers)

    def plans(self, cell: Cell, k: int, setting: Setting) -> tuple[str, list[dict[str, Any]]]:
        """Return the plans chosen, most frequent first, and what EXPLAIN ANALYZE says."""
        found = self.engine.explained(cell, k, self.queries[:50], setting)
        names = Counter(
            f"{e['plan']}{'→' if e.get('actual', {}).get('switched') else ''}" for e in found
        )
        if len(names) == 1:
            return next(iter(names)), found
        text = ", ".join(f"{n} {c * 100 // len(found)} %" for n, c in names.most_common())
        return text, found

    def record(self, kind: str, cell: Cell, k: int, **content: Any) -> None:
        RESULTS.mkdir(exist_ok=True)
        line = {
            "kind": kind,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "revision": self._revision,
            "load": round(os.getloadavg()[0], 2),
            "rows": len(self.data.vectors),
            "cell": cell.name,
            "share": _share(self.data, self.truths[cell.name]),
            "k": k,
            **content,
        }
        with (RESULTS / f"{kind}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def against_peers(run: Run) -> None:
    """The main table."""
    arguments = run.arguments
    k, target = arguments.k, arguments.recall
    peers = [Remote(name, run.data) for name in arguments.peers.split(",") if name]
    tuner = Tuner(run.data, run.queries)
    own = {"plan": "auto", "recall": target}
    _header(
        ["cell", "share", "hybridq p50 ms", "p99 ms", "recall", "rows", "plan"],
        *([f"{p.name} p50 ms", "p99 ms", "recall", "ratio", "setting"] for p in peers),
    )
    ratios: dict[str, list[float]] = {p.name: [] for p in peers}
    for cell in run.cells:
        truth = run.truths[cell.name]
        reach = target
        if arguments.equal:
            answers = run.engine.answers(cell, k, run.queries, own)
            reach = max(target, round(run.summary(cell, k, answers).recall, 3))
        tuned = [tuner.tuned(p, cell, truth, k, reach, again=arguments.retune) for p in peers]
        entries: list[tuple[Engine, Setting]] = [
            (run.engine, own),
            *((p, t.setting) for p, t in zip(peers, tuned, strict=True)),
        ]
        found = side_by_side(entries, cell, k, run.queries, passes=arguments.passes)
        ours, *theirs = [run.summary(cell, k, answers) for answers in found]
        plan, _ = run.plans(cell, k, own)
        columns = [
            cell.name,
            f"{_share(run.data, truth) * 100:.3g} %",
            *(f"{ours.p50:.3f}", f"{ours.p99:.3f}", f"{ours.recall:.3f}"),
            str(ours.rows) + (f" ({ours.short} short)" if ours.short else ""),
            plan,
        ]
        for peer, choice, summary in zip(peers, tuned, theirs, strict=True):
            equal = choice.reached and ours.recall >= target - SLACK
            if equal:
                ratios[peer.name].append(summary.p50 / ours.p50)
            short = f" ({summary.short} short)" if summary.short else ""
            columns += [
                f"{summary.p50:.3f}",
                f"{summary.p99:.3f}",
                f"{summary.recall:.3f}{short}",
                f"{summary.p50 / ours.p50:.2f}x" + ("" if equal else " *"),
                " ".join(f"{n}={v}" for n, v in choice.setting.items()),
            ]
        _row(columns)
        run.record(
            "fusion",
            cell,
            k,
            target=target,
            plan=plan,
            hybridq=asdict(ours),
            **{
                p.name: {**asdict(s), **asdict(t), "recall": s.recall}
                for p, t, s in zip(peers, tuned, theirs, strict=True)
            },
        )
    print("\n* not at equal recall, and not in the mean: one of the two is short of the target")
    for peer in peers:
        equal_ratios = ratios[peer.name]
        if equal_ratios:
            print(f"{peer.name} / hybridq: geometric mean {_geometric_mean(equal_ratios):.2f}x")
        peer.close()


def forced(run: Run) -> None:
    """Every plan by force, beside the planner's choice; regret counts where recall is met."""
    target = run.arguments.recall
    plans = ["auto", *PLANS]
    _header(["cell", "k", "chosen", "auto ms (recall)", *(f"{p} ms" for p in plans[1:]), "regret"])
    regrets: dict[int, list[float]] = {}
    short: dict[int, list[str]] = {}
    for k in map(int, run.arguments.depths.split(",")):
        for cell in run.cells:
            entries: list[tuple[Hybridq, Setting]] = []
            for plan in plans:
                setting = {"recall": target, "plan": plan}
                try:
                    run.engine.answers(cell, k, run.queries[:1], setting)
                except hybridq.Error:
                    continue
                entries.append((run.engine, setting))
            found = side_by_side(
                entries, cell, k, run.queries, passes=run.arguments.passes, budget_seconds=1
            )
            results = {
                setting["plan"]: run.summary(cell, k, answers)
                for (_, setting), answers in zip(entries, found, strict=True)
            }
            chosen, _ = run.plans(cell, k, {"recall": target, "plan": "auto"})
            auto = results.pop("auto")
            meeting = [s.p50 for s in results.values() if s.recall >= target - SLACK]
            regret = auto.p50 / min(meeting) if meeting else None
            missed = auto.recall < target - SLACK
            if missed:
                short.setdefault(k, []).append(cell.name)
            elif regret is not None:
                regrets.setdefault(k, []).append(regret)
            columns = [cell.name, str(k), chosen, f"{auto.p50:.3f} ({auto.recall:.3f})"]
            for plan in plans[1:]:
                s = results.get(plan)
                text = "" if s is None else f"{s.p50:.3f} ({s.recall:.3f})"
                best = s is not None and meeting and s.p50 == min(meeting)
                columns.append(f"**{text}**" if best else text)
            _row([*columns, "short of recall" if missed or regret is None else f"{regret:.2f}"])
            run.record(
                "forced",
                cell,
                k,
                target=target,
                plan=chosen,
                auto=asdict(auto),
                plans={n: asdict(s) for n, s in results.items()},
                regret=regret,
            )
    print()
    every = [v for values in regrets.values() for v in values]
    for depth, values in [*regrets.items(), ("any", every)]:
        print(f"regret, k = {depth}: mean {statistics.mean(values):.3f}, max {max(values):.2f}")
    for k, names in short.items():
        print(f"short of recall, k = {k}: {', '.join(names)}")


def overhead(run: Run) -> None:
    """Time outside the kernel, work done, and recall reached at several targets."""
    bracket_kernels()
    k = run.arguments.k
    _header(
        ["cell", "plan", "call µs", "outside µs", "lists", "codes", "reranked"],
        [f"recall {t} (5th %)" for t in TARGETS],
    )
    for cell in run.cells:
        setting = {"plan": "auto", "recall": run.arguments.recall}
        calls: list[float] = []
        outside: list[float] = []
        work: list[dict[str, Any]] = []
        for at in range(0, len(run.queries), 50):
            part = run.queries[at : at + 50]
            run.engine.answers(cell, k, part[:3], setting)
            INSIDE.ns = 0
            seconds = run.engine.answers(cell, k, part, setting).seconds
            outside.append((sum(seconds) - INSIDE.ns / 1e9) / len(part))
            calls += seconds
            explained = run.engine.explained(cell, k, part, setting)
            work += [e.get("actual", {}) for e in explained]
        plan, _ = run.plans(cell, k, setting)
        call, rest = statistics.median(calls) * 1e6, statistics.median(outside) * 1e6
        columns = [cell.name, plan, f"{call:.0f}", f"{rest:.0f}"]
        counts = {
            name: statistics.median(w.get(name) or 0 for w in work)
            for name in ("lists", "codes", "reranked")
        }
        columns += [f"{value:g}" for value in counts.values()]
        reached: dict[str, list[float]] = {}
        for target in TARGETS:
            answers = run.engine.answers(cell, k, run.queries, {"plan": "auto", "recall": target})
            s = run.summary(cell, k, answers)
            reached[str(target)] = [s.recall, s.recall_p5]
            columns.append(f"{s.recall:.3f} ({s.recall_p5:.2f})")
        _row(columns)
        run.record(
            "overhead",
            cell,
            k,
            plan=plan,
            call_us=call,
            outside_us=rest,
            recalls=reached,
            **counts,
        )


def _share(data: Dataset, truth: Truth) -> float:
    return float(truth.matches.mean()) / len(data.vectors)


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _header(*groups: Sequence[str]) -> None:
    names = [name for group in groups for name in group]
    _row(names)
    _row(["---"] * len(names))


def _row(columns: Sequence[str]) -> None:
    print(f"| {' | '.join(columns)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default="faiss", help=f"of {', '.join(PEERS)}; '' for none")
    parser.add_argument("--cells", default="", help="prefixes of names, by commas")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--depths", default=",".join(map(str, DEPTHS)), help="k's of --forced")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--rebuild", action="store_true", help="build hybridq's database again")
    parser.add_argument("--retune", action="store_true", help="sweep the peers' settings again")
    parser.add_argument(
        "--equal", action="store_true", help="peers reach hybridq's own recall, not its target"
    )
    parser.add_argument("--forced", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    arguments = parser.parse_args()
    data = load(arguments.rows)
    path = database(data, rebuild=arguments.rebuild)
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        # Libraries read these when they load.
        again = [a for a in sys.argv[1:] if a != "--rebuild"]
        os.execve(
            sys.executable,
            [sys.executable, "-m", "bench.fusion", *again],
            {**os.environ, **ONE_THREAD},
        )
    build = build_report(path)
    run = Run(arguments, data)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}, hybridq {revision()}; {len(data.vectors):,} x "
        f"{data.vectors.shape[1]}, one thread, {len(run.queries)} queries\n"
        f"index built in {build['seconds']:.1f} s, peak {build['peak_bytes'] / 2**20:,.0f} MiB, "
        f"{build['index_bytes'] / 2**20:,.0f} MiB on disk\n"
    )
    if arguments.forced:
        forced(run)
    elif arguments.overhead:
        overhead(run)
    else:
        against_peers(run)
    run.engine.close()


if __name__ == "__main__":
    main()
