"""UPDATEs that leave vectors alone: the index moves what it has, and holds what the table holds."""

import numpy as np
import pytest

import hybridq
from hybridq.index import capture
from tests.equal import index_equals_table

DIM = 8
ROWS = 4000
COLUMNS = "id, g, label, price, v"
UPDATES = {
    "all rows": ("UPDATE t SET g = g + 1", []),
    "many": ("UPDATE t SET g = 3, label = 'new' WHERE id % 3 = 1", []),
    "few": ("UPDATE t SET label = NULL WHERE id BETWEEN 70 AND 90", []),
    "one": ("UPDATE t SET label = ? WHERE id = ?", ["zebra", 17]),
    "one, named": ("UPDATE t SET label = $2 WHERE id = $1", [17, "zebra"]),
    "twice": ("UPDATE t SET g = $1 WHERE g = $1 + 1 OR g = $1 + 2", [2]),
    "none": ("UPDATE t SET g = 9 WHERE id < 0", []),
    "alias": ("UPDATE t AS a SET g = 7 WHERE a.id IN (1, 2, 3999) AND NOT a.g = 5", []),
    "case": ("UPDATE t SET price = CASE WHEN g > 2 THEN 1.5 ELSE price END WHERE g > 1", []),
    "quoted": ('UPDATE "main"."t" SET "g" = 5 WHERE "label" = \'b\' RETURNING id', []),
    "from": ("UPDATE t SET g = s.x FROM (SELECT 5 AS id, 77 AS x) s WHERE t.id = s.id", []),
    "subquery": ("UPDATE t SET g = 8 WHERE id IN (SELECT id FROM t WHERE g = 2)", []),
    "function": ("UPDATE t SET g = 6 WHERE abs(id - 2000) < 300", []),
    "chance": ("UPDATE t SET g = 6 WHERE random() < 0.5", []),
    "both": ("UPDATE t SET g = 1, v = [1, 2, 3, 4, 5, 6, 7, 8] WHERE id < 20", []),
    "with": ("WITH s AS (SELECT 3 AS x) UPDATE t SET g = 4 WHERE id = 9", []),
}


def rows(start, stop):
    generator = np.random.default_rng(start)
    vectors = generator.normal(size=(stop - start, DIM)).astype(np.float32)
    out = []
    for i, vector in zip(range(start, stop), vectors, strict=True):
        label = None if i % 11 == 0 else "abcde"[i % 5]
        v = None if i % 41 == 3 else ([0.0] * DIM if i % 43 == 5 else vector.tolist())
        out.append([i, i % 9, label, i / 8, v])
    return out


@pytest.fixture(params=["l2", "cosine"])
def path(request, tmp_path):
    file = tmp_path / "t.duckdb"
    with hybridq.connect(file) as con:
        con.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, g INTEGER, label TEXT, price DOUBLE, "
            f"v FLOAT[{DIM}])"
        )
        con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows(0, 3000))
        con.execute(f"CREATE INDEX i ON t USING ann (v) WITH (metric = '{request.param}')")
        con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows(3000, ROWS - 20))
        con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows(ROWS - 20, ROWS))
    return file


def agrees(con):
    """Queries with a WHERE give what DuckDB gives, exactly."""
    operator = "<=>" if "cosine" in str(con.execute("SHOW INDEXES").fetchall()) else "<->"
    con.execute("SET recall = 1")
    query = np.full(DIM, 0.25, np.float32)
    for where in ("g = 3", "label = 'new'", "label IS NULL", "price > 100 AND g < 5", "true"):
        text = f"SELECT id, g, label FROM t WHERE {where} ORDER BY v {operator} ? LIMIT 9"
        found = con.execute(text, [query]).fetchall()
        con.execute("SET plan = 'exact'")
        assert sorted(found) == sorted(con.execute(f"{text} -- exactly", [query]).fetchall())
        con.execute("RESET plan")
        table = con.execute(f"SELECT id, g, label FROM t WHERE {where}").fetchall()
        assert set(found) <= set(table)
        assert len(found) == min(9, len(table))


@pytest.mark.parametrize("name", UPDATES)
def test_the_index_holds_what_the_table_holds(path, name):
    text, given = UPDATES[name]
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        con.execute(text, given)
        index_equals_table(other)
        agrees(other)
        con.execute(text, given)
        con.execute("CALL hybridq_merge('i')")
        index_equals_table(other)
    with hybridq.connect(path) as con:
        assert con.notices == []
        index_equals_table(con)


@pytest.mark.parametrize("name", UPDATES)
def test_a_transaction_sees_its_own(path, name):
    text, given = UPDATES[name]
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        for end in ("rollback", "commit"):
            con.begin()
            con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows(ROWS, ROWS + 500))
            agrees(con)
            con.execute(text, given)
            con.execute("UPDATE t SET label = 'new' WHERE id > 3980")
            agrees(con)
            con.execute("UPDATE t SET v = [8, 7, 6, 5, 4, 3, 2, 1] WHERE id % 100 = 7")
            con.execute("UPDATE t SET g = 3 WHERE id % 100 < 9")
            con.execute("DELETE FROM t WHERE id % 100 = 8")
            agrees(con)
            getattr(con, end)()
            index_equals_table(other)
            agrees(other)


def test_vectors_are_not_read_from_the_table(path, monkeypatch):
    """Not for one row, nor for many; codes are moved."""

    def fails(*_):
        raise AssertionError("rows were coded anew")

    with hybridq.connect(path) as con:
        monkeypatch.setattr(capture, "part_of", fails)
        monkeypatch.setattr(capture.maintain, "read_change", fails)
        # Of a row without a cosine distance, only the table knows why it has none.
        cosine = "cosine" in str(con.execute("SHOW INDEXES").fetchall())
        for name in ("one",) if cosine else ("all rows", "many", "few", "one", "alias"):
            con.execute(*UPDATES[name])
        index_equals_table(con)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("UUID", "'00000000-0000-0000-0000-00000000000' || i"),
        ("DATE", "CASE i WHEN 3 THEN 'infinity'::DATE ELSE '2024-01-01' END"),
        ("TIMESTAMP", "CASE i WHEN 3 THEN '-infinity'::TIMESTAMP ELSE '2024-01-01' END"),
        ("TIMESTAMPTZ", "CASE i WHEN 3 THEN 'infinity'::TIMESTAMPTZ ELSE '2024-01-01' END"),
        ("TIME", "'12:00:00.5'"),
        ("DECIMAL(8, 2)", "i / 4"),
        ("ENUM ('a', 'b')", "'b'"),
    ],
)
def test_a_row_of_every_type_is_moved(tmp_path, kind, value):
    with hybridq.connect(tmp_path / "t.duckdb") as con:
        con.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, x {kind}, g INTEGER, v FLOAT[2])")
        con.execute(
            f"INSERT INTO t SELECT i, NULLIF(({value})::{kind}, CASE i WHEN 4 THEN "
            f"({value})::{kind} END), i, [i, 1] FROM range(10) r(i)"
        )
        con.execute("CREATE INDEX i ON t USING ann (v)")
        for i in (3, 4, 5):
            con.execute("UPDATE t SET g = 7 WHERE id IN (?)", [i])
            con.execute("UPDATE t SET g = 8 WHERE id = ?", [i + 2])
        index_equals_table(con)
        con.execute("CALL hybridq_merge('i')").fetchall()
        con.execute("UPDATE t SET g = 9 WHERE id = ?", [3])
    with hybridq.connect(tmp_path / "t.duckdb") as con:
        assert con.notices == []
        index_equals_table(con)
        con.execute("TRUNCATE t")
        index_equals_table(con)


def test_a_value_that_the_index_cannot_hold_fails_the_statement(tmp_path):
    with hybridq.connect(tmp_path / "t.duckdb") as con:
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, big BIGINT, v FLOAT[2])")
        con.execute("INSERT INTO t SELECT i, i, [i, 1] FROM range(500) r(i)")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        with pytest.raises(hybridq.DataError, match="cannot hold"):
            con.execute("UPDATE t SET big = -9223372036854775808 WHERE id > 400")
        assert con.execute("SELECT max(big) FROM t").fetchall() == [(499,)]
        index_equals_table(con)


def test_a_vector_that_is_computed_from_an_attribute(tmp_path):
    with hybridq.connect(tmp_path / "t.duckdb") as con:
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, g INTEGER, v FLOAT[2])")
        con.execute("INSERT INTO t SELECT i, i, [i, 1] FROM range(500) r(i)")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        con.execute("UPDATE t SET (g, v) = (5, [0, 0]) WHERE id = 400")
        index_equals_table(con)
        found = con.execute("SELECT id FROM t ORDER BY v <-> [0, 0] LIMIT 1").fetchall()
        assert found == [(400,)]


def test_rows_of_a_table_with_a_collation(tmp_path):
    """DuckDB's hash of a text, by which rows are told apart, depends on its collation."""
    with hybridq.connect(tmp_path / "t.duckdb") as con:
        con.execute("CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, g INTEGER, v FLOAT[2])")
        con.execute("INSERT INTO t VALUES ('A', 1, [1, 1]), ('b', 3, [1, 2])")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        con.execute("INSERT INTO t VALUES (?, ?, ?)", ["a", 2, [2.0, 2.0]])
        index_equals_table(con)
        con.execute("UPDATE t SET g = 7 WHERE k = 'a'")
        index_equals_table(con)
        assert con.execute("SELECT count(*) FROM t WHERE g = 7").fetchall() == [(2,)]
