"""One file and several connections: shared in a process, refused across processes, isolated."""

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

import hybridq
from tests.durability.cases import INSERT, check, count, create, explained, row, vector

NEAR = vector(1).tolist()


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "album.duckdb"
    with hybridq.connect(file) as con:
        create(con)
    return file


def python(code, path):
    """Run code on the file in another process and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- one process --------------------------------------------------------------


def test_connections_see_each_others_commits(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with hybridq.connect(path) as one, hybridq.connect(path.name) as two:
        one.execute(INSERT, row(5000))
        assert count(two) == 601
        check(two)
        two.execute("DELETE FROM t WHERE g = 3")
        check(one)
        two.execute("DROP INDEX i")
        check(one, index=False)
        one.execute("CREATE INDEX i ON t USING ann (v)")
        check(two)
    with hybridq.connect(path) as con:
        assert con.notices == []
        check(con)


def test_the_last_connection_closes_the_file(path):
    one, two = hybridq.connect(path), hybridq.connect(path)
    one.close()
    two.execute("DELETE FROM t WHERE g = 3")
    check(two)
    two.close()
    with duckdb.connect(path) as plain:
        assert plain.execute("SELECT count(*) FROM t WHERE g = 3").fetchall() == [(0,)]


def test_a_link_is_the_same_file(path, tmp_path):
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    with hybridq.connect(path) as one, hybridq.connect(link) as two:
        two.execute("DELETE FROM t WHERE g = 3")
        check(one)


def test_plain_duckdb_cannot_open_it_here(path):
    with hybridq.connect(path) as con:
        with pytest.raises(duckdb.Error, match="configuration"):
            duckdb.connect(path)
        check(con)


def test_a_file_that_plain_duckdb_has_here(path):
    with (
        duckdb.connect(path),
        pytest.raises(hybridq.OperationalError, match=r"plain duckdb\.connect"),
    ):
        hybridq.connect(path)
    with hybridq.connect(path) as con:
        check(con)


def test_opened_twice_in_different_modes(path):
    with hybridq.connect(path) as con:
        with pytest.raises(hybridq.OperationalError, match="already open"):
            hybridq.connect(path, read_only=True)
        check(con)
    with hybridq.connect(path, read_only=True) as con:
        with pytest.raises(hybridq.OperationalError, match="already open"):
            hybridq.connect(path)
        check(con)


# -- two processes ------------------------------------------------------------

OPEN = """
import sys, hybridq
try:
    hybridq.connect(sys.argv[1])
except hybridq.OperationalError as error:
    print(error)
else:
    print("opened")
"""


def test_open_in_another_process(path):
    with hybridq.connect(path) as con:
        said = python(OPEN, path)
        assert "cannot open" in said
        assert "close the program that has it open" in said
        con.execute("DELETE FROM t WHERE g = 3")
        check(con)
    assert python(OPEN, path) == "opened\n"
    with hybridq.connect(path) as con:
        assert con.notices == []
        check(con)


def test_readers_in_two_processes(path):
    code = OPEN.replace("sys.argv[1])", "sys.argv[1], read_only=True).execute('SELECT 1')")
    with hybridq.connect(path, read_only=True) as con:
        assert python(code, path) == "opened\n"
        check(con)


@pytest.mark.parametrize("target", ["missing/a.duckdb", "notes.txt", "."])
def test_what_is_not_a_database(tmp_path, target):
    (tmp_path / "notes.txt").write_text("no database\n" * 1000)
    with pytest.raises(hybridq.OperationalError, match="cannot open"):
        hybridq.connect(tmp_path / target)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["hybridq.duckdb", "HybridQ", "hybridq.db"])
def test_a_file_named_like_our_schema(tmp_path, name):
    with pytest.raises(hybridq.OperationalError, match=r"cannot open.*schema(.|\n)*another name"):
        hybridq.connect(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# -- read-only ----------------------------------------------------------------


def snapshot_of(folder):
    return {
        p.relative_to(folder): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_read_only_writes_no_file(path):
    with hybridq.connect(path) as con:
        con.execute("DELETE FROM t WHERE g = 3")
        con.execute(INSERT, row(5000))
    before = snapshot_of(path.parent)
    with hybridq.connect(path, read_only=True) as con:
        check(con)
        for write in (
            "INSERT INTO t (id) VALUES (9999)",
            "CREATE INDEX j ON t USING ann (v)",
            "REINDEX INDEX i",
            "DROP INDEX i",
        ):
            with pytest.raises(hybridq.Error):
                con.execute(write)
        con.execute("ANALYZE t")
        check(con)
    assert snapshot_of(path.parent) == before


@pytest.mark.parametrize("how", ["damaged", "removed", "folder removed"])
def test_read_only_with_a_damaged_segment(path, how):
    folder = Path(f"{path}.hybridq")
    (segment,) = folder.glob("*.seg")
    if how == "damaged":
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 0xFF
        segment.write_bytes(data)
    else:
        segment.unlink()
        if how == "folder removed":
            (folder / "state.json").unlink()
            folder.rmdir()
    before = snapshot_of(path.parent)
    with hybridq.connect(path, read_only=True) as con:
        assert len(con.notices) == 1
        check(con, index=False)
    assert snapshot_of(path.parent) == before
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        check(con)


def test_read_only_after_a_crash(path):
    code = """
import os, sys, hybridq
from tests.durability.cases import INSERT, row
con = hybridq.connect(sys.argv[1])
con.execute(INSERT, row(5000))
con.execute("DELETE FROM t WHERE g = 3")
os._exit(0)
"""
    python(code, path)
    with hybridq.connect(path, read_only=True) as con:
        assert count(con, "id = 5000") == 1
        check(con)
    with hybridq.connect(path) as con:
        check(con)


def test_read_only_of_no_file(tmp_path):
    with pytest.raises(hybridq.OperationalError, match="cannot open"):
        hybridq.connect(tmp_path / "none.duckdb", read_only=True)
    assert list(tmp_path.iterdir()) == []


# -- transactions beside each other -------------------------------------------


def test_a_transaction_keeps_its_snapshot(path):
    with hybridq.connect(path) as one, hybridq.connect(path) as two:
        one.execute("BEGIN")
        two.execute("DELETE FROM t WHERE g < 5")
        two.execute(INSERT, row(5000))
        assert count(one) == 600
        check(one, index=None)
        one.execute("COMMIT")
        assert count(one) == count(two) < 600
        check(one)


def test_second_writer_fails_at_once(path):
    with hybridq.connect(path) as one, hybridq.connect(path) as two:
        one.execute("BEGIN")
        one.execute("UPDATE t SET v = ? WHERE id = 3", [NEAR])
        with pytest.raises(hybridq.OperationalError, match="being written"):
            two.execute("UPDATE t SET g = 3 WHERE id = 3")
        two.execute("BEGIN")
        with pytest.raises(hybridq.OperationalError, match="being written"):
            two.execute("DELETE FROM t WHERE id = 400")
        with pytest.raises(hybridq.OperationalError, match=r"ROLLBACK|aborted"):
            two.execute("SELECT 1")
        two.execute("ROLLBACK")
        one.execute("COMMIT")
        two.execute("UPDATE t SET g = 3 WHERE id = 3")
        assert two.execute("SELECT g, v FROM t WHERE id = 3").fetchall()[0][0] == 3
        check(one)
        check(two)


def test_first_committer_wins(path):
    with hybridq.connect(path) as one, hybridq.connect(path) as two:
        one.execute("BEGIN")
        two.execute("UPDATE t SET v = ? WHERE id = 3", [NEAR])
        with pytest.raises(hybridq.OperationalError, match="serialization"):
            one.execute("UPDATE t SET g = 3 WHERE id = 3")
        with pytest.raises(hybridq.OperationalError):
            one.commit()
        assert not one.in_transaction
        one.execute("UPDATE t SET g = 3 WHERE id = 3")
        g, v = one.execute("SELECT g, v FROM t WHERE id = 3").fetchall()[0]
        assert (g, list(v)) == (3, NEAR)
        check(two)


def test_a_writer_that_is_closed_gives_the_table_back(path):
    with hybridq.connect(path) as con:
        other = hybridq.connect(path)
        other.execute("BEGIN")
        other.execute("DELETE FROM t")
        other.close()
        con.execute("DELETE FROM t WHERE id = 1")
        assert count(con) == 599
        check(con)


@pytest.mark.parametrize("statement", ["REINDEX INDEX i", "DROP INDEX i"])
def test_index_statements_beside_an_open_write(path, statement):
    """Refused or done; the transaction's rows are found after its COMMIT in any case."""
    with hybridq.connect(path) as one, hybridq.connect(path) as two:
        one.execute("BEGIN")
        one.execute(INSERT, row(5000))
        one.execute("DELETE FROM t WHERE g = 3")
        try:
            two.execute(statement)
        except hybridq.OperationalError as error:
            assert "commit or roll back" in str(error)  # noqa: PT017 - or it succeeds
        one.execute("COMMIT")
        assert count(two, "id = 5000") == 1
        check(two, index=None)
    with hybridq.connect(path) as con:
        check(con, index=None)


WRITES = {
    "insert": "INSERT INTO t SELECT id + 5000, g, label, v, note FROM t WHERE g = 3",
    "update": f"UPDATE t SET v = {NEAR} WHERE g = 3",
    "delete": "DELETE FROM t WHERE g = 3",
    "key": "UPDATE t SET id = id + 5000",
    "merge": "MERGE INTO t USING (SELECT 1 AS id) AS s ON t.id = s.id WHEN MATCHED THEN DELETE",
    "truncate": "TRUNCATE t",
}


@pytest.fixture
def plain(tmp_path):
    file = tmp_path / "plain.duckdb"
    with hybridq.connect(file) as con:
        create(con, index=False)
    return file


@pytest.mark.parametrize("write", WRITES)
def test_index_made_beside_uncommitted_writes(plain, write):
    with hybridq.connect(plain) as one, hybridq.connect(plain) as two:
        one.execute("BEGIN")
        one.execute(WRITES[write])
        two.execute("CREATE INDEX i ON t USING ann (v)")
        assert count(two) == 600
        check(two)
        check(one, index=None)
        one.execute("COMMIT")
        check(one)
        check(two)
    with hybridq.connect(plain) as con:
        assert con.notices == []
        check(con)


def test_index_made_again_beside_uncommitted_writes(path):
    """Of the same name as the one that was there at BEGIN."""
    with hybridq.connect(path) as one, hybridq.connect(path) as two:
        one.execute("BEGIN")
        two.execute("DROP INDEX i")
        one.execute(WRITES["insert"])
        two.execute("CREATE INDEX i ON t USING ann (v)")
        one.execute("COMMIT")
        assert count(two) > 600
        check(one)
        check(two)
    with hybridq.connect(path) as con:
        assert con.notices == []
        check(con)


class Meanwhile:
    """A progress that does something once, in the middle of a build."""

    def __init__(self, task, action):
        self.task, self.action, self.done = task, action, False

    def start(self, task, total):
        if task == self.task and not self.done:
            self.done = True
            self.action()

    def advance(self, count):
        pass

    def finish(self):
        pass


@pytest.mark.parametrize("write", WRITES)
def test_write_of_another_thread_while_the_index_is_built(plain, write):
    """The rows are read, the index is not yet there: what commits now must not be missed."""
    with hybridq.connect(plain) as two:
        failures = []

        def work():
            try:
                two.execute(WRITES[write])
            except hybridq.Error as error:
                failures.append(error)

        thread = threading.Thread(target=work)

        def meanwhile():
            thread.start()
            thread.join(0.5)

        progress = Meanwhile("train centroids", meanwhile)
        with hybridq.connect(plain, progress=progress) as one:
            one.execute("CREATE INDEX i ON t USING ann (v) WITH (nlist = 12)")
            thread.join()
            assert progress.done
            assert failures == []
            check(one)
            check(two)
    with hybridq.connect(plain) as con:
        assert con.notices == []
        check(con)


def test_write_of_another_thread_while_the_index_is_rebuilt(path):
    with hybridq.connect(path) as two:
        thread = threading.Thread(target=two.execute, args=(WRITES["update"],))

        def meanwhile():
            thread.start()
            thread.join(0.5)

        progress = Meanwhile("train centroids", meanwhile)
        with hybridq.connect(path, progress=progress) as one:
            one.execute("REINDEX INDEX i")
            thread.join()
            assert progress.done
            assert count(one, "g = 3") > 0
            check(one)
            check(two)
    with hybridq.connect(path) as con:
        assert con.notices == []
        check(con)


def test_many_threads(path):
    """Writers retry on conflict, readers and a rebuild go on beside them; nothing is lost."""
    retries = 0
    failures = []

    def write(first):
        nonlocal retries
        with hybridq.connect(path) as con:
            for i in range(first, first + 20):
                for _ in range(2000):
                    try:
                        con.execute(INSERT, row(i))
                        break
                    except hybridq.OperationalError:
                        retries += 1
                else:
                    failures.append(i)

    def read():
        with hybridq.connect(path) as con:
            for _ in range(30):
                found = con.execute(
                    "SELECT id FROM t WHERE g = 3 ORDER BY v <-> ? LIMIT 10", [NEAR]
                ).fetchall()
                if len(found) != 10:
                    failures.append(found)

    with hybridq.connect(path) as con:
        threads = [threading.Thread(target=write, args=(n,)) for n in (10_000, 20_000)]
        threads.append(threading.Thread(target=read))
        for thread in threads:
            thread.start()
        for _ in range(3):
            try:
                con.execute("REINDEX INDEX i")
            except hybridq.OperationalError:
                retries += 1
        for thread in threads:
            thread.join()
        assert failures == []
        assert count(con) == 640
        check(con)
        assert explained(con)["index"] == "i"
    with hybridq.connect(path) as con:
        assert con.notices == []
        check(con)
