"""A crash at every step: the files as they were before it, opened again and compared.

A workload of writes, merges, a rebuild and checkpoints runs once; before every step that changes
the disk, and around every publication, the database is copied as a crash would leave it there:

    killed   what was written is there, synced or not
    power    of a file that was not synced nothing is there, a rename that was not synced is undone
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import hybridq
from hybridq.index import upkeep
from hybridq.instance import Instance
from hybridq.merger import Merger
from hybridq.storage import manifest
from hybridq.storage.files import OsFiles
from tests.durability.cases import INSERT, check, create, row, vector

STEPS = (
    "open_step",
    "write_step",
    "sync_step",
    "rename_step",
    "discard_step",
    "make_dir_step",
    "remove_step",
    "sync_directory_step",
)


def content(con):
    """Return the table's rows, vectors and all."""
    return con.execute("SELECT id, g, label, v, note FROM t ORDER BY id").fetchall()


class Camera:
    """Copies a database at moments of its life, with what it should hold then."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        self.images = []
        self.expected = [None]
        self.on = False

    def take(self, name, unsynced=(), renamed=()):
        if not self.on:
            return
        for kind in ("killed", "power"):
            if kind == "power" and not unsynced and not renamed:
                continue
            target = self.folder / f"{len(self.images):04}-{name}-{kind}"
            target.mkdir()
            for file in self.path.parent.glob(f"{self.path.name}*"):
                if file.is_dir():
                    shutil.copytree(file, target / file.name)
                else:
                    shutil.copy2(file, target)
            if kind == "power":
                self._lose(target, unsynced, renamed)
            self.images.append((target, list(self.expected)))

    def _lose(self, target, unsynced, renamed):
        for source, name in reversed(renamed):
            copied = target / name.relative_to(self.path.parent)
            if copied.exists():
                copied.rename(target / source.relative_to(self.path.parent))
        for name in unsynced:
            copied = target / name.relative_to(self.path.parent)
            if copied.exists():
                copied.write_bytes(bytes(copied.stat().st_size // 2))


class FilmedFiles(OsFiles):
    """Has a picture taken before every step; knows what is not durable yet."""

    def __init__(self, camera, every_write):
        self.camera = camera
        self.every_write = every_write
        self.descriptors = {}
        self.unsynced = set()
        self.renamed = []
        self.writes = 0

    def before(self, name, arguments):
        if name == "write_step":
            self.writes += 1
            if not self.every_write and self.writes % 25:
                return
        self.camera.take(name, self.unsynced, self.renamed)

    def after(self, name, arguments, result):
        if name == "open_step":
            self.descriptors[result] = arguments[0]
            self.unsynced.add(arguments[0])
        elif name == "sync_step":
            self.unsynced.discard(self.descriptors[arguments[0]])
        elif name == "rename_step":
            self.renamed.append(arguments)
        elif name == "sync_directory_step":
            self.renamed.clear()


def filmed(name):
    def step(self, *arguments):
        self.before(name, arguments)
        result = getattr(OsFiles, name)(self, *arguments)
        self.after(name, arguments, result)
        return result

    return step


for _name in STEPS:
    setattr(FilmedFiles, _name, filmed(_name))


SAMPLED = 24
NEAR = vector(1).tolist()


def workload(con, ours, state):
    """Yield before each thing that is done: what it may change is a matter of the one after."""
    con.executemany(INSERT, [row(i) for i in range(1000, 1060)])
    yield
    ours.merger.run(state)  # a second segment
    yield
    con.execute("DELETE FROM t WHERE id % 9 = 0")
    yield
    con.execute("UPDATE t SET g = 3 WHERE id % 11 = 0")
    yield
    con.executemany(INSERT, [row(i) for i in range(2000, 2030)])
    yield
    ours.merger.run(state)  # takes in the second, leaves the first with deletions
    yield
    con.execute("CHECKPOINT")
    yield
    con.execute("BEGIN")
    con.execute("UPDATE t SET v = ? WHERE id IN (5, 50, 500)", [NEAR])
    con.execute("DELETE FROM t WHERE id BETWEEN 20 AND 30")
    con.execute(INSERT, row(25))
    con.execute("COMMIT")
    yield
    con.execute("BEGIN")
    con.execute("DELETE FROM t WHERE id > 300")
    con.execute("ROLLBACK")
    yield
    con.execute("UPDATE t SET id = id + 10000 WHERE id % 13 = 1")
    yield
    con.execute("UPDATE t SET v = NULL WHERE id = 4")
    yield
    ours.merger.run(state)
    yield
    con.execute("DELETE FROM t WHERE id % 5 = 0")
    yield
    ours.merger.run(state)  # nothing but deletions: the log is trimmed
    yield
    ours.merger.run(state, whole=True)
    yield
    con.execute("DELETE FROM t WHERE id % 7 = 0")
    yield
    con.execute("REINDEX INDEX i")
    yield
    con.execute("DELETE FROM t")
    yield
    con.execute(INSERT, row(3))
    yield
    ours.merger.run(state, whole=True)
    yield
    con.execute("DROP INDEX i")
    yield


def film(tmp_path, monkeypatch, *, every_write):
    """Run the workload; return the pictures taken."""
    monkeypatch.setattr(upkeep, "DELTA_BYTES", 1)
    monkeypatch.setattr(upkeep, "LOG_ROWS", 50)
    path = tmp_path / "live" / "album.duckdb"
    path.parent.mkdir()
    (tmp_path / "images").mkdir()
    camera = Camera(path, tmp_path / "images")

    def around(owner, name):
        original = getattr(owner, name)

        def wrapped(*arguments, **named):
            camera.take(name)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, wrapped)

    around(Instance, "publish")
    for name in ("put_merge", "put_index", "put_segment"):
        around(manifest, name)
    with hybridq.connect(path) as con:
        ours = con.check_open().instance
        ours.merger.enabled = False
        ours.store.files = FilmedFiles(camera, every_write)
        create(con)
        state = ours.index_named("i")
        camera.on = True
        camera.expected = [content(con)]
        steps = workload(con, ours, state)
        while True:
            camera.take("between")
            # While a step runs, its statement may have committed or not.
            before = content(con)
            camera.expected = [before, None]
            state = ours.index_named("i")
            if next(steps, steps) is steps:
                break
            after = content(con)
            for image, expected in camera.images:
                if expected[-1] is None:
                    expected[-1] = after
                    assert image.exists()
            camera.expected = [after]
        camera.on = False
    return camera.images


def compare(image, expected):
    """What was acknowledged is there, nothing else, and the index knows exactly that."""
    with hybridq.connect(image / "album.duckdb") as con:
        # What is not in the log would be found by comparison, and said.
        assert con.notices == []
        found = content(con)
        assert found in expected
        indexed = con.execute("SELECT count(*) FROM hybridq.indexes").fetchall() == [(1,)]
        check(con, index=indexed)
    with hybridq.connect(image / "album.duckdb") as con:
        assert con.notices == []
        con.check_open().instance.merger.wait()  # what was due at the open
        named = {s for (s,) in con.execute("SELECT segment FROM hybridq.segments").fetchall()}
        there = {p.name for p in Path(f"{image / 'album.duckdb'}.hybridq").glob("*.seg*")}
        assert there == named


def test_a_crash_at_every_sync(tmp_path, monkeypatch):
    images = film(tmp_path, monkeypatch, every_write=False)
    assert len({image.name.split("-")[1] for image, _ in images}) >= 8
    for image, expected in images[:: max(1, len(images) // SAMPLED)]:
        compare(image, expected)


@pytest.mark.slow
def test_a_crash_at_every_step(tmp_path, monkeypatch):
    for image, expected in film(tmp_path, monkeypatch, every_write=True):
        compare(image, expected)


def test_merger_is_awake_by_default():
    with hybridq.connect() as con:
        merger = con.check_open().instance.merger
        assert isinstance(merger, Merger)
        assert merger.enabled
