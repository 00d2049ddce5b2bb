"""`python -m bench report`: results as one HTML page, PNG plots and a Markdown file."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import plots, results
from bench.document import Block, Figure, Heading, Paragraph, Table, markdown, page
from bench.peers.own import PLANS
from bench.peers.registry import ENGINES
from bench.results import OWN, RESULTS, ResultError, Results, turns
from bench.workloads import WORKLOADS

_TWO_STEPS = ("faiss-pre", "faiss-post")
_NARROW = 0.2

_HOW = (
    "Every engine answers the same queries through its own public interface from Python, one call "
    "at a time in one thread, in turns of 50 in one run; a query's time is its best pass. A peer "
    "answers at the fastest of its swept settings that reaches the recall. A ratio is the peer's "
    "p50 over hybridq's: above 1, hybridq is faster. A time without a ratio is of less recall:"
    " it misses the target; what it reached is shown. “short” counts answers with fewer rows "
    "than they should have; “wrong” rows that fail the WHERE, come twice or are spare."
)
_EQUAL = (
    "hybridq is tuned as its peers are: it answers at the lowest recall that it can be set to at "
    "which it reaches the target over these queries. That setting is shown beside what it reached."
)
_UNTUNED = (
    "hybridq is not tuned: it is set to the target, and mostly lands above it, where peers are "
    "tuned to just reach it."
)
_CUT = "†"
_LEGEND = (
    f"{_CUT} Time ended the sweep of its settings: one that was not tried might be faster, or "
    "reach the recall."
)


def command(arguments: argparse.Namespace) -> int:
    paths = arguments.results or [newest()]
    for path in paths:
        found = results.read(path)
        target = arguments.target or path.parent
        target.mkdir(parents=True, exist_ok=True)
        blocks = list(report(found))
        images = target / path.stem
        images.mkdir(exist_ok=True)
        for block in blocks:
            if isinstance(block, Figure):
                (images / f"{block.name}.png").write_bytes(block.png)
        (target / f"{path.stem}.md").write_text(markdown(blocks, path.stem))
        (target / f"{path.stem}.html").write_text(page(blocks, f"hybridq: {path.stem}"))
        print(f"{target / path.stem}.html, .md and {images}/*.png")
    return 0


def newest() -> Path:
    there = sorted(RESULTS.glob("run-*.jsonl"), key=lambda p: p.stat().st_mtime)
    if not there:
        raise ResultError(f"there are no results in {RESULTS}: python -m bench run")
    return there[-1]


def report(found: Results) -> Iterator[Block]:
    head = found.head
    machine, settings = head["machine"], head["settings"]
    yield Heading("hybridq beside other engines", 1)
    yield Paragraph(
        f"{head['time']}, commit {head['commit']}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, {machine['system']}, load {machine['load']} "
        f"at the start. {', '.join(f'{n} {v}' for n, v in head['versions'].items())}. "
        f"{', '.join(f'{n} = {v}' for n, v in settings.items())}."
    )
    yield Paragraph(_HOW)
    yield Paragraph(_EQUAL if settings.get("equal") else _UNTUNED)
    if any(_is_cut(line) for line in found.lines):
        yield Paragraph(_LEGEND)
    for data in dict.fromkeys(line["data"] for line in found.lines):
        yield Heading(data)
        yield from _data(found, data)


def _data(found: Results, data: str) -> Iterator[Block]:
    searches = _of(found, "search", data)
    if searches:
        yield from _verdict(searches)
    yield from plots.figures(found, data)
    names = [n for n in ENGINES if any(n in line["engines"] for line in searches)]
    later = [n for n in names if any("beside" in x["engines"].get(n, {}) for x in searches)]
    if later:
        yield Paragraph(
            f"{', '.join(later)} came later to some cells: there a ratio is to hybridq's p50 in "
            "the turns they took together, not to the one that is shown."
        )
    for workload, text in WORKLOADS.items():
        lines = [line for line in searches if line["workload"] == workload]
        if lines:
            yield Heading(f"{workload}: {text}", 3)
            yield _latency(lines, names)
    if searches:
        yield Heading("p95, p99, queries per second, settings", 3)
        yield _details(searches, names)
    steps = [line for line in searches if any(n in line["engines"] for n in _TWO_STEPS)]
    if steps:
        yield Heading(f"T3: {WORKLOADS['T3']}", 3)
        yield _latency(steps, [OWN, *_TWO_STEPS])
    yield from _forced(found, data)
    yield from _batches(found, data)
    yield from _writes(found, data)
    yield from _costs(found, data)
    absent = _of(found, "absent", data)
    if absent:
        yield Heading("Left out", 3)
        yield Table(("engine", "reason"), [(a["engine"], a["reason"]) for a in absent])


def _of(found: Results, kind: str, data: str) -> list[dict[str, Any]]:
    return [line for line in found.of(kind) if line["data"] == data]


def _is_cut(line: dict[str, Any]) -> bool:
    return any("cut" in entry for entry in (line, *line.get("engines", {}).values()))


def _mark(entry: dict[str, Any]) -> str:
    return _CUT if entry.get("cut") else ""


def ratios(searches: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """Return the peer's p50 over hybridq's by cell, where both reach the recall."""
    return {
        line["cell"]: line["engines"][name]["p50"] / turns(line["engines"], name)["p50"]
        for line in searches
        if line["engines"].get(name, {}).get("reached")
        and turns(line["engines"], name).get("reached")
    }


def _verdict(searches: list[dict[str, Any]]) -> Iterator[Block]:
    narrow = {line["cell"] for line in searches if line["share"] <= _NARROW}
    rows, behind = [], []
    for name in (n for n in ENGINES if n != OWN):
        there = [line["engines"][name] for line in searches if name in line["engines"]]
        found = ratios(searches, name)
        if not there:
            continue
        able = [e for e in there if "p50" in e]
        best = min(found.values(), default=None)
        rows.append(
            (
                name,
                next((str(e["version"]) for e in able), ""),
                _bold(_mean(list(found.values()))),
                _mean([r for c, r in found.items() if c in narrow]),
                "" if best is None else times(best),
                str(sum(r < 1 for r in found.values())),
                f"{len(found)} of {len(there)}",
                str(sum(not e["reached"] for e in able)),
                str(sum("cut" in e for e in able)),
                str(sum(e["short"] > 0 for e in able)),
                str(sum("cannot" in e for e in there)),
                str(sum("error" in e for e in there)),
            )
        )
        behind += [(c, name, times(r)) for c, r in found.items() if r < 1]
    yield Table(
        (
            *("engine", "version", "mean ratio", "shares ≤ 20 %", "least", "cells it is ahead"),
            *("at equal recall", "misses recall", f"sweep cut {_CUT}", "too few rows"),
            *("cannot", "fails"),
        ),
        rows,
    )
    own = [line["engines"].get(OWN, {}) for line in searches]
    faults = [
        f"{line['cell']}: {_fault(entry)}"
        for line, entry in zip(searches, own, strict=True)
        if not entry.get("reached")
    ]
    if faults:
        yield Paragraph(f"hybridq itself falls short in {'; '.join(faults)}.")
    if behind:
        yield Paragraph("Cells where hybridq is behind, at equal recall:")
        share = {line["cell"]: f"{line['share'] * 100:.3g} %" for line in searches}
        plan = {line["cell"]: line["engines"][OWN].get("plan", "") for line in searches}
        yield Table(
            ("cell", "share", "plan", "engine", "ratio"),
            [(c, share[c], plan[c], n, r) for c, n, r in sorted(behind)],
        )
    else:
        yield Paragraph("At equal recall there is no cell where hybridq is behind.")


def _latency(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> Table:
    others = [n for n in names if n != OWN]
    rows = []
    for line in lines:
        own = line["engines"].get(OWN, {})
        shown = _own(own, line["target"])
        cells = [line["cell"], f"{line['share'] * 100:.3g} %", shown, own.get("plan", "")]
        cells += [_peer(line["engines"], name) for name in others]
        rows.append(cells)
    return Table(("cell", "share", "hybridq p50 ms", "plan", *others), rows)


def _own(entry: dict[str, Any], target: float) -> str:
    if "p50" not in entry:
        return _fault(entry)
    asked = entry["setting"].get("recall", target)
    at = f" (set to {asked:g})" if asked != target else ""
    text = f"{entry['p50']:.3f}{_mark(entry)} @ {entry['recall']:.3f}{at}, {entry['rows']} rows"
    return text + _flaws(entry)


def _peer(engines: dict[str, Any], name: str) -> str:
    entry = engines.get(name)
    if entry is None:
        return ""
    if "p50" not in entry:
        return _fault(entry)
    text, own = f"{entry['p50']:.3f}{_mark(entry)}", turns(engines, name)
    if entry["reached"] and own.get("reached"):
        return f"{text} = {times(entry['p50'] / own['p50'])}{_flaws(entry)}"
    return f"{text} @ {entry['recall']:.3f}{_flaws(entry)}"


def _fault(entry: dict[str, Any]) -> str:
    if "cannot" in entry:
        return f"– ({entry['cannot']})"
    if "error" in entry:
        return f"failed: {entry['error'][:60]}"
    if "p50" in entry:
        return f"recall {entry['recall']:.3f}{_flaws(entry)}"
    return "not measured"


def _flaws(entry: dict[str, Any]) -> str:
    short = f", {entry['short']} of {entry['queries']} short" if entry["short"] else ""
    return short + (f", {entry['wrong']} wrong" if entry["wrong"] else "")


def _details(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> Table:
    threads = sorted(
        {n for line in lines for e in line["engines"].values() for n in e if "qps" in n}
    )
    rows = []
    for line in lines:
        for name in names:
            entry = line["engines"].get(name, {})
            if "p50" not in entry:
                continue
            setting = " ".join(f"{n}={v}" for n, v in entry["setting"].items())
            speed = [f"{entry[n]:,.0f}" if n in entry else "" for n in threads]
            rows.append(
                (
                    f"{line['cell']}: {name}",
                    *(f"{entry[p]:.3f}" for p in ("p50", "p95", "p99")),
                    f"{entry['recall']:.3f} ({entry['recall_p5']:.2f})",
                    str(entry["rows"]),
                    *speed,
                    f"{setting} {_mark(entry)}".strip(),
                )
            )
    header = ("cell: engine", "p50 ms", "p95", "p99", "recall (5th %)", "rows")
    return Table((*header, *threads, "setting"), rows)


def _forced(found: Results, data: str) -> Iterator[Block]:
    lines = [line for line in _of(found, "forced", data) if "auto" in line]
    if not lines:
        return
    yield Heading(f"Plans by force, and Fig. 12: {WORKLOADS['plans']}", 3)
    regrets = [line["regret"] for line in lines if line["regret"] is not None]
    if regrets:
        yield Paragraph(
            f"Regret, the choice's p50 over that of the fastest plan that meets the recall: mean "
            f"{statistics.mean(regrets):.3f}, at most {max(regrets):.2f}, {len(regrets)} cells."
        )
    rows = []
    for line in lines:
        times: list[str] = []
        for plan in PLANS:
            entry = line["plans"].get(plan)
            text = "" if entry is None else f"{entry['p50']:.3f} @ {entry['recall']:.3f}"
            times.append(f"*{text}*" if plan == line["best"] else text)
        estimated, actual = line.get("estimated_selectivity"), line.get("actual_selectivity")
        rows.append(
            (
                f"{line['cell']}, k = {line['k']}, recall {line['target']}",
                line.get("plan", ""),
                f"{line['auto']['p50']:.3f} @ {line['auto']['recall']:.3f}",
                *times,
                "" if line["regret"] is None else f"{line['regret']:.2f}",
                *("" if s is None else f"{s * 100:.3g} %" for s in (estimated, actual)),
            )
        )
    yield Table(("cell", "chosen", "auto ms", *PLANS, "regret", "estimated", "actual"), rows)


def _batches(found: Results, data: str) -> Iterator[Block]:
    lines = [line for line in _of(found, "batch", data) if "per_second" in line]
    if lines:
        yield Heading(f"W9: {WORKLOADS['W9']}", 3)
        yield Table(
            ("engine", "queries", "seconds", "queries per second", "recall"),
            [
                (
                    line["engine"] + _mark(line),
                    str(line["queries"]),
                    f"{line['batch_seconds']:.3f}",
                    f"{line['per_second']:,.0f}",
                    f"{line['recall']:.3f}",
                )
                for line in lines
            ],
        )


def _writes(found: Results, data: str) -> Iterator[Block]:
    rows: list[tuple[str, ...]] = []
    for line in _of(found, "writes", data):
        if "error" in line:
            rows.append((line["engine"], line["error"], "", "", "", "", ""))
        for m in line.get("rates", []):
            times = [f"{m[w][p]:.3f}" for w in ("alone", "beside") for p in ("p50", "p99")]
            rate = f"{m['rate']:g}" if m["rate"] else "as fast as it goes"
            written = f"{m['rows_per_second']:,.0f}"
            engine = f"{line['engine']}{_mark(line)}, {rate}"
            rows.append((engine, written, *times, str(m["short"])))
    if rows:
        yield Heading(f"W10: {WORKLOADS['W10']}", 3)
        header = ("engine, rows a second asked", "written", "p50 alone", "p99 alone")
        yield Table((*header, "p50 beside", "p99 beside", "too few rows"), rows)


def _costs(found: Results, data: str) -> Iterator[Block]:
    lines = _of(found, "cost", data)
    if not lines:
        return
    yield Heading(f"Cost: {WORKLOADS['cost']}", 3)
    yield Paragraph(
        "A database is built once and kept: seconds, peak and size are those of that build. “Load "
        "then” is the machine's load average of a minute when it began and when it ended, the "
        "build's own included; where it is missing, it was not noted."
    )
    rows: list[tuple[str, ...]] = []
    for line in lines:
        build = line["build"] or {}
        disk = plots.disk_bytes(line) if build else 0
        rows.append(
            (
                line["engine"],
                str(line["version"]),
                f"{build['seconds']:.1f}" if build else "built before",
                " → ".join(map(str, build.get("load", []))),
                f"{build['peak_bytes'] / 2**20:,.0f}" if build.get("peak_bytes") else "",
                f"{disk / 2**20:,.0f}" if disk else "",
                f"{line['resident_bytes'] / 2**20:,.0f}",
                f"{line['ready_seconds']:.2f}",
                f"{line['first_query_seconds'] * 1e3:.1f}",
                line["about"],
            )
        )
    yield Table(
        (
            *("engine", "version", "build s", "load then", "peak MiB", "disk MiB"),
            *("resident MiB", "open s", "first answer ms", "what"),
        ),
        rows,
    )


def _bold(text: str) -> str:
    return f"*{text}*" if text else ""


def _mean(values: Sequence[float]) -> str:
    return times(float(np.exp(np.mean(np.log(values))))) if values else ""


def times(ratio: float) -> str:
    """Return a ratio that says something however small it is."""
    return f"{ratio:.2f}x" if ratio >= 0.1 else f"{ratio:.2g}x"
