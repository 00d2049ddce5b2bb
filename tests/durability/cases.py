"""A small indexed table, and the comparison of its vector queries with brute force in NumPy."""

import json

import numpy as np

DIM = 8
ROWS = 600
LABELS = ("ant", "bee", "cat", None)
FILTERS = ("", "g = 3", "g < 2 AND label = 'bee'", "label IS NULL", "id >= 500", "g = 99")


def vector(i):
    """A vector that only `i` decides, in one of ten clusters."""
    centre = np.random.default_rng(i % 10).normal(size=DIM)
    return (centre + 0.2 * np.random.default_rng(1000 + i).normal(size=DIM)).astype(np.float32)


def row(i):
    """Return (id, g, label, v, note) of row `i`; every fiftieth has no vector."""
    v = None if i % 50 == 49 else vector(i).tolist()
    return (i, i % 7, LABELS[i % 4], v, "note " * 40 + str(i))


INSERT = "INSERT INTO t VALUES (?, ?, ?, ?, ?)"


def create(con, rows=ROWS, *, index=True, nlist=12):
    """Make table t and, unless told otherwise, its index i."""
    con.execute(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, g INTEGER, label TEXT, v FLOAT[{DIM}], note TEXT)"
    )
    con.executemany(INSERT, [row(i) for i in range(rows)])
    if index:
        con.execute(f"CREATE INDEX i ON t USING ann (v) WITH (nlist = {nlist})")


def where(condition):
    """Return the WHERE clause of a condition, nothing for none."""
    return f" WHERE {condition}" if condition else ""


def explained(con, condition=""):
    """Return EXPLAIN's JSON of a query of t."""
    text = con.execute(
        f"EXPLAIN (FORMAT JSON) SELECT id FROM t{where(condition)} ORDER BY v <-> ? LIMIT 10",
        [vector(3).tolist()],
    ).fetchall()[0][-1]
    return json.loads(text)


def uses_index(con):
    """Tell whether queries of t are answered from index i."""
    found = explained(con)
    return found["index"] == "i" and not found["detail"].get("by_duckdb", False)


def distances(vectors, query):
    """The defined distance: float64 sums in index order, given as float32."""
    squares = (vectors.astype(np.float64) - query.astype(np.float64)) ** 2
    return np.sqrt(np.cumsum(squares, axis=1)[:, -1]).astype(np.float32)


def truth(con, condition, query):
    """Return [(id, distance)] of the rows with a vector, nearest first, and the ids of the rest."""
    rows = con.execute(f"SELECT id, v FROM t{where(condition)} ORDER BY id").fetchall()
    without = {i for i, v in rows if v is None}
    found = [(i, v) for i, v in rows if v is not None]
    if not found:
        return [], without
    away = distances(np.array([v for _, v in found], np.float32), query)
    ranked = sorted(zip(away.tolist(), (i for i, _ in found), strict=True))
    return [(i, d) for d, i in ranked], without


def check(con, *, index=True):
    """Vector queries give what brute force over the table's rows gives."""
    if index is not None:
        assert uses_index(con) == index
    for number, condition in enumerate(FILTERS):
        query = vector(7 * number + 1) + np.float32(0.01)
        given = query.tolist()
        near, without = truth(con, condition, query)
        matching = len(near) + len(without)
        text = f"SELECT id, v <-> ? FROM t{where(condition)} ORDER BY v <-> ? LIMIT "
        con.execute("SET recall = 1")
        assert con.execute(text + "10", [given, given]).fetchall()[: len(near)] == near[:10]
        everything = con.execute(text + "5000", [given, given]).fetchall()
        assert everything[: len(near)] == near
        assert {i for i, _ in everything[len(near) :]} == without
        assert len(everything) == matching
        con.execute("RESET recall")
        rows = con.execute(text + "10", [given, given]).fetchall()
        assert len(rows) == min(10, matching)
        exact = dict(near)
        assert all(i in without if d is None else exact[i] == d for i, d in rows)
        # A column that the index does not hold comes from the table.
        notes = con.execute(
            f"SELECT id, note FROM t{where(condition)} ORDER BY v <-> ? LIMIT 3", [given]
        ).fetchall()
        kept = dict(con.execute("SELECT id, note FROM t").fetchall())
        assert len(notes) == min(3, matching)
        assert all(kept[i] == note for i, note in notes)


def count(con, condition=""):
    """Return how many rows of t satisfy a condition."""
    return con.execute(f"SELECT count(*) FROM t{where(condition)}").fetchall()[0][0]
