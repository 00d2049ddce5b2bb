"""Pages by OFFSET at a recall below 1: none overlaps, none skips, and LIMIT alone agrees."""

import json

import numpy as np
import pyarrow as pa
import pytest

import hybridq
from hybridq.exec.pages import depth_for, depths_before

ROWS, DIM = 20_000, 24
WHERES = ("", "WHERE a < 50", "WHERE a < 5", "WHERE side = 0", "WHERE (a + id) % 3 = 0")


def clusters(count, seed):
    centres = np.random.default_rng(5).normal(size=(200, DIM)) * 1.2
    chosen = np.random.default_rng(seed)
    near = centres[chosen.integers(0, 200, count)]
    return (near + chosen.normal(size=(count, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def con():
    chosen = np.random.default_rng(5)
    vectors = clusters(ROWS, 6)
    with hybridq.connect() as con:
        con.execute(f"CREATE TABLE t (id INT PRIMARY KEY, a INT, side INT, v FLOAT[{DIM}])")
        source = pa.table(
            {
                "id": np.arange(ROWS, dtype=np.int32),
                "a": chosen.integers(0, 100, ROWS, dtype=np.int32),
                "side": (vectors[:, 0] > 0).astype(np.int32),
                "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
            }
        )
        con.register("source", source)
        con.execute("INSERT INTO t SELECT * FROM source")
        # 30 rows without a vector: the last ones of every order
        con.execute(f"INSERT INTO t SELECT {ROWS} + i, i % 100, i % 2, NULL FROM range(30) r(i)")
        con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 128)")
        yield con


def queries(count):
    return clusters(count, 7)


def page(con, where, query, limit, offset=0):
    text = f"SELECT id, v <-> ? AS d FROM t {where} ORDER BY d LIMIT ? OFFSET ?"
    return con.execute(text, [query, limit, offset]).fetchall()


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("size", [1, 7, 10, 40])
def test_pages_are_parts_of_one_order(con, where, size):
    con.execute("SET recall = 0.8")
    missed = differ = 0
    for query in queries(12):
        pages = [page(con, where, query, size, at) for at in range(0, 6 * size, size)]
        found = [row for one in pages for row in one]
        assert len(found) == 6 * size
        assert len({i for i, _ in found}) == 6 * size
        for one in pages:
            assert one == sorted(one, key=lambda row: (row[1], row[0]))
        alone = page(con, where, query, 6 * size)
        differ += len(set(found) - set(alone))
        con.execute("SET recall = 1")
        truth = page(con, where, query, 6 * size)
        con.execute("SET recall = 0.8")
        missed += sum(d > truth[-1][1] for _, d in found)
    # A row that a page showed stays, even if a deeper search shows it to be out of place:
    # that may be half of what the recall lets be missed.
    assert differ <= 0.1 * 12 * 6 * size
    if where in WHERES[:1] and size > 1:
        assert missed, "the search missed nothing, so the test has shown nothing"


def test_pages_of_many_rows_end_with_those_without_a_vector(con):
    con.execute("SET recall = 0.9")
    query = queries(1)[0]
    where = "WHERE a < 3"
    matching = con.execute(f"SELECT count(*) FROM t {where}").fetchall()[0][0]
    pages = [page(con, where, query, 90, at) for at in range(0, matching + 90, 90)]
    found = [row for one in pages for row in one]
    assert len(found) == len({i for i, _ in found}) == matching
    assert [i for i, d in found if d is None] == [ROWS, ROWS + 1, ROWS + 2]
    assert all(d is None for _, d in found[-3:])


def test_pages_in_lateral(con):
    con.execute("SET recall = 0.8")
    con.execute("CREATE OR REPLACE TEMP TABLE q AS SELECT id, v FROM t WHERE id < 40")
    text = (
        "SELECT q.id, n.id FROM q, LATERAL (SELECT t.id FROM t ORDER BY t.v <-> q.v "
        "LIMIT 8 OFFSET {}) n"
    )
    found = [row for at in range(0, 40, 8) for row in con.execute(text.format(at)).fetchall()]
    assert len(found) == len(set(found)) == 40 * 40


def test_explain_tells_the_depths(con):
    con.execute("SET recall = 0.8")
    text = "(FORMAT JSON) SELECT id FROM t ORDER BY v <-> ? LIMIT 10 OFFSET 40"
    told = json.loads(con.execute(f"EXPLAIN {text}", [queries(1)[0]]).fetchall()[0][1])
    assert (told["offset"], told["depths"], told["recall"]) == (40, [10, 25, 50], 0.8)
    con.execute("SET recall = 1")
    told = json.loads(con.execute(f"EXPLAIN {text}", [queries(1)[0]]).fetchall()[0][1])
    assert (told["depths"], told["recall"]) == ([50], 1.0)


def test_depths():
    assert [depth_for(n) for n in (0, 1, 2, 3, 10, 11, 26, 100, 101, 251, 1_000, 1_001)] == [
        0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500,
    ]  # fmt: skip
    assert depths_before(10, 0) == []
    assert depths_before(10, 90) == [10, 25, 50]
    assert depths_before(100, 1) == [100]
