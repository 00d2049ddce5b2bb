"""Regret: the time of the plan chosen over that of the fastest forced plan that meets the recall.

Cells are the share of rows that pass, by how they lie to the query, by k. Rows of the descriptors
(bench/descriptors.py) that pass are price < ? (independent of the vector), those of the query's own
key point or label (near the query) and of another one (elsewhere); narrower shares add a price.
Opaque cells are a comparison of two columns, which only DuckDB evaluates, with values that come
again ("kept") and with new ones. Seconds are the median over queries of the whole call.

    python -m bench.regret DATABASE QUERIES.npy ATTRIBUTES.npz [--queries 60] [--cells TEXT]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import hybridq

PLANS = ("exact", "prefilter", "fused", "bitmap", "postfilter")
KS = (1, 10, 100, 1000)
RECALL = 0.95
SLOW = 0.05  # seconds of a first call from which a plan is called but a few times

Values = Callable[[int], tuple[Any, ...]]


def cells(rows: int, own: dict[str, Any]) -> Iterator[tuple[str, str, Values]]:
    """Yield (name, WHERE, values for a query)."""
    yield "100 %", "", lambda j: ()
    for share in (0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0001):
        yield f"{share * 100:g} % 0", "WHERE price < ?", _bound(int(rows * share))
    label, point = own["label"], own["kpt"]
    narrow = ((1.0, 5.9), (0.17, 1.0), (0.017, 0.1), (0.0017, 0.01))
    for part, share in narrow:
        where = "WHERE kpt = ?" + (" AND price < ?" if part < 1 else "")
        more = (int(rows * part),) if part < 1 else ()
        yield f"{share:g} % +", where, _shifted(point, 0, 17, *more)
        yield f"{share:g} % -", where, _shifted(point, 7, 17, *more)
    yield "10 % label", "WHERE label = ?", _shifted(label, 0, 10)
    yield "10 % other label", "WHERE label = ?", _shifted(label, 3, 10)
    yield "4 % and", "WHERE price < ? AND stock < ?", _bound(int(rows * 0.2), 200)
    yield "0.012 % and", "WHERE price < ? AND stock < ?", _bound(int(rows * 0.012), 10)
    yield "1 % or", "WHERE price < ? OR stock < ?", _bound(int(rows * 0.005), 5)
    for name, factor in (("30 %", 8000), ("6 %", 1000), ("1 %", 140)):
        yield f"opaque {name} kept", "WHERE price < hue * ?", _bound(factor)
        yield f"opaque {name} new", "WHERE price < hue * ?", _new(factor)
    yield "opaque 6 % of 10 %", "WHERE price < hue * ? AND label = 3", _bound(1000)
    yield "opaque 30 % of 0.1 %", "WHERE price < hue * ? AND stock = 3", _bound(8000)


def _bound(*values: Any) -> Values:
    return lambda j: values


def _new(value: float) -> Values:
    return lambda j: (value + j / 1e4,)


def _shifted(column: Any, by: int, choices: int, *more: Any) -> Values:
    """Return the query's own value, or `by` choices beyond, and what else is given."""
    return lambda j: ((int(column[j]) + by) % choices, *more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database")
    parser.add_argument("queries")
    parser.add_argument("attributes")
    parser.add_argument("--queries", dest="count", type=int, default=60)
    parser.add_argument("--cells", default="")
    parser.add_argument("--ks", default=",".join(map(str, KS)))
    arguments = parser.parse_args()
    queries = np.load(arguments.queries).astype(np.float32)[: arguments.count]
    own = dict(np.load(arguments.attributes))
    regrets: list[float] = []
    with hybridq.connect(arguments.database) as con:
        con.execute("SET threads = 1")
        con.execute("ANALYZE items")
        rows = con.execute("SELECT count(*) FROM items").fetchall()[0][0]
        print("| cell | k | chosen | ms | recall | best | ms | regret | others |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        ks = [int(k) for k in arguments.ks.split(",")]
        for (name, where, values), k in itertools.product(cells(rows, own), ks):
            if arguments.cells in name:
                regrets.append(_cell(con, name, where, values, k, queries))
    print(f"\nmean {statistics.mean(regrets):.3f}, max {max(regrets):.2f}, {len(regrets)} cells")


def _cell(
    con: hybridq.Connection, name: str, where: str, values: Values, k: int, queries: Any
) -> float:
    text = f"SELECT id, v <-> ? AS d FROM items {where} ORDER BY d LIMIT {k}"
    opaque = "opaque" in name
    few = 12 if opaque or k >= 1000 else 30
    truth = _truth(con, text, values, queries[:few])
    found: dict[str, tuple[float, float]] = {}
    # Twice, for the host's speed drifts; but slow ones once.
    for plan in ("auto", *PLANS, "auto", *PLANS):
        if plan != "auto" and plan in found and found[plan][0] > 3 * found["auto"][0]:
            continue
        con.execute(f"SET plan = '{plan}'")
        measured = _measured(con, text, values, queries, truth, new="new" in name)
        if measured is not None:
            before = found.get(plan, measured)
            found[plan] = min(before, measured)
    con.execute("RESET plan")
    explained = json.loads(
        con.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", (queries[0], *values(0))).fetchall()[
            0
        ][1]
    )
    chosen = explained["plan"] + (", switched" if explained["actual"]["switched"] else "")
    seconds, recall = found.pop("auto")
    able = {plan: t for plan, (t, r) in found.items() if r >= min(RECALL, recall) - 0.005}
    best = min(able, key=lambda plan: able[plan])
    regret = max(1.0, seconds / able[best])
    others = ", ".join(f"{p} {t * 1e3:.3f}" for p, (t, _) in found.items())
    print(
        f"| {name} | {k} | {chosen} | {seconds * 1e3:.3f} | {recall:.3f} | {best} "
        f"| {able[best] * 1e3:.3f} | {regret:.2f} | {others} |",
        flush=True,
    )
    return regret


def _truth(con: hybridq.Connection, text: str, values: Values, queries: Any) -> list[float]:
    """Return each query's k-th distance."""
    con.execute("SET recall = 1")
    found = [con.execute(text, (q, *values(j))).fetchall() for j, q in enumerate(queries)]
    con.execute("RESET recall")
    return [rows[-1][1] if rows else 0.0 for rows in found]


def _measured(
    con: hybridq.Connection,
    text: str,
    values: Values,
    queries: Any,
    truth: list[float],
    *,
    new: bool,
) -> tuple[float, float] | None:
    """Return median seconds and mean recall; None where the plan cannot run."""
    turn = 1000 * next(_turns) if new else 0
    try:
        start = time.perf_counter()
        con.execute(text, (queries[0], *values(turn))).fetchall()
        first = time.perf_counter() - start
    except hybridq.ProgrammingError as error:
        if "cannot run" in str(error):
            return None
        raise
    slow = first > SLOW
    used = list(enumerate(queries[: 4 if slow else len(queries)]))
    if not slow:
        for j, q in used[:10]:
            con.execute(text, (q, *values(turn + 500 + j if new else j))).fetchall()
    seconds: list[float] = []
    recalls: list[float] = []
    for j, q in used:
        given = (q, *values(turn + j + 1 if new else j))
        start = time.perf_counter()
        rows = con.execute(text, given).fetchall()
        seconds.append(time.perf_counter() - start)
        if j < len(truth) and rows:
            recalls.append(sum(d <= truth[j] for _, d in rows) / len(rows))
    return statistics.median(seconds), statistics.mean(recalls) if recalls else 1.0


_turns = itertools.count(1)

if __name__ == "__main__":
    main()
