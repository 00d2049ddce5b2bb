"""DuckDB's errors as ours: the right PEP 249 class, one clear message, the position if any."""

from __future__ import annotations

import re

import duckdb

from hybridq import errors

_CLASSES: tuple[tuple[type[Exception], type[errors.Error]], ...] = (
    (duckdb.InternalException, errors.InternalError),
    (duckdb.IntegrityError, errors.IntegrityError),
    (duckdb.NotSupportedError, errors.NotSupportedError),
    (duckdb.DataError, errors.DataError),
    (duckdb.ProgrammingError, errors.ProgrammingError),
    (duckdb.OperationalError, errors.OperationalError),
    (duckdb.DatabaseError, errors.DatabaseError),
)
_PREFIX = re.compile(r"^(?:[A-Z]\w*(?: [A-Z]\w*)*) Error: |^Out of Range Error: ")
_LINE = re.compile(r"^LINE (\d+): (.*)\n( *)\^", re.MULTILINE)
_UDF = "Python exception occurred while executing the UDF: "


def translate(error: BaseException) -> errors.Error:
    """Return the error of ours that says what DuckDB's says."""
    if isinstance(error, errors.Error):
        return error
    text = str(error).strip()
    position = None
    found = _LINE.search(text)
    if found:
        prefix = len(f"LINE {found[1]}: ")
        column = len(found[3]) - prefix + 1
        if column >= 1 and not found[2].startswith("..."):
            position = (int(found[1]), column)
        text = text[: found.start()].strip()
    text = _PREFIX.sub("", text, count=1)
    if _UDF in text:
        text = text.split(_UDF, 1)[1]
    message, _, rest = text.partition("\n")
    hint = " ".join(rest.split()) or None
    kind = next((ours for theirs, ours in _CLASSES if isinstance(error, theirs)), None)
    if kind is None:
        kind = errors.OperationalError if isinstance(error, OSError) else errors.InterfaceError
    if isinstance(error, duckdb.InterruptException):
        return errors.OperationalError("the statement was cancelled")
    if isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException)):
        kind = errors.DataError
    if "dimensions must be equal" in message:
        kind = errors.DataError
    return kind(message.rstrip(), hint=hint, position=position)
