"""Hints of one select: `SELECT /*+ recall(0.99) nprobe(20) plan(fused) */ …`.

A hint is a comment that begins with `+` and stands right after the SELECT it is for. Only
statements with a distance have hints of ours: elsewhere `/*+ … */` is a comment like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from hybridq.errors import ProgrammingError
from hybridq.settings import checked
from hybridq.sql.lexical import Piece, line_and_column

NAMES = ("recall", "nprobe", "plan")

Hints: TypeAlias = tuple[tuple[str, Any], ...]
"""(setting, value) of each hint."""

_MARK = re.compile(r"--|/\*|\*/")
_HINT = re.compile(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*,?")


def hints_of(piece: Piece) -> Hints:
    """Return the hints of the select that `piece` is."""
    return next((hints for after, hints in _hints(piece) if after == 0), ())


def all_hints(piece: Piece) -> list[Hints]:
    """Return the hints of every select of a statement; ProgrammingError if one is none."""
    return [hints for _, hints in _hints(piece)]


def refuse_before(text: str, start: int, stop: int) -> None:
    """Raise for a hint before the statement that begins at `stop`, where it would be lost."""
    for begin, comment in _comments(text, start, stop):
        if comment.startswith("+"):
            raise _misplaced(text, begin)


def _misplaced(text: str, begin: int) -> ProgrammingError:
    return ProgrammingError(
        "a hint stands right after the SELECT it is for", position=line_and_column(text, begin)
    )


def _hints(piece: Piece) -> Iterator[tuple[int, Hints]]:
    if "/*+" not in piece.text:
        return
    starts = [*(t.start for t in piece.tokens), len(piece.text)]
    before = 0
    for i, start in enumerate(starts):
        for begin, text in _comments(piece.text, before, start):
            if text.startswith("+"):
                if i == 0 or piece.word(i - 1) != "SELECT":
                    raise _misplaced(piece.text, begin)
                yield i - 1, _parsed(text[1:], line_and_column(piece.text, begin))
        if i < len(piece.tokens):
            before = piece.tokens[i].end + 1


def _comments(text: str, start: int, stop: int) -> Iterator[tuple[int, str]]:
    """Yield (offset, contents) of the block comments between two tokens."""
    at, begin, depth = start, start, 0
    while (found := _MARK.search(text, at, stop)) is not None:
        at = found.end()
        if found[0] == "--" and depth == 0:
            end = text.find("\n", at, stop)
            at = end if end >= 0 else stop
        elif found[0] == "/*":
            begin = begin if depth else found.start()
            depth += 1
        elif found[0] == "*/" and depth:
            depth -= 1
            if depth == 0:
                yield begin, text[begin + 2 : found.start()]


def _parsed(text: str, position: tuple[int, int]) -> Hints:
    known = "known: recall(0.99), nprobe(20), plan(fused)"
    hints: dict[str, Any] = {}
    at = 0
    while text[at:].strip():
        found = _HINT.match(text, at)
        if found is None or found[2] is None:
            raise ProgrammingError(
                f'"{text[at:].strip()}" is no hint', hint=known, position=position
            )
        name, value = found[1].lower(), found[2].strip().strip("'\"")
        if name not in NAMES:
            raise ProgrammingError(
                f'hint "{found[1]}" does not exist', hint=known, position=position
            )
        if name in hints:
            raise ProgrammingError(f"hint {name} is given twice", position=position)
        try:
            hints[name] = checked(name, value)
        except ValueError as error:
            raise ProgrammingError(
                f"hint {name} cannot be {value!r}", hint=f"give {error}", position=position
            ) from error
        at = found.end()
    return tuple(hints.items())
