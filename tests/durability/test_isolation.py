"""What a transaction sees is searched with the index, whatever it and others wrote."""

import os
import signal
import subprocess
import sys
import threading

import pytest

import hybridq
from tests.durability.cases import INSERT, create, explained, row, truth, vector
from tests.equal import index_equals_table

QUERY = vector(8) + 0.01
FILTERS = ("", "g = 3", "label IS NULL", "note LIKE '%7'")


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "album.duckdb"
    with hybridq.connect(file) as con:
        create(con)
    return file


def searched(con):
    """Answers of this connection are those of brute force over the rows it sees; by the index."""
    con.execute("SET recall = 1")
    for condition in FILTERS:
        near, without = truth(con, condition, QUERY)
        where = f" WHERE {condition}" if condition else ""
        text = f"SELECT id, v <-> ? FROM t{where} ORDER BY v <-> ? LIMIT 5000"
        for plan in ("auto", "prefilter", "bitmap"):
            con.execute(f"SET plan = '{plan}'")
            found = con.execute(text, [QUERY.tolist()] * 2).fetchall()
            assert found[: len(near)] == near
            assert {i for i, _ in found[len(near) :]} == without
        con.execute("SET plan = 'auto'")
    assert explained(con)["index"] == "i"


WRITES = {
    "insert": "INSERT INTO t SELECT id + 5000, g, label, v, note FROM t WHERE g = 3",
    "vector": "UPDATE t SET v = list_transform(v, lambda x: -x) WHERE g = 3",
    "no vector": "UPDATE t SET v = NULL WHERE id % 10 = 8",
    "attribute": "UPDATE t SET g = 3 WHERE g = 4",
    "beside": "UPDATE t SET note = 'xx7' WHERE g = 4",
    "key": "UPDATE t SET id = id + 5000 WHERE g = 3",
    "delete": "DELETE FROM t WHERE id % 3 = 0",
    "merge": "MERGE INTO t USING (SELECT 1 AS id) AS s ON t.id = s.id WHEN MATCHED THEN DELETE",
    "truncate": "TRUNCATE t",
}


@pytest.mark.parametrize("write", WRITES)
def test_own_changes(path, write):
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        for last in ("rollback", "commit"):
            con.begin()
            searched(con)
            con.execute(WRITES[write])
            searched(con)
            con.execute("UPDATE t SET g = g + 1 WHERE id < 50")
            con.execute("INSERT INTO t VALUES (9999, 3, 'ant', ?, 'note 7')", [QUERY.tolist()])
            searched(con)
            searched(other)
            getattr(con, last)()
            searched(con)
            searched(other)
            index_equals_table(con)
    with hybridq.connect(path) as con:
        assert con.notices == []
        index_equals_table(con)


@pytest.mark.parametrize("write", WRITES)
def test_an_old_snapshot(path, write):
    """Kept while others commit, rebuild the index, and while changes wait to be folded in."""
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        other.execute("UPDATE t SET g = 5 WHERE id < 20")
        con.begin()
        rows = con.execute("SELECT * FROM t ORDER BY id").fetchall()
        other.execute(WRITES[write])
        searched(con)
        searched(other)
        other.execute("REINDEX INDEX i")
        other.execute(INSERT, row(7000))
        searched(con)
        assert con.execute("SELECT * FROM t ORDER BY id").fetchall() == rows
        con.commit()
        searched(con)
        index_equals_table(con)


def test_many_statements_of_one_transaction(path):
    with hybridq.connect(path) as con:
        con.begin()
        for i in range(0, 60, 2):
            con.execute(INSERT, row(6000 + i))
            con.execute("DELETE FROM t WHERE id = ?", [i])
            con.execute("UPDATE t SET v = ? WHERE id = ?", [QUERY.tolist(), 100 + i])
            found = con.execute("SELECT id FROM t ORDER BY v <-> ? LIMIT 1", [QUERY.tolist()])
            assert found.fetchall() == [(100,)]
        searched(con)
        con.commit()
        searched(con)
        index_equals_table(con)


def test_a_failed_statement_fails_the_transaction(path):
    with hybridq.connect(path) as con:
        before = con.execute("SELECT * FROM t ORDER BY id").fetchall()
        con.begin()
        con.execute("UPDATE t SET g = 6")
        with pytest.raises(hybridq.DataError, match="nan"):
            con.execute("UPDATE t SET v = [1, 2, 3, 4, 5, 6, 7, 'nan'::FLOAT] WHERE id = 3")
        with pytest.raises(hybridq.OperationalError, match=r"a statement of it failed.*nan"):
            con.execute("SELECT 1")
        with pytest.raises(hybridq.OperationalError, match=r"rolled back.*nan"):
            con.commit()
        assert con.execute("SELECT * FROM t ORDER BY id").fetchall() == before
        searched(con)
        index_equals_table(con)


def test_snapshots_of_threads(path):
    """Readers in transactions see one state throughout, while a writer replaces every vector."""
    failures = []
    stop = threading.Event()

    def read():
        with hybridq.connect(path) as con:
            while not stop.is_set():
                con.begin()
                (state,) = con.execute("SELECT DISTINCT note FROM t").fetchall()
                for _ in range(5):
                    found = con.execute(
                        "SELECT note FROM t WHERE g = 3 ORDER BY v <-> ? LIMIT 20", [QUERY.tolist()]
                    ).fetchall()
                    if found != [state] * 20:
                        failures.append((state, found))
                con.commit()

    with hybridq.connect(path) as con:
        con.execute("UPDATE t SET note = '0', v = ? WHERE v IS NULL OR true", [QUERY.tolist()])
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for i in range(1, 15):
            con.execute("UPDATE t SET note = ?, v = list_transform(v, lambda x: x + 0.1)", [str(i)])
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        index_equals_table(con)


# -- processes ------------------------------------------------------------------


FORKED = """
import os, sys, hybridq
from tests.durability.cases import INSERT, row, check
path = sys.argv[1]
con = hybridq.connect(path)
con.begin()
con.execute(INSERT, row(5000))
said = []
child = os.fork()
if child == 0:
    for work in (lambda: con.execute("SELECT 1"), con.commit, lambda: hybridq.connect(path)):
        try:
            work()
        except hybridq.OperationalError as error:
            said.append(str(error))
    con.close()
    memory = hybridq.connect()
    memory.execute("CREATE TABLE t (id INTEGER)")
    memory.close()
    assert len(said) == 3 and all("fork" in text for text in said), said
    print("refused", flush=True)
    # DuckDB's client may crash in the exit of a forked process; that is the child's loss alone.
    sys.exit(7) if sys.argv[2] == "exit" else os._exit(7)
status = os.waitpid(child, 0)[1]
assert sys.argv[2] == "exit" or status >> 8 == 7
con.execute(INSERT, row(5001))
con.commit()
con.execute("CHECKPOINT")
check(con)
con.close()
with hybridq.connect(path) as con:
    assert con.notices == [] and con.execute("SELECT count(*) FROM t").fetchall() == [(602,)]
    check(con)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("how", ["exit", "_exit"])
def test_a_fork_after_connect(path, how):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(path), how],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "refused\ndone\n", done.stderr


def test_statement_timeout(path):
    slow = "SELECT count(*) FROM range(100000000) a, range(1000000) b WHERE a.range + b.range = -1"
    with hybridq.connect(path) as con:
        con.execute("SET statement_timeout = '150ms'")
        with pytest.raises(hybridq.OperationalError, match="longer than 150 ms"):
            con.execute(slow).fetchall()
        # The next statement has its own time.
        assert con.execute("SELECT 1").fetchall() == [(1,)]
        con.begin()
        con.execute(INSERT, row(5000))
        with pytest.raises(hybridq.OperationalError, match="longer than 150 ms"):
            con.execute(
                slow.replace("SELECT count(*)", "DELETE FROM t WHERE id IN (SELECT 1") + ")"
            )
        with pytest.raises(hybridq.OperationalError, match="rolled back"):
            con.commit()
        con.execute("RESET statement_timeout")
        searched(con)
        index_equals_table(con)


def test_interrupt_from_a_signal(path, request):
    """Ctrl-C in a write leaves a transaction that can only be rolled back."""
    slow = "UPDATE t SET g = 1 WHERE g = (SELECT sum(sqrt(range)) FROM range(600000000))"
    # A process in the background of a shell is born deaf to it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with hybridq.connect(path) as con:
        con.begin()
        con.execute("UPDATE t SET g = 2 WHERE id < 50")
        timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            con.execute(slow)
        timer.join()
        with pytest.raises(hybridq.OperationalError):
            con.commit()
        assert explained(con)["index"] == "i"
        searched(con)
        index_equals_table(con)
