"""What may be given as a parameter, positional and by name."""

import array
import datetime as dt
import decimal
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import hybridq


@pytest.fixture(scope="module")
def album():
    with hybridq.connect() as con:
        for table in ("t", "plain"):
            con.execute(
                f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v FLOAT[3], label TEXT, data BLOB)"
            )
            con.executemany(
                f"INSERT INTO {table} VALUES (?, ?, ?, ?)",
                [(i, [i, 0, 0], "even" if i % 2 == 0 else "odd", bytes([i])) for i in range(20)],
            )
        con.execute("CREATE INDEX i ON t USING ann (v)")
        yield con


@pytest.fixture
def con(album):
    yield album
    album.execute("DELETE FROM t WHERE id >= 20")


VECTORS = {
    "list": [3, 0, 0],
    "floats": [3.0, 0.0, 0.0],
    "tuple": (3, 0, 0),
    "float32": np.array([3, 0, 0], np.float32),
    "float64": np.array([3, 0, 0], np.float64),
    "float16": np.array([3, 0, 0], np.float16),
    "int64": np.array([3, 0, 0]),
    "strided": np.array([3, 9, 0, 9, 0, 9], np.float32)[::2],
    "array": array.array("f", [3, 0, 0]),
    "doubles": array.array("d", [3, 0, 0]),
    "pandas": pd.Series([3.0, 0.0, 0.0]),
    "polars": pl.Series([3.0, 0.0, 0.0]),
    "arrow": pa.array([3.0, 0.0, 0.0]),
    "scalar": pa.scalar([3.0, 0.0, 0.0]),
    "text": "[3, 0, 0]",
    "braces": "{3,0,0}",
}


@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.parametrize("table", ["t", "plain"])
def test_vectors(con, kind, table):
    rows = con.execute(
        f"SELECT id, l2_distance(v, ?) AS d FROM {table} WHERE label = ? ORDER BY d, id LIMIT 3",
        (VECTORS[kind], "odd"),
    ).fetchall()
    assert rows == [(3, 0.0), (1, 2.0), (5, 2.0)]


@pytest.mark.parametrize("kind", [k for k in VECTORS if k != "braces"])
@pytest.mark.parametrize("times", [1, 2])
def test_vectors_are_inserted(con, kind, times):
    rows = [(100 + i, VECTORS[kind]) for i in range(times)]
    con.executemany("INSERT INTO t (id, v) VALUES (?, ?)", rows)
    found = con.execute("SELECT id, v FROM t WHERE id >= 100 ORDER BY v <-> [3, 0, 0], id LIMIT 5")
    assert found.fetchall() == [(100 + i, (3.0, 0.0, 0.0)) for i in range(times)]


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_bytes(con, wrap):
    con.execute("INSERT INTO t (id, data) VALUES (?, ?)", [100, wrap(b"\x00\xff")])
    assert con.execute("SELECT data FROM t WHERE id = 100").fetchone() == (b"\x00\xff",)
    found = con.execute("SELECT id FROM t WHERE data = ?", [wrap(b"\x00\xff")])
    assert found.fetchall() == [(100,)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        -(2**63) + 1,
        2**64,
        1.5,
        float("inf"),
        decimal.Decimal("12.340"),
        "żółw",
        "",
        b"\x00",
        dt.date(2020, 2, 29),
        dt.time(12, 34, 56, 789),
        dt.datetime(2020, 2, 29, 12, 34, 56, 789),
        dt.timedelta(days=3),
        uuid.UUID(int=5),
        [1, None, 3],
        {"a": 1, "b": "x"},
    ],
    ids=repr,
)
def test_values_come_back(con, value):
    assert con.execute("SELECT ?", [value]).fetchone() == (value,)


@pytest.mark.parametrize(
    ("given", "back"),
    [(np.int32(7), 7), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.str_("x"), "x")],
    ids=repr,
)
def test_numpy_scalars(con, given, back):
    assert con.execute("SELECT ?", [given]).fetchone() == (back,)
    assert con.execute("SELECT id FROM t WHERE id = ?", [np.int64(7)]).fetchall() == [(7,)]


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("SELECT id FROM t WHERE label = ? ORDER BY v <-> ? LIMIT ?", ["odd", [4, 0, 0], 1]),
        ("SELECT id FROM t WHERE label = $2 ORDER BY v <-> $1 LIMIT $3", [[4, 0, 0], "odd", 1]),
        ("SELECT id FROM t WHERE label = $l ORDER BY v <-> $q LIMIT $k", None),
        ("SELECT id FROM t WHERE label = :l ORDER BY v <-> :q LIMIT :k", None),
    ],
)
def test_styles(con, text, parameters):
    given = {"l": "odd", "q": [4, 0, 0], "k": 1} if parameters is None else parameters
    assert con.execute(text, given).fetchall() == [(3,)]
    if parameters is None:
        prefixed = {f":{name}": value for name, value in given.items()}
        assert con.execute(text, prefixed).fetchall() == [(3,)]


def test_a_parameter_used_twice(con):
    text = "SELECT id, v <-> $1 AS d FROM t WHERE v <-> $1 < $2 ORDER BY v <-> $1, id LIMIT 5"
    assert con.execute(text, [[4, 0, 0], 1.5]).fetchall() == [(4, 0.0), (3, 1.0), (5, 1.0)]


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("SELECT ?", None),
        ("SELECT ?", []),
        ("SELECT ?, ?", [1]),
        ("SELECT ?", [1, 2]),
        ("SELECT $a", {"b": 1}),
        ("SELECT 1", [1]),
        ("SELECT id FROM t ORDER BY v <-> ? LIMIT 1", []),
        ("SELECT id FROM t ORDER BY v <-> ? LIMIT 1", [[1, 2, 3], 5]),
        ("SELECT id FROM t ORDER BY v <-> $q LIMIT 1", {"r": [1, 2, 3]}),
        ("INSERT INTO t (id) VALUES (?)", []),
        ("INSERT INTO t (id) VALUES (?)", [1000, 2]),
    ],
)
def test_the_wrong_number(con, text, parameters):
    with pytest.raises(hybridq.ProgrammingError):
        con.execute(text, parameters)
    assert con.execute("SELECT count(*) FROM t").fetchone() == (20,)


@pytest.mark.parametrize("parameters", ["text", b"bytes", 5, {1, 2}])
def test_no_parameters(con, parameters):
    with pytest.raises((hybridq.ProgrammingError, hybridq.InterfaceError)):
        con.execute("SELECT ?", parameters)


def test_what_no_type_holds(con):
    with pytest.raises(hybridq.Error):
        con.execute("SELECT ?", [object()])
    assert con.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("marks", "given"),
    [
        ("$1,$2,$3", [30, [7, 0, 0], "a$b,$c"]),
        ("$i,$v,$l", {"i": 30, "v": [7, 0, 0], "l": "x"}),
        (":i,:v,:l", {"i": 30, "v": [7, 0, 0], "l": "x"}),
    ],
)
def test_parameters_run_together(con, marks, given):
    """`$1,$` is not the beginning of a dollar-quoted string."""
    con.execute(f"INSERT INTO t (id,v,label) VALUES ({marks})", given)
    text = "SELECT id,'$1,$2',$$it's$$ FROM t WHERE id>$2 ORDER BY l2_distance(v,$1),id LIMIT $3"
    found = con.execute(text, [[7, 0, 0], 10, 1]).fetchall()
    assert found == [(30, "$1,$2", "it's")]
    con.execute("SELECT id,$2,$1 FROM t ORDER BY v<->$1,id LIMIT 1", [[7, 0, 0], 5])
    plan = con.execute(
        "EXPLAIN SELECT id FROM t ORDER BY l2_distance(v,$1),id LIMIT $2", [[7, 0, 0], 1]
    )
    assert "by DuckDB" not in str(plan.fetchall())
