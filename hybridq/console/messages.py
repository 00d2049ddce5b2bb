"""What the console says besides results: counts, times, notices, and errors in one line."""

from __future__ import annotations

import re
import sys
import traceback

from hybridq.console.splitter import Item, Statement
from hybridq.console.terminal import columns, display_width, has_colour, paint, visible
from hybridq.errors import Error

_EXCERPT = re.compile(r"\n+LINE \d+: .*", re.DOTALL)
_INDENT = 2


def counted(count: int, noun: str) -> str:
    """Return "1 row", "2 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time with a unit that suits it."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.2f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def size(count_bytes: float) -> str:
    """Return a number of bytes with a unit that suits it."""
    for unit in ("bytes", "kB", "MB"):
        if count_bytes < 1000:
            return f"{count_bytes:.3g} {unit}" if unit != "bytes" else f"{count_bytes:.0f} bytes"
        count_bytes /= 1000
    return f"{count_bytes:.3g} GB"


def one_line(message: str) -> str:
    """Return a message in one line, without an excerpt of the statement."""
    text = _EXCERPT.sub("", message)
    return visible(" ".join(text.split())) or "unknown error"


def caret(text: str, position: tuple[int, int], width: int) -> str:
    """Return the line of a statement where an error is, with a mark below; '' where it has none."""
    number, column = position
    lines = text.split("\n")
    if not 1 <= number <= len(lines) or column < 1:
        return ""
    line, at = lines[number - 1].replace("\t", " "), column - 1
    room = max(20, width - _INDENT - 1)
    if len(line) > room:
        start = max(0, min(at - room // 2, len(line) - room))
        line, at = line[start : start + room], at - start
    line = visible(line)
    return f"{' ' * _INDENT}{line}\n{' ' * (_INDENT + display_width(line[:at]))}^\n"


def notice(text: str) -> None:
    """Tell the user something to mind, on stderr."""
    head = paint("NOTICE:", "yellow", colour=has_colour(sys.stderr))
    sys.stderr.write(f"{head} {one_line(text)}\n")


def report(
    error: Exception, *, debug: bool, item: Item | None = None, source: str | None = None
) -> None:
    """Say on stderr what failed in one line, with a hint and the place where these are known.

    `item` is what failed, in the script `source`.
    """
    sys.stdout.flush()
    if debug:
        traceback.print_exception(error)
    head, message, hint, excerpt = "ERROR:", str(error), None, ""
    place = f" ({source} line {item.line})" if source and item else ""
    match error:
        case Error():
            message, hint = error.message, error.hint
            if error.position is not None and isinstance(item, Statement):
                line, column = error.position
                column += item.column - 1 if line == 1 else 0
                script = f"{source} " if source else ""
                place = f" ({script}line {line + item.line - 1}, column {column})"
                if sys.stderr.isatty():
                    excerpt = caret(item.text, error.position, columns())
        case OSError(filename=str() as name, strerror=str() as reason):
            message = f"{name}: {reason}"
        case _:
            head, message = "INTERNAL ERROR:", f"{type(error).__name__}: {error}"
            hint = None if debug else "--debug shows where it comes from"
    colour = has_colour(sys.stderr)
    sys.stderr.write(f"{paint(head, 'red', colour=colour)} {one_line(message)}{place}\n{excerpt}")
    if hint:
        sys.stderr.write(f"{paint('HINT:', 'cyan', colour=colour)} {one_line(hint)}\n")
    sys.stderr.flush()
