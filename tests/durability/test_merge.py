"""Merges: what they take in, what they leave, and who writes and reads meanwhile."""

import os
import threading
import time

import duckdb
import numpy as np
import pytest

import hybridq
from hybridq.errors import OperationalError
from hybridq.index import upkeep
from tests.durability.album import in_another_process
from tests.durability.cases import DIM, INSERT, check, count, create, row, vector
from tests.equal import index_equals_table


@pytest.fixture
def path(tmp_path):
    return tmp_path / "album.duckdb"


@pytest.fixture
def small(monkeypatch):
    """Every change is worth a segment."""
    monkeypatch.setattr(upkeep, "DELTA_BYTES", 1)


def instance(con):
    return con.check_open().instance


def state(con):
    return instance(con).index_named("i")


def quiet(con):
    """Have merges run only when they are called."""
    instance(con).merger.wait()
    instance(con).merger.enabled = False
    return instance(con).merger


def parts(con):
    return state(con).snapshot.parts


def segments(con):
    return [p for p in parts(con) if p.segment is not None]


def health(con):
    result = con.execute("SELECT * FROM hybridq_health()")
    names = [d[0] for d in result.description]
    return [dict(zip(names, r, strict=True)) for r in result.fetchall()]


def test_trimmed_and_reopened_with_deletions_in_old_segments(path, small):
    con = hybridq.connect(path)
    create(con)
    merger = quiet(con)
    con.execute("DELETE FROM t WHERE id % 3 = 0")
    con.executemany(INSERT, [row(i) for i in range(1000, 1080)])
    assert merger.run(state(con))
    assert len(segments(con)) == 2
    assert con.execute('SELECT count(*) FROM hybridq."changes_i"').fetchall() == [(0,)]
    con.execute("DELETE FROM t WHERE id % 5 = 0")
    con.close()
    for _ in range(2):
        con = hybridq.connect(path)
        assert con.notices == []
        assert len(segments(con)) == 2
        assert sum(p.dead for p in segments(con)) == 200 + 80 + 16
        index_equals_table(con)
        check(con)
        con.close()


def test_a_merge_takes_in_what_is_not_much_larger(path, small):
    con = hybridq.connect(path)
    create(con)
    merger = quiet(con)
    sizes = []
    for i in range(7):
        con.executemany(INSERT, [row(j) for j in range(1000 + 40 * i, 1040 + 40 * i)])
        assert merger.run(state(con))
        assert not merger.run(state(con))
        sizes.append([p.rows for p in segments(con)])
        index_equals_table(con)
    assert sizes[:3] == [[600, 40], [600, 80], [600, 120]]  # the large one is left alone
    assert sizes[3] == [760]  # until the small one is a quarter of it
    assert sizes[4:] == [[760, 40], [760, 80], [760, 120]]
    con.close()
    con = hybridq.connect(path)
    assert con.notices == []
    check(con)
    con.close()


def test_old_files_go_when_the_manifest_does_not_name_them(path, small):
    con = hybridq.connect(path)
    create(con)
    merger = quiet(con)
    folder = instance(con).directory
    old = {p.name for p in folder.glob("*.seg")}
    held = state(con).snapshot
    con.executemany(INSERT, [row(j) for j in range(1000, 1100)])
    merger.run(state(con), whole=True)
    assert {p.name for p in folder.glob("*.seg")}.isdisjoint(old)
    assert len(held.parts[0].vectors.sum(axis=1)) == held.parts[0].n_vectors  # still mapped
    check(con)
    con.close()


def test_dead_rows_are_reclaimed(path):
    con = hybridq.connect(path)
    create(con, 4000)
    merger = quiet(con)
    con.execute("DELETE FROM t WHERE id % 3 = 0")
    assert health(con)[0]["due"] == "many dead rows"
    assert merger.run(state(con))
    assert [p.dead for p in parts(con)] == [0]
    assert health(con)[0]["due"] is None
    index_equals_table(con)
    check(con)
    con.close()


def test_a_log_of_the_same_rows_again_and_again_is_trimmed(path, monkeypatch):
    monkeypatch.setattr(upkeep, "LOG_ROWS", 200)
    con = hybridq.connect(path)
    create(con)
    merger = quiet(con)
    for i in range(30):
        con.execute("UPDATE t SET g = ? WHERE id < 10", [i])
    assert state(con).logged_rows == 300
    assert merger.run(state(con))
    assert state(con).logged_rows == 0
    assert con.execute('SELECT count(*) FROM hybridq."changes_i"').fetchall() == [(0,)]
    index_equals_table(con)
    con.close()


def test_only_published_transactions_are_trimmed(path, small):
    """One that began before the merge, and commits after it, keeps its log."""
    con = hybridq.connect(path)
    create(con)
    con.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, v FLOAT[2])")
    merger = quiet(con)
    late = hybridq.connect(path)
    late.execute("BEGIN")
    late.execute("INSERT INTO other VALUES (1, [1, 2])")
    con.execute(INSERT, row(1000))
    late.execute("ROLLBACK")
    late.execute("BEGIN")
    late.execute(INSERT, row(2000))
    merger.run(state(con))  # the first is in a segment now; the second is not committed
    late.execute("COMMIT")
    assert con.execute('SELECT k0 FROM hybridq."changes_i"').fetchall() == [(2000,)]
    index_equals_table(con)
    late.close()
    con.close()
    con = hybridq.connect(path)
    assert con.notices == []
    index_equals_table(con)
    check(con)
    con.close()


def test_writes_and_reads_while_a_merge_runs(path, small, monkeypatch):
    """The merge stops in the middle; what is written then is not lost by it."""
    con = hybridq.connect(path)
    create(con)
    merger = quiet(con)
    con.executemany(INSERT, [row(j) for j in range(1000, 1300)])
    entered, go = threading.Event(), threading.Event()
    original = type(merger)._write

    def slow(self, job, cut):
        entered.set()
        assert go.wait(20)
        return original(self, job, cut)

    monkeypatch.setattr(type(merger), "_write", slow)
    thread = threading.Thread(target=merger.run, args=(state(con),), kwargs={"whole": True})
    thread.start()
    assert entered.wait(20)
    assert health(con)[0]["status"] == "merging"
    con.execute("DELETE FROM t WHERE id % 4 = 0")
    con.execute("UPDATE t SET v = ? WHERE id BETWEEN 100 AND 140", [vector(2).tolist()])
    con.execute("UPDATE t SET id = id + 5000 WHERE id BETWEEN 1000 AND 1010")
    con.executemany(INSERT, [row(j) for j in range(2000, 2050)])
    check(con)
    other = hybridq.connect(path)
    other.execute("BEGIN")
    before = other.execute("SELECT id FROM t ORDER BY v <-> ? LIMIT 20", [vector(3)]).fetchall()
    go.set()
    thread.join()
    assert (
        other.execute("SELECT id FROM t ORDER BY v <-> ? LIMIT 20", [vector(3)]).fetchall()
        == before
    )
    other.execute("ROLLBACK")
    other.close()
    assert len(segments(con)) == 1
    index_equals_table(con)
    check(con)
    con.close()
    con = hybridq.connect(path)
    assert con.notices == []
    index_equals_table(con)
    check(con)
    con.close()


def test_a_merge_and_a_dropped_index(path, small, monkeypatch):
    con = hybridq.connect(path)
    create(con)
    merger = quiet(con)
    known = state(con)
    con.execute(INSERT, row(1000))
    con.execute("DROP INDEX i")
    assert not merger.run(known, whole=True)
    assert not list(instance(con).directory.glob("*.seg"))
    con.close()


def rows_of(kind, start, stop):
    rng = np.random.default_rng([start, stop])
    centre = {"near": 0.0, "far": 300.0}[kind]
    vectors = rng.normal(size=(stop - start, DIM)) * 2 + centre
    return [(i, i % 7, "x", v.astype(np.float32).tolist(), "n") for i, v in
            zip(range(start, stop), vectors, strict=True)]  # fmt: skip


def table_of(con, rows):
    con.execute(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, g INTEGER, label TEXT, v FLOAT[{DIM}], note TEXT)"
    )
    if rows:
        con.executemany(INSERT, rows)
    con.execute("CREATE INDEX i ON t USING ann (v)")


def test_an_index_that_began_empty_gets_lists(path):
    con = hybridq.connect(path)
    table_of(con, [])
    assert parts(con)[0].nlist == 1
    con.executemany(INSERT, rows_of("near", 0, 3_000))
    instance(con).merger.wait()
    found = health(con)[0]
    assert found["nlist"] > 50
    assert found["trained_rows"] == 3_000
    assert found["last_merge_reason"] == "rows outgrew the lists"
    assert all(p.codes is not None for p in segments(con))
    index_equals_table(con)
    con.close()


def test_an_index_is_trained_anew_when_rows_drift(path):
    """New rows lie where no centroid is; queries among them get their recall back."""
    con = hybridq.connect(path)
    table_of(con, rows_of("near", 0, 3_000))
    merger = quiet(con)
    generation = state(con).snapshot.generation
    con.executemany(INSERT, rows_of("near", 10_000, 11_000))
    assert upkeep.drifted(state(con).snapshot) is None
    con.executemany(INSERT, rows_of("far", 20_000, 21_500))
    assert "drifted" in health(con)[0]["due"]
    while merger.run(state(con)):
        pass
    assert state(con).snapshot.generation is not generation
    assert upkeep.drifted(state(con).snapshot) is None
    index_equals_table(con)
    con.execute(INSERT, rows_of("far", 30_000, 30_001)[0])
    con.executemany(INSERT, rows_of("far", 40_000, 40_400))
    assert {p.generation for p in parts(con) if p.codes is not None} == {
        state(con).snapshot.generation.id
    }
    index_equals_table(con)
    con.close()
    con = hybridq.connect(path)
    assert con.notices == []
    index_equals_table(con)
    con.close()


def test_old_parts_are_searched_beside_a_new_generation(path, monkeypatch):
    """Rows that came while an index was trained anew are coded for the lists before."""
    con = hybridq.connect(path)
    table_of(con, rows_of("near", 0, 1_500))
    merger = quiet(con)
    con.executemany(INSERT, rows_of("near", 10_000, 15_000))
    original = type(merger)._write

    def during(self, job, cut):
        found = original(self, job, cut)
        con.executemany(INSERT, rows_of("far", 20_000, 20_600))
        con.execute("DELETE FROM t WHERE id % 6 = 0")
        return found

    monkeypatch.setattr(type(merger), "_write", during)
    assert merger.run(state(con))
    monkeypatch.undo()
    assert len({p.generation for p in parts(con)}) == 2
    index_equals_table(con)
    con.execute("SET recall = 1")
    for centre in (0.0, 300.0):
        query = np.full(DIM, centre, np.float32)
        exact = con.execute(
            f"SELECT id FROM t ORDER BY array_distance(v, ?::FLOAT[{DIM}])::DOUBLE, id LIMIT 30",
            [query.tolist()],
        ).fetchall()
        text = "SELECT id FROM t ORDER BY v <-> ? LIMIT 30"
        assert con.execute(text, [query]).fetchall() == exact
        con.execute("SET plan = 'fused'")
        con.execute("SET nprobe = 10000")
        assert con.execute(text, [query]).fetchall() == exact
        con.execute("RESET plan")
        con.execute("RESET nprobe")
    con.close()


def test_merge_memory_leaves_large_segments_as_they_are(path, small):
    con = hybridq.connect(path)
    create(con)
    merger = quiet(con)
    con.execute("SET merge_memory = '20kB'")
    assert con.execute("SHOW merge_memory").fetchall() == [("20KB",)]
    con.executemany(INSERT, [row(i) for i in range(1000, 1200)])
    assert merger.run(state(con))
    assert [p.rows for p in segments(con)] == [600, 200]
    con.execute("SELECT * FROM hybridq_merge('i')").fetchall()
    assert [p.rows for p in segments(con)] == [600, 200]
    con.execute("RESET merge_memory")
    con.execute("SELECT * FROM hybridq_merge('i')").fetchall()
    assert [p.rows for p in segments(con)] == [800]
    check(con)
    con.close()


@pytest.mark.parametrize("bad", ["'lots'", "0", "-1", "true", "'5 parsecs'"])
def test_merge_memory_must_be_a_size(bad):
    with hybridq.connect() as con, pytest.raises(hybridq.ProgrammingError, match="merge_memory"):
        con.execute(f"SET merge_memory = {bad}")


@pytest.mark.parametrize(
    ("argument", "error"),
    [("'nothing'", "does not exist"), ("NULL", "not NULL")],
)
def test_merge_of_what_is_no_index(argument, error):
    with hybridq.connect() as con, pytest.raises(hybridq.ProgrammingError, match=error):
        con.execute(f"SELECT * FROM hybridq_merge({argument})").fetchall()


def test_read_only_merges_nothing(path, small):
    con = hybridq.connect(path)
    create(con)
    quiet(con)
    con.executemany(INSERT, [row(i) for i in range(1000, 1300)])
    con.close()
    before = {p.name: p.stat().st_mtime_ns for p in path.parent.rglob("*") if p.is_file()}
    with hybridq.connect(path, read_only=True) as con:
        instance(con).merger.wait()
        assert con.notices == []
        check(con)
        assert health(con)[0]["logged_keys"] == 300
        with pytest.raises(OperationalError, match="read-only"):
            con.execute("SELECT * FROM hybridq_merge('i')").fetchall()
    assert {p.name: p.stat().st_mtime_ns for p in path.parent.rglob("*") if p.is_file()} == before


# -- manifests of other versions --------------------------------------------------


def age(path, *statements):
    with duckdb.connect(str(path)) as con:
        for statement in statements:
            con.execute(statement)


OLD = (
    "DROP TABLE hybridq.manifest",
    "ALTER TABLE hybridq.indexes ADD COLUMN segment TEXT DEFAULT 'i-0123.seg'",
    "DROP TABLE hybridq.segments",
    'ALTER TABLE hybridq."changes_i" DROP COLUMN tx',
    "DROP TABLE hybridq.ladders",
    "CREATE TABLE hybridq.ladders (segment TEXT PRIMARY KEY, ladder TEXT)",
)


def test_an_earlier_manifest_is_upgraded(path):
    with hybridq.connect(path) as con:
        create(con)
    age(path, *OLD)
    with hybridq.connect(path, read_only=True) as con:
        assert len(con.notices) == 1
        assert "earlier" in con.notices[0]
        check(con, index=False)
        assert health(con)[0]["status"] == "unusable"
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        assert "earlier" in con.notices[0]
        check(con)
        con.execute(INSERT, row(1000))
    with hybridq.connect(path) as con:
        assert con.notices == []
        check(con)


def test_a_later_manifest_is_refused(path):
    with hybridq.connect(path) as con:
        create(con)
    age(path, "UPDATE hybridq.manifest SET version = 99")
    for read_only in (True, False):
        with pytest.raises(OperationalError, match="later hybridq"):
            hybridq.connect(path, read_only=read_only)


def test_a_manifest_without_segments(path):
    """As a crash in the middle of an upgrade leaves it."""
    with hybridq.connect(path) as con:
        create(con)
    age(path, "DELETE FROM hybridq.segments")
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        assert "rebuilt" in con.notices[0]
        check(con)
    # What no manifest names is kept until all was found in order.
    assert len(list(path.parent.glob("album.duckdb.hybridq/*.seg"))) == 2
    with hybridq.connect(path) as con:
        assert con.notices == []
    assert len(list(path.parent.glob("album.duckdb.hybridq/*.seg"))) == 1


def test_the_folder_of_another_database(path, tmp_path):
    with hybridq.connect(path) as con:
        create(con)
    other = tmp_path / "other.duckdb"
    with hybridq.connect(other) as con:
        create(con, 300)
    ours, theirs = (p.with_name(p.name + ".hybridq") for p in (path, other))
    ours.rename(tmp_path / "aside")
    theirs.rename(ours)
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        check(con)
        index_equals_table(con)


def test_a_second_process_is_told_who_has_the_file(path):
    with hybridq.connect(path) as con:
        create(con)
        said = in_another_process(
            "import sys, hybridq\n"
            "try: hybridq.connect(sys.argv[1])\n"
            "except hybridq.OperationalError as error: print(error)",
            str(path),
        )
        assert "lock" in said
        assert str(os.getpid()) in said
        check(con)


def test_closing_does_not_wait_for_a_long_merge(path, small, monkeypatch):
    con = hybridq.connect(path)
    create(con)
    merger = instance(con).merger
    merger.wait()
    entered = threading.Event()
    original = type(merger)._write

    def slow(self, job, cut):
        entered.set()
        for _ in range(1000):
            time.sleep(0.02)
            self._progress.advance(1)  # raises when the database is closed
        return original(self, job, cut)

    monkeypatch.setattr(type(merger), "_write", slow)
    con.executemany(INSERT, [row(i) for i in range(1000, 3000)])
    assert entered.wait(20)
    began = time.monotonic()
    con.close()
    assert time.monotonic() - began < 5
    monkeypatch.undo()
    with hybridq.connect(path) as con:
        assert con.notices == []
        assert count(con) == 2600
        check(con)


def test_merges_beside_writers_and_readers(path, monkeypatch):
    """Two writers, two readers, and segments that come and go under them."""
    monkeypatch.setattr(upkeep, "DELTA_BYTES", 1 << 11)
    monkeypatch.setattr(upkeep, "LOG_ROWS", 500)
    con = hybridq.connect(path)
    create(con)
    until = time.monotonic() + 2.5
    failures: list[BaseException] = []
    merges: set[str] = set()

    def writer(number):
        first = 10_000 * (number + 1)
        with hybridq.connect(path) as own:
            for step in range(10_000):
                if time.monotonic() > until:
                    return
                fresh = [row(i) for i in range(first + 20 * step, first + 20 * step + 20)]
                own.executemany(INSERT, fresh)
                own.execute("UPDATE t SET g = ? WHERE id % 13 = ?", [step % 7, step % 13])
                own.execute("DELETE FROM t WHERE id = ?", [first + 20 * step])
                own.begin()
                try:
                    text = "UPDATE t SET v = ? WHERE id = ?"
                    own.execute(text, [vector(step).tolist(), step % 600])
                    own.execute("DELETE FROM t WHERE id = ?", [first + 20 * step + 1])
                    own.commit() if step % 3 else own.rollback()
                except OperationalError:  # the other writer was first
                    own.rollback()

    def reader():
        with hybridq.connect(path) as own:
            while time.monotonic() < until:
                merges.update(p.segment for p in segments(own))
                own.begin()
                query = vector(len(merges)) + np.float32(0.01)
                found = own.execute(
                    "SELECT id, v <-> ? AS d FROM t WHERE g < 4 ORDER BY d LIMIT 10", [query]
                ).fetchall()
                near = dict(own.execute("SELECT id, v FROM t WHERE g < 4").fetchall())
                own.commit()
                assert len(found) == 10
                assert found == sorted(found, key=lambda r: (r[1], r[0]))
                for i, distance in found:
                    away = np.linalg.norm(np.array(near[i]) - query)
                    assert abs(away - distance) < 1e-3

    def guarded(work, *arguments):
        try:
            work(*arguments)
        except BaseException as failure:  # noqa: BLE001 - told by the test
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(writer, n)) for n in range(2)]
    threads += [threading.Thread(target=guarded, args=(reader,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    instance(con).merger.wait()
    assert len(merges) > 2
    assert con.notices == []
    index_equals_table(con)
    check(con)
    con.close()
    con = hybridq.connect(path)
    assert con.notices == []
    index_equals_table(con)
    con.close()
