"""The delta: rows in parts of all sizes answer as one segment with the same rows would."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

import hybridq
from hybridq.index import delta, maintain
from hybridq.kernels import scan
from tests.equal import index_equals_table

DIM, ROWS = 16, 6_000
LABELS = ("ant", "bee", "cat", None)
SIGNS = {"l2": "<->", "cosine": "<=>", "ip": "<#>"}


def table(start, stop, seed=0):
    rng = np.random.default_rng([seed, start, stop])
    centres = np.random.default_rng(1).normal(size=(40, DIM)) * 3
    ids = np.arange(start, stop)
    vectors = (centres[rng.integers(0, 40, len(ids))] + rng.normal(size=(len(ids), DIM))).astype(
        np.float32
    )
    lists = [None if i % 97 == 5 else v for i, v in zip(ids.tolist(), vectors, strict=True)]
    return pa.table(
        {
            "id": pa.array(ids, pa.int32()),
            "g": pa.array(rng.integers(0, 9, len(ids)), pa.int32()),
            "label": pa.array([LABELS[i % 4] for i in ids.tolist()]),
            "v": pa.array(lists, pa.list_(pa.float32(), DIM)),
        }
    )


def make(rows=ROWS, metric="l2", **options):
    con = hybridq.connect()
    con.check_open().instance.merger.enabled = False
    con.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, g INTEGER, label TEXT, v FLOAT[{DIM}])")
    insert(con, 0, rows)
    given = ", ".join(f"{k} = {v}" for k, v in {"metric": f"'{metric}'", **options}.items())
    con.execute(f"CREATE INDEX i ON t USING ann (v) WITH ({given})")
    return con


def insert(con, start, stop, seed=0):
    con.register("fresh", table(start, stop, seed))
    con.execute("INSERT INTO t SELECT * FROM fresh")
    con.unregister("fresh")


def state(con):
    return con.check_open().instance.index_named("i")


def parts(con):
    return state(con).snapshot.parts


def check(con, metric="l2"):
    """Every plan gives what brute force over the table gives; recall as promised."""
    conditions = ("", "WHERE g = 3", "WHERE label = 'bee' AND g < 5", "WHERE id > 5900")
    rng = np.random.default_rng(7)
    con.execute("SET nprobe = 100000")
    for condition in conditions:
        query = rng.normal(size=DIM).astype(np.float32) * 3
        text = f"SELECT id, v {SIGNS[metric]} ? AS d FROM t {condition} ORDER BY d LIMIT 30"
        found = {}
        for plan in ("exact", "prefilter", "fused", "bitmap", "postfilter"):
            con.execute(f"SET plan = '{plan}'")
            found[plan] = con.execute(text, [query]).fetchall()
        truth = brute(con, metric, condition, query)
        for plan, rows in found.items():
            assert rows == truth, (plan, condition)
    con.execute("RESET plan")
    con.execute("RESET nprobe")


def brute(con, metric, condition, query, k=30):
    rows = con.execute(f"SELECT id, v FROM t {condition}").fetchall()
    near = []
    for i, v in rows:
        if v is None:
            near.append((np.inf, i, None))
            continue
        a, b = np.array(v, np.float64), query.astype(np.float64)
        if metric == "l2":
            d = np.sqrt(np.cumsum((a - b) ** 2)[-1])
        elif metric == "ip":
            d = -np.cumsum(a * b)[-1]
        else:
            d = 1 - np.cumsum(a * b)[-1] / np.sqrt(np.cumsum(a * a)[-1] * np.cumsum(b * b)[-1])
        near.append((float(np.float32(d)), i, float(np.float32(d))))
    near.sort(key=lambda r: r[:2])
    return [(i, d) for _, i, d in near[:k]]


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_parts_of_all_sizes(metric):
    with make(metric=metric) as con:
        at = ROWS
        for size in (9_000, 2_000, 100, 30, 5, 1):
            insert(con, at, at + size)
            at += size
        kinds = {p.codes is not None for p in parts(con)[1:]}
        assert kinds == {True, False}
        check(con, metric)
        con.execute("DELETE FROM t WHERE id % 3 = 1")
        con.execute("UPDATE t SET g = 3 WHERE id % 5 = 0")
        con.execute("UPDATE t SET v = (SELECT v FROM t WHERE id = 0) WHERE id % 501 = 0")
        check(con, metric)
        index_equals_table(con)  # hashes are computed when they are compared
        before = index_rows(con)
        con.execute("SELECT * FROM hybridq_merge('i')").fetchall()
        assert len(parts(con)) == 1
        assert index_rows(con) == before
        check(con, metric)


def index_rows(con):
    """Return what the index has: {key: (columns, hash, vector)}; each key is alive once."""
    found = {}
    for part in parts(con):
        live = part.live()
        columns = [part.values(c, live) for c in range(len(part.spec.columns))]
        for i, position in enumerate(live.tolist()):
            vector = part.vectors[position].tobytes() if position < part.n_vectors else None
            key = columns[0][i]
            assert key not in found
            found[key] = (*(c[i] for c in columns), int(part.row_hash[position]), vector)
    return found


def equals_table(con):
    """The index has the table's rows, to the hash."""
    instance = con.check_open().instance
    with instance.duck.cursor() as cursor:
        assert maintain.difference(cursor, state(con).snapshot) is None
    assert len(index_rows(con)) == con.execute("SELECT count(*) FROM t").fetchall()[0][0]


def test_the_same_rows_whichever_way_they_came():
    with make(500) as con:
        con.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?)",
            [(10_000 + i, i, "dog", [float(i)] * DIM) for i in range(700)],
        )
        con.execute("INSERT INTO t VALUES (20000, 1, NULL, NULL)")
        con.execute("INSERT INTO t VALUES (20001, NULL, 'é', ?)", [[1.0] * DIM])
        con.execute("INSERT INTO t VALUES (20002, 5, 'x', ?) RETURNING id, label", [[2.0] * DIM])
        con.execute("INSERT INTO t SELECT id + 30000, g, label, v FROM t WHERE id < 50")
        con.execute("UPDATE t SET label = 'new', g = g + 1 WHERE id < 100")
        con.execute("UPDATE t SET v = ? WHERE id < 10 RETURNING *", [[3.0] * DIM]).fetchall()
        con.execute("DELETE FROM t WHERE id BETWEEN 40 AND 60 RETURNING id").fetchall()
        con.execute("INSERT OR REPLACE INTO t VALUES (7, 7, 'seven', ?)", [[7.0] * DIM])
        equals_table(con)
        con.execute("BEGIN")
        con.execute("INSERT INTO t VALUES (40000, 1, 'a', ?)", [[1.0] * DIM])
        con.execute("UPDATE t SET g = 2 WHERE id >= 20000")
        con.execute("DELETE FROM t WHERE id = 20001")
        con.execute("INSERT INTO t SELECT 20001, 9, 'again', v FROM t WHERE id = 7")
        con.execute("UPDATE t SET label = label || '!' FROM (VALUES (7), (7)) w(k) WHERE id = w.k")
        con.execute("COMMIT")
        equals_table(con)


def test_few_parts_however_many_writes():
    with make(2_000) as con:
        for i in range(60):
            insert(con, 10_000 + 7 * i, 10_007 + 7 * i)
            assert len(parts(con)) <= 6
            # Beside batches that wait for others.
            sizes = [p.rows for p in parts(con)[1:] if p.rows > 7]
            assert all(a >= delta.RATIO * b for a, b in itertools.pairwise(sizes))
        equals_table(con)


def test_deleted_rows_leave_the_delta():
    with make(2_000) as con:
        insert(con, 10_000, 10_800)
        con.execute("DELETE FROM t WHERE id >= 10000")
        assert [p.rows - p.dead for p in parts(con)] == [2_000]
        assert len(parts(con)) == 1


def test_later_parts_are_visited_in_the_lists_of_the_first(monkeypatch):
    """One coarse step for all; of the delta no more lists than of the segment are visited."""
    with make(20_000) as con:
        insert(con, 50_000, 59_000)
        insert(con, 60_000, 60_700)
        assert [p.codes is not None for p in parts(con)] == [True] * 3
        raw = []
        from hybridq.index.counters import Counters

        original = Counters.add
        monkeypatch.setattr(Counters, "add", lambda self, c: (raw.append(c), original(self, c)))
        query = np.array(con.execute("SELECT v FROM t WHERE id = 3").fetchall()[0][0], np.float32)
        con.execute("SET plan = 'fused'")
        con.execute("SELECT id FROM t ORDER BY v <-> ? LIMIT 10", [query]).fetchall()
        lists = [int(c[scan.LISTS_VISITED]) for c in raw]
        assert len(lists) == 3
        assert lists[0] < parts(con)[0].nlist
        assert lists[1] == lists[2] == lists[0]


def test_recall_with_a_delta():
    with make(20_000) as con:
        insert(con, 50_000, 56_000)
        insert(con, 60_000, 61_000)
        con.execute("DELETE FROM t WHERE id % 4 = 0")
        for condition in ("NULL", "'g = 3'", "'id > 45000'", "'id < 1000'"):
            ((recall,),) = con.execute(
                f"SELECT recall FROM hybridq_recall('i', queries := 100, filter := {condition})"
            ).fetchall()
            assert recall >= 0.93, condition
