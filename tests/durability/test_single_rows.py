"""Rows that are inserted one at a time, by parameters: one statement, and the index knows them."""

import math

import duckdb
import numpy as np
import pytest

import hybridq
from tests.equal import index_equals_table

TABLE = (
    "CREATE TABLE t (id BIGINT PRIMARY KEY, b BOOLEAN, u UBIGINT, s SMALLINT, f FLOAT, d DOUBLE, "
    "label TEXT, v FLOAT[3], note TEXT DEFAULT 'none')"
)
INSERT = "INSERT INTO t (id, b, u, s, f, d, label, v) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
PLAIN = [1, True, 2, 3, 0.5, 0.25, "ant", [1.0, 2.0, 3.0]]
VALUES = {
    "id": [2**63 - 1, -5, 1.0, 2.5, "7", True, 2**63],
    "b": [False, None, 1, 0, "true", "no", 2.0],
    "u": [0, 2**64 - 2, 2**64 - 1, -1, None, 3.0, "4"],
    "s": [-(2**15), 2**15, None, 2.5, "3", True],
    "f": [0.1, -0.0, math.nan, -math.nan, math.inf, 1e300, 1e-46, 2**24 + 1, 7, None, "1.5", True],
    "d": [0.1, -0.0, math.nan, -math.inf, 1e300, 2**53 + 1, 7, None, "1.5"],
    "label": ["", "ä", "z" * 70, "a\0b", None, 5, True, b"ant", "'; --"],
    "v": [
        [1, 2, 3],
        [1, 2.5, 3],
        [-0.0, 1e-46, 2**53 + 1],
        (1.0, 2.0, 3.0),
        np.array([1.1, 2.2, 3.3]),
        np.array([1.1, 2.2, 3.3], np.float32),
        np.array([1, 2, 3]),
        "[1, 2, 3]",
        None,
        [1.0, None, 3.0],
        [True, False, True],
        [],
        [1.0, 2.0],
        [1.0, math.nan, 3.0],
        [1.0, 1e300, 3.0],
    ],
}


def filled(con, rows=600):
    con.execute(TABLE)
    con.execute(
        "INSERT INTO t SELECT i, i % 2 = 0, i, i % 9, i / 7, i / 3, 'l' || i % 5, "
        "[i % 7, i % 11, i % 13], 'n' FROM range(1000, ?) r(i)",
        [1000 + rows],
    )


@pytest.fixture(scope="module")
def both():
    """The same table here and in plain DuckDB."""
    with hybridq.connect() as con, duckdb.connect() as plain:
        for each in (con, plain):
            filled(each)
        con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 4)")
        yield con, plain


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("column", VALUES)
def test_it_holds_what_duckdb_would(both, column, explicit):
    for value in VALUES[column]:
        given = PLAIN.copy()
        given[list(VALUES).index(column)] = value
        same_as_duckdb(*both, given, explicit, may_refuse=column in ("u", "v"))
        for each in both:
            each.execute("DELETE FROM t WHERE id NOT BETWEEN 1000 AND 1599")


def same_as_duckdb(con, plain, given, explicit, *, may_refuse):
    """Insert a row here and there; an index keeps less than a table, so it `may_refuse` more."""
    refused = None
    try:
        plain.execute(INSERT, given)
    except (duckdb.Error, OverflowError, RuntimeError) as error:
        refused = error
    try:
        if explicit:
            con.begin()
        con.execute(INSERT, given)
        if explicit:
            index_equals_table(con)
            con.commit()
    except (hybridq.Error, OverflowError, UnicodeError) as error:
        con.rollback()
        assert refused is not None or may_refuse, (given, error)  # noqa: PT017 - or it succeeds
    else:
        assert refused is None, given
        text = "SELECT CAST(COLUMNS(*) AS TEXT) FROM t ORDER BY id"
        assert con.execute(text).fetchall() == plain.execute(text).fetchall()
    index_equals_table(con)


def test_rows_one_by_one_are_merged_and_found_again(tmp_path):
    path, generator = tmp_path / "album.duckdb", np.random.default_rng(0)
    with hybridq.connect(path) as con:
        filled(con)
        con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 4)")
        for i in range(700):
            label = None if i % 9 == 0 else f"é{i % 41}"
            number = (math.nan, -0.0, None, i / 3)[i % 4]
            vector = generator.normal(size=3).astype(np.float32)
            con.execute(INSERT, [10_000 + i, None, i, i % 5, number, number, label, vector])
            if i % 50 == 7:
                con.execute("UPDATE t SET v = ? WHERE id = ?", [vector, 10_000 + i // 2])
                con.execute("DELETE FROM t WHERE id = ?", [10_000 + i // 3])
            if i % 100 == 50:
                index_equals_table(con)
        index_equals_table(con)
        con.execute("SELECT * FROM hybridq_merge('i')").fetchall()
        index_equals_table(con)
        con.execute(INSERT, [1, *PLAIN[1:]])
    with duckdb.connect(str(path)) as other:
        other.execute("UPDATE t SET s = 77 WHERE id = 1001")
    with hybridq.connect(path) as con:
        # The hashes in the file are those of its rows, so that only one of them differs.
        assert len(con.notices) == 1
        assert con.notices[0].startswith("1 rows of main.t were changed by another program")
        index_equals_table(con)


def test_a_rollback_leaves_the_room_to_the_next(tmp_path):
    with hybridq.connect(tmp_path / "album.duckdb") as con:
        filled(con)
        con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 4)")
        nearest = "SELECT id FROM t ORDER BY v <-> [50.0, 50.0, 50.0] LIMIT 2"
        con.execute(INSERT, [1, *PLAIN[1:-1], [50.0, 50.0, 50.0]])
        for last in ("rollback", "commit"):
            con.begin()
            con.execute(INSERT, [2, *PLAIN[1:-1], [50.0, 50.0, 51.0]])
            con.execute(INSERT, [3, *PLAIN[1:-1], [50.0, 50.0, 50.5]])
            assert con.execute(nearest).fetchall() == [(1,), (3,)]
            con.execute(INSERT, [4, *PLAIN[1:-1], [50.0, 50.0, 50.25]])
            con.execute("UPDATE t SET label = 'new' WHERE id = 3")
            assert con.execute(nearest).fetchall() == [(1,), (4,)]
            index_equals_table(con)
            getattr(con, last)()
            index_equals_table(con)
        con.execute(INSERT, [5, *PLAIN[1:-1], [50.0, 50.0, 50.125]])
        assert con.execute(nearest).fetchall() == [(1,), (5,)]
        index_equals_table(con)


@pytest.mark.parametrize("kind", ["BIGINT", "TEXT", "composite"])
def test_a_key_that_comes_back(tmp_path, kind):
    """A part that grows may hold the key already, of a row that is dead."""
    with hybridq.connect(tmp_path / "album.duckdb") as con:
        columns = "k BIGINT, l TEXT" if kind == "composite" else f"k {kind}, l TEXT"
        key = "k, l" if kind == "composite" else "k"
        con.execute(f"CREATE TABLE c ({columns}, v FLOAT[3], PRIMARY KEY ({key}))")
        con.execute("INSERT INTO c SELECT i, 'l', [i % 7, i % 11, i] FROM range(1000, 1600) r(i)")
        con.execute("CREATE INDEX i ON c USING ann (v) WITH (nlist = 4)")
        insert = "INSERT INTO c VALUES (?, ?, ?)"
        given = [str(i) if kind == "TEXT" else i for i in (7, 10**6, 10**9)]
        for turn in range(4):
            for i in given:
                con.execute(insert, [i, "l", [turn, 0.5, 0.25]])
                index_equals_table(con)
            con.execute("UPDATE c SET v = [0, 0, ?] WHERE k = ?", [turn, given[0]])
            index_equals_table(con)
            upsert = f"{insert} ON CONFLICT ({key}) DO UPDATE SET v = excluded.v"
            con.execute(upsert, [given[1], "l", [turn, 1.0, 1.0]])
            con.execute(upsert, [given[1], "l", [turn, 2.0, 1.0]])
            index_equals_table(con)
            con.execute("DELETE FROM c WHERE v[3] < 1000")
            index_equals_table(con)


def test_a_transaction_of_many_single_rows(tmp_path):
    with hybridq.connect(tmp_path / "album.duckdb") as con:
        filled(con)
        con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 4)")
        con.execute("CREATE INDEX j ON t USING ann (v) INCLUDE (label)")
        con.begin()
        for i in range(300):
            con.execute(INSERT, [10_000 + i, *PLAIN[1:]])
        con.execute("DELETE FROM t WHERE id % 3 = 0")
        for i in range(300, 310):
            con.execute(INSERT, [10_000 + i, *PLAIN[1:]])
        con.commit()
        index_equals_table(con)
    with hybridq.connect(tmp_path / "album.duckdb") as con:
        assert con.notices == []
        index_equals_table(con)


def test_an_error_leaves_nothing_and_tells_its_place(both):
    con, _ = both
    with pytest.raises(hybridq.IntegrityError, match="Duplicate key"):
        con.execute(INSERT, [1000, *PLAIN[1:]])
    text = "INSERT INTO t (id, v,\n s) VALUES ($1,$2,\n$3)"
    with pytest.raises(hybridq.DataError) as caught:
        con.execute(text, [5000, PLAIN[-1], 2**40])
    assert caught.value.position == (3, 1)
    assert con.execute("SELECT count(*) FROM t WHERE id = 5000").fetchall() == [(0,)]
    con.execute(text, [5000, PLAIN[-1], 1])
    con.execute("DELETE FROM t WHERE id = 5000")
    index_equals_table(con)


def test_what_is_made_later_counts(tmp_path):
    """What is known of a statement is forgotten where the schema changes."""
    with hybridq.connect(tmp_path / "album.duckdb") as con:
        filled(con)
        con.execute("CREATE INDEX i ON t USING ann (v)")
        con.execute("CREATE TABLE seen (id BIGINT PRIMARY KEY, v FLOAT[3])")
        con.execute("INSERT INTO seen VALUES (0, [1, 1, 1])")
        con.execute("CREATE INDEX k ON seen USING ann (v)")
        con.execute(INSERT, [1, *PLAIN[1:]])
        con.execute(
            "CREATE TRIGGER g AFTER INSERT ON t REFERENCING NEW TABLE AS n FOR EACH STATEMENT "
            "INSERT INTO seen SELECT id, v FROM n"
        )
        con.execute(INSERT, [2, *PLAIN[1:]])
        assert con.execute("SELECT id FROM seen ORDER BY id").fetchall() == [(0,), (2,)]
        index_equals_table(con)
        con.execute("DROP TRIGGER g ON t")
        con.execute("ALTER TABLE t ALTER COLUMN note SET DEFAULT 'later'")
        con.execute(INSERT, [3, *PLAIN[1:]])
        assert con.execute("SELECT note FROM t WHERE id = 3").fetchall() == [("later",)]
        con.execute("CREATE INDEX j ON t USING ann (v) INCLUDE (note)")
        con.execute(INSERT, [4, *PLAIN[1:]])
        con.execute("DROP INDEX i")
        con.execute(INSERT, [5, *PLAIN[1:]])
        index_equals_table(con)
