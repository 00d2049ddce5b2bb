"""After every kind of write, and again after reopening, vector queries equal brute force."""

import pytest

import hybridq
from tests.durability.cases import INSERT, ROWS, check, count, create, row, vector

NEAR = vector(1).tolist()


def insert(con):
    con.execute(INSERT, row(5000))
    con.execute(INSERT, row(5001))


def update_vector(con):
    con.execute("UPDATE t SET v = ? WHERE id IN (3, 300)", [NEAR])
    con.execute("UPDATE t SET v = NULL WHERE id = 4")
    con.execute("UPDATE t SET v = ? WHERE id = 49", [NEAR])


def update_attribute(con):
    con.execute("UPDATE t SET g = 3, label = NULL WHERE id % 5 = 0")
    con.execute("UPDATE t SET note = 'short' WHERE id < 20")


def update_key(con):
    con.execute("UPDATE t SET id = id + 10000 WHERE id % 3 = 0")


def delete(con):
    con.execute("DELETE FROM t WHERE id % 3 = 0")


def delete_all(con):
    con.execute("DELETE FROM t")


def upsert(con):
    con.execute(INSERT + " ON CONFLICT DO UPDATE SET v = excluded.v, g = 3", row(7))
    con.execute("INSERT OR REPLACE INTO t VALUES (?, ?, ?, ?, ?)", [8, 3, "bee", NEAR, "new"])
    con.execute(INSERT + " ON CONFLICT DO NOTHING", row(9))


def merge(con):
    con.execute("CREATE TEMP TABLE s AS SELECT id + 300 AS id, g, label, v, note FROM t")
    con.execute(
        "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v, g = s.g "
        "WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.g, s.label, s.v, s.note)"
    )


def truncate(con):
    con.execute("TRUNCATE t")
    con.execute(INSERT, row(1))


def execute_many(con):
    con.executemany(INSERT, [row(i) for i in range(ROWS, ROWS + 100)])
    con.executemany("UPDATE t SET g = ? WHERE id = ?", [(3, 1), (99, 2)])
    con.executemany("DELETE FROM t WHERE id = ?", [(11,), (12,)])


def transaction(con):
    con.execute("BEGIN")
    con.execute(INSERT, row(5000))
    con.execute("DELETE FROM t WHERE id < 50")
    con.execute("UPDATE t SET v = ? WHERE id = 60", [NEAR])
    con.execute(INSERT, row(5))
    check(con, index=None)
    con.execute("COMMIT")


def opaque_transaction(con):
    con.execute("BEGIN")
    con.execute("DELETE FROM t WHERE id = 1")
    con.execute("UPDATE t SET id = -id WHERE id % 9 = 0 AND id > 0")
    con.execute("INSERT INTO t SELECT id + 20000, g, label, v, note FROM t WHERE g = 3")
    check(con, index=None)
    con.execute("COMMIT")


def rollback(con):
    con.execute("BEGIN")
    con.execute("DELETE FROM t WHERE id < 300")
    con.execute("UPDATE t SET id = id + 10000")
    con.execute(INSERT, row(1))
    check(con, index=None)
    con.execute("ROLLBACK")
    assert count(con) == ROWS


def failed_transaction(con):
    con.execute("BEGIN")
    con.execute("DELETE FROM t WHERE id < 300")
    with pytest.raises(hybridq.IntegrityError):
        con.execute(INSERT, row(400))
    with pytest.raises(hybridq.OperationalError, match="rolled back"):
        con.commit()
    assert count(con) == ROWS


def failed_statement(con):
    with pytest.raises(hybridq.DataError):
        con.execute("UPDATE t SET v = [1, 2, 3, 4, 5, 6, 7, 'nan'::FLOAT] WHERE id >= 590")
    assert count(con, "v IS NULL") == ROWS // 50


def prepared(con):
    con.execute("PREPARE p AS DELETE FROM t WHERE g = ?")
    con.execute("EXECUTE p(3)")


def returning(con):
    deleted = con.execute("DELETE FROM t WHERE g = 2 RETURNING id, g").fetchall()
    assert deleted
    assert {g for _, g in deleted} == {2}


def alter(con):
    con.execute("ALTER TABLE t ADD COLUMN extra INTEGER DEFAULT 5")
    con.execute("UPDATE t SET extra = id, g = 3 WHERE id < 30")
    con.execute("ALTER TABLE t DROP COLUMN extra")


def checkpoint(con):
    con.execute("DELETE FROM t WHERE id % 2 = 0")
    con.execute("CHECKPOINT")
    con.execute(INSERT, row(2))


def reindex(con):
    con.execute("DELETE FROM t WHERE g = 3")
    con.execute("REINDEX INDEX i")
    con.execute(INSERT, row(3))


WRITES = [
    insert, update_vector, update_attribute, update_key, delete, delete_all, upsert, merge,
    truncate, execute_many, transaction, opaque_transaction, rollback, failed_transaction,
    failed_statement, prepared, returning, alter, checkpoint, reindex,
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "album.duckdb"


@pytest.mark.parametrize("write", WRITES, ids=lambda w: w.__name__)
def test_reopened_after(path, write):
    con = hybridq.connect(path)
    create(con)
    write(con)
    check(con)
    rows = con.execute("SELECT * FROM t ORDER BY id").fetchall()
    con.close()

    con = hybridq.connect(path)
    assert con.execute("SELECT * FROM t ORDER BY id").fetchall() == rows
    check(con)
    assert con.notices == []
    con.close()


def test_reopened_after_all_of_them_one_by_one(path):
    con = hybridq.connect(path)
    create(con)
    con.close()
    for write in (update_attribute, update_key, upsert, delete, execute_many, opaque_transaction):
        con = hybridq.connect(path)
        write(con)
        con.close()
        con = hybridq.connect(path)
        check(con)
        assert con.notices == []
        con.close()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_reopened_after_copy(path, tmp_path, form):
    con = hybridq.connect(path)
    create(con)
    source = tmp_path / f"more.{form}"
    con.execute(
        f"COPY (SELECT id + 10000 AS id, g, label, v, note FROM t WHERE id < 200) TO '{source}'"
    )
    con.execute(f"COPY t FROM '{source}'")
    assert count(con) == ROWS + 200
    check(con)
    con.close()
    con = hybridq.connect(path)
    check(con)
    assert con.notices == []
    con.close()


def test_dropped_and_made_again(path):
    con = hybridq.connect(path)
    create(con)
    con.execute("DROP INDEX i")
    check(con, index=False)
    con.close()
    con = hybridq.connect(path)
    check(con, index=False)
    con.execute(INSERT, row(5000))
    con.execute("CREATE INDEX i ON t USING ann (v)")
    con.close()
    con = hybridq.connect(path)
    check(con)
    con.execute("DROP TABLE t")
    con.close()
    con = hybridq.connect(path)
    assert con.notices == []
    create(con, 50)
    check(con)
    con.close()


def test_two_indexes_of_one_table(path):
    con = hybridq.connect(path)
    create(con)
    con.execute("CREATE INDEX j ON t USING ann (v) INCLUDE (g) WITH (metric = 'cosine')")
    update_vector(con)
    update_key(con)
    con.close()
    con = hybridq.connect(path)
    check(con)
    text = "SELECT id FROM t WHERE v IS NOT NULL ORDER BY v <=> ?, id LIMIT 20"
    con.execute("SET recall = 1")
    fast = con.execute(text, [NEAR]).fetchall()
    con.execute("DROP INDEX j")
    assert con.execute(text, [NEAR]).fetchall() == fast
    con.close()
