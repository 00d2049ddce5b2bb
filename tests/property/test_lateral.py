"""Random LATERAL selects over random tables: the rows are DuckDB's, whoever finds them."""

import random
import re

import duckdb
import pytest

import hybridq
from udfs import distance

DAYS = ("NULL", "DATE '2024-01-01'", "DATE '2024-02-01'")
TEXTS = (None, "x", "y", "Z", "''")
CONDITIONS = (
    "t.a = q.a", "t.a <> q.a", "t.a < q.a", "t.a IS NOT DISTINCT FROM q.a", "t.a IN (q.a, 1)",
    "t.a < q.c", "t.b = q.b", "t.b LIKE q.b || '%'", "t.b = upper(q.b)", "t.c <= q.c",
    "t.c BETWEEN 0 AND q.c", "t.d = q.d", "t.id <> q.id", "(t.a = q.a OR t.b = q.b)",
    "NOT (t.a = q.a AND t.c < 2)", "coalesce(t.a, 7) = q.a", "q.a = 1", "q.b IS NULL",
    "t.a = 1", "t.b IS NULL", "t.a + 1 > 2",
)  # fmt: skip
JOINS = (
    ", LATERAL ({}) n",
    " CROSS JOIN LATERAL ({}) n",
    " JOIN LATERAL ({}) n ON n.id % 2 = 0",
    " LEFT JOIN LATERAL ({}) n ON true",
    " LEFT JOIN LATERAL ({}) n ON n.dd < 3",
)
SOURCES = (
    "q",
    "(SELECT * FROM q WHERE id % 2 = 0) q",
    "(SELECT * FROM q ORDER BY id LIMIT 7) q",
    "q JOIN q AS z ON q.id = z.id + 1",
    "w AS q",
)
AROUND = (
    "",
    "",
    " WHERE q.id < 5",
    " WHERE q.a = 1 AND n.dd > 1",
    " WHERE q.b IS NULL OR n.id > 3",
)


class Macros:
    """Takes the distance macros of the extension for plain DuckDB."""

    def __init__(self, duck):
        self.duck = duck

    def macro(self, name, parameters, body):
        self.duck.execute(f"CREATE MACRO {name}({', '.join(parameters)}) AS {body}")


def literal(value):
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else str(value)


def row(some, number, vectors):
    values = [str(number)]
    for _ in range(vectors):
        vector = f"[{some.randint(0, 6)}, {some.randint(0, 6)}, {some.randint(0, 6)}]"
        values.append("NULL" if some.random() < 0.07 else vector)
    values.append(literal(some.choice((None, 0, 1, 2, 3))))
    values.append(literal(some.choice(TEXTS)))
    values.append(literal(some.choice((None, 0.0, -0.0, 1.5, 2.5))))
    values.append(some.choice(DAYS))
    return f"({', '.join(values)})"


def tables(some, execute):
    rest = "a INTEGER, b TEXT, c DOUBLE, d DATE"
    execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[3], {rest})")
    execute(f"CREATE TABLE q (id BIGINT, v FLOAT[3], w DOUBLE[], {rest})")
    rows = some.choice((1, 50, 700))
    execute("INSERT INTO t VALUES " + ", ".join(row(some, i, 1) for i in range(rows)))
    if outer := some.choice((0, 1, 12, 150)):
        execute("INSERT INTO q VALUES " + ", ".join(row(some, i, 2) for i in range(outer)))


def statement(some):
    vector = some.choice(("q.v", "q.v", "q.w"))
    dd = some.choice((f"l2_distance(t.v, {vector})", f"l2_distance({vector}, t.v)"))
    conditions = some.sample(CONDITIONS, some.choice((0, 1, 1, 2, 3)))
    bounded = some.random() < 0.2
    if bounded:
        conditions.append(f"{dd} < {some.choice(('2', '3.5', 'q.c'))}")
    items = some.choice(("", ", t.b", ", q.a", ", t.a + q.a AS s", ", t.*"))
    inner = f"SELECT t.id, {dd} AS dd{items} FROM t"
    if conditions:
        inner += " WHERE " + " AND ".join(conditions)
    if not bounded or some.random() < 0.3:
        inner += f" ORDER BY dd, t.id LIMIT {some.choice((0, 1, 3, 10, 2000))}"
        inner += some.choice(("", " OFFSET 2"))
    source = some.choice(SOURCES)
    before = "WITH w AS (SELECT * FROM q WHERE id < 9) " if source.startswith("w ") else ""
    joined = some.choice(JOINS).format(inner)
    return f"{before}SELECT q.id AS qid, n.* FROM {source}{joined}{some.choice(AROUND)}"


def rows_of(connection, text):
    """Return the rows in some order, floats to what every way of computing them gives."""
    rows = connection.execute(text).fetchall()
    return sorted(re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.5g}", repr(r)) for r in rows)


@pytest.mark.parametrize("seed", range(4))
def test_the_rows_are_those_of_duckdb(seed):
    some = random.Random(seed)
    with hybridq.connect() as con, duckdb.connect() as duck:
        distance.register(Macros(duck))

        def both(text):
            con.execute(text)
            duck.execute(text)

        tables(some, both)
        con.execute(f"CREATE INDEX i ON t USING ann (v) WITH (nlist = {some.choice((1, 5, 20))})")
        both("INSERT INTO t VALUES " + ", ".join(row(some, i, 1) for i in range(5000, 5020)))
        both("DELETE FROM t WHERE id % 7 = 3")
        con.execute("SET recall = 1")
        by_index = 0
        for _ in range(25):
            text = statement(some)
            assert rows_of(con, text) == rows_of(duck, text), text
            plan = con.execute(f"EXPLAIN {text}").fetchall()[0][1]
            by_index += "using index i" in plan
        assert by_index > 8 or con.execute("SELECT count(*) FROM q").fetchall() == [(0,)]
