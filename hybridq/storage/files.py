"""The only module that touches files: it opens, maps, syncs, renames and removes them.

A file appears whole or not at all: it is written beside its place, synced, renamed, and the
directory synced. An OSError leaves as OperationalError naming the path.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hybridq.errors import OperationalError

Uint8s = npt.NDArray[np.uint8]

TEMPORARY_SUFFIX = ".tmp"
"""Ends the name of a file not yet in its place; one found at open is left from a crash."""


class Stat(NamedTuple):
    """A file's length, and when it was changed."""

    size_bytes: int
    changed_ns: int


class Sink(Protocol):
    """A file being written."""

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`."""

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Overwrite bytes already appended."""


class Files(Protocol):
    """What storage asks of a file system."""

    def write_atomic(self, path: Path, write: Callable[[Sink], None]) -> None:
        """Create or replace `path` with what `write` writes; durable on return.

        If anything fails, also in `write`, the old file (or none) remains; only a failure to
        sync the directory can leave the new one, whole. Never a part of it.
        """

    def map_readonly(self, path: Path) -> Uint8s:
        """Map the file; the array is read-only and keeps the mapping alive. Empty if it is."""

    def scratch(self, directory: Path, length: int) -> Uint8s:
        """Return `length` writable bytes on disk, in a file without a name that goes with them."""

    def stat(self, path: Path) -> Stat | None:
        """Return what is known of the file without opening it, None if there is none."""

    def list(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted; none if there is no such directory."""

    def make_dir(self, path: Path) -> None:
        """Create the directory, durably, unless it exists."""

    def remove(self, path: Path) -> None:
        """Remove the file, durably, if it exists."""


class OsFiles:
    """The operating system's files.

    The methods that end in `_step` change the disk: the points where work can be cut short.
    """

    def write_atomic(self, path: Path, write: Callable[[Sink], None]) -> None:
        """Create or replace `path` with what `write` writes; durable on return."""
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        with _named(path, "write"):
            try:
                descriptor = self.open_step(temporary)
                try:
                    write(_DescriptorSink(self, descriptor))
                    self.sync_step(descriptor)
                finally:
                    os.close(descriptor)
                self.rename_step(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.discard_step(temporary)
                raise
            self.sync_directory_step(path.parent)

    def map_readonly(self, path: Path) -> Uint8s:
        """Map the file; the array is read-only and keeps the mapping alive. Empty if it is."""
        with _named(path, "read"), path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return np.frombuffer(b"", np.uint8)
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)

    def scratch(self, directory: Path, length: int) -> Uint8s:
        """Return `length` writable bytes on disk, in a file without a name that goes with them."""
        if length == 0:
            return np.empty(0, np.uint8)
        with _named(directory, "write to"), tempfile.TemporaryFile(dir=directory) as file:
            # Reserved now: a disk that is full later would end the process at a mere store.
            self.reserve_step(file.fileno(), length)
            return np.frombuffer(mmap.mmap(file.fileno(), length), np.uint8)

    def stat(self, path: Path) -> Stat | None:
        """Return what is known of the file without opening it, None if there is none."""
        with _named(path, "read"):
            try:
                found = path.stat()
            except FileNotFoundError:
                return None
            return Stat(found.st_size, found.st_mtime_ns)

    def list(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted; none if there is no such directory."""
        with _named(path, "list"):
            try:
                return sorted(os.listdir(path))  # noqa: PTH208 - names, not paths
            except FileNotFoundError:
                return []

    def make_dir(self, path: Path) -> None:
        """Create the directory, durably, unless it exists."""
        with _named(path, "create"):
            if not path.is_dir():
                self.make_dir_step(path)
                self.sync_directory_step(path.parent)

    def remove(self, path: Path) -> None:
        """Remove the file, durably, if it exists."""
        with _named(path, "remove"):
            if self.remove_step(path):
                self.sync_directory_step(path.parent)

    def open_step(self, path: Path) -> int:
        """Open a new or emptied file for writing; return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def write_step(self, descriptor: int, data: memoryview, offset: int) -> int:
        """Write some of `data` at `offset`; return how many bytes."""
        return os.pwrite(descriptor, data, offset)

    def reserve_step(self, descriptor: int, length: int) -> None:
        """Take `length` bytes of the disk for the file."""
        os.posix_fallocate(descriptor, 0, length)

    def sync_step(self, descriptor: int) -> None:
        """Make the file's bytes durable."""
        os.fsync(descriptor)

    def rename_step(self, source: Path, target: Path) -> None:
        """Put the file in its place."""
        source.replace(target)

    def discard_step(self, path: Path) -> None:
        """Remove what was written of a file that failed."""
        path.unlink(missing_ok=True)

    def make_dir_step(self, path: Path) -> None:
        """Create a directory."""
        path.mkdir(parents=True, exist_ok=True)

    def remove_step(self, path: Path) -> bool:
        """Remove a file; tell whether there was one."""
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    def sync_directory_step(self, path: Path) -> None:
        """Make the names in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _DescriptorSink:
    def __init__(self, files: OsFiles, descriptor: int) -> None:
        self.files = files
        self.descriptor = descriptor
        self.length = 0

    def write(self, data: bytes | memoryview) -> None:
        self.write_at(self.length, data)
        self.length += memoryview(data).nbytes

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        rest = memoryview(data).cast("B")
        while len(rest) > 0:
            written = self.files.write_step(self.descriptor, rest, offset)
            rest = rest[written:]
            offset += written


@contextlib.contextmanager
def _named(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OperationalError(f'cannot {verb} "{path}": {reason}') from error
