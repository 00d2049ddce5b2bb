"""Segments that are damaged, files changed by others, disks that fail: said once, never wrong."""

import errno
import json
import shutil

import pytest

import hybridq
from hybridq import instance
from hybridq.index import upkeep
from hybridq.storage.files import OsFiles
from tests.durability import album
from tests.durability.album import DIM

NEW = [float(i) for i in range(DIM)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    file = tmp_path_factory.mktemp("album") / "album.duckdb"
    album.create(file)
    return file


@pytest.fixture
def path(made, tmp_path):
    return album.copy_of(made, tmp_path)


def damage(how, segment):
    data = bytearray(segment.read_bytes())
    match how:
        case "removed":
            segment.unlink()
            return
        case "empty":
            data = bytearray()
        case "cut short":
            data = data[: len(data) // 2]
        case "one byte short":
            data = data[:-1]
        case "longer":
            data += b"\0" * 64
        case "header":
            data[3] ^= 0xFF
        case "zeroed":
            data = bytearray(len(data))
        case "another file":
            data = bytearray(b"hello, world\n" * 1000)
    segment.write_bytes(data)


@pytest.mark.parametrize(
    "how",
    [
        "removed",
        "empty",
        "cut short",
        "one byte short",
        "longer",
        "header",
        "zeroed",
        "another file",
    ],
)
def test_damaged_segment(path, how):
    (segment,) = album.segments(path)
    damage(how, segment)
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        assert "photos_v" in con.notices[0]
        assert "was rebuilt" in con.notices[0]
        album.check(con)
    with hybridq.connect(path) as con:
        assert con.notices == []
        album.check(con)
    assert len(album.segments(path)) == 1


@pytest.mark.parametrize("place", [i / 23 for i in range(23)])
def test_flipped_byte(path, place):
    """Wherever a byte is wrong: it is found at open, or no answer depends on it."""
    (segment,) = album.segments(path)
    data = bytearray(segment.read_bytes())
    data[int(place * len(data))] ^= 0x40
    segment.write_bytes(data)
    with hybridq.connect(path) as con:
        album.check(con, indexed=None)
        con.check_open().instance.merger.wait()
        album.check(con)


def test_directory_removed(path):
    shutil.rmtree(f"{path}.hybridq")
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        album.check(con)
    with hybridq.connect(path) as con:
        assert con.notices == []
        album.check(con)


def test_damaged_segment_with_changes_in_the_log(path):
    with hybridq.connect(path) as con:
        con.execute("UPDATE photos SET v = ? WHERE id < 20", [NEW])
        con.execute("DELETE FROM photos WHERE id > 350")
    (segment,) = album.segments(path)
    damage("header", segment)
    for notices in (1, 0):
        with hybridq.connect(path) as con:
            assert len(con.notices) == notices
            album.check(con)


def test_damaged_segment_read_only(path):
    (segment,) = album.segments(path)
    damage("cut short", segment)
    with hybridq.connect(path, read_only=True) as con:
        assert len(con.notices) == 1
        assert "is not used" in con.notices[0]
        album.check(con, indexed=False)


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO photos VALUES (9001, 'a', [1, 2, 3, 4, 5, 6])",
        "UPDATE photos SET v = [1, 2, 3, 4, 5, 6] WHERE id < 9",
        "UPDATE photos SET label = 'b' WHERE id < 9",
        "UPDATE photos SET id = id + 1000 WHERE id < 9",
        "DELETE FROM photos WHERE id < 9",
    ],
)
def test_foreign_writer(path, change):
    album.foreign(path, change)
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        assert "another program" in con.notices[0]
        album.check(con)
    with hybridq.connect(path) as con:
        assert con.notices == []
        album.check(con)


def test_foreign_writer_seen_read_only(path):
    album.foreign(path, "DELETE FROM photos WHERE id < 9")
    for _ in range(2):
        with hybridq.connect(path, read_only=True) as con:
            assert len(con.notices) == 1
            album.check(con)


def test_foreign_writer_after_our_own_changes(path):
    with hybridq.connect(path) as con:
        con.execute("UPDATE photos SET v = ? WHERE id < 20", [NEW])
    album.foreign(path, "UPDATE photos SET v = NULL WHERE id >= 10 AND id < 30")
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        album.check(con)


def test_foreign_reader_is_not_noticed(path):
    album.foreign(path, "SELECT count(*) FROM photos")
    with hybridq.connect(path) as con:
        assert con.notices == []
        album.check(con)


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE photos",
        "ALTER TABLE photos RENAME TO pictures",
        "ALTER TABLE photos DROP COLUMN label",
        "ALTER TABLE photos ALTER label TYPE BLOB",
    ],
)
def test_foreign_schema_change(path, change):
    album.foreign(path, change)
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        assert "photos_v" in con.notices[0]
        assert con.execute("SELECT 1").fetchall() == [(1,)]
        if "COLUMN" in change or "TYPE" in change:
            found = con.execute("SELECT id FROM photos ORDER BY v <-> ? LIMIT 9", [NEW]).fetchall()
            assert len(found) == 9


def test_foreign_table_made_anew(path):
    """The table of the same name and shape, but other rows."""
    album.foreign(
        path,
        "CREATE TABLE other AS SELECT id * 3 AS id, 'b' AS label, v FROM photos",
        "DROP TABLE photos",
        f"CREATE TABLE photos (id INTEGER PRIMARY KEY, label TEXT, v FLOAT[{DIM}])",
        "INSERT INTO photos SELECT * FROM other",
    )
    with hybridq.connect(path) as con:
        assert len(con.notices) == 1
        album.check(con)


@pytest.mark.parametrize("bad", ["NaN", "Infinity"])
@pytest.mark.parametrize("segment_gone", [False, True])
def test_foreign_writer_of_what_the_index_cannot_hold(path, bad, segment_gone):
    """A vector no write of ours would let in must not lock anyone out of the database."""
    album.foreign(path, f"UPDATE photos SET v = [1, 2, '{bad}'::FLOAT, 4, 5, 6] WHERE id = 3")
    if segment_gone:
        album.segments(path)[0].unlink()
    with hybridq.connect(path) as con:
        assert con.notices
        assert "3" in " ".join(con.notices)
        found = con.execute("SELECT id FROM photos ORDER BY v <-> ? LIMIT 9", [NEW]).fetchall()
        assert len(found) == 9
        con.execute("DELETE FROM photos WHERE id = 3")
        con.execute("REINDEX INDEX photos_v")
        album.check(con)
    with hybridq.connect(path) as con:
        album.check(con)


@pytest.mark.parametrize(
    "text", ["", "{}", "not json", '{"signature": [0, 0]}', '{"signature": 7}', "[]"]
)
def test_stale_state_file(path, text):
    (path.parent / f"{path.name}.hybridq" / "state.json").write_text(text)
    with hybridq.connect(path) as con:
        assert con.notices == []
        album.check(con)


def test_state_file_is_valid_json_after_close(path):
    state = json.loads((path.parent / f"{path.name}.hybridq" / "state.json").read_text())
    assert "signature" in state


def test_database_restored_from_an_older_copy(path, tmp_path):
    """The table goes back in time, the segments do not."""
    shutil.copy(path, tmp_path / "backup")
    with hybridq.connect(path) as con:
        con.execute("UPDATE photos SET v = ? WHERE id < 50", [NEW])
        con.execute("REINDEX INDEX photos_v")
    shutil.copy(tmp_path / "backup", path)
    with hybridq.connect(path) as con:
        album.check(con)


def test_database_copied_without_its_segments(path, tmp_path):
    shutil.copy(path, tmp_path / "copy.duckdb")
    with hybridq.connect(tmp_path / "copy.duckdb") as con:
        assert len(con.notices) == 1
        album.check(con)


def test_leftovers_of_a_crash_are_removed(path):
    folder = path.parent / f"{path.name}.hybridq"
    (folder / "photos_v-0123456789ab.seg").write_bytes(b"half")
    (folder / "photos_v-ba9876543210.seg.tmp").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    with hybridq.connect(path) as con:
        album.check(con)
    assert len(album.segments(path)) == 1
    assert not list(folder.glob("*.tmp"))
    assert (folder / "notes.txt").exists()


class FailingFiles(OsFiles):
    """A disk that fails at one of the steps of a write, every time."""

    def __init__(self, step, code):
        self.step, self.code = step, code

    def fail(self, step):
        if step == self.step:
            raise OSError(self.code, "injected")

    def open_step(self, path):
        self.fail("open")
        return super().open_step(path)

    def write_step(self, descriptor, data, offset):
        self.fail("write")
        return super().write_step(descriptor, data, offset)

    def sync_step(self, descriptor):
        self.fail("sync")
        super().sync_step(descriptor)

    def rename_step(self, source, target):
        self.fail("rename")
        super().rename_step(source, target)

    def sync_directory_step(self, path):
        self.fail("sync directory")
        super().sync_directory_step(path)


STEPS = ["open", "write", "sync", "rename", "sync directory"]


@pytest.mark.parametrize("step", STEPS)
def test_failing_disk_leaves_the_old_index(path, step):
    with hybridq.connect(path) as con:
        con.execute("UPDATE photos SET v = ? WHERE id < 20", [NEW])
        ours = con.check_open().instance
        working, ours.store.files = ours.store.files, FailingFiles(step, errno.ENOSPC)
        with pytest.raises(hybridq.OperationalError, match="injected"):
            con.execute("REINDEX INDEX photos_v")
        album.check(con)
        con.execute("DELETE FROM photos WHERE id > 390")
        album.check(con)
        ours.store.files = working
        con.execute("REINDEX INDEX photos_v")
        album.check(con)
    with hybridq.connect(path) as con:
        assert con.notices == []
        album.check(con)
    assert len(album.segments(path)) == 1


@pytest.mark.parametrize("step", STEPS)
def test_failing_disk_at_create_index(tmp_path, step):
    with hybridq.connect(tmp_path / "a.duckdb") as con:
        con.execute(f"CREATE TABLE photos (id INTEGER PRIMARY KEY, label TEXT, v FLOAT[{DIM}])")
        con.executemany("INSERT INTO photos VALUES (?, ?, ?)", album.rows(50))
        ours = con.check_open().instance
        working, ours.store.files = ours.store.files, FailingFiles(step, errno.EIO)
        with pytest.raises(hybridq.OperationalError, match="injected"):
            con.execute("CREATE INDEX photos_v ON photos USING ann (v)")
        album.check(con, indexed=False)
        ours.store.files = working
        con.execute("CREATE INDEX photos_v ON photos USING ann (v)")
        album.check(con)


def test_failing_disk_at_the_rebuild_of_a_damaged_segment(path, monkeypatch):
    """The database opens; its index is not there, and that is said."""
    (segment,) = album.segments(path)
    damage("header", segment)
    monkeypatch.setattr(instance, "OsFiles", lambda: FailingFiles("write", errno.ENOSPC))
    con = hybridq.connect(path)
    try:
        assert any("injected" in notice for notice in con.notices)
        album.check(con, indexed=False)
        con.execute("DELETE FROM photos WHERE id = 3")
        album.check(con, indexed=False)
    finally:
        monkeypatch.undo()
        con.check_open().instance.store.files = OsFiles()
        con.close()
    with hybridq.connect(path) as con:
        album.check(con)


def test_failing_disk_after_commit(path, monkeypatch):
    """COMMIT has happened: that the delta cannot be merged is no error of it, and loses nothing."""
    monkeypatch.setattr(upkeep, "DELTA_BYTES", 1)
    with hybridq.connect(path) as con:
        ours = con.check_open().instance
        working, ours.store.files = ours.store.files, FailingFiles("write", errno.ENOSPC)
        con.executemany("INSERT INTO photos VALUES (?, ?, ?)", album.rows(300, start=1000))
        ours.merger.wait()
        assert len(con.notices) == 1
        assert "could not be merged" in con.notices[0]
        assert len(album.content(con)) == 700
        album.check(con)
        con.executemany("INSERT INTO photos VALUES (?, ?, ?)", album.rows(10, start=1900))
        ours.merger.wait()
        assert len(con.notices) == 1  # tried again when there is more to merge
        ours.store.files = working
        con.executemany("INSERT INTO photos VALUES (?, ?, ?)", album.rows(290, start=2000))
        ours.merger.wait()
        assert len(con.notices) == 1
        assert con.execute("SELECT delta_rows FROM hybridq_health()").fetchall() == [([],)]
        album.check(con)
    with hybridq.connect(path) as con:
        assert len(album.content(con)) == 1000
        album.check(con)


def test_commit_that_fails_in_duckdb(path):
    """What DuckDB refuses at COMMIT is in neither the table nor the index."""
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        con.execute("CREATE TABLE counters (n INTEGER)")
        con.execute("INSERT INTO counters VALUES (0)")
        con.begin()
        other.begin()
        con.execute("UPDATE counters SET n = 1")
        other.execute("INSERT INTO photos VALUES (9001, 'a', ?)", [NEW])
        with pytest.raises(hybridq.Error):
            other.execute("UPDATE counters SET n = 2")
        con.commit()
        with pytest.raises(hybridq.OperationalError):
            other.commit()
        assert 9001 not in album.content(con)
        album.check(con)
        album.check(other)


def test_statement_that_fails_half_way(path):
    with hybridq.connect(path) as con:
        before = album.content(con)
        with pytest.raises(hybridq.IntegrityError):
            con.execute("INSERT INTO photos VALUES (9001, 'a', ?), (3, 'b', ?)", [NEW, NEW])
        with pytest.raises(hybridq.DataError):
            con.execute(
                "INSERT INTO photos VALUES (9001, 'a', ?), (9002, 'b', ?)",
                [NEW, [1.0, 2.0, float("nan"), 4.0, 5.0, 6.0]],
            )
        with pytest.raises(hybridq.Error):
            con.executemany(
                "INSERT INTO photos VALUES (?, ?, ?)", [(9001, "a", NEW), (3, "a", NEW)]
            )
        assert album.content(con) == before
        album.check(con)
