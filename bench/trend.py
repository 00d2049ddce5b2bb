"""`python -m bench trend`: ratios to FAISS on a small fixed subset, against those of a release.

Cells are measured in rounds; a cell's ratio is FAISS's p50 over hybridq's, the median of the
rounds, and its noise their spread. bench/trend.json has the ratios of every release. The check
fails where the mean or a cell falls by more than noise, or recall is missed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import data as sets
from bench.measure import SLACK, Effort, Measurer
from bench.peers.environments import MissingError
from bench.peers.remote import PeerError, Remote
from bench.results import OWN, machine, revision
from bench.truth import truths
from bench.workloads import cells

FILE = Path(__file__).parent / "trend.json"
ROWS = 50_000
CELLS = (
    *("all", "price 50 %", "price 10 %", "price 1 %", "price 0.1 %"),
    *("and 4 %", "label own", "label other", "kpt other"),
)
MEAN_NOISE = 1.15
CELL_NOISE = 1.4
_ROUNDS = 3
_TARGET = 0.95


def measure(rows: int) -> dict[str, Any]:
    """Return each cell's ratio, spread and recall."""
    data = sets.load("sift", rows, make=True)
    wanted = [cells(data)[name] for name in CELLS]
    exact = truths(data, wanted)
    engines = [Remote(OWN, data), Remote("faiss", data)]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CELLS}
    try:
        for engine in engines:
            engine.start()
        measurer = Measurer(data, engines, Effort(queries=200, passes=3, seconds=1, threads=0))
        for _ in range(_ROUNDS):
            for cell in wanted:
                both = measurer.search(cell, exact[cell.name], 10, _TARGET)
                for name in (OWN, "faiss"):
                    if "p50" not in both[name]:
                        raise PeerError(name, str(both[name]))
                ratio = both["faiss"]["p50"] / both[OWN]["p50"]
                found[cell.name].append((ratio, both[OWN]["recall"]))
    finally:
        for engine in engines:
            engine.close()
    return {
        name: {
            "ratio": round(float(np.median([r for r, _ in values])), 3),
            "spread": round(max(r for r, _ in values) / min(r for r, _ in values), 3),
            "recall": round(float(np.mean([r for _, r in values])), 4),
        }
        for name, values in found.items()
    }


def judge(before: dict[str, Any], now: dict[str, Any]) -> tuple[float, list[str]]:
    """Return the mean of the ratios over those of the release, and what was lost beyond noise."""
    lost: list[str] = []
    changes: list[float] = []
    for name, cell in now.items():
        if cell["recall"] < _TARGET - SLACK:
            lost.append(f"{name}: recall {cell['recall']:.3f} of {_TARGET}")
        if name not in before:
            continue
        change = cell["ratio"] / before[name]["ratio"]
        changes.append(change)
        if change * CELL_NOISE < 1 and change * cell["spread"] < 1:
            lost.append(f"{name}: {before[name]['ratio']:.2f}x → {cell['ratio']:.2f}x FAISS")
    mean = float(np.exp(np.mean(np.log(changes)))) if changes else 1.0
    if mean * MEAN_NOISE < 1:
        lost.append(f"the mean fell to {mean:.2f} of the release's")
    return mean, lost


def releases() -> list[dict[str, Any]]:
    return list(json.loads(FILE.read_text())) if FILE.exists() else []


def command(arguments: argparse.Namespace) -> int:
    known = [r for r in releases() if r["rows"] == arguments.rows]
    started = time.perf_counter()
    try:
        now = measure(arguments.rows)
    except (MissingError, PeerError) as error:
        print(f"trend cannot be measured: {error}")
        return 1
    before = known[-1]["cells"] if known else {}
    mean, lost = judge(before, now)
    print(f"| cell | {known[-1]['version'] if known else 'release'} | now | spread | recall |")
    print("|---|---|---|---|---|")
    for name, cell in now.items():
        old = f"{before[name]['ratio']:.2f}x" if name in before else ""
        print(
            f"| {name} | {old} | {cell['ratio']:.2f}x | {cell['spread']} | {cell['recall']:.3f} |"
        )
    print(f"\n{time.perf_counter() - started:.0f} s; the mean is {mean:.2f} of the release's")
    if arguments.record:
        release = {
            "version": arguments.record,
            "commit": revision(),
            "time": time.strftime("%Y-%m-%d"),
            "rows": arguments.rows,
            "machine": {n: v for n, v in machine().items() if n in ("cpu", "cores")},
            "cells": now,
        }
        own = (arguments.record, arguments.rows)
        others = [r for r in releases() if (r["version"], r["rows"]) != own]
        unfinished = FILE.with_suffix(".unfinished")
        unfinished.write_text(json.dumps([*others, release], indent=1) + "\n")
        unfinished.replace(FILE)
        print(f"stored as {arguments.record} in {FILE}")
        return 0
    for text in lost:
        print(f"LOST {text}")
    if not known:
        print(f"no release is stored for {arguments.rows:,} rows: --record VERSION stores this")
    return int(bool(lost))
