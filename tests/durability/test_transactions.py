"""A transaction sees its own writes, others see them after COMMIT; views stay as they were."""

import duckdb
import pytest

import hybridq
from tests.durability import album
from tests.durability.album import DIM

NEW = [float(i) for i in range(DIM)]
NEAREST = "SELECT id FROM photos ORDER BY v <-> ? LIMIT 100000"
UPSERT = "INSERT INTO photos VALUES (3, 'c', ?) ON CONFLICT DO UPDATE SET v = excluded.v"
MERGE = (
    "MERGE INTO photos USING (SELECT 3 AS id UNION ALL SELECT 9003) AS s USING (id) "
    "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, label) VALUES (s.id, 'a')"
)
AGAIN = "INSERT INTO photos SELECT id - 99, 'a', v FROM photos WHERE id BETWEEN 100 AND 120"
WRITES = {
    "insert": [("INSERT INTO photos VALUES (9001, 'a', ?)", [NEW])],
    "insert select": [("INSERT INTO photos SELECT id + 9000, label, v FROM photos", None)],
    "update vector": [("UPDATE photos SET v = ? WHERE id < 20", [NEW])],
    "update vector to null": [("UPDATE photos SET v = NULL WHERE id < 20", None)],
    "update attribute": [("UPDATE photos SET label = 'b' WHERE id % 3 = 0", None)],
    "update key": [("UPDATE photos SET id = id + 5000 WHERE id < 50", None)],
    "delete": [("DELETE FROM photos WHERE id % 5 = 0", None)],
    "truncate": [("TRUNCATE photos", None)],
    "upsert": [(UPSERT, [NEW])],
    "insert or replace": [("INSERT OR REPLACE INTO photos VALUES (3, 'c', ?)", [NEW])],
    "merge": [(MERGE, None)],
    "update twice": [
        ("UPDATE photos SET v = ? WHERE id < 20", [NEW]),
        ("UPDATE photos SET label = 'b', v = NULL WHERE id BETWEEN 10 AND 30", None),
    ],
    "delete, insert again": [("DELETE FROM photos WHERE id < 30", None), (AGAIN, None)],
    "several in one text": [
        ("DELETE FROM photos WHERE id = 1; UPDATE photos SET label = 'a' WHERE id = 2", None)
    ],
    "add a column": [("ALTER TABLE photos ADD COLUMN note TEXT DEFAULT 'x'", None)],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    file = tmp_path_factory.mktemp("album") / "album.duckdb"
    album.create(file)
    return file


@pytest.fixture
def path(made, tmp_path):
    return album.copy_of(made, tmp_path)


@pytest.mark.parametrize("name", WRITES)
def test_seen_by_itself_and_then_by_others(path, name):
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        untouched = album.content(con)
        for last in ("rollback", "commit"):
            con.begin()
            for statement, given in WRITES[name]:
                con.execute(statement, given)
            changed = album.content(con)
            inside = [i for (i,) in con.execute(NEAREST, [NEW]).fetchall()]
            assert sorted(inside) == sorted(changed)
            assert album.content(other) == untouched
            album.check(other)
            getattr(con, last)()
            album.check(con)
            assert album.content(con) == (untouched if last == "rollback" else changed)
        assert album.content(other) == changed
        album.check(other)
    with hybridq.connect(path) as con:
        assert con.notices == []
        assert album.content(con) == changed
        album.check(con)


def test_older_transaction_keeps_its_view(path):
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        con.begin()
        before = con.execute(NEAREST, [NEW]).fetchall()
        for statement, given in (
            ("INSERT INTO photos VALUES (9001, 'a', ?)", [NEW]),
            ("REINDEX INDEX photos_v", None),
            ("DELETE FROM photos WHERE id = ?", [before[0][0]]),
        ):
            other.execute(statement, given)
            assert con.execute(NEAREST, [NEW]).fetchall() == before
        con.commit()
        assert con.execute(NEAREST, [NEW]).fetchall()[0] == (9001,)
        album.check(con)


def test_older_transaction_and_an_index_made_again(path):
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        con.begin()
        before = album.content(con)
        other.execute("DROP INDEX photos_v")
        other.execute("INSERT INTO photos VALUES (9001, 'a', ?)", [NEW])
        other.execute("CREATE INDEX photos_v ON photos USING ann (v)")
        assert sorted(i for (i,) in con.execute(NEAREST, [NEW]).fetchall()) == sorted(before)
        con.commit()
        album.check(con)


def test_failing_to_open_does_not_unlock_the_file(path):
    """POSIX drops a process's locks on a file with the first descriptor it closes."""
    code = (
        "import duckdb, sys\n"
        "try: duckdb.connect(sys.argv[1])\n"
        "except duckdb.IOException: print('locked')"
    )
    with duckdb.connect(str(path)):
        with pytest.raises(hybridq.OperationalError):
            hybridq.connect(path)
        assert album.in_another_process(code, str(path)) == "locked\n"
    with hybridq.connect(path) as con:
        con.execute("INSERT INTO photos VALUES (9001, 'a', ?)", [NEW])
        con.execute("CHECKPOINT")
        con.execute("REINDEX INDEX photos_v")
        hybridq.connect(path).close()
        assert album.in_another_process(code, str(path)) == "locked\n"


def test_collated_keys_are_two_keys(tmp_path):
    with hybridq.connect(tmp_path / "k.duckdb") as con:
        con.execute("CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v FLOAT[2])")
        con.execute("INSERT INTO t VALUES ('A', [1, 1]), ('b', [5, 5])")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        con.execute("INSERT INTO t VALUES ('a', [2, 2])")
        con.execute("UPDATE t SET v = [3, 3] WHERE k = 'A' AND v[1] < 1.5")
        found = con.execute("SELECT k, v FROM t ORDER BY v <-> [0.0, 0.0] LIMIT 9").fetchall()
        assert found == [("a", (2.0, 2.0)), ("A", (3.0, 3.0)), ("b", (5.0, 5.0))]
