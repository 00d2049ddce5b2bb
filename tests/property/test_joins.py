"""Joins that only filter, and [NOT] IN of a query, select the rows DuckDB selects."""

from __future__ import annotations

import duckdb
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import hybridq

COLUMNS = {
    "label": ("INTEGER", [None, 0, 1, 2, 3, 4, 90]),
    "wide": ("BIGINT", [None, -5, 2, 2**40, 3]),
    "name": ("VARCHAR", [None, "a", "b", "é", "none"]),
    "day": ("DATE", [None, "2024-01-01", "2024-01-02", "2030-01-01"]),
}
FORMS = (
    "SELECT i.id FROM items i JOIN side s ON i.{c} = s.{c} WHERE {w} ORDER BY {d} LIMIT {k}",
    "SELECT i.id FROM side s JOIN items i ON s.{c} = i.{c} AND {w} ORDER BY {d} LIMIT {k}",
    "SELECT i.id FROM items i, side s WHERE i.{c} = s.{c} AND {w} AND i.id > 9 "
    "ORDER BY {d} LIMIT {k}",
    "SELECT i.id FROM items i WHERE i.{c} IN (SELECT {c} FROM side s WHERE {w}) "
    "ORDER BY {d} LIMIT {k}",
    "SELECT i.id FROM items i WHERE i.{c} NOT IN (SELECT s.{c} FROM side s WHERE {w}) "
    "ORDER BY {d} LIMIT {k}",
    "SELECT i.id FROM items i JOIN side s ON i.{c} = s.{c} JOIN side u ON u.{c} = s.{c} "
    "WHERE {w} AND u.flag < 3 ORDER BY {d} LIMIT {k}",
)


@pytest.fixture(scope="module")
def engines():
    plain, ours = duckdb.connect(), hybridq.connect()
    chosen = np.random.default_rng(3)
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    rows = [
        (
            n,
            *(v[chosen.integers(len(v))] for _, v in COLUMNS.values()),
            chosen.normal(20, 9, 2).tolist(),
        )
        for n in range(300)
    ]
    places = ", ".join("?" * 6)
    for con in (plain, ours):
        con.execute(f"CREATE TABLE items (id INTEGER PRIMARY KEY, {columns}, v FLOAT[2])")
        con.executemany(f"INSERT INTO items VALUES ({places})", rows[:250])
        if con is ours:
            con.execute("CREATE INDEX i ON items USING ann (v)")
        con.executemany(f"INSERT INTO items VALUES ({places})", rows[250:])
        con.execute("DELETE FROM items WHERE id % 17 = 3")
        con.execute(f"CREATE TABLE side ({columns}, flag INTEGER)")
    yield plain, ours
    plain.close()
    ours.close()


sides = st.lists(
    st.tuples(*(st.sampled_from(v) for _, v in COLUMNS.values()), st.integers(0, 4)), max_size=6
)


@given(
    rows=sides,
    form=st.sampled_from(FORMS),
    column=st.sampled_from([*COLUMNS]),
    flag=st.integers(0, 4),
    limit=st.integers(1, 40),
    plan=st.sampled_from(["auto", "fused", "prefilter"]),
)
def test_joins(engines, rows, form, column, flag, limit, plan):
    found = []
    for con in engines:
        con.execute("DELETE FROM side")
        for row in rows:
            con.execute("INSERT INTO side VALUES (?, ?, ?, ?, ?)", row)
        text = form.format(c=column, w="s.flag <> ?", d="l2_distance(i.v, ?::FLOAT[2])", k=limit)
        if con is engines[0]:
            text = text.replace("l2_distance", "array_distance")
        else:
            con.execute(f"SET plan = '{plan if 'JOIN' not in form else 'auto'}'")
        found.append([con.execute(text, [flag, [20.5, 3.25]]).fetchall() for _ in range(2)])
    assert found[0] == found[1]
