"""Plots of results: PNG bytes by name. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

from bench.document import Figure
from bench.peers.own import PLANS
from bench.peers.registry import ENGINES
from bench.results import OWN, ResultError, Results

_VALLEY = (0.01, 0.2)


def figures(results: Results, data: str) -> Iterator[Figure]:
    """Yield what the results of a data set give."""
    plt = _pyplot()
    for name, caption, draw in (
        ("shares", "Latency, recall and rows returned by the share that passes", _shares),
        ("curves", "Recall and latency, setting by setting: the lower right is better", _curves),
        ("plans", "Plans by force, and the planner's choice on top", _plans),
        ("cost", "Build time, size on disk, memory that a process holds", _cost),
        ("writes", "Rows written per second, and the p99 of searches beside", _writes),
    ):
        figure = draw(plt, results, data)
        if figure is None:
            continue
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110, bbox_inches="tight")
        plt.close(figure)
        yield Figure(f"{data}-{name}", content.getvalue(), f"{caption} ({data})")


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ResultError("plots need matplotlib: pip install 'hybridq-engine[bench]'") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _style(name: str) -> dict[str, Any]:
    if name in (OWN, "auto"):
        return {"color": "black", "linewidth": 2.5, "marker": "o", "markersize": 5, "zorder": 5}
    order = [*ENGINES, *PLANS]
    palette = (
        *("#1f77b4", "#6baed6", "#08519c", "#9ecae1", "#ff7f0e", "#2ca02c", "#98df8a"),
        *("#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
    )
    at = order.index(name) % len(palette)
    return {"color": palette[at], "linewidth": 1.2, "marker": ".", "markersize": 7}


def _of(results: Results, kind: str, data: str) -> list[dict[str, Any]]:
    return [line for line in results.of(kind) if line["data"] == data and "error" not in line]


def _shares(plt: Any, results: Results, data: str) -> Any:
    lines = [
        line
        for line in _of(results, "search", data)
        if line["workload"] == "W2" or line["cell"] == "all"
    ]
    lines.sort(key=lambda line: -line["share"])
    if len(lines) < 2:
        return None
    figure, axes = plt.subplots(1, 3, figsize=(17, 5))
    panels: list[tuple[str, Callable[[dict[str, Any]], float]]] = [
        ("p50 ms", lambda e: e["p50"]),
        ("recall", lambda e: e["recall"]),
        ("answers with all rows they should have", lambda e: 1 - e["short"] / e["queries"]),
    ]
    for axis, (label, value) in zip(axes, panels, strict=True):
        for name in _names(lines):
            known = [
                (line["share"] * 100, value(line["engines"][name]))
                for line in lines
                if "p50" in line["engines"].get(name, {})
            ]
            if known:
                axis.plot(*zip(*known, strict=True), label=name, **_style(name))
        axis.axvspan(*(100 * s for s in _VALLEY), color="#eeeeee", zorder=0)
        axis.set_xscale("log")
        axis.invert_xaxis()
        axis.set_xlabel("rows that pass, % (grey: 20 to 1 %)")
        axis.set_ylabel(label)
    axes[0].set_yscale("log")
    axes[0].legend(fontsize=7, ncol=2)
    return figure


def _curves(plt: Any, results: Results, data: str) -> Any:
    lines = _of(results, "curve", data)
    cells = list(dict.fromkeys(line["cell"] for line in lines))
    if not cells:
        return None
    figure, axes = plt.subplots(1, len(cells), figsize=(5.7 * len(cells), 5), squeeze=False)
    for axis, cell in zip(axes[0], cells, strict=True):
        for line in (line for line in lines if line["cell"] == cell):
            # What another setting beats in both is not drawn.
            best: list[tuple[float, float]] = []
            for point in sorted(line["points"], key=lambda p: (p["p50"], -p["recall"])):
                if not best or point["recall"] > best[-1][0]:
                    best.append((point["recall"], point["p50"]))
            if best:
                axis.plot(*zip(*best, strict=True), label=line["engine"], **_style(line["engine"]))
        axis.set_yscale("log")
        axis.set_title(cell)
        axis.set_xlabel("recall")
        axis.set_ylabel("p50 ms")
    axes[0][0].legend(fontsize=7)
    return figure


def _plans(plt: Any, results: Results, data: str) -> Any:
    lines = [
        line
        for line in _of(results, "forced", data)
        if line["workload"] in ("W0", "W2") and line["target"] == results.head["settings"]["recall"]
    ]
    depths = sorted({line["k"] for line in lines})
    if len({line["cell"] for line in lines}) < 2:
        return None
    figure, axes = plt.subplots(1, len(depths), figsize=(5 * len(depths), 4.5), squeeze=False)
    for axis, depth in zip(axes[0], depths, strict=True):
        there = sorted(
            (line for line in lines if line["k"] == depth), key=lambda line: -line["share"]
        )
        for plan in (*PLANS, "auto"):
            known = [
                (
                    line["share"] * 100,
                    (line["auto"] if plan == "auto" else line["plans"][plan])["p50"],
                )
                for line in there
                if plan == "auto" or plan in line["plans"]
            ]
            if known:
                axis.plot(*zip(*known, strict=True), label=plan, **_style(plan))
        axis.set(xscale="log", yscale="log", title=f"k = {depth}", xlabel="rows that pass, %")
        axis.set_ylabel("p50 ms")
        axis.invert_xaxis()
    axes[0][0].legend(fontsize=7)
    return figure


def _cost(plt: Any, results: Results, data: str) -> Any:
    lines = [line for line in _of(results, "cost", data) if line.get("build")]
    if not lines:
        return None
    names = [line["engine"] for line in lines]
    figure, axes = plt.subplots(1, 3, figsize=(16, 4.5))
    for axis, label, values in (
        (axes[0], "build, s", [line["build"]["seconds"] for line in lines]),
        (axes[1], "on disk, MiB", [disk_bytes(line) / 2**20 for line in lines]),
        (axes[2], "resident when open, MiB", [line["resident_bytes"] / 2**20 for line in lines]),
    ):
        axis.barh(names, values, color=[_style(n)["color"] for n in names])
        axis.set_xlabel(label)
        axis.invert_yaxis()
    figure.tight_layout()
    return figure


def disk_bytes(line: dict[str, Any]) -> float:
    build = line["build"]
    return float(build.get("disk_bytes") or build.get("index_bytes") or 0)


def _writes(plt: Any, results: Results, data: str) -> Any:
    lines = _of(results, "writes", data)
    if not lines:
        return None
    figure, axis = plt.subplots(figsize=(8, 5))
    for line in lines:
        points = sorted((m["rows_per_second"], m["beside"]["p99"]) for m in line["rates"])
        if points:
            axis.plot(*zip(*points, strict=True), label=line["engine"], **_style(line["engine"]))
    axis.set(xscale="log", yscale="log", xlabel="rows written per second", ylabel="search p99 ms")
    axis.legend(fontsize=7)
    return figure


def _names(lines: list[dict[str, Any]]) -> list[str]:
    found = {n for line in lines for n in line["engines"]}
    return [n for n in ENGINES if n in found]
