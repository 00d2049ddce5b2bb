"""Many rows at once, by executemany and from a query: what is refused, held, seen and logged."""

import functools
import math

import numpy as np
import pyarrow as pa
import pytest

import hybridq
from hybridq.exec.transaction import Transaction
from hybridq.progress import Cancellable, NoProgress
from tests.equal import index_equals_table

TYPES = ["FLOAT[3]", "FLOAT[]", "DOUBLE[3]"]
LOG = 'SELECT k0 FROM hybridq."changes_i" ORDER BY k0'
NEAREST = "SELECT id FROM t ORDER BY v <-> [0, 0, 0]::FLOAT[3], id LIMIT 2"


@pytest.fixture(params=TYPES)
def con(request):
    with hybridq.connect() as con:
        con.check_open().instance.merger.enabled = False  # it would trim the log
        con.execute(f"CREATE TABLE t (id BIGINT PRIMARY KEY, b BIGINT, f FLOAT, v {request.param})")
        con.execute("INSERT INTO t SELECT i, i, i / 7, [i, 1, 2] FROM range(600) r(i)")
        con.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 4)")
        yield con


def by_executemany(con, rows):
    con.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)


def from_query(con, rows):
    columns = list(zip(*rows, strict=True))
    vectors = pa.array([v if v is None else list(v) for v in columns[3]], pa.list_(pa.float64()))
    con.register("source", pa.table({**dict(zip("ibf", columns, strict=False)), "v": vectors}))
    con.execute("INSERT INTO t SELECT * FROM source")


WAYS = [by_executemany, from_query]


def batch(first, count):
    return [(first + i, i, i / 3, [float(i), -0.0, 1e-46]) for i in range(count)]


@pytest.mark.parametrize("write", WAYS)
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        (3, [1.0, math.nan, 2.0]),
        (3, [1.0, 2.0, -math.inf]),
        (3, [1.0, None, 2.0]),
        (3, [1.0, 2.0]),
        (1, -(2**63)),
    ],
)
def test_one_row_that_cannot_be_held_refuses_all(con, write, explicit, column, value):
    rows = batch(1000, 700)
    bad = list(rows[650])
    bad[column] = value
    rows[650] = tuple(bad)
    if explicit:
        con.execute("BEGIN")
    with pytest.raises(hybridq.Error):
        write(con, rows)
    if explicit:
        con.execute("ROLLBACK")
    assert con.execute("SELECT count(*) FROM t").fetchall() == [(600,)]
    assert con.execute(LOG).fetchall() == []
    index_equals_table(con)


@pytest.mark.parametrize("write", WAYS)
def test_rows_are_held_as_the_table_has_them(con, write):
    rows = batch(1000, 700)
    rows[3] = (1003, None, math.nan, None)
    rows[4] = (1004, -5, -0.0, [-0.0, 0.0, -0.0])
    write(con, rows)
    index_equals_table(con)
    assert con.execute(NEAREST).fetchall() == [(1000,), (1004,)]
    assert con.execute("SELECT v FROM t WHERE id = 1003").fetchall() == [(None,)]


@pytest.mark.parametrize("write", WAYS)
def test_every_key_is_logged_once(con, write):
    write(con, batch(1000, 700))
    con.execute("BEGIN")
    write(con, batch(2000, 300))
    con.execute("INSERT INTO t VALUES (?, ?, ?, ?)", [3000, 1, 1.0, [1.0, 2.0, 3.0]])
    write(con, batch(4000, 2))
    assert con.execute(NEAREST).fetchall() == [(1000,), (2000,)]
    con.execute("COMMIT")
    expected = [*range(1000, 1700), *range(2000, 2300), 3000, 4000, 4001]
    assert [key for (key,) in con.execute(LOG).fetchall()] == expected
    index_equals_table(con)


@pytest.mark.parametrize("write", WAYS)
def test_rows_rolled_back_leave_nothing(con, write):
    con.execute("BEGIN")
    write(con, batch(1000, 700))
    assert con.execute(NEAREST).fetchall()[0] == (1000,)
    con.execute("ROLLBACK")
    assert con.execute(NEAREST).fetchall()[0] == (0,)
    assert con.execute(LOG).fetchall() == []
    index_equals_table(con)


def test_from_another_database_keys_are_logged_too(con, tmp_path):
    home = con.execute("SELECT current_database()").fetchall()[0][0]
    con.execute(f"ATTACH '{tmp_path / 'other.duckdb'}' AS other")
    con.execute("USE other")
    con.execute(f"INSERT INTO {home}.t SELECT i, i, i, [i, 0, 0] FROM range(1000, 1300) r(i)")
    con.execute(f"USE {home}")
    assert [key for (key,) in con.execute(LOG).fetchall()] == [*range(1000, 1300)]
    index_equals_table(con)


def test_what_a_column_holds_is_told_from_all_its_values(con):
    """The first hundreds of values may be whole numbers, or none."""
    rows = [(1000 + i, None, i, [float(i), 0.0, 0.0]) for i in range(700)]
    rows[600] = (1600, 7, 1.5, np.array([0.25, 0.0, 0.0], np.float32))
    rows[601] = (1601, 8, 2, np.array([0.5, 0.0, 0.0], np.float16))
    by_executemany(con, rows)
    found = con.execute("SELECT b, f, v FROM t WHERE id IN (1600, 1601, 1602) ORDER BY id")
    assert [(b, f, list(v)) for b, f, v in found.fetchall()] == [
        (7, 1.5, [0.25, 0.0, 0.0]),
        (8, 2.0, [0.5, 0.0, 0.0]),
        (None, 602.0, [602.0, 0.0, 0.0]),
    ]
    index_equals_table(con)


@pytest.mark.parametrize("explicit", [False, True])
def test_a_query_without_rows_inserts_none(con, explicit):
    if explicit:
        con.execute("BEGIN")
    assert con.execute("INSERT INTO t SELECT 1, 1, 1, [1, 2, 3] WHERE false").rowcount == 0
    if explicit:
        con.execute("COMMIT")
    assert con.execute(LOG).fetchall() == []
    index_equals_table(con)


@pytest.mark.parametrize("write", WAYS)
@pytest.mark.parametrize("explicit", [False, True])
def test_an_index_rebuilt_as_a_write_takes_it(con, monkeypatch, write, explicit):
    """The write's snapshot has the log of the old build, which is gone when it commits."""
    begin_write = Transaction.begin_write

    def after_rebuild(self, state, session):
        monkeypatch.undo()
        rebuild = functools.partial(session.instance.reindex, "i", Cancellable(NoProgress()), 1.0)
        if explicit:
            rebuild()
        else:  # it took its table before its snapshot
            with pytest.raises(hybridq.OperationalError, match="being written"):
                rebuild()
        begin_write(self, state, session)

    if explicit:
        con.execute("BEGIN")
        con.execute("SELECT count(*) FROM t").fetchall()
    monkeypatch.setattr(Transaction, "begin_write", after_rebuild)
    write(con, batch(1000, 700))
    if explicit:
        con.execute("COMMIT")
    index_equals_table(con)
    assert con.execute("SELECT count(*) FROM t").fetchall() == [(1300,)]
