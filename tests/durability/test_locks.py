"""Writers of one table: they wait for each other, time out, and never wait in vain."""

import threading
import time

import pytest

import hybridq
from tests.durability.cases import INSERT, check, count, create, row, vector
from tests.equal import index_equals_table

NEAR = vector(1).tolist()


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "album.duckdb"
    with hybridq.connect(file) as con:
        create(con, 200)
        con.execute(f"CREATE TABLE s (id INTEGER PRIMARY KEY, n INTEGER, v FLOAT[{len(NEAR)}])")
        con.execute("INSERT INTO s SELECT id, 0, v FROM t WHERE v IS NOT NULL")
        con.execute("CREATE INDEX j ON s USING ann (v)")
    return file


class Other:
    """Runs work on another thread, on a connection of its own."""

    def __init__(self, path, work):
        self.path, self.work = path, work
        self.error = None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        with hybridq.connect(self.path) as con:
            try:
                self.work(con)
            except hybridq.Error as error:
                self.error = error
                con.rollback()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join()


def test_a_write_waits_for_the_writer_before_it(path):
    """And writes on top of what that one committed, not on what it saw before it waited."""
    with hybridq.connect(path) as con:
        con.begin()
        con.execute("UPDATE t SET g = 70 WHERE id = 3")
        with Other(path, lambda two: two.execute("UPDATE t SET g = g + 1 WHERE id = 3")) as other:
            time.sleep(0.2)
            assert other.thread.is_alive()
            con.commit()
        assert other.error is None
        assert count(con, "g = 71") == 1
        check(con)


def test_implicit_transactions_of_pep_249_wait_before_they_begin(path):
    def work(two):
        two.autocommit = False
        two.execute("UPDATE t SET g = g + 1 WHERE id = 3")
        two.commit()

    with hybridq.connect(path, autocommit=False) as con:
        con.execute("UPDATE t SET g = 70 WHERE id = 3")
        with Other(path, work) as other:
            time.sleep(0.2)
            con.commit()
        assert other.error is None
        assert count(con, "g = 71") == 1


def test_an_older_snapshot_fails_after_the_wait(path):
    began = threading.Event()

    def work(two):
        two.begin()
        began.set()
        two.execute("UPDATE t SET g = 1 WHERE id = 3")

    with hybridq.connect(path) as con:
        con.begin()
        con.execute("UPDATE t SET v = ? WHERE id = 3", [NEAR])
        with Other(path, work) as other:
            began.wait()
            time.sleep(0.1)
            con.commit()
        assert "serialization failure" in str(other.error)
        check(con)


@pytest.mark.parametrize("setting", ["0", "'100ms'", "100"])
def test_the_wait_ends_with_lock_timeout(path, setting):
    waited = []

    def work(two):
        two.execute(f"SET lock_timeout = {setting}")
        start = time.monotonic()
        try:
            two.execute(INSERT, row(5000))
        finally:
            waited.append(time.monotonic() - start)

    with hybridq.connect(path) as con:
        con.begin()
        con.execute("DELETE FROM t WHERE id = 3")
        with Other(path, work) as other:
            pass
        assert isinstance(other.error, hybridq.OperationalError)
        assert "lock_timeout" in str(other.error)
        assert waited[0] < 2
        con.commit()
        con.execute(INSERT, row(5000))
        check(con)


def test_two_tables_in_opposite_order(path):
    """The one that closes the circle fails at once, and the other goes on."""
    first = threading.Event()

    def work(two):
        two.begin()
        two.execute("UPDATE s SET n = 1 WHERE id = 3")
        first.set()
        two.execute("UPDATE t SET g = 1 WHERE id = 3")
        two.commit()

    with hybridq.connect(path) as con:
        con.execute("SET lock_timeout = '60s'")
        con.begin()
        con.execute("UPDATE t SET g = 2 WHERE id = 3")
        start = time.monotonic()
        with Other(path, work) as other:
            first.wait()
            time.sleep(0.2)
            with pytest.raises(hybridq.OperationalError, match=r"deadlock.*table s.*table t"):
                con.execute("UPDATE s SET n = 2 WHERE id = 3")
            con.rollback()
        assert other.error is None
        assert time.monotonic() - start < 5
        assert con.execute("SELECT n FROM s WHERE id = 3").fetchall() == [(1,)]
        index_equals_table(con)


def test_a_wait_that_only_this_thread_could_end(path):
    with hybridq.connect(path) as one, hybridq.connect(path) as two:
        one.begin()
        one.execute("UPDATE t SET g = 2 WHERE id = 3")
        start = time.monotonic()
        with pytest.raises(hybridq.OperationalError, match="same thread"):
            two.execute("UPDATE t SET g = 1 WHERE id = 3")
        assert time.monotonic() - start < 1
        two.execute("UPDATE s SET n = 1 WHERE id = 3")
        one.commit()
        two.execute("UPDATE t SET g = 1 WHERE id = 3")
        check(one)


def test_a_wait_is_interrupted(path):
    with hybridq.connect(path) as con, hybridq.connect(path) as two:
        two.begin()
        two.execute("DELETE FROM t WHERE id = 3")
        failed = []

        def work():
            try:
                con.execute("DELETE FROM t WHERE id = 4")
            except hybridq.OperationalError as error:
                failed.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.2)
        con.interrupt()
        thread.join(5)
        assert failed == ["the statement was cancelled"]
        con.execute("SET statement_timeout = '100ms'")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(5)
        assert "longer than 100 ms" in failed[1]
        assert "statement_timeout" in failed[1]
        two.commit()
        con.execute("DELETE FROM t WHERE id = 4")
        check(con)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("UPDATE t SET v = NULL WHERE id = 3", "UPDATE t SET g = 77 WHERE id = 3"),
        ("UPDATE t SET g = 77 WHERE id = 3", "UPDATE t SET v = NULL WHERE id = 3"),
        ("UPDATE t SET v = NULL WHERE id = 3", "DELETE FROM t WHERE id = 3"),
        ("DELETE FROM t WHERE id = 3", "UPDATE t SET note = 'n' WHERE id = 3"),
        ("UPDATE t SET note = 'n' WHERE id = 3", "UPDATE t SET v = NULL WHERE id = 3"),
        ("UPDATE t SET id = 9000 WHERE id = 3", "UPDATE t SET g = 1 WHERE id = 3"),
        ("TRUNCATE t", "UPDATE t SET g = 1 WHERE id = 3"),
        ("COPY t FROM '{file}'", "UPDATE t SET v = NULL WHERE id = 3"),
    ],
)
def test_no_update_is_lost(path, first, second):
    """DuckDB commits both of an array and a scalar UPDATE of a row, and loses one of them."""
    file = path.parent / "more.parquet"
    with hybridq.connect(path) as one, hybridq.connect(path) as two:
        one.execute(f"COPY (SELECT * REPLACE (id + 7000 AS id) FROM t) TO '{file}'")
        one.begin()
        two.begin()
        one.execute(first.format(file=file))
        with pytest.raises(hybridq.OperationalError, match="being written"):
            two.execute(second)
        with pytest.raises(hybridq.OperationalError, match="being written"):
            two.commit()
        two.begin()
        one.commit()
        with pytest.raises(hybridq.OperationalError, match="serialization failure"):
            two.execute(second)
        two.rollback()
        two.execute(second)
        check(one)
        index_equals_table(one)


def test_many_writers_lose_nothing(path):
    """Each adds one to the same row, fifty times, waiting for the others."""

    def work(con):
        for _ in range(25):
            con.execute("UPDATE t SET g = g + 1 WHERE id = 3")

    with hybridq.connect(path) as con:
        con.execute("UPDATE t SET g = 1000 WHERE id = 3")
        others = [Other(path, work) for _ in range(4)]
        for other in others:
            other.thread.start()
        for other in others:
            other.thread.join()
        assert [other.error for other in others] == [None] * 4
        assert con.execute("SELECT g FROM t WHERE id = 3").fetchall() == [(1100,)]
        index_equals_table(con)
