"""executemany: all rows or none, whatever form the parameters have."""

import numpy as np
import pytest

import hybridq

NEAREST = "SELECT id FROM t ORDER BY v <-> [0, 0], id LIMIT 3"


@pytest.fixture(params=[True, False], ids=["indexed", "plain"])
def con(request):
    with hybridq.connect() as con:
        con.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[2], label TEXT DEFAULT 'none')"
        )
        if request.param:
            con.execute("CREATE INDEX i ON t USING ann (v)")
        con.execute("INSERT INTO t VALUES (0, [9, 9], 'first')")
        yield con


def test_rows(con):
    rows = [(i, [i, 0], f"x{i}") for i in range(1, 501)]
    assert con.executemany("INSERT INTO t VALUES (?, ?, ?)", rows).rowcount == 500
    assert con.execute(NEAREST).fetchall() == [(1,), (2,), (3,)]
    assert con.execute("SELECT label FROM t WHERE id = 77").fetchone() == ("x77",)


def test_generators_names_expressions_and_numpy(con):
    given = ({"id": i, "v": np.array([i, 0], np.float32)} for i in (3, 1, 2))
    con.executemany("INSERT INTO t (v, id, label) VALUES ($v, $id, upper('a' || $id))", given)
    assert con.execute(NEAREST).fetchall() == [(1,), (2,), (3,)]
    assert con.execute("SELECT label FROM t WHERE id = 2").fetchone() == ("A2",)


def test_no_rows(con):
    assert con.executemany("INSERT INTO t VALUES (?, ?, ?)", []).rowcount == 0
    assert con.executemany("INSERT INTO t VALUES (?, ?, ?)", iter([])).rowcount == 0


def test_one_row_and_nulls(con):
    con.executemany("INSERT INTO t VALUES (?, ?, ?)", [(1, None, None)])
    con.executemany("INSERT INTO t VALUES (?, ?, ?)", [(2, None, None), (3, [1, 1], None)])
    assert con.execute("SELECT id FROM t ORDER BY v <-> [0, 0], id LIMIT 4").fetchall() == [
        (3,),
        (0,),
        (1,),
        (2,),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        (0, [1, 1], "key is taken"),
        ("no number", [1, 1], "x"),
        (7, [1, 2, 3], "dimension"),
        (7, ["a", "b"], "text"),
        (7, [1, 1]),
        (7, [1, 1], "x", "one too many"),
        (7, object(), "x"),
    ],
    ids=["key", "type", "dimension", "text", "short", "long", "object"],
)
@pytest.mark.parametrize("place", [0, 5, 10])
def test_one_bad_row_loses_nothing_and_keeps_nothing(con, bad, place):
    rows = [(i, [i, 0], "x") for i in range(100, 110)]
    rows.insert(place, bad)
    with pytest.raises(hybridq.Error):
        con.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    assert con.execute("SELECT * FROM t").fetchall() == [(0, (9.0, 9.0), "first")]
    assert con.execute(NEAREST).fetchall() == [(0,)]
    rows.pop(place)
    assert con.executemany("INSERT INTO t VALUES (?, ?, ?)", rows).rowcount == 10
    assert con.execute(NEAREST).fetchall() == [(0,), (100,), (101,)]


def test_nan_in_one_row():
    with hybridq.connect() as con:
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[2])")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        rows = [(1, [1, 1]), (2, [1, float("nan")]), (3, [1, 1])]
        with pytest.raises(hybridq.DataError, match="key 2") as caught:
            con.executemany("INSERT INTO t VALUES (?, ?)", rows)
        assert "component 2" in str(caught.value)
        assert con.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_updates_and_deletes(con):
    con.executemany("INSERT INTO t VALUES (?, ?, ?)", [(i, [i, 0], "x") for i in range(1, 9)])
    moved = con.executemany("UPDATE t SET v = ? WHERE id = ?", [([0, 0], 7), ([0, 1], 8)])
    assert moved.rowcount == 2
    assert con.execute(NEAREST).fetchall() == [(7,), (1,), (8,)]
    assert con.executemany("DELETE FROM t WHERE id = ?", [(7,), (1,), (1,)]).rowcount == 2
    assert con.execute(NEAREST).fetchall() == [(8,), (2,), (3,)]


def test_upserts(con):
    con.executemany(
        "INSERT OR REPLACE INTO t VALUES (?, ?, ?)", [(0, [5, 5], "a"), (1, [1, 0], "b")]
    )
    text = "INSERT INTO t VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET v = excluded.v"
    con.executemany(text, [(1, [0, 0], "c"), (2, [0, 1], "d")])
    assert con.execute("SELECT * FROM t ORDER BY v <-> [0, 0] LIMIT 3").fetchall() == [
        (1, (0.0, 0.0), "b"),
        (2, (0.0, 1.0), "d"),
        (0, (5.0, 5.0), "a"),
    ]


def test_in_a_transaction(con):
    con.begin()
    con.executemany("INSERT INTO t VALUES (?, ?, ?)", [(1, [1, 0], "a"), (2, [2, 0], "b")])
    assert con.execute(NEAREST).fetchall() == [(1,), (2,), (0,)]
    con.rollback()
    assert con.execute(NEAREST).fetchall() == [(0,)]
    con.begin()
    with pytest.raises(hybridq.IntegrityError):
        con.executemany("INSERT INTO t VALUES (?, ?, ?)", [(1, [1, 0], "a"), (0, [2, 0], "b")])
    with pytest.raises(hybridq.OperationalError, match="failed"):
        con.commit()
    assert con.execute(NEAREST).fetchall() == [(0,)]


def test_several_statements_are_refused(con):
    with pytest.raises(hybridq.ProgrammingError, match="one statement"):
        con.executemany("DELETE FROM t; DELETE FROM t WHERE id = ?", [(1,)])
    assert con.execute("SELECT count(*) FROM t").fetchone() == (1,)
