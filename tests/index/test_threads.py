import numpy as np
import pyarrow as pa
import pytest

import hybridq


@pytest.fixture(scope="module")
def con():
    rows, dim = 70_000, 128
    rng = np.random.default_rng(0)
    vectors = rng.integers(-3, 4, (rows, dim)).astype(np.float32)
    with hybridq.connect() as con:
        con.execute(f"CREATE TABLE t (id INT PRIMARY KEY, price INT, v FLOAT[{dim}])")
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
        source = {"id": np.arange(rows), "price": rng.integers(0, 100, rows), "v": flat}
        con.register("source", pa.table(source))
        con.execute("INSERT INTO t SELECT * FROM source")
        con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 16)")
        yield con


@pytest.mark.parametrize("where", ["", "WHERE price < 30", "WHERE price < 0"])
@pytest.mark.parametrize("k", [1, 10, 3000])
def test_threads_change_no_answer(con, where, k):
    query = np.random.default_rng(1).integers(-3, 4, 128).astype(np.float32)
    text = f"SELECT id, v <-> ? AS d FROM t {where} ORDER BY d LIMIT {k}"
    answers = []
    for threads in (1, 2, 5):
        con.execute(f"SET threads = {threads}")
        assert con.check_open().threads == threads
        con.execute("SET plan = 'exact'")
        answers.append(con.execute(text, [query]).fetchall())
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == (0 if where.endswith("< 0") else k)
