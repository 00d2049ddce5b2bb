"""A segment: one immutable, checksummed file of named arrays and JSON metadata.

    0    magic, format version, header checksum, total length, header length
    32   header, JSON: metadata; each array's name, type, shape, offset, checksum
         arrays, each from a multiple of 64 bytes, zero-padded to the next

docs/format.md describes every byte. Every byte is under a checksum, so damage is found at
open and named; this module does not know what the arrays mean.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridq.errors import DamagedError, InternalError, OperationalError
from hybridq.storage.files import Files, Sink

MAGIC = b"hybridq\0"
VERSION = 1
ALIGNMENT = 64

_PRELUDE = struct.Struct("<8sIIQQ")  # magic, version, header checksum, total, header length
_CHUNK_BYTES = 1 << 24
_TYPES = ("|u1", "|i1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8")

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """An array given piece by piece: `parts` follow each other along the first axis."""

    dtype: npt.DTypeLike
    shape: tuple[int, ...]
    parts: Iterable[Array]


ArraySource = Array | Chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """Where an array lies in the file; its checksum covers the padding too."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    checksum: int

    @property
    def length(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def end(self) -> int:
        return self.offset + _aligned(self.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """An open segment; the arrays are read-only views of the mapped file."""

    path: Path
    metadata: dict[str, Any]
    arrays: dict[str, Array]
    size_bytes: int

    def damaged(self, what: str) -> DamagedError:
        """Return the error for damage of the file."""
        return _damaged(self.path, what)


def write_segment(
    files: Files, path: Path, metadata: dict[str, Any], arrays: Mapping[str, ArraySource]
) -> None:
    """Write a segment to `path`: whole and durable, or not at all.

    `metadata` is anything JSON can hold. Memory is bounded by the largest chunk.
    """
    sources = {name: _chunks(source) for name, source in arrays.items()}
    header_length = len(_header(metadata, _layout(sources, 0, {})))
    sections = _layout(sources, _PRELUDE.size + header_length, {})
    total = sections[-1].end if sections else _PRELUDE.size + header_length

    def write(sink: Sink) -> None:
        sink.write(bytes(_PRELUDE.size + header_length))
        checksums = {
            section.name: _write_section(sink, section, sources[section.name], path)
            for section in sections
        }
        header = _header(metadata, _layout(sources, _PRELUDE.size + header_length, checksums))
        if len(header) != header_length:
            raise InternalError(f'segment "{path}": the header changed its length')
        unsigned = _PRELUDE.pack(MAGIC, VERSION, 0, total, header_length)
        checksum = zlib.crc32(header, zlib.crc32(unsigned))
        sink.write_at(0, _PRELUDE.pack(MAGIC, VERSION, checksum, total, header_length) + header)

    files.write_atomic(path, write)


def open_segment(files: Files, path: Path, *, trusted: Collection[str] = ()) -> Segment:
    """Map the segment at `path` and verify all of it but the arrays `trusted`.

    Raises OperationalError, naming the path and what is wrong, for a missing, foreign,
    truncated or damaged file.
    """
    found = files.stat(path)
    if found is None:
        raise DamagedError(f'segment "{path}" is missing')
    size = found.size_bytes
    if size < _PRELUDE.size:
        raise _damaged(path, f"it is {size} bytes long, shorter than any segment")
    data = files.map_readonly(path)
    if len(data) != size:
        raise _damaged(path, "its length changed while it was opened")
    magic, version, checksum, total, header_length = _PRELUDE.unpack(
        data[: _PRELUDE.size].tobytes()
    )
    if magic != MAGIC:
        raise _damaged(path, "it does not begin as a segment does")
    if version != VERSION:
        raise OperationalError(
            f'segment "{path}" has format version {version}; this hybridq reads {VERSION}'
        )
    if total != size:
        raise _damaged(path, f"it is {size} bytes long and should be {total}")
    header_end = _PRELUDE.size + header_length
    if header_end > size:
        raise _damaged(path, "its header is longer than the file")
    header = data[_PRELUDE.size : header_end].tobytes()
    unsigned = _PRELUDE.pack(magic, version, 0, total, header_length)
    if zlib.crc32(header, zlib.crc32(unsigned)) != checksum:
        raise _damaged(path, "the header does not match its checksum")
    metadata, sections = _parse_header(path, header)
    arrays: dict[str, Array] = {}
    expected = header_end
    for section in sections:
        if section.offset != expected or section.end > size:
            raise _damaged(path, f'array "{section.name}" is misplaced')
        expected = section.end
        verify = section.name not in trusted
        if verify and _checksum(data[section.offset : section.end]) != section.checksum:
            raise _damaged(path, f'array "{section.name}" does not match its checksum')
        part = data[section.offset : section.offset + section.length]
        arrays[section.name] = part.view(section.dtype).reshape(section.shape)
    if expected != size:
        raise _damaged(path, "bytes follow its last array")
    return Segment(
        path=path,
        metadata=metadata,
        arrays=arrays,
        size_bytes=size,
    )


def _damaged(path: Path, what: str) -> DamagedError:
    return DamagedError(f'segment "{path}" is damaged: {what}')


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _chunks(source: ArraySource) -> Chunks:
    if isinstance(source, Chunks):
        chunks = source
    else:
        chunks = Chunks(dtype=source.dtype, shape=source.shape, parts=(source,))
    dtype = np.dtype(chunks.dtype).newbyteorder("<")
    if dtype.str not in _TYPES:
        raise InternalError(f"a segment cannot hold arrays of type {dtype}")
    return Chunks(dtype=dtype, shape=tuple(chunks.shape), parts=chunks.parts)


def _layout(
    sources: Mapping[str, Chunks], offset: int, checksums: Mapping[str, int]
) -> list[_Section]:
    sections = []
    for name, source in sources.items():
        section = _Section(
            name=name,
            dtype=np.dtype(source.dtype).str,
            shape=source.shape,
            offset=offset,
            checksum=checksums.get(name, 0),
        )
        offset = section.end
        sections.append(section)
    return sections


def _header(metadata: dict[str, Any], sections: list[_Section]) -> bytes:
    """Return the header as JSON, padded so that the arrays begin aligned.

    Offsets and checksums have fixed widths: the length is known before they are.
    """
    described = [
        {
            "name": section.name,
            "dtype": section.dtype,
            "shape": section.shape,
            "offset": f"{section.offset:016x}",
            "crc32": f"{section.checksum:08x}",
        }
        for section in sections
    ]
    text = json.dumps({"metadata": metadata, "arrays": described}, allow_nan=False)
    header = text.encode("ascii")
    return header.ljust(_aligned(_PRELUDE.size + len(header)) - _PRELUDE.size)


def _parse_header(path: Path, header: bytes) -> tuple[dict[str, Any], list[_Section]]:
    try:
        parsed = json.loads(header)
        sections = [
            _Section(
                name=array["name"],
                dtype=array["dtype"],
                shape=tuple(array["shape"]),
                offset=int(array["offset"], 16),
                checksum=int(array["crc32"], 16),
            )
            for array in parsed["arrays"]
        ]
        metadata: dict[str, Any] = parsed["metadata"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, "the header cannot be read") from error
    for section in sections:
        if section.dtype not in _TYPES or min(section.shape, default=0) < 0:
            raise _damaged(path, f'array "{section.name}" has no type or shape of ours')
    return metadata, sections


def _write_section(sink: Sink, section: _Section, source: Chunks, path: Path) -> int:
    """Write the array and its padding; return their checksum."""
    checksum = 0
    length = 0
    for part in source.parts:
        flat = np.ascontiguousarray(part, source.dtype).reshape(-1).view(np.uint8)
        for first in range(0, len(flat), _CHUNK_BYTES):
            data = flat[first : first + _CHUNK_BYTES].data
            checksum = zlib.crc32(data, checksum)
            sink.write(data)
        length += len(flat)
    if length != section.length:
        raise InternalError(
            f'segment "{path}": array "{section.name}" of shape {section.shape} '
            f"came as {length} bytes, not {section.length}"
        )
    padding = bytes(_aligned(length) - length)
    sink.write(padding)
    return zlib.crc32(padding, checksum)


def _checksum(data: npt.NDArray[np.uint8]) -> int:
    checksum = 0
    for first in range(0, len(data), _CHUNK_BYTES):
        checksum = zlib.crc32(data[first : first + _CHUNK_BYTES].data, checksum)
    return checksum
