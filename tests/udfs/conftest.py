"""Pictures, and a database's side of the plug-in contract in memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from PIL import Image

import hybridq
from hybridq.errors import ProgrammingError
from hybridq.extensions import StoredObject

ALBUM = Path(__file__).parent.parent.parent / "album"

Encode = Callable[..., bytes]


class Counter:
    def __init__(self) -> None:
        self.done = 0

    def start(self, task: str, total: int | None) -> None: ...

    def advance(self, count: int) -> None:
        self.done += count

    def finish(self) -> None: ...


class Objects(dict[tuple[str, str], StoredObject]):
    def get(self, kind: str, name: str) -> StoredObject | None:  # type: ignore[override]
        return super().get((kind, name))

    def names(self, kind: str) -> list[str]:
        return sorted(name for other, name in self if other == kind)

    def put(self, kind: str, name: str, options: dict[str, Any], data: bytes = b"") -> None:
        self[kind, name] = StoredObject(dict(options), data)

    def drop(self, kind: str, name: str) -> bool:
        return self.pop((kind, name), None) is not None


class MemoryContext:
    """What an extractor asks of a database."""

    def __init__(self) -> None:
        self.objects = Objects()
        self.progress = Counter()
        self.settings: dict[str, str] = {"on_bad_input": "error"}

    def setting(self, name: str) -> str:
        if name not in self.settings:
            raise ProgrammingError(f'setting "{name}" does not exist')
        return self.settings[name]

    def query(self, text: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
        with duckdb.connect() as duck:
            yield from duck.sql(text).to_arrow_reader(batch_rows)


@pytest.fixture
def context() -> MemoryContext:
    return MemoryContext()


@pytest.fixture
def con() -> Iterator[hybridq.Connection]:
    connection = hybridq.connect(":memory:")
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def album() -> Path:
    return ALBUM


@pytest.fixture(scope="session")
def attributes() -> list[dict[str, str]]:
    with (ALBUM / "attributes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def photos() -> list[bytes]:
    """Twenty photos of the album, two a class."""
    names = sorted(path.name for path in (ALBUM / "photos").iterdir())
    return [(ALBUM / "photos" / name).read_bytes() for name in names[::50]]


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A picture no two of whose quarters look alike, so that turning it shows."""
    with Image.open(ALBUM / "queries" / "truck_1.png") as image:
        small = image.convert("RGB")
    return small.resize((320, 240), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def encode() -> Encode:
    def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return encoded
