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

    def text(self, value: str, *, keep_breaks: bool = False) -> str:
        """Return a value as it can be drawn here."""
        shown = visible(value, keep_breaks=keep_breaks)
        return shown if self.unicode else shown.encode("ascii", "backslashreplace").decode()


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
    columns: Sequence[Column], rows: Sequence[Sequence[Any]], canvas: Canvas, *, types: bool = True
) -> tuple[list[str], int]:
    """Return the lines of a table, and how many columns found no room; `types` adds their types."""
    box = _LINES if canvas.unicode else _PLAIN
    texts, least = _cells(columns, rows, canvas, compact=False)
    kinds = [column.type.strip('"').lower() if types else "" for column in columns]
    names = [display_width(canvas.text(column.name)) for column in columns]
    widths = [
        max(name, min(len(kind), _TYPE_SHOWN), width, 1)
        for name, kind, width in zip(names, kinds, least, strict=True)
    ]
    if canvas.width is not None and sum(widths) + 3 * len(widths) + 1 > canvas.width:
        texts, least = _cells(columns, rows, canvas, compact=True)
        widths = [max(name, width, 1) for name, width in zip(names, least, strict=True)]
    shown = list(range(len(columns)))
    if canvas.width is not None:
        # Names may be cut, numbers never: half a number is another number.
        floor = [w if c.numeric else min(w, _LEAST) for c, w in zip(columns, least, strict=True)]
        shown, widths = _fit(widths, floor, canvas.width)
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
        line([styled(canvas.text(columns[i].name), i, "bold") for i in shown]),
        *([line([styled(kinds[i], i, "dim") for i in shown])] if types else []),
        rule(box.middle),
    ]
    lines.extend(
        line([styled(text[i], i, "dim" if row[i] is None else None) for i in shown])
        for text, row in zip(texts, rows, strict=True)
    )
    lines.append(rule(box.bottom))
    return lines, hidden


def _cells(
    columns: Sequence[Column], rows: Sequence[Sequence[Any]], canvas: Canvas, *, compact: bool
) -> tuple[list[list[str]], list[int]]:
    """Return the texts of all cells, and the width of the widest one of each column."""
    formats = [cell(column, compact=compact) for column in columns]
    texts = [
        [canvas.null if v is None else canvas.text(f(v)) for f, v in zip(formats, row, strict=True)]
        for row in rows
    ]
    return texts, [
        max((display_width(row[i]) for row in texts), default=1) for i in range(len(columns))
    ]


def _fit(widths: list[int], least: list[int], room: int) -> tuple[list[int], list[int]]:
    """Return the columns that are shown and all widths, so that a line takes at most `room`.

    Wide columns give way first, none below `least`; what still finds no room is left out from the
    middle.
    """
    shown = list(range(len(widths)))

    def narrowed(cap: int) -> list[int]:
        return [max(low, min(width, cap)) for width, low in zip(widths, least, strict=True)]

    def taken(cap: int) -> int:
        gap = 4 if len(shown) < len(widths) else 0
        return sum(narrowed(cap)[i] + 3 for i in shown) + 1 + gap

    while len(shown) > 1 and taken(_LEAST) > room:
        shown.pop(len(shown) // 2)
    low, high = _LEAST, max(max(widths), _LEAST)
    while low < high:
        middle = (low + high + 1) // 2
        if taken(middle) <= room:
            low = middle
        else:
            high = middle - 1
    fitted = narrowed(low)
    if len(shown) == 1:
        only = shown[0]
        fitted[only] = max(1, min(fitted[only], room - 4 - (4 if len(widths) > 1 else 0)))
    return shown, fitted


def expanded(
    columns: Sequence[Column], rows: Sequence[Sequence[Any]], canvas: Canvas
) -> Iterator[str]:
    """Yield the lines of rows drawn one column per line; long text is not cut."""
    box = _LINES if canvas.unicode else _PLAIN
    names = [canvas.text(column.name) for column in columns]
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
            first, *others = canvas.text(form(value), keep_breaks=True).split("\n")
            yield f"{head} {box.vertical} {first}".rstrip()
            for other in others:
                yield f"{' ' * indent} {box.vertical} {other}".rstrip()
