"""EXPLAIN: a decision, and what happened, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from hybridq.plan.physical import (
    Bitmap,
    Decision,
    Exact,
    Fused,
    PhysicalPlan,
    Postfilter,
    Prefilter,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """What EXPLAIN ANALYZE measured."""

    seconds: float
    rows: int
    selectivity: float | None
    lists: int
    blocks: int
    blocks_skipped: int
    codes: int
    reranked: int
    switched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One TopK of a statement: what it searches, how, and what happened.

    `depths` are those of its searches: more than one for a page by OFFSET.
    """

    table: str
    index: str | None
    metric: str
    limit: int | None
    offset: int
    depths: Sequence[int]
    filters: Sequence[str]
    covered: bool
    decision: Decision
    actual: Actual | None
    recall: float | None = 1.0
    hints: tuple[tuple[str, Any], ...] = ()
    for_each: str | None = None


def as_json(explained: Sequence[Explained]) -> str:
    """Return the JSON of one TopK, or of a list of them."""
    objects = [_object(e) for e in explained]
    return json.dumps(objects[0] if len(objects) == 1 else objects, indent=2)


def _object(e: Explained) -> dict[str, Any]:
    d = e.decision
    out: dict[str, Any] = {
        "plan": d.name,
        "reason": d.reason,
        "table": e.table,
        "index": e.index,
        "metric": e.metric,
        "limit": e.limit,
        **({"offset": e.offset, "depths": list(e.depths)} if e.offset else {}),
        "filters": list(e.filters),
        "covered": e.covered,
        "recall": e.recall,
        **({"hints": dict(e.hints)} if e.hints else {}),
        **({"for_each_row_of": e.for_each} if e.for_each is not None else {}),
        "detail": _detail(d.plan),
        "estimated_selectivity": d.estimated_selectivity,
        "candidates": [
            {
                "plan": c.name,
                "cost_seconds": c.cost_seconds,
                **({"rejected_because": c.rejected_because} if c.rejected_because else {}),
            }
            for c in d.candidates
        ],
    }
    if e.actual is not None:
        out["actual"] = {
            "seconds": e.actual.seconds,
            "rows": e.actual.rows,
            "selectivity": e.actual.selectivity,
            "lists": e.actual.lists,
            "blocks": e.actual.blocks,
            "blocks_skipped": e.actual.blocks_skipped,
            "codes": e.actual.codes,
            "reranked": e.actual.reranked,
            "switched": e.actual.switched,
        }
    return out


def as_text(explained: Sequence[Explained]) -> str:
    """Return the text of every TopK, one after the other."""
    return "\n\n".join(_text(e) for e in explained)


def _text(e: Explained) -> str:
    d = e.decision
    using = f" using index {e.index}" if e.index is not None else ""
    rows = f"first {e.limit} rows" if e.limit is not None else "rows"
    if e.offset and e.limit:
        rows = f"rows {e.offset + 1} to {e.offset + e.limit}"
    lines = [
        f"TopK: {rows} of {e.table} by {e.metric} distance{using}",
        f"  Plan: {_plan_line(d.plan)}",
        f"  Reason: {d.reason}",
    ]
    if len(e.depths) > 1:
        depths = ", ".join(f"{depth:,}" for depth in e.depths)
        lines.append(f"  Depths: {depths} rows; each adds what it finds beside those before")
    if e.for_each is not None:
        lines.append(f"  For each row of: {e.for_each}")
    if e.hints:
        lines.append("  Hints: " + " ".join(f"{name}({value})" for name, value in e.hints))
        recall = {None: "not promised", 1.0: "1, exact"}.get(e.recall, e.recall)
        lines.append(f"  Recall: {recall}")
    if e.filters:
        lines.append("  Filter: " + " AND ".join(e.filters))
    lines.append(f"  Estimated selectivity: {d.estimated_selectivity:.4g}")
    lines.append(f"  Output: {'from the index alone' if e.covered else 'fetched from the table'}")
    lines.append("  Candidates:")
    for c in d.candidates:
        mark = "*" if c.name == d.name else " "
        if c.cost_seconds is not None:
            lines.append(f"   {mark} {c.name:<10} {_seconds(c.cost_seconds)}")
        else:
            lines.append(f"   {mark} {c.name:<10} {c.rejected_because or 'not priced'}")
    if e.actual is not None:
        lines.extend(_actual_lines(e.actual))
    return "\n".join(lines)


def _actual_lines(a: Actual) -> list[str]:
    share = "" if a.selectivity is None else f", selectivity {a.selectivity:.4g}"
    return [
        f"  Actual: {a.rows} rows in {_seconds(a.seconds)}{share}",
        f"    lists {a.lists}, blocks {a.blocks} ({a.blocks_skipped} skipped), "
        f"codes {a.codes}, vectors {a.reranked}" + (", plan switched" if a.switched else ""),
    ]


def _plan_line(plan: PhysicalPlan) -> str:
    match plan:
        case Exact(by_duckdb=True):
            return "exact (brute force by DuckDB over the table)"
        case Exact():
            return "exact (brute force over the index's vectors)"
        case Prefilter(source=source, estimated_rows=rows):
            return f"prefilter (rows found by {source}, about {rows:,}; exact distances)"
        case Fused():
            return f"fused ({_lists(plan)}, predicate inside the scan{_exact(plan)})"
        case Bitmap():
            made = "a bitmap at hand" if plan.kept else "a bitmap of the rows that pass"
            return f"bitmap ({made}, {_lists(plan)}{_exact(plan)})"
        case Postfilter(first=first):
            scan = f"{_lists(plan)}{_exact(plan)}"
            return f"postfilter ({first:,} candidates or more, checked; {scan})"
        case _:
            assert_never(plan)


def _lists(plan: Fused | Bitmap | Postfilter) -> str:
    if plan.nprobe is not None:
        return f"nprobe {plan.nprobe}"
    about = "all" if plan.target is None else "about"
    return f"{about} {plan.estimated_lists} lists"


def _exact(plan: Fused | Bitmap | Postfilter) -> str:
    return "; exact" if plan.target is None and plan.nprobe is None else ""


def _detail(plan: PhysicalPlan) -> Mapping[str, Any]:
    match plan:
        case Exact(by_duckdb=by_duckdb):
            return {"by_duckdb": by_duckdb}
        case Prefilter(source=source, estimated_rows=rows):
            return {"source": source, "estimated_rows": rows}
        case Fused():
            return _scan(plan)
        case Bitmap():
            return {**_scan(plan), "kept": plan.kept}
        case Postfilter():
            return {**_scan(plan), "candidates": plan.first, "most_candidates": plan.most}
        case _:
            assert_never(plan)


def _scan(plan: Fused | Bitmap | Postfilter) -> dict[str, Any]:
    lists = plan.estimated_lists
    return {"recall": plan.target, "nprobe": plan.nprobe, "estimated_lists": lists}


def _seconds(value: float) -> str:
    if value < 1e-3:
        return f"{value * 1e6:.1f} µs"
    if value < 1:
        return f"{value * 1e3:.2f} ms"
    return f"{value:.2f} s"
