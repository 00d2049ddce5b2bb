"""Writes results for programs: CSV, JSON and JSON lines, whole values, as they are fetched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hybridq.console.values import Column, to_json, to_text

Rows = Iterable[Sequence[Any]]
Writer = Callable[[Sequence[Column], Rows], Iterator[str]]

_QUOTED = re.compile(r'[,"\r\n]|^\s|\s$|^$')


def csv(columns: Sequence[Column], rows: Rows) -> Iterator[str]:
    """Yield CSV with a header; NULL is empty, the empty string is quoted."""
    kinds = [column.type for column in columns]
    yield ",".join(_field(column.name) for column in columns) + "\n"
    for row in rows:
        fields = [
            "" if v is None else _field(to_text(v, kind))
            for v, kind in zip(row, kinds, strict=True)
        ]
        yield ",".join(fields) + "\n"


def _field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def json(columns: Sequence[Column], rows: Rows) -> Iterator[str]:
    """Yield one JSON array with an object per row."""
    separator = "["
    for line in jsonl(columns, rows):
        yield separator + line.removesuffix("\n")
        separator = ",\n "
    yield "[]\n" if separator == "[" else "]\n"


def jsonl(columns: Sequence[Column], rows: Rows) -> Iterator[str]:
    """Yield one JSON object per row and line."""
    keys = [to_json(name, "VARCHAR") for name in _distinct([column.name for column in columns])]
    kinds = [column.type for column in columns]
    for row in rows:
        pairs = [
            f"{key}: {to_json(value, kind)}"
            for key, value, kind in zip(keys, row, kinds, strict=True)
        ]
        yield "{" + ", ".join(pairs) + "}\n"


def _distinct(names: list[str]) -> list[str]:
    """Return names with the repeated ones numbered, for an object has each key once."""
    seen: set[str] = set()
    result: list[str] = []
    for name in names:
        candidate, count = name, 0
        while candidate in seen or (count and candidate in names):
            count += 1
            candidate = f"{name}_{count}"
        seen.add(candidate)
        result.append(candidate)
    return result


WRITERS: dict[str, Writer] = {"csv": csv, "json": json, "jsonl": jsonl}
