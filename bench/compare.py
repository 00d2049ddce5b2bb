"""`python -m bench compare A B`: what hybridq lost or won from one result file to another.

Times of two runs cannot be set against each other: the machine drifts. What is compared is the
ratio to the engines that were measured in the same turns: hybridq's p50 over the geometric mean of
the others' of that cell, in B over A. Recall and rows are compared as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import results
from bench.results import OWN, Results, turns

# Repeated runs agree within 15 % in the mean of the ratios; in a single cell, within this.
NOISE = 1.25
_MEAN_NOISE = 1.15
_RECALL = 0.01


@dataclass(frozen=True)
class Change:
    """A cell in both runs: `ratio` above 1 says that B is slower, relative to the others."""

    cell: str
    ratio: float | None
    recalls: tuple[float, float]
    short: tuple[int, int]
    wrong: tuple[int, int]
    engines: tuple[str, ...]

    def losses(self, noise: float) -> list[str]:
        """Return what is worse beyond noise, in words."""
        found = []
        if self.ratio is not None and self.ratio > noise:
            found.append(f"{self.ratio:.2f}x slower")
        if self.recalls[1] < self.recalls[0] - _RECALL:
            found.append(f"recall {self.recalls[0]:.3f} → {self.recalls[1]:.3f}")
        if self.short[1] > self.short[0]:
            found.append(f"{self.short[1]} answers with too few rows")
        if self.wrong[1] > self.wrong[0]:
            found.append(f"{self.wrong[1]} wrong rows")
        return found


def changes(a: Results, b: Results) -> Iterator[Change]:
    """Yield every cell that both have, in B's order."""
    before = {results.key(line): line for line in a.of("search")}
    for line in b.of("search"):
        old = before.get(results.key(line))
        if old is None or "p50" not in old["engines"].get(OWN, {}):
            continue
        yield _change(f"{line['data']} {line['cell']}", old["engines"], line["engines"])


def _change(cell: str, old: dict[str, Any], new: dict[str, Any]) -> Change:
    mine, now = old[OWN], new.get(OWN, {})
    if "p50" not in now:
        return Change(cell, float("inf"), (mine["recall"], 0.0), (0, 1), (0, 0), ())
    common = [
        n
        for n in old
        if n != OWN
        and "p50" in old[n]
        and "p50" in new.get(n, {})
        and old[n].get("reached")
        and new[n].get("reached")
        and "p50" in turns(old, n)
        and "p50" in turns(new, n)
    ]
    ratio = None
    if common:
        beside = [(_ratio(old, n), _ratio(new, n)) for n in common]
        ratio = float(np.exp(np.mean([np.log(before / after) for before, after in beside])))
    return Change(
        cell,
        ratio,
        (mine["recall"], now["recall"]),
        (mine["short"], now["short"]),
        (mine["wrong"], now["wrong"]),
        tuple(common),
    )


def _ratio(engines: dict[str, Any], name: str) -> float:
    return float(engines[name]["p50"] / turns(engines, name)["p50"])


def mean_ratio(found: list[Change]) -> float | None:
    ratios = [c.ratio for c in found if c.ratio is not None]
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else None


def command(arguments: argparse.Namespace) -> int:
    a, b = results.read(arguments.a), results.read(arguments.b)
    for name in ("machine", "rows", "settings"):
        before, after = a.head[name], b.head[name]
        differs = [n for n in {**before, **after} if before.get(n) != after.get(n) and n != "load"]
        if differs:
            print(f"note: the {name} differ in {', '.join(differs)}")
    found = list(changes(a, b))
    if not found:
        print("the two have no cell in common")
        return 1
    lost = 0
    print("| cell | B / A | recall A | B | |\n|---|---|---|---|---|")
    for change in found:
        losses = change.losses(arguments.noise)
        lost += bool(losses)
        ratio = "" if change.ratio is None else f"{change.ratio:.2f}"
        first, second = change.recalls
        print(f"| {change.cell} | {ratio} | {first:.3f} | {second:.3f} | {'; '.join(losses)} |")
    mean = mean_ratio(found)
    if mean is not None:
        print(f"\nhybridq beside the others, B over A: geometric mean {mean:.2f}")
    slower = mean is not None and mean > _MEAN_NOISE
    print(f"{lost} of {len(found)} cells are worse beyond noise")
    return int(bool(lost) or slower)
