"""A report as blocks, and these as Markdown and as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Table:
    """The first column is text; others are set right. `*…*` around a cell makes it bold."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    name: str
    png: bytes
    caption: str


Block = Heading | Paragraph | Table | Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em;
       color: #222; background: #fff }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .25em .6em; text-align: right;
         white-space: nowrap; vertical-align: top }
th:first-child, td:first-child { text-align: left }
th { background: #f4f4f4 }
img { max-width: 100% }
figure { margin: 1em 0 } figcaption { color: #555 }
"""


def markdown(blocks: Sequence[Block], folder: str) -> str:
    """Return Markdown; figures are files in `folder`."""
    parts: list[str] = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"{'#' * level} {text}")
            case Paragraph(text):
                parts.append(text)
            case Table(header, rows):
                lines = [header, ["---"] * len(header), *rows]
                parts.append("\n".join(f"| {' | '.join(map(_bold, line))} |" for line in lines))
            case Figure(name, _, caption):
                parts.append(f"![{caption}]({folder}/{name}.png)")
    return "\n\n".join(parts) + "\n"


def _bold(cell: str) -> str:
    return f"**{cell[1:-1]}**" if _is_bold(cell) else cell.replace("|", "\\|")


def _is_bold(cell: str) -> bool:
    return len(cell) > 2 and cell[0] == cell[-1] == "*"


def page(blocks: Sequence[Block], title: str) -> str:
    """Return HTML with style and figures in it."""
    parts: list[str] = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"<h{level}>{html.escape(text)}</h{level}>")
            case Paragraph(text):
                parts.append(f"<p>{html.escape(text)}</p>")
            case Table(header, rows):
                head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
                body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
                parts.append(f"<table><tr>{head}</tr>{body}</table>")
            case Figure(name, png, caption):
                data = base64.b64encode(png).decode()
                image = f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'
                caption = html.escape(caption)
                parts.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _cell(text: str) -> str:
    escaped = html.escape(text)
    return f"<td><b>{escaped[1:-1]}</b></td>" if _is_bold(text) else f"<td>{escaped}</td>"
