"""Tables are read and written while an index over them is built, and nothing is missed."""

import shutil
import sys
import threading
from pathlib import Path

import pytest

import hybridq
from hybridq import builder, segments
from tests.durability import album
from tests.durability.cases import INSERT, check, count, create, row, vector
from tests.durability.test_publish import interrupted
from tests.equal import index_equals_table

CREATE = "CREATE INDEX i ON t USING ann (v) WITH (nlist = 12)"
SHIFTED = "SELECT id + 7000, g, label, v, note FROM u"
BUILDS = {"create": CREATE, "reindex": "REINDEX INDEX i"}
WRITES = {
    "insert": lambda con: con.executemany(INSERT, [row(i) for i in range(900, 950)]),
    "one row": lambda con: con.execute(INSERT, row(900)),
    "update": lambda con: con.execute("UPDATE t SET g = 3, v = NULL WHERE id % 9 = 4"),
    "key": lambda con: con.execute("UPDATE t SET id = id + 5000 WHERE id < 50"),
    "delete": lambda con: con.execute("DELETE FROM t WHERE id % 5 = 1"),
    "beside": lambda con: con.execute("UPDATE t SET note = 'x' WHERE id < 10"),
    "opaque": lambda con: con.execute("TRUNCATE t; INSERT INTO t SELECT * FROM u"),
    "other table": lambda con: con.execute(
        "INSERT INTO u SELECT id + 5000, g, label, v, note FROM u"
    ),
    "nothing": lambda con: None,
}


class During:
    """A progress that does something once, when centroids are trained: the rows are read then."""

    def __init__(self, action):
        self.action, self.done = action, False

    def start(self, task, total):
        if task == "train centroids" and not self.done:
            self.done = True
            self.action()

    def advance(self, count):
        pass

    def finish(self):
        pass


@pytest.fixture(params=BUILDS)
def build(request):
    return request.param


@pytest.fixture
def path(build, tmp_path):
    file = tmp_path / "album.duckdb"
    with hybridq.connect(file) as con:
        create(con, index=build == "reindex")
        con.execute("CREATE TABLE u AS SELECT * FROM t WHERE id % 3 = 0")
    return file


@pytest.mark.parametrize("write", WRITES)
def test_writes_go_on_and_are_not_missed(path, build, write, tmp_path):
    with hybridq.connect(path) as two:
        during = During(lambda: WRITES[write](two))
        with hybridq.connect(path, progress=during) as one:
            one.execute(BUILDS[build])
            assert during.done
            check(one)
            check(two)
            index_equals_table(one)
            # As if the process ended here.
            folder = tmp_path / "copy"
            folder.mkdir()
            shutil.copy2(f"{path}.wal", folder)
            with hybridq.connect(album.copy_of(path, folder)) as copy:
                check(copy)
                index_equals_table(copy)
            two.execute("UPDATE t SET g = 1 WHERE id > 580")
            check(one)
    with hybridq.connect(path) as con:
        assert con.notices == []
        check(con)
        index_equals_table(con)
    assert len(album.segments(path)) == 1


class Watched(dict):
    """Notes how many rows an index has in the moment that others can see it."""

    def __init__(self, known):
        super().__init__(known)
        self.rows = []

    def __setitem__(self, name, state):
        self.rows.append(state.snapshot.live_rows)
        super().__setitem__(name, state)


def test_nobody_sees_it_without_what_was_written_meanwhile(path, build):
    with hybridq.connect(path) as two:
        during = During(lambda: WRITES["insert"](two))
        with hybridq.connect(path, progress=during) as one:
            instance = one.check_open().instance
            instance.indexes = watched = Watched(instance.indexes)
            one.execute(BUILDS[build])
            assert watched.rows == [count(one)]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_transaction_that_wrote_before_and_ends_after(path, build, end):
    with hybridq.connect(path) as one, hybridq.connect(path) as two:
        if build == "reindex":
            one.execute("SET lock_timeout = 20")
        two.begin()
        WRITES["update"](two)
        if build == "create":
            one.execute(CREATE)
        else:
            threads = []

            def rebuild():
                with pytest.raises(hybridq.OperationalError, match="table t is being written"):
                    one.execute("REINDEX INDEX i")

            threads.append(threading.Thread(target=rebuild))
            threads[0].start()
            threads[0].join()
        getattr(two, end)()
        check(one)
        check(two)
        index_equals_table(one)
    with hybridq.connect(path) as con:
        assert con.notices == []
        check(con)
    assert len(album.segments(path)) == 1


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_transaction_that_ends_meanwhile(path, build, end):
    with hybridq.connect(path) as two:
        two.begin()
        WRITES["delete"](two)
        with hybridq.connect(path, progress=During(lambda: getattr(two, end)())) as one:
            one.execute(BUILDS[build])
            check(one)
            index_equals_table(one)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("DROP TABLE t", "dropped"),
        ("ALTER TABLE t ALTER g TYPE VARCHAR", "column g was changed"),
        ("ALTER TABLE t RENAME v TO w", "column v was changed"),
    ],
)
@pytest.mark.parametrize("build", ["create"], indirect=True)
def test_the_table_changes_meanwhile(path, build, change, why):
    with hybridq.connect(path) as two:
        with hybridq.connect(path, progress=During(lambda: two.execute(change))) as one:
            with pytest.raises(hybridq.OperationalError, match=f"(?s)was not built.*{why}"):
                one.execute(BUILDS[build])
            assert one.execute("SHOW INDEXES").fetchall() == []
        assert album.segments(path) == []


@pytest.mark.parametrize("build", ["create"], indirect=True)
def test_another_table_takes_the_name_meanwhile(path, build):
    with hybridq.connect(path) as two:

        def replace():
            columns = "id INTEGER PRIMARY KEY, g INTEGER, label TEXT, v FLOAT[8], note TEXT"
            two.execute(f"CREATE OR REPLACE TABLE t ({columns})")
            two.execute(f"INSERT INTO t {SHIFTED}")

        with hybridq.connect(path, progress=During(replace)) as one:
            one.execute(BUILDS[build])
            check(one)
            index_equals_table(one)


@pytest.mark.parametrize("build", ["reindex"], indirect=True)
def test_the_index_is_dropped_meanwhile(path, build):
    with (
        hybridq.connect(path) as two,
        hybridq.connect(path, progress=During(lambda: two.execute("DROP INDEX i"))) as one,
    ):
        with pytest.raises(hybridq.OperationalError, match="was dropped while it was built"):
            one.execute(BUILDS[build])
        assert one.execute("SHOW INDEXES").fetchall() == []
        assert album.segments(path) == []
        one.execute(CREATE)
        check(two)


@pytest.mark.parametrize("build", ["reindex"], indirect=True)
def test_the_index_is_merged_meanwhile(path, build):
    with hybridq.connect(path) as two:

        def merge():
            two.executemany(INSERT, [row(i) for i in range(900, 1900)])
            two.execute("CALL hybridq_merge('i')")
            two.execute("DELETE FROM t WHERE id % 11 = 3")

        with hybridq.connect(path, progress=During(merge)) as one:
            one.execute(BUILDS[build])
            check(one)
            index_equals_table(two)
        assert len(album.segments(path)) == 1


@pytest.mark.parametrize("build", ["create"], indirect=True)
def test_one_of_two_of_the_same_name_waits(path, build):
    outcome = []
    with hybridq.connect(path) as two:

        def create():
            two.execute(CREATE.replace("INDEX i", "INDEX IF NOT EXISTS i"))
            try:
                two.execute(CREATE)
            except hybridq.ProgrammingError as error:
                outcome.append(str(error))

        thread = threading.Thread(target=create)
        with hybridq.connect(path, progress=During(thread.start)) as one:
            one.execute(CREATE)
            thread.join()
            check(one)
    assert "already exists" in outcome[0]
    assert len(album.segments(path)) == 1


def test_reads_and_writes_of_others_do_not_wait(path, build):
    """From another thread, while the build stands still."""
    finished = []
    with hybridq.connect(path) as two:

        def others():
            two.execute(f"INSERT INTO u {SHIFTED}")
            two.execute(INSERT, row(901))
            two.execute("SELECT id FROM t ORDER BY v <-> ? LIMIT 3", [vector(1)]).fetchall()
            finished.append(True)

        def meanwhile():
            thread = threading.Thread(target=others)
            thread.start()
            thread.join(60)
            assert finished

        with hybridq.connect(path, progress=During(meanwhile)) as one:
            one.execute(BUILDS[build])
            check(one)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_error_at_any_line_of_a_build(path, build, error, monkeypatch):
    monkeypatch.setattr(
        "tests.durability.test_publish.FILES",
        {str(Path(builder.__file__)), str(Path(segments.__file__))},
    )
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        for at in range(1, 500, 3):
            number = 5000 + at

            def work(number=number):
                other.execute(INSERT, row(number))
                con.execute(BUILDS[build])

            hit = interrupted(work, error, at)
            other.execute("UPDATE t SET g = 1 WHERE id = 1")
            index_equals_table(other)
            if build == "create" and con.execute("SHOW INDEXES").fetchall():
                con.execute("DROP INDEX i")
            if not hit:
                break
        assert at > 60
        assert count(con) > 0
        if build == "reindex":
            check(con)
            check(other)
    with hybridq.connect(path) as con:
        assert con.notices == []
        index_equals_table(con)
    assert len(album.segments(path)) == (build == "reindex")
    assert sys.gettrace() is None
