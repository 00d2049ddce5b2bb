"""Connections: opening, closing, transactions, registered data, interrupts."""

import gc
import subprocess
import sys
import threading
import time

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import hybridq


@pytest.fixture
def path(tmp_path):
    return tmp_path / "album.duckdb"


def fill(con, rows=10):
    con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[2])")
    con.execute(f"INSERT INTO t SELECT i, [i, 0] FROM range({rows}) r(i)")
    con.execute("CREATE INDEX i ON t USING ann (v)")


NEAREST = "SELECT id FROM t ORDER BY v <-> [3, 0], id LIMIT 3"


def test_module():
    assert hybridq.apilevel == "2.0"
    assert hybridq.threadsafety == 1
    assert hybridq.paramstyle == "qmark"


@pytest.mark.parametrize("kind", [str, lambda p: p])
def test_files_last(path, kind):
    with hybridq.connect(kind(path)) as con:
        fill(con)
    assert path.exists()
    with hybridq.connect(kind(path)) as con:
        assert con.execute(NEAREST).fetchall() == [(3,), (2,), (4,)]
        assert con.notices == []


def test_connections_share_the_file(path):
    with hybridq.connect(path) as one, hybridq.connect(path) as two:
        fill(one)
        assert two.execute(NEAREST).fetchall() == [(3,), (2,), (4,)]
        two.execute("DELETE FROM t WHERE id = 3")
        assert one.execute(NEAREST).fetchall() == [(2,), (4,), (1,)]


def test_memory_is_of_one_connection():
    with hybridq.connect() as one, hybridq.connect() as two:
        fill(one)
        with pytest.raises(hybridq.ProgrammingError):
            two.execute(NEAREST)


def test_closed(path):
    con = hybridq.connect(path)
    cursor = con.execute("SELECT 1")
    con.close()
    for use in (
        con.cursor,
        con.commit,
        con.rollback,
        con.close,
        con.begin,
        con.interrupt,
        lambda: con.execute("SELECT 1"),
        lambda: con.executemany("SELECT ?", [(1,)]),
        lambda: con.register("x", {}),
        lambda: con.autocommit,
        lambda: con.notices,
        cursor.fetchall,
        cursor.fetchone,
        lambda: cursor.execute("SELECT 1"),
        con.__enter__,
    ):
        with pytest.raises(hybridq.InterfaceError, match="closed"):
            use()


def test_closed_cursor():
    with hybridq.connect() as con:
        with con.cursor() as cursor:
            assert cursor.connection is con
            cursor.execute("SELECT 1")
        for use in (cursor.fetchall, lambda: cursor.execute("SELECT 1"), lambda: cursor.connection):
            with pytest.raises(hybridq.InterfaceError, match="cursor is closed"):
                use()
        assert con.execute("SELECT 1").fetchone() == (1,)


def test_with_commits_or_rolls_back(path):
    with hybridq.connect(path, autocommit=False) as con:
        fill_without_index = "CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[2])"
        con.execute(fill_without_index)
        con.execute("INSERT INTO t VALUES (1, [1, 1])")
    with pytest.raises(ZeroDivisionError), hybridq.connect(path, autocommit=False) as con:
        assert con.execute("INSERT INTO t VALUES (2, [1, 1])").rowcount / 0
    with hybridq.connect(path) as con:
        assert con.execute("SELECT id FROM t").fetchall() == [(1,)]


def test_closing_rolls_back(path):
    con = hybridq.connect(path)
    fill(con)
    con.begin()
    con.execute("DELETE FROM t")
    con.close()
    with hybridq.connect(path) as con:
        assert con.execute(NEAREST).fetchall() == [(3,), (2,), (4,)]


def test_autocommit_off(path):
    with hybridq.connect(path) as other:
        fill(other)
        with hybridq.connect(path, autocommit=False) as con:
            assert not con.autocommit
            assert not con.in_transaction
            con.execute("DELETE FROM t WHERE id = 3")
            assert con.in_transaction
            assert other.execute(NEAREST).fetchone() == (3,)
            con.rollback()
            assert con.execute(NEAREST).fetchone() == (3,)
            with pytest.raises(hybridq.ProgrammingError, match="inside a transaction"):
                con.autocommit = True
            con.execute("DELETE FROM t WHERE id = 3")
            con.commit()
            assert not con.in_transaction
            assert other.execute(NEAREST).fetchone() == (2,)
            con.autocommit = True
            con.execute("DELETE FROM t WHERE id = 2")
        assert other.execute(NEAREST).fetchone() == (4,)


def test_ddl_with_autocommit_off(path):
    """PEP 249's implicit transaction must not make CREATE INDEX impossible."""
    with hybridq.connect(path, autocommit=False) as con:
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[2])")
        con.execute("INSERT INTO t VALUES (1, [1, 1])")
        con.commit()
        con.execute("CREATE INDEX i ON t USING ann (v)")
        assert con.execute("SELECT id FROM t ORDER BY v <-> [0, 0] LIMIT 1").fetchall() == [(1,)]
        with pytest.raises(hybridq.NotSupportedError, match="inside a transaction"):
            con.execute("REINDEX i")
        con.rollback()
        con.execute("REINDEX i")
        con.execute("DROP INDEX i")


def test_a_failed_transaction_says_so():
    with hybridq.connect() as con:
        fill(con)
        con.begin()
        con.execute("DELETE FROM t WHERE id = 3")
        with pytest.raises(hybridq.ProgrammingError):
            con.execute("SELECT nothing")
        assert con.transaction_failed
        with pytest.raises(hybridq.OperationalError, match="aborted"):
            con.execute("SELECT 1")
        with pytest.raises(hybridq.OperationalError, match="rolled back") as caught:
            con.commit()
        assert "nothing" in str(caught.value)
        assert not con.in_transaction
        assert con.execute(NEAREST).fetchone() == (3,)


def test_registered_data():
    with hybridq.connect() as con:
        fill(con)
        sources = {
            "frame": pd.DataFrame({"id": [100, 101], "x": [3.0, 50.0]}),
            "polars": pl.DataFrame({"id": [102], "x": [3.5]}),
            "arrow": pa.table({"id": [103], "x": [2.5]}),
        }
        for name, data in sources.items():
            con.register(name, data)
            con.execute(f"INSERT INTO t SELECT id, [x, 0] FROM {name}")
            con.unregister(name)
            with pytest.raises(hybridq.ProgrammingError, match=name):
                con.execute(f"SELECT * FROM {name}")
        found = con.execute("SELECT id FROM t ORDER BY v <-> [3, 0], id LIMIT 4").fetchall()
        assert found == [(3,), (100,), (102,), (103,)]
        con.register("wanted", pa.table({"id": [7, 9]}))
        wanted = "SELECT id FROM t WHERE id IN (FROM wanted) ORDER BY v <-> [3, 0], id LIMIT 4"
        assert con.execute(wanted).fetchall() == [(7,), (9,)]
        for bad in ("", "__hybridq_x"):
            with pytest.raises(hybridq.ProgrammingError):
                con.register(bad, pa.table({"id": [1]}))
        con.unregister("never was")


def test_variables_of_the_caller_are_not_tables():
    """DuckDB reads local variables as tables; only what is registered may be seen here."""
    local = pa.table({"id": [1]})
    with hybridq.connect() as con, pytest.raises(hybridq.ProgrammingError, match="local"):
        con.execute("SELECT * FROM local")
    assert local.num_rows == 1


def test_interrupt():
    with hybridq.connect() as con:
        fill(con)
        timer = threading.Timer(0.3, con.interrupt)
        timer.start()
        start = time.monotonic()
        with pytest.raises(hybridq.OperationalError, match="cancelled"):
            con.execute(
                "SELECT sum(a.i * b.i) FROM range(200000) a(i), range(200000) b(i)"
            ).fetchall()
        assert time.monotonic() - start < 20
        timer.join()
        assert con.execute(NEAREST).fetchone() == (3,)


def test_interrupt_when_idle():
    with hybridq.connect() as con:
        con.interrupt()
        assert con.execute("SELECT 1").fetchone() == (1,)


def test_a_connection_may_be_forgotten(path):
    con = hybridq.connect(path)
    fill(con)
    del con
    gc.collect()
    with duckdb.connect(str(path)) as duck:
        assert duck.execute("SELECT count(*) FROM t").fetchone() == (10,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b"not a database" * 1000), "not a valid DuckDB"),
        (lambda p: p.mkdir(), "(?i)is a directory|cannot open|cannot read"),
    ],
    ids=["foreign", "folder"],
)
def test_what_is_no_database(path, make, message):
    make(path)
    with pytest.raises(hybridq.OperationalError, match=message) as caught:
        hybridq.connect(path)
    assert "HINT" in str(caught.value)
    if path.is_file():
        assert path.read_bytes() == b"not a database" * 1000


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(hybridq.OperationalError, match="cannot open") as caught:
        hybridq.connect(tmp_path / "none" / "album.duckdb")
    assert "HINT" in str(caught.value)


def test_open_in_duckdb(path):
    with hybridq.connect(path) as con:
        fill(con)
        with pytest.raises(duckdb.Error):
            duckdb.connect(str(path))
    duck = duckdb.connect(str(path))
    with pytest.raises(hybridq.OperationalError) as caught:
        hybridq.connect(path)
    assert "close" in str(caught.value)
    duck.execute("DELETE FROM t WHERE id = 3")
    duck.close()
    with hybridq.connect(path) as con:
        assert con.execute(NEAREST).fetchall() == [(2,), (4,), (1,)]
        assert "changed" in con.notices[0]


def test_open_in_another_process(path):
    with hybridq.connect(path) as con:
        fill(con)
        text = f"import hybridq\ntry: hybridq.connect({str(path)!r})\n"
        text += "except hybridq.OperationalError as e: print(e)"
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, check=True
        )
        assert "lock" in done.stdout
        assert "HINT: close the program" in done.stdout
        assert con.execute(NEAREST).fetchone() == (3,)


def test_read_only(path):
    with hybridq.connect(path) as con:
        fill(con)
        with pytest.raises(hybridq.OperationalError, match="already open"):
            hybridq.connect(path, read_only=True)
    before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    with hybridq.connect(path, read_only=True) as con:
        assert con.execute(NEAREST).fetchall() == [(3,), (2,), (4,)]
        for text in (
            "DELETE FROM t",
            "CREATE INDEX j ON t USING ann (v)",
            "DROP INDEX i",
            "REINDEX i",
            "CREATE TABLE other (i INTEGER)",
        ):
            with pytest.raises(hybridq.DatabaseError, match=r"[Rr]ead-only"):
                con.execute(text)
        con.execute("ANALYZE")
        con.execute("CREATE EXTENSION fastann")
        assert con.execute(NEAREST).fetchall() == [(3,), (2,), (4,)]
    with pytest.raises(hybridq.OperationalError):
        hybridq.connect(path.parent / "none.duckdb", read_only=True)
    after = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    assert after == before


def test_statements_are_text():
    with hybridq.connect() as con:
        for bad in (b"SELECT 1", None, 5):
            with pytest.raises(hybridq.InterfaceError, match="must be a str"):
                con.execute(bad)
        assert con.execute("").description is None
        assert con.execute(" ; -- nothing\n").description is None
