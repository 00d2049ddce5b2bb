"""Building: odd tables, odd vectors, bounded batches, and what an index refuses to hold."""

import math

import numpy as np
import pyarrow as pa
import pytest

import hybridq
from hybridq.index import maintain
from hybridq.index.build import default_nlist

DISTANCES = {"l2": "<->", "cosine": "<=>", "ip": "<#>"}
PLANS = ("exact", "prefilter", "fused", "bitmap", "postfilter")


def make(vectors, *, metric="l2", dim=None, nlist=None, kind=None):
    """A table in memory with these vectors, ids 0 …, and its index."""
    dim = dim if dim is not None else len(next(v for v in vectors if v is not None))
    con = hybridq.connect()
    con.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {kind or f'FLOAT[{dim}]'})")
    if vectors:
        con.executemany("INSERT INTO t VALUES (?, ?)", list(enumerate(vectors)))
    options = [f"metric = '{metric}'"]
    if nlist is not None:
        options.append(f"nlist = {nlist}")
    if kind == "REAL[]":
        options.append(f"dim = {dim}")
    con.execute(f"CREATE INDEX i ON t USING ann (v) WITH ({', '.join(options)})")
    return con


def answers(con, query, *, metric="l2", k=1000, where=""):
    """The answers of every plan, all lists visited; they must be alike."""
    found = []
    con.execute("SET recall = 1")
    for plan in PLANS:
        con.execute(f"SET plan = '{plan}'")
        text = f"SELECT id, v {DISTANCES[metric]} ? AS d FROM t {where} ORDER BY d LIMIT {k}"
        found.append(con.execute(text, [query]).fetchall())
    con.execute("RESET plan")
    con.execute("RESET recall")
    assert found[0] == found[1] == found[2]
    return found[0]


@pytest.mark.parametrize("kind", ["FLOAT[3]", "REAL[]"])
@pytest.mark.parametrize("nlist", [None, 5])
def test_empty_table(kind, nlist):
    with make([], dim=3, nlist=nlist, kind=kind) as con:
        assert answers(con, [1, 2, 3]) == []
        con.execute("INSERT INTO t VALUES (7, [1, 2, 3]), (8, NULL)")
        assert answers(con, [1, 2, 3]) == [(7, 0.0), (8, None)]
        con.execute("REINDEX INDEX i")
        assert answers(con, [1, 2, 3]) == [(7, 0.0), (8, None)]
        con.execute("DELETE FROM t")
        assert answers(con, [1, 2, 3]) == []
        con.execute("REINDEX INDEX i")
        assert answers(con, [1, 2, 3]) == []


@pytest.mark.parametrize("nlist", [None, 4])
def test_only_null_vectors(nlist):
    with make([None] * 20, dim=3, nlist=nlist) as con:
        assert answers(con, [1, 2, 3]) == [(i, None) for i in range(20)]
        assert answers(con, [1, 2, 3], k=4, where="WHERE id > 5") == [
            (i, None) for i in (6, 7, 8, 9)
        ]
        assert answers(con, [1, 2, 3], where="WHERE v <-> '[1, 2, 3]' < 5") == []
        con.execute("UPDATE t SET v = [1, 2, 3] WHERE id = 11")
        assert answers(con, [1, 2, 3], k=2) == [(11, 0.0), (0, None)]


@pytest.mark.parametrize("nlist", [None, 7])
@pytest.mark.parametrize("metric", DISTANCES)
def test_identical_rows(metric, nlist):
    """Everything is a tie: order is by key, pages neither overlap nor skip."""
    count = 2_500
    with make([[1.5, -2.0]] * count, metric=metric, nlist=nlist) as con:
        found = answers(con, [1.5, -2.0], metric=metric, k=count)
        assert [i for i, _ in found] == list(range(count))
        assert len({d for _, d in found}) == 1
        text = f"SELECT id FROM t ORDER BY v {DISTANCES[metric]} ? LIMIT 70 OFFSET ?"
        pages = [con.execute(text, [[1.5, -2.0], at]).fetchall() for at in range(0, 700, 70)]
        assert [i for page in pages for (i,) in page] == list(range(700))


def test_one_row():
    with make([[1.0, 2.0, 3.0]], nlist=16) as con:
        assert answers(con, [1, 2, 3]) == [(0, 0.0)]


@pytest.mark.parametrize("metric", DISTANCES)
def test_one_dimension(metric):
    values = [[x] for x in (-3.0, -1.0, 0.0, 0.5, 2.0, 1e-30, -0.0, 1e30)]
    with make(values, metric=metric, nlist=3) as con:
        found = dict(answers(con, [2.0], metric=metric))
        for i, (x,) in enumerate(values):
            expected = {
                "l2": abs(x - 2.0),
                "ip": -2.0 * x,
                "cosine": None if x == 0 else 1 - math.copysign(1, x),
            }[metric]
            assert found[i] == (None if expected is None else np.float32(expected))


def test_zero_vectors_under_cosine():
    """They have no distance: last, and in no radius."""
    vectors = [[0.0, 0.0], [1.0, 0.0], None, [-0.0, 0.0], [0.0, 1.0]]
    with make(vectors, metric="cosine", nlist=2) as con:
        assert answers(con, [1, 0], metric="cosine") == [
            (1, 0.0),
            (4, 1.0),
            (0, None),
            (2, None),
            (3, None),
        ]
        near = answers(con, [1, 0], metric="cosine", where="WHERE v <=> '[1.0, 0.0]' <= 2")
        assert [i for i, _ in near] == [1, 4]
        con.execute("UPDATE t SET v = [0, 0] WHERE id = 1")
        con.execute("UPDATE t SET v = [2, 0] WHERE id = 3")
        assert [i for i, _ in answers(con, [1, 0], metric="cosine")] == [3, 4, 0, 1, 2]
        zero = con.execute("SELECT id FROM t ORDER BY v <=> ? LIMIT 9", [[0.0, 0.0]]).fetchall()
        assert sorted(i for (i,) in zero) == [0, 1, 2, 3, 4]


def test_zero_vectors_have_a_distance_under_l2_and_ip():
    vectors = [[0.0, 0.0], [1.0, 0.0]]
    for metric, expected in (("l2", [(1, 1.0), (0, 2.0)]), ("ip", [(1, -2.0), (0, 0.0)])):
        with make(vectors, metric=metric) as con:
            assert answers(con, [2, 0], metric=metric) == expected


def test_huge_and_tiny_components():
    vectors = [[1e38, 1e38], [-1e38, 1e38], [1e-38, 1e-45], [0.0, 0.0], [3e38, -3e38]]
    with make(vectors, nlist=2) as con:
        found = answers(con, [0.0, 0.0])
        assert [i for i, _ in found] == [3, 2, 0, 1, 4]
        assert found[0][1] == 0.0
        assert found[2][1] == np.float32(np.sqrt(2) * 1e38)
        # 6e38 does not fit a FLOAT: the distance is infinite, the row still there and last.
        far = answers(con, [-3e38, 3e38])
        assert far[-1] == (4, math.inf)
        assert len(far) == 5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite(bad):
    con = hybridq.connect()
    con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[3])")
    con.execute("INSERT INTO t VALUES (1, [1, 2, 3]), (42, ?)", [[1.0, bad, 3.0]])
    with pytest.raises(hybridq.DataError, match=r"component 2 .* key 42"):
        con.execute("CREATE INDEX i ON t USING ann (v)")
    con.execute("DELETE FROM t WHERE id = 42")
    con.execute("CREATE INDEX i ON t USING ann (v)")
    for statement in ("INSERT INTO t VALUES (43, ?)", "UPDATE t SET v = ? WHERE id = 1"):
        with pytest.raises(hybridq.DataError, match="component 3"):
            con.execute(statement, [[1.0, 2.0, bad]])
    assert answers(con, [1, 2, 3]) == [(1, 0.0)]
    con.close()


def test_wrong_dimension():
    with make([[1.0, 2.0, 3.0]], kind="REAL[]", dim=3) as con:
        for statement in ("INSERT INTO t VALUES (9, ?)", "UPDATE t SET v = ? WHERE id = 0"):
            for vector in ([1.0], [], [1.0, 2.0, 3.0, 4.0]):
                with pytest.raises(hybridq.DataError, match="dimensions"):
                    con.execute(statement, [vector])
        with pytest.raises(hybridq.DataError, match="2 dimensions"):
            con.execute("SELECT id FROM t ORDER BY v <-> ? LIMIT 1", [[1.0, 2.0]])
        assert answers(con, [1, 2, 3]) == [(0, 0.0)]


def test_null_components():
    """A NULL inside a list has no number to be."""
    with make([[1.0, 2.0, 3.0]], kind="REAL[]", dim=3) as con:
        with pytest.raises(hybridq.DataError):
            con.execute("INSERT INTO t VALUES (9, [1, NULL, 3])")
        assert answers(con, [1, 2, 3]) == [(0, 0.0)]


def test_more_lists_than_rows():
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32).tolist()
    with make(vectors, nlist=500) as con:
        part = con.check_open().instance.indexes["i"].snapshot.parts[0]
        assert part.nlist <= 20
        assert len(answers(con, [0.0] * 4)) == 20


def test_default_nlist_grows_with_rows():
    found = [default_nlist(n) for n in (0, 1, 999, 1_000, 10_000, 1_000_000, 10**12)]
    assert found[:3] == [1, 1, 1]
    assert found == sorted(found)
    assert found[-1] <= 65_536


@pytest.mark.parametrize("batch", [1, 7, 64, 100_000])
def test_any_batch_size_gives_the_same_index(batch, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32).tolist()
    vectors[5] = vectors[250] = None
    monkeypatch.setattr(maintain, "_BATCH_ROWS", batch)
    with make(vectors, nlist=6) as con:
        found = answers(con, [0.1, 0.2, 0.3, 0.4])
    monkeypatch.undo()
    with make(vectors, nlist=6) as con:
        assert answers(con, [0.1, 0.2, 0.3, 0.4]) == found


def test_rows_are_read_in_batches_of_bounded_size():
    con = hybridq.connect()
    con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[8])")
    con.execute("INSERT INTO t SELECT i, [i, i, i, i, i, i, i, i] FROM range(50000) r(i)")
    con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 4)")
    ours = con.check_open().instance
    spec = ours.indexes["i"].spec
    with ours.duck.cursor() as cursor:
        sizes = [b.num_rows for b in maintain.read_rows(cursor, maintain.rows_query(spec))]
    assert sum(sizes) == 50_000
    assert max(sizes) <= 16_384
    con.close()


def test_build_is_deterministic():
    vectors = np.random.default_rng(4).normal(size=(2_000, 8)).astype(np.float32)
    parts = []
    for _ in range(2):
        con = hybridq.connect()
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[8])")
        table = {"id": pa.array(range(2_000)), "v": pa.array(list(vectors), pa.list_(pa.float32()))}
        con.register("fresh", pa.table(table))
        con.execute("INSERT INTO t SELECT * FROM fresh")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        parts.append(con.check_open().instance.indexes["i"].snapshot.parts[0])
        for name in ("vectors", "centroids", "list_offsets", "keys", "tie"):
            assert np.array_equal(getattr(parts[0], name), getattr(parts[-1], name))
        assert np.array_equal(parts[0].ladder.lists, parts[-1].ladder.lists)
        con.close()


def test_part_is_in_list_order():
    vectors = np.random.default_rng(4).normal(size=(1_500, 6)).astype(np.float32)
    with make([*vectors.tolist(), None], nlist=20) as con:
        part = con.check_open().instance.indexes["i"].snapshot.parts[0]
        assert part.rows == 1_501
        assert part.n_vectors == 1_500
        assert part.list_offsets[0] == 0
        assert part.list_offsets[-1] == 1_500
        ids = part.values(0, np.arange(part.rows))
        assert sorted(ids) == list(range(1_501))
        assert ids[-1] == 1_500
        assert np.array_equal(part.vectors, vectors[ids[:-1]])
        assert np.array_equal(np.argsort(part.tie), np.argsort(ids))
        for c in range(part.nlist):
            rows = part.vectors[part.list_offsets[c] : part.list_offsets[c + 1]]
            away = np.linalg.norm(rows[:, None] - part.centroids[None], axis=2)
            assert (away[:, c] <= away.min(axis=1) + 1e-4).all()
            if len(rows):
                assert away[:, c].max() <= part.list_radius[c] * (1 + 1e-5)
        found = part.find([pa.array([3, 1_500, 99_999, -1])])
        assert (found[2:] == -1).all()
        assert [ids[p] for p in found[:2]] == [3, 1_500]


def test_negative_zero_ties_with_zero_as_a_sort_key():
    with hybridq.connect() as con:
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x DOUBLE, v FLOAT[2])")
        con.execute("INSERT INTO t VALUES (1, 0, [1, 1]), (2, -0.0::DOUBLE, [1, 1])")
        con.execute("INSERT INTO t VALUES (3, -1, [1, 1]), (4, -0.0::DOUBLE, [1, 1])")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        for plan in PLANS:
            con.execute(f"SET plan = '{plan}'")
            for order, expected in (("x", [3, 1, 2, 4]), ("x DESC", [1, 2, 4, 3])):
                text = f"SELECT id FROM t ORDER BY v <-> [1, 1], {order} LIMIT 4"
                assert [i for (i,) in con.execute(text).fetchall()] == expected
