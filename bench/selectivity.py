"""Fused against prefilter, exact and plain DuckDB, by the share of rows that pass the WHERE.

One thread, k = 10, covered (id and distance). Every cell is the median over the queries of the
whole call `execute(...).fetchall()`; recall is against the exact answer of the same query; the
ratio is the time of DuckDB over that of the plan the planner chose. DuckDB runs the same SQL on
the same rows, without an index, in one thread, in the same process.

    python -m bench.selectivity [--queries 300] [--data synthetic|photos|all]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import duckdb

import hybridq
from bench.datasets import Dataset, photos, synthetic

SHARES = (1.0, 0.5, 0.1, 0.05, 0.01, 0.001, 0.0001)
K = 10
PLANS = ("auto", "fused", "prefilter", "exact")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--data", choices=("synthetic", "photos", "all"), default="all")
    arguments = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, ",
        end="",
    )
    print(f"DuckDB {duckdb.__version__}, one thread, k = {K}, {arguments.queries} queries")
    datasets: list[Dataset] = []
    if arguments.data in ("synthetic", "all"):
        datasets.append(synthetic())
    if arguments.data in ("photos", "all"):
        found = photos()
        if found is None:
            print("photos: skipped, `make album-full` gets them")
        else:
            datasets.append(found)
    for dataset in datasets:
        measure(dataset, arguments.queries)


def measure(data: Dataset, count: int) -> None:
    queries = [q for q, _ in zip(data.queries, range(count), strict=False)]
    print(f"\n{data.name}")
    print(
        "| pass share | auto ms (plan) | recall@10 | rows | fused ms | prefilter ms | exact ms | ",
        end="",
    )
    print("DuckDB ms | DuckDB / auto |")
    print("|---|---|---|---|---|---|---|---|---|")
    with hybridq.connect(data.path) as con:
        con.execute("SET threads = 1")
        plain = duckdb.connect(config={"threads": 1})
        plain.execute(
            f"CREATE TABLE items (id INT PRIMARY KEY, price INT, label INT, v FLOAT[{data.dim}])"
        )
        plain.register("source", con.execute("SELECT * FROM items ORDER BY id").arrow())
        plain.execute("INSERT INTO items SELECT * FROM source")
        for share in SHARES:
            bound = max(1, round(share * data.rows))
            print(row(con, plain, data, queries, bound, share), flush=True)


def row(
    con: hybridq.Connection,
    plain: duckdb.DuckDBPyConnection,
    data: Dataset,
    queries: Sequence[Any],
    bound: int,
    share: float,
) -> str:
    where = f" WHERE price < {bound}" if share < 1 else ""
    ours = f"SELECT id, v <-> ? AS d FROM items{where} ORDER BY d LIMIT {K}"
    brute = f"array_distance(v, ?::FLOAT[{data.dim}])"
    theirs = f"SELECT id, {brute} AS d FROM items{where} ORDER BY d LIMIT {K}"
    few = queries[: max(10, len(queries) // 10)]
    times: dict[str, float] = {}
    answers: dict[str, list[list[tuple[Any, ...]]]] = {}
    for plan in PLANS:
        con.execute(f"SET plan = '{plan}'")
        used = few if plan == "exact" else queries
        times[plan], answers[plan] = timed(lambda q: con.execute(ours, (q,)).fetchall(), used)
    con.execute("RESET plan")
    chosen = con.execute("EXPLAIN " + ours, (queries[0],)).fetchall()[0][1]
    name = next(line for line in chosen.splitlines() if "Plan:" in line).split()[1]
    con.execute("SET recall = 1")
    _, truth = timed(lambda q: con.execute(ours, (q,)).fetchall(), queries)
    con.execute("RESET recall")
    hits = [recall(a, t) for a, t in zip(answers["auto"], truth, strict=True)]
    rows = min(len(a) for a in answers["auto"])
    baseline, _ = timed(lambda q: plain.execute(theirs, [q]).fetchall(), few)
    cells = [
        f"{share * 100:g} %",
        f"{times['auto'] * 1e3:.3f} ({name})",
        f"{statistics.mean(hits):.3f}",
        str(rows),
        *(f"{times[plan] * 1e3:.3f}" for plan in PLANS[1:]),
        f"{baseline * 1e3:.2f}",
        f"{baseline / times['auto']:.0f}x",
    ]
    return f"| {' | '.join(cells)} |"


def timed(
    run: Callable[[Any], list[tuple[Any, ...]]], queries: Sequence[Any]
) -> tuple[float, list[list[tuple[Any, ...]]]]:
    for query in queries[:5]:
        run(query)
    seconds: list[float] = []
    answers: list[list[tuple[Any, ...]]] = []
    for query in queries:
        start = time.perf_counter()
        answers.append(run(query))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), answers


def recall(answer: list[tuple[Any, ...]], truth: list[tuple[Any, ...]]) -> float:
    """Ties at the k-th distance count as right."""
    if not truth:
        return 1.0
    last = truth[-1][1]
    return sum(1 for _, distance in answer if distance <= last) / len(truth)


if __name__ == "__main__":
    main()
