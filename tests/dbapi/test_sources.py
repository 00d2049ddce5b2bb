"""Rows that come from Python's tables into an indexed table are seen by the next query."""

import numpy as np
import pyarrow as pa
import pytest

import hybridq
from tests.equal import index_equals_table

ROWS = 50


def columns(first):
    vectors = np.random.default_rng(first).normal(size=(ROWS, 4)).astype(np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    return pa.table({"id": pa.array(range(first, first + ROWS)), "v": flat}), vectors


def source(kind, table, vectors):
    match kind:
        case "arrow table":
            return table
        case "arrow batches":
            return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(7))
        case "pandas":
            pd = pytest.importorskip("pandas")
            return pd.DataFrame({"id": table["id"].to_pylist(), "v": vectors.tolist()})
        case _:
            return pytest.importorskip("polars").from_arrow(table)


@pytest.fixture
def con():
    with hybridq.connect() as con:
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[4], a INTEGER)")
        con.execute("INSERT INTO t SELECT i, [i, i, i, i], i FROM range(20) r(i)")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        yield con


WRITES = {
    "insert": "INSERT INTO t SELECT id, v, 1 FROM given",
    "by name": "INSERT INTO t BY NAME SELECT v, id FROM given",
    "upsert": "INSERT INTO t SELECT id, v, 1 FROM given "
    "ON CONFLICT (id) DO UPDATE SET v = excluded.v",
    "update": "UPDATE t SET v = given.v FROM given WHERE t.id = given.id",
    "delete": "DELETE FROM t USING given WHERE t.id = given.id",
    "merge": "MERGE INTO t USING given ON t.id = given.id WHEN MATCHED THEN UPDATE SET v = given.v "
    "WHEN NOT MATCHED THEN INSERT VALUES (given.id, given.v, 2)",
    "returning": "INSERT OR IGNORE INTO t SELECT id, v, 1 FROM given RETURNING id",
}


@pytest.mark.parametrize("kind", ["arrow table", "arrow batches", "pandas", "polars"])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("explicit", [False, True])
def test_registered_sources(con, kind, write, explicit):
    first = 100 if write in ("insert", "by name") else 10
    table, vectors = columns(first)
    con.register("given", source(kind, table, vectors))
    if explicit:
        con.begin()
    con.execute(WRITES[write])
    query = vectors[3].tolist()
    text = "SELECT id FROM t WHERE id >= 5 ORDER BY v <-> ? LIMIT 4"
    found = con.execute(text, [query]).fetchall()
    brute = "SELECT id FROM t WHERE id >= 5 ORDER BY list_distance(v::DOUBLE[], ?), id LIMIT 4"
    assert found == con.execute(brute, [query]).fetchall()
    if explicit:
        con.commit()
        assert con.execute(text, [query]).fetchall() == found
    index_equals_table(con)
