"""Results: description, counts, fetching row by row and in columns."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import hybridq

TOPK = "SELECT id, label, l2_distance(v, [3, 0]) AS d FROM t ORDER BY d, id LIMIT 4"
ROWS = [(3, "x3", 0.0), (2, "x2", 1.0), (4, "x4", 1.0), (1, "x1", 2.0)]


@pytest.fixture(scope="module")
def album():
    """A database that no test changes."""
    with make() as con:
        yield con


@pytest.fixture
def con():
    with make() as con:
        yield con


def make():
    con = hybridq.connect()
    con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[2], label TEXT)")
    con.execute("INSERT INTO t SELECT i, [i, 0], 'x' || i FROM range(100) r(i)")
    con.execute("CREATE INDEX i ON t USING ann (v)")
    return con


def test_description_of_a_topk(album):
    cursor = album.execute(TOPK)
    assert [d[0] for d in cursor.description] == ["id", "label", "d"]
    assert [d[1] for d in cursor.description] == ["INTEGER", "VARCHAR", "FLOAT"]
    assert all(len(d) == 7 and d[2:] == (None,) * 5 for d in cursor.description)
    assert [d[1] == hybridq.NUMBER for d in cursor.description] == [True, False, True]
    assert [d[1] == hybridq.STRING for d in cursor.description] == [False, True, False]


@pytest.mark.parametrize(
    ("sql_type", "kind"),
    [
        ("INTEGER", hybridq.NUMBER),
        ("DECIMAL(9,2)", hybridq.NUMBER),
        ("BOOLEAN", hybridq.NUMBER),
        ("HUGEINT", hybridq.NUMBER),
        ("VARCHAR", hybridq.STRING),
        ("UUID", hybridq.STRING),
        ("ENUM('a')", hybridq.STRING),
        ("BLOB", hybridq.BINARY),
        ("DATE", hybridq.DATETIME),
        ("TIMESTAMP", hybridq.DATETIME),
        ("TIMESTAMPTZ", hybridq.DATETIME),
        ("TIME", hybridq.DATETIME),
        ("INTERVAL", hybridq.DATETIME),
        ("INTEGER[]", None),
        ("FLOAT[3]", None),
        ("STRUCT(a INTEGER)", None),
    ],
)
def test_type_objects(album, sql_type, kind):
    code = album.execute(f"SELECT CAST(NULL AS {sql_type})").description[0][1]
    kinds = [hybridq.NUMBER, hybridq.STRING, hybridq.BINARY, hybridq.DATETIME, hybridq.ROWID]
    assert [k for k in kinds if code == k] == ([kind] if kind is not None else [])
    assert [k for k in kinds if k == code] == ([kind] if kind is not None else [])
    assert [k for k in kinds if code != k] == [k for k in kinds if k is not kind]


def test_without_a_result_set(con):
    cursor = con.execute("CREATE TABLE other (i INTEGER)")
    assert cursor.description is None
    for fetch in (cursor.fetchone, cursor.fetchmany, cursor.fetchall, cursor.df, cursor.arrow):
        with pytest.raises(hybridq.ProgrammingError, match="no rows to fetch"):
            fetch()
    with pytest.raises(hybridq.ProgrammingError):
        list(cursor)
    with pytest.raises(hybridq.ProgrammingError):
        con.cursor().fetchall()


def test_rowcount(con):
    assert con.cursor().rowcount == -1
    assert con.execute("SELECT 1").rowcount == -1
    assert con.execute("INSERT INTO t SELECT 100 + i, [i, 1], 'y' FROM range(7) r(i)").rowcount == 7
    assert con.execute("UPDATE t SET label = 'z' WHERE id < 5").rowcount == 5
    assert con.execute("UPDATE t SET label = 'z' WHERE id = -1").rowcount == 0
    assert con.execute("DELETE FROM t WHERE id >= 100").rowcount == 7
    assert con.execute("CREATE TABLE other (i INTEGER)").rowcount == -1
    assert con.execute("INSERT INTO other VALUES (1), (2)").rowcount == 2
    returning = con.execute("INSERT INTO t (id) VALUES (200), (201) RETURNING id")
    assert returning.fetchall() == [(200,), (201,)]
    assert returning.rowcount == 2
    assert con.execute("TRUNCATE other").rowcount in (-1, 2)


@pytest.mark.parametrize("query", [TOPK, TOPK.replace("l2_distance", "0.0 + l2_distance")])
def test_fetching(album, query):
    cursor = album.execute(query)
    assert cursor.rownumber == 0
    assert cursor.fetchone() == ROWS[0]
    assert cursor.fetchmany(2) == ROWS[1:3]
    assert cursor.rownumber == 3
    assert cursor.fetchmany(10) == ROWS[3:]
    assert cursor.fetchone() is None
    assert cursor.fetchmany(3) == []
    assert cursor.fetchall() == []
    assert cursor.execute(query).fetchall() == ROWS
    assert list(cursor.execute(query)) == ROWS
    assert [row[0] for row in cursor.execute(query)] == [3, 2, 4, 1]
    cursor.execute(query)
    assert next(cursor) == ROWS[0]
    assert list(cursor) == ROWS[1:]


def test_arraysize(album):
    cursor = album.execute(TOPK)
    assert cursor.arraysize == 1
    assert cursor.fetchmany() == ROWS[:1]
    cursor.arraysize = 3
    assert cursor.fetchmany() == ROWS[1:]
    cursor.execute(TOPK)
    assert cursor.arraysize == 3
    assert cursor.fetchmany(0) == []
    with pytest.raises(hybridq.ProgrammingError):
        cursor.fetchmany(-1)


@pytest.mark.parametrize("query", [TOPK, TOPK.replace("l2_distance", "0.0::FLOAT + l2_distance")])
def test_columns(album, query):
    frame = album.execute(query).df()
    assert isinstance(frame, pd.DataFrame)
    assert frame["id"].tolist() == [3, 2, 4, 1]
    assert frame["d"].dtype == np.float32
    assert album.execute(query).fetchdf().equals(frame)
    polars = album.execute(query).pl()
    assert isinstance(polars, pl.DataFrame)
    assert polars.rows() == ROWS
    table = album.execute(query).arrow()
    assert isinstance(table, pa.Table)
    assert table.schema.names == ["id", "label", "d"]
    assert table.schema.field("id").type == pa.int32()
    assert table.schema.field("d").type == pa.float32()
    assert table.to_pydict()["label"] == ["x3", "x2", "x4", "x1"]
    assert album.execute(query).fetch_arrow_table().equals(table)
    columns = album.execute(query).fetchnumpy()
    assert columns["id"].tolist() == [3, 2, 4, 1]
    assert columns["d"].dtype == np.float32


def test_columns_of_the_rest(album):
    for query in (TOPK, TOPK.replace("l2_distance", "0.0 + l2_distance")):
        cursor = album.execute(query)
        assert cursor.fetchone() == ROWS[0]
        assert cursor.arrow().num_rows == 3
        assert cursor.fetchall() == []


def test_columns_without_rows(album):
    query = "SELECT id, label, v <-> [3, 0] AS d FROM t WHERE id < 0 ORDER BY d LIMIT 4"
    table = album.execute(query).arrow()
    assert table.num_rows == 0
    assert table.schema.names == ["id", "label", "d"]
    assert len(album.execute(query).df()) == 0
    assert album.execute(query).fetchall() == []


def test_columns_keep_types(con):
    con.execute(
        "CREATE TABLE types AS SELECT 1 AS id, [1, 2]::FLOAT[2] AS v, DATE '2020-01-31' AS d, "
        "TIMESTAMP '2020-01-31 10:00:00' AS ts, 1.50::DECIMAL(9,2) AS n, 'x'::BLOB AS b, "
        "{'a': 1} AS s, NULL::INTEGER AS nothing, "
        "'00000000-0000-0000-0000-000000000001'::UUID AS u"
    )
    con.execute("ALTER TABLE types ADD PRIMARY KEY (id)")
    con.execute("CREATE INDEX types_ann ON types USING ann (v)")
    query = "SELECT id, v, d, ts, n, b, s, nothing, u FROM types ORDER BY v <-> [1, 2]{} LIMIT 1"
    ours = con.execute(query.format(""))
    duckdbs = con.execute(query.format(" DESC"))
    assert [d[1] for d in ours.description] == [d[1] for d in duckdbs.description]
    assert ours.arrow().equals(duckdbs.arrow())


def test_interleaved_cursors(con):
    one = con.execute("SELECT id FROM t ORDER BY id")
    assert one.fetchone() == (0,)
    two = con.execute(TOPK)
    assert one.fetchmany(2) == [(1,), (2,)]
    assert two.fetchone() == ROWS[0]
    three = con.execute("SELECT 10 * id FROM t ORDER BY id")
    assert three.fetchone() == (0,)
    assert two.fetchall() == ROWS[1:]
    assert con.execute("DELETE FROM t WHERE id > 5").rowcount == 94
    assert len(one.fetchall()) == 97
    assert three.fetchmany(2) == [(10,), (20,)]
    assert len(three.fetchall()) == 97
    assert con.execute("SELECT count(*) FROM t").fetchone() == (6,)


def test_a_result_outlives_its_transaction(con):
    con.begin()
    cursor = con.execute("SELECT id FROM t ORDER BY id")
    assert cursor.fetchone() == (0,)
    con.commit()
    assert len(cursor.fetchall()) == 99


def test_constructors():
    assert hybridq.Date(2020, 1, 31) == dt.date(2020, 1, 31)
    assert hybridq.Time(1, 2, 3) == dt.time(1, 2, 3)
    assert hybridq.Timestamp(2020, 1, 31, 1, 2, 3) == dt.datetime(2020, 1, 31, 1, 2, 3)
    ticks = dt.datetime(2020, 1, 31, 1, 2, 3).timestamp()
    assert hybridq.DateFromTicks(ticks) == dt.date(2020, 1, 31)
    assert hybridq.TimeFromTicks(ticks) == dt.time(1, 2, 3)
    assert hybridq.TimestampFromTicks(ticks) == dt.datetime(2020, 1, 31, 1, 2, 3)
    assert hybridq.Binary(b"x") == b"x"
