"""Data sets by name: made where they are missing, kept under bench/.cache, read by every engine."""

from __future__ import annotations

import importlib
from pathlib import Path

from bench.data.dataset import CACHE, DataError, Dataset, read, subset

# Made by the module of that name; `sift` is older and has a place of its own.
MAKERS = {
    "sift": "bench.descriptors",
    "photos": "bench.data.photos",
    "words": "bench.data.words",
    "products": "bench.data.products",
}
# How many rows there are in all: a set with fewer was made for a run that asked for fewer.
FULL = {"photos": 59_500, "products": 39_438, "words": 340_000, "sift": 1_011_500}

SHUFFLED = ("photos", "products")


def folder(kind: str) -> Path:
    return CACHE / "sets" / kind


def imported() -> list[str]:
    """Return the names of the sets that came from files."""
    there = [p.parent.name for p in sorted((CACHE / "sets").glob("*/meta.json"))]
    return [name for name in there if name not in MAKERS]


def load(kind: str, rows: int | None = None, *, make: bool = False) -> Dataset:
    """Return a data set, or a random `rows` of it; made first where it is missing, if `make`."""
    if kind == "sift":
        from bench import descriptors

        if not make and not descriptors.made():
            raise DataError("data set sift is not there: python -m bench data sift makes it")
        return descriptors.load(rows)
    if kind not in MAKERS:
        try:
            return subset(read(folder(kind), kind), rows, shuffled=kind in SHUFFLED)
        except DataError as error:
            known = ", ".join([*MAKERS, *imported()])
            raise DataError(f"{error}; there are: {known}") from error
    wanted = min(rows or FULL[kind], FULL[kind])
    try:
        data = read(folder(kind), kind)
        if len(data.vectors) >= wanted:
            return subset(data, rows, shuffled=kind in SHUFFLED)
        reason = f"data set {kind} has only {len(data.vectors):,} rows of {wanted:,} yet"
    except DataError as error:
        reason = str(error)
        if "damaged" in reason:
            raise
    if not make:
        raise DataError(f"{reason}: python -m bench data {kind} --rows {wanted} makes it")
    importlib.import_module(MAKERS[kind]).make(folder(kind), rows)
    return subset(read(folder(kind), kind), rows, shuffled=kind in SHUFFLED)
