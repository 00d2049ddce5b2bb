import errno
import os

import numpy as np
import pytest

from hybridq.errors import OperationalError
from hybridq.storage.files import TEMPORARY_SUFFIX, OsFiles

STEPS = (
    "open_step",
    "write_step",
    "sync_step",
    "rename_step",
    "sync_directory_step",
    "discard_step",
)


class Killed(BaseException):
    """The process ended."""


class FailingFiles(OsFiles):
    """Fails at the step of number `at` (from 0): once with an OSError, or for good if killed."""

    def __init__(self, at, *, kill=False):
        self.at = at
        self.kill = kill
        self.steps = []

    def step(self, name, arguments):
        self.steps.append(name)
        number = len(self.steps) - 1
        if self.kill and number >= self.at:
            raise Killed
        if number == self.at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return getattr(OsFiles, name)(self, *arguments)


def failing(name):
    return lambda self, *arguments: self.step(name, arguments)


for _name in STEPS:
    setattr(FailingFiles, _name, failing(_name))


class TricklingFiles(OsFiles):
    """Writes at most three bytes at a time."""

    def write_step(self, descriptor, data, offset):
        return super().write_step(descriptor, data[:3], offset)


def write_two_parts(sink):
    sink.write(b"hello, ")
    sink.write(b"world")
    sink.write_at(0, b"H")


def test_a_file_is_written_and_replaced(tmp_path):
    files = OsFiles()
    path = tmp_path / "a"
    files.write_atomic(path, write_two_parts)
    assert path.read_bytes() == b"Hello, world"
    assert files.stat(path).size_bytes == 12
    files.write_atomic(path, lambda sink: sink.write(memoryview(np.arange(3, dtype="<i4"))))
    assert np.frombuffer(path.read_bytes(), "<i4").tolist() == [0, 1, 2]
    assert files.list(tmp_path) == ["a"]


def test_short_writes_are_continued(tmp_path):
    path = tmp_path / "a"
    TricklingFiles().write_atomic(path, write_two_parts)
    assert path.read_bytes() == b"Hello, world"


def test_the_order_of_steps(tmp_path):
    files = FailingFiles(1000)
    files.write_atomic(tmp_path / "a", write_two_parts)
    assert files.steps == [
        "open_step",
        *["write_step"] * 3,
        "sync_step",
        "rename_step",
        "sync_directory_step",
    ]


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("at", range(7))
def test_a_failure_at_any_step(tmp_path, old, kill, at):
    path = tmp_path / "a"
    if old is not None:
        path.write_bytes(old)
    files = FailingFiles(at, kill=kill)
    with pytest.raises(Killed if kill else OperationalError) as raised:
        files.write_atomic(path, write_two_parts)
    if not kill:
        assert str(path) in str(raised.value)
        assert "No space left" in str(raised.value)
        assert isinstance(raised.value.__cause__, OSError)
    found = path.read_bytes() if path.exists() else None
    assert found == (b"Hello, world" if files.steps[at] == "sync_directory_step" else old)
    left = set(OsFiles().list(tmp_path)) - {"a"}
    assert left <= ({"a" + TEMPORARY_SUFFIX} if kill else set())

    OsFiles().write_atomic(path, write_two_parts)  # over what a crash left
    assert path.read_bytes() == b"Hello, world"
    assert OsFiles().list(tmp_path) == ["a"]


def test_an_error_of_the_writer_passes_through(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write(sink):
        sink.write(b"new")
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        OsFiles().write_atomic(path, write)
    assert path.read_bytes() == b"old"
    assert OsFiles().list(tmp_path) == ["a"]


def test_mapping(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(200)))
    data = OsFiles().map_readonly(path)
    assert data.tolist() == list(range(200))
    assert data.dtype == np.uint8
    assert not data.flags.writeable
    part = data[10:20]
    del data
    OsFiles().remove(path)
    assert part.tolist() == list(range(10, 20))  # the mapping outlives the name


def test_mapping_an_empty_file(tmp_path):
    path = tmp_path / "a"
    path.touch()
    assert OsFiles().map_readonly(path).tolist() == []


def test_directories(tmp_path):
    files = OsFiles()
    path = tmp_path / "segments"
    assert files.list(path) == []
    files.make_dir(path)
    files.make_dir(path)
    assert files.list(path) == []
    for name in ("b", "a"):
        files.write_atomic(path / name, lambda sink: sink.write(b""))
    assert files.list(path) == ["a", "b"]
    files.remove(path / "a")
    files.remove(path / "a")
    assert files.list(path) == ["b"]


@pytest.mark.skipif(os.name != "posix", reason="permissions and messages are POSIX's")
@pytest.mark.parametrize(
    "action",
    [
        lambda files, path: files.stat(path.parent / "file" / "below"),
        lambda files, path: files.map_readonly(path),
        lambda files, path: files.write_atomic(path / "below", write_two_parts),
        lambda files, path: files.make_dir(path.parent / "file" / "below"),
        lambda files, path: files.list(path.parent / "file"),
        lambda files, path: files.remove(path.parent),
    ],
    ids=["stat", "map_readonly", "write_atomic", "make_dir", "list", "remove"],
)
def test_errors_name_the_path(tmp_path, action):
    (tmp_path / "file").touch()
    with pytest.raises(OperationalError, match=str(tmp_path)):
        action(OsFiles(), tmp_path / "missing")
