"""What a function of pictures, texts or sounds is given: a column of BLOB or TEXT.

BLOB holds the bytes of a file. TEXT is the text itself to a function of texts; to others it names
a file, as a path or a `file:` URL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from hybridq.arrow import pa
from hybridq.errors import DataError, OperationalError, ProgrammingError
from hybridq.extensions import Context

MOST_FILE_BYTES: Final = 1 << 30


class Inputs:
    """One Arrow column of inputs."""

    def __init__(
        self,
        function: str,
        column: Any,
        context: Context,
        noun: str = "image",
        begins_at: int | None = None,
    ) -> None:
        """Take a column; ProgrammingError where its type is none of those above.

        `begins_at` is the place of its first row in a query's result, where that is known.
        """
        kind = column.type
        self.noun = noun
        self._begins_at = begins_at
        self._column = column
        self.texts = is_text(kind)
        if not (pa.types.is_null(kind) or self.texts or _is_binary(kind)):
            raise ProgrammingError(
                f"{function} takes the bytes of a file (BLOB) or its path (TEXT), not {kind}",
                hint=f"of a file: SELECT {function}(content) FROM read_blob('…')",
            )
        if self.texts and noun != "text" and column.null_count < len(column):
            _refuse_unless_allowed(context)

    def __len__(self) -> int:
        return len(self._column)

    def is_null(self, row: int) -> bool:
        """Tell whether the row is NULL."""
        return not self._column[row].is_valid

    def value(self, row: int) -> Any:
        """Return the row's bytes or text as it was given."""
        return self._column[row].as_py()

    def content(self, row: int) -> bytes:
        """Return the bytes of the row's file; DataError where it cannot be read."""
        value = self.value(row)
        return read_file(value) if self.texts else bytes(value)

    def named(self, row: int) -> str:
        """Return the row's place and look, for an error message."""
        value = self.value(row)
        look = _look(value.encode() if isinstance(value, str) else bytes(value))
        if self.texts and self.noun != "text":
            look = repr(value)
        if self._begins_at is not None:
            return f"{self.noun} {self._begins_at + row + 1:,} of the query ({look})"
        return f"{self.noun} {row + 1:,} of this batch ({look})"


def is_text(kind: Any) -> bool:
    """Tell whether an Arrow type is text."""
    return any(
        check(kind)
        for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _is_binary(kind: Any) -> bool:
    return any(
        check(kind)
        for check in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


def read_file(name: str) -> bytes:
    """Return the bytes of the file with this path or `file:` URL; DataError says why not."""
    path = _path(name)
    try:
        if not path.is_file():
            raise DataError("it is a folder" if path.is_dir() else "there is no such file")
        if path.stat().st_size > MOST_FILE_BYTES:
            raise DataError(f"the file has more than {MOST_FILE_BYTES:,} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise DataError(f"the file cannot be read: {reason or error}") from error


def _path(name: str) -> Path:
    if not name.startswith("file:"):
        return Path(name).expanduser()
    url = urlsplit(name)
    if url.netloc not in ("", "localhost"):
        raise DataError(f"the file is on another machine, {url.netloc}")
    return Path(unquote(url.path))


def _refuse_unless_allowed(context: Context) -> None:
    query = "SELECT current_setting('enable_external_access')::BOOLEAN AS allowed"
    for batch in context.query(query, 1):
        if not batch.column(0)[0].as_py():
            raise OperationalError(
                "this database must not read files (enable_external_access is false)",
                hint="give the bytes of the file as a BLOB",
            )


def _look(data: bytes) -> str:
    if not data:
        return "0 bytes"
    start = data[:12]
    shown = repr(start.decode("ascii")) if start.isascii() and start.decode().isprintable() else ""
    return f"{len(data):,} bytes, starts with {shown or '0x' + start.hex()}"
