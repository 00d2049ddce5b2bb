"""Draws results for people: boxed tables that fit the terminal, and one line per column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hybridq.console.terminal import display_width, paint, truncate, visible
from hybridq.console.values import Column, cell

_LEAST = 8
_TYPE_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Canvas:
    """What is drawn on: `width` is None where lines may be as long as they like."""

    width: int | None = None
    colour: bool = False
    unicode: bool = True
    null: str = "NULL"


@dataclass(frozen=True, slots=True)
class _Box:
    vertical: str
    horizontal: str
    top: str
    middle: str
    bottom: str
    ellipsis: str


_LINES = _Box("│", "─", "┌┬┐", "├┼┤", "└┴┘", "…")
_PLAIN = _Box("|", "-", "+++", "+++", "+++", "~")


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Any]], canvas: Canvas
) -> tuple[list[str], int]:
    """Return the lines of a table, and how many columns found no room."""
    box = _LINES if canvas.unicode else _PLAIN
    formats = [cell(column) for column in columns]
    texts = [
        [canvas.null if v is None else visible(f(v)) for f, v in zip(formats, row, strict=True)]
        for row in rows
    ]
    widths = [
        max(
            display_width(visible(column.name)),
            min(len(column.type), _TYPE_SHOWN),
            *(display_width(row[i]) for row in texts),
            1,
        )
        for i, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    if canvas.width is not None:
        shown, widths = _fit(columns, widths, canvas.width)
    hidden = len(columns) - len(shown)
    gap = (len(shown) + 1) // 2 if hidden else -1

    def line(cells: Sequence[str]) -> str:
        parts = list(cells)
        if gap >= 0:
            parts.insert(gap, box.ellipsis)
        return box.vertical + box.vertical.join(f" {part} " for part in parts) + box.vertical

    def rule(corners: str) -> str:
        bars = [box.horizontal * (widths[i] + 2) for i in shown]
        if gap >= 0:
            bars.insert(gap, box.horizontal * 3)
        return corners[0] + corners[1].join(bars) + corners[2]

    def styled(text: str, i: int, style: str | None) -> str:
        cut = truncate(text, widths[i], box.ellipsis)
        space = " " * (widths[i] - display_width(cut))
        painted = paint(cut, style, colour=canvas.colour) if style else cut
        return space + painted if columns[i].numeric else painted + space

    lines = [
        rule(box.top),
        line([styled(visible(columns[i].name), i, "bold") for i in shown]),
        line([styled(columns[i].type.lower(), i, "dim") for i in shown]),
        rule(box.middle),
    ]
    lines.extend(
        line([styled(text[i], i, "dim" if row[i] is None else None) for i in shown])
        for text, row in zip(texts, rows, strict=True)
    )
    lines.append(rule(box.bottom))
    return lines, hidden


def _fit(columns: Sequence[Column], widths: list[int], room: int) -> tuple[list[int], list[int]]:
    """Return the columns that are shown and all widths, so that a line takes at most `room`.

    Wide columns give way first; numbers are never cut; what still finds no room is left out from
    the middle.
    """
    shown = list(range(len(columns)))

    def taken(of: Sequence[int]) -> int:
        return sum(of[i] + 3 for i in shown) + 1 + (4 if len(shown) < len(columns) else 0)

    def narrowed(cap: int) -> list[int]:
        return [w if columns[i].numeric else min(w, cap) for i, w in enumerate(widths)]

    while len(shown) > 1 and taken(narrowed(_LEAST)) > room:
        shown.pop(len(shown) // 2)
    low, high = _LEAST, max(max(widths), _LEAST)
    while low < high:
        middle = (low + high + 1) // 2
        if taken(narrowed(middle)) <= room:
            low = middle
        else:
            high = middle - 1
    fitted = narrowed(low)
    if len(shown) == 1:
        only = shown[0]
        fitted[only] = max(1, min(fitted[only], room - 4 - (4 if len(columns) > 1 else 0)))
    return shown, fitted


def expanded(
    columns: Sequence[Column], rows: Sequence[Sequence[Any]], canvas: Canvas
) -> Iterator[str]:
    """Yield the lines of rows drawn one column per line; long text is not cut."""
    box = _LINES if canvas.unicode else _PLAIN
    names = [visible(column.name) for column in columns]
    formats = [cell(column) for column in columns]
    indent = max(map(display_width, names), default=0)
    for number, row in enumerate(rows, 1):
        title = f"{box.horizontal}[ row {number} ]"
        length = min(canvas.width or 60, 60)
        yield paint(title + box.horizontal * (length - len(title)), "dim", colour=canvas.colour)
        for name, form, value in zip(names, formats, row, strict=True):
            head = paint(name, "bold", colour=canvas.colour)
            head += " " * (indent - display_width(name))
            if value is None:
                yield f"{head} {box.vertical} {paint(canvas.null, 'dim', colour=canvas.colour)}"
                continue
            first, *others = visible(form(value), keep_breaks=True).split("\n")
            yield f"{head} {box.vertical} {first}".rstrip()
            for other in others:
                yield f"{' ' * indent} {box.vertical} {other}".rstrip()
