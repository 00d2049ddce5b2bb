"""The workloads: what each asks, and its cells for a data set.

W7 and W11 ask for a radius and for pages; W9 and W10 are no cells (see `special`). The cells of the
descriptors keep their names and parameters: their truths and the peers' tuned settings are cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.cells import Cell, Join, Term, Value, from_json
from bench.data.dataset import STOCK, TAG_SHARES, Dataset
from bench.truth import radii

WORKLOADS = {
    "W0": "no filter: recall against latency",
    "W1": "label equality, shares .1 to 50 %",
    "W2": "range, 99 to .01 % (independent of the vector)",
    "W3": "AND of two attributes, 4, 1 and .012 %",
    "W4": "filters that correlate with the query, and that oppose it",
    "W6": "float range and a keyword",
    "W7": "distance < r",
    "W8": "filter by join",
    "W9": "LATERAL: top k of 1,000 queries in one statement",
    "W10": "search beside inserts and deletes",
    "W11": "paging: ten pages by LIMIT and OFFSET",
    "W12": "no match, and fewer than k",
    "T3": "two steps (DuckDB and FAISS) against the engine: AnalyticDB-V's Table 3",
    "F12": "(k, recall) = (50, .95), (250, .9), (500, .85): AnalyticDB-V's Fig. 12",
    "plans": "every plan by force beside the choice; regret; estimated and actual selectivity",
    "curves": "recall against latency, setting by setting",
    "cost": "build time, memory, size on disk, start to first answer",
    "own": "filters that came with an imported set",
}
SHARES = (1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0001)
_RADIUS_MATCHES = 50
_PAGES = 10
# CIFAR-10's classes: what flies, drives or sails, and what lives.
_VEHICLES = (0, 1, 8, 9)


def cells(data: Dataset) -> dict[str, Cell]:
    """Return every cell by name, radius aside: see `asked`."""
    make = {"sift": _sift, "photos": _photos, "words": _words, "products": _products}
    found = [*make.get(data.kind, _common)(data), *map(from_json, data.own)]
    return {cell.name: cell for cell in found}


def asked(data: Dataset, names: Iterable[str]) -> list[Cell]:
    """Return the cells of the workloads named, in order."""
    wanted = set(names)
    found = [c for c in cells(data).values() if c.workload in wanted]
    if "W7" in wanted:
        radius = radii(data, _RADIUS_MATCHES)
        found += [
            Cell("radius", (), "W7", radius=radius),
            Cell("radius and price 10 %", (_cheaper(data, 0.1),), "W7", radius=radius),
        ]
    order = list(WORKLOADS)
    return sorted(found, key=lambda cell: order.index(cell.workload))


def _every(data: Dataset, value: Value) -> npt.NDArray[Any]:
    return np.full(len(data.queries), value)


def _cheaper(data: Dataset, share: float) -> Term:
    return Term("price", "<", _every(data, max(1, round(share * len(data.vectors)))))


def _stocked(data: Dataset, share: float) -> Term:
    return Term("stock", "<", _every(data, round(share * STOCK)))


def _other(generator: np.random.Generator, own: npt.NDArray[Any], choices: int) -> npt.NDArray[Any]:
    return (own + generator.integers(1, choices, len(own))) % choices


def _first(data: Dataset) -> Iterator[Cell]:
    yield Cell("all", (), "W0")
    for share in (0.99, *SHARES[1:]):
        yield Cell(f"price {share * 100:g} %", (_cheaper(data, share),), "W2")
    yield Cell("and 4 %", (_cheaper(data, 0.2), _stocked(data, 0.2)), "W3")
    yield Cell("and 1 %", (_cheaper(data, 0.1), _stocked(data, 0.1)), "W3")
    yield Cell("and .012 %", (_cheaper(data, 0.012), _stocked(data, 0.01)), "W3")


def _last(data: Dataset) -> Iterator[Cell]:
    yield Cell("pages", (), "W11", pages=_PAGES)
    yield Cell("pages of price 10 %", (_cheaper(data, 0.1),), "W11", pages=_PAGES)
    yield Cell("no match", (Term("price", "<", _every(data, 0)),), "W12")
    yield Cell("3 match", (Term("price", "<", _every(data, 3)),), "W12")


def _tags(data: Dataset) -> Iterator[Cell]:
    if "tag" in data.filters:
        for n, share in enumerate(TAG_SHARES):
            yield Cell(f"tag {share * 100:g} %", (Term("tag", "=", _every(data, n)),), "W1")


def _sift(data: Dataset) -> Iterator[Cell]:
    generator = np.random.default_rng(17)
    label = data.query_attributes["label"].astype(np.int64)
    kpt = data.query_attributes["kpt"].astype(np.int64)
    contrast = data.attributes["contrast"]
    low, middle, high = np.quantile(contrast, [0.2, 0.5, 0.8])
    above = data.query_attributes["contrast"] < middle
    yield from _first(data)
    yield Cell("label own", (Term("label", "=", label),), "W4")
    yield Cell("label other", (Term("label", "=", _other(generator, label, 10)),), "W4")
    yield Cell("kpt own", (Term("kpt", "=", kpt),), "W4")
    yield Cell("kpt other", (Term("kpt", "=", _other(generator, kpt, 17)),), "W4")
    yield Cell(
        "contrast far",
        (
            Term("contrast", ">", np.where(above, high.item(), -1.0)),
            Term("contrast", "<", np.where(above, 1e9, low.item())),
        ),
        "W4",
    )
    count = len(data.queries)
    yield Cell("stock = .1 %", (Term("stock", "=", generator.integers(0, STOCK, count)),), "W1")
    yield Cell("kpt = 5.9 %", (Term("kpt", "=", generator.integers(0, 17, count)),), "W1")
    yield Cell("label = 10 %", (Term("label", "=", generator.integers(0, 10, count)),), "W1")
    start, stop = np.quantile(contrast, [0.4, 0.6])
    yield Cell(
        "contrast and label",
        (
            Term("contrast", ">=", _every(data, start.item())),
            Term("contrast", "<", _every(data, stop.item())),
            Term("label", "=", label),
        ),
        "W6",
    )
    yield Cell("join of labels", workload="W8", join=_classes(data, "label"))
    yield from _last(data)


def _classes(data: Dataset, column: str) -> Join:
    kinds = tuple(int(n in _VEHICLES) for n in range(10))
    asked = np.random.default_rng(19).integers(0, 2, len(data.queries))
    return Join(column, tuple(range(10)), kinds, asked)


def _photos(data: Dataset) -> Iterator[Cell]:
    generator = np.random.default_rng(17)
    label = data.query_attributes["label"].astype(np.int64)
    yield from _first(data)
    yield from _tags(data)
    yield Cell("label own", (Term("label", "=", label),), "W4")
    yield Cell("label other", (Term("label", "=", _other(generator, label, 10)),), "W4")
    red = data.attributes["red"]
    far = data.query_attributes["red"] < np.median(red)
    low, high = np.quantile(red, [0.1, 0.9])
    yield Cell(
        "colour far",
        (
            Term("red", ">", np.where(far, high.item(), -9.0)),
            Term("red", "<", np.where(far, 9.0, low.item())),
        ),
        "W4",
    )
    start, stop = np.quantile(data.attributes["brightness"], [0.3, 0.7])
    words = np.array(["%auto%", "%air%", "%ruck%", "%o%"])[generator.integers(0, 4, len(label))]
    yield Cell(
        "brightness and LIKE",
        (
            Term("brightness", ">=", _every(data, start.item())),
            Term("brightness", "<", _every(data, stop.item())),
            Term("class", "LIKE", words),
        ),
        "W6",
    )
    yield Cell("join of labels", workload="W8", join=_classes(data, "label"))
    yield from _last(data)


def _words(data: Dataset) -> Iterator[Cell]:
    yield from _first(data)
    yield from _tags(data)
    letter, zipf = data.query_attributes["letter"], data.attributes["zipf"]
    yield Cell("letter own", (Term("letter", "=", letter.astype(np.int64)),), "W4")
    rare = data.query_attributes["zipf"] <= 0
    common = np.quantile(zipf[zipf > 0], 0.5).item()
    yield Cell(
        "frequency far",
        (
            Term("zipf", ">", np.where(rare, common, -1.0)),
            Term("zipf", "<", np.where(rare, 99.0, 0.5)),
        ),
        "W4",
    )
    endings = np.array(["%ing%", "%tion%", "%est%", "%man%"])
    chosen = endings[np.random.default_rng(17).integers(0, 4, len(letter))]
    yield Cell(
        "frequency and LIKE",
        (Term("zipf", ">", _every(data, 1.0)), Term("word", "LIKE", chosen)),
        "W6",
    )
    letters = tuple(range(97, 123))
    vowels = tuple(int(chr(n) in "aeiou") for n in letters)
    values = np.random.default_rng(19).integers(0, 2, len(letter))
    yield Cell("join of letters", workload="W8", join=Join("letter", letters, vowels, values))
    yield from _last(data)


def _products(data: Dataset) -> Iterator[Cell]:
    yield from _first(data)
    yield from _tags(data)
    kind, colour = data.query_attributes["article_type"], data.query_attributes["base_colour"]
    yield Cell("article own", (Term("article_type", "=", kind),), "W4")
    shifted = np.roll(kind, 1)
    yield Cell("article of another", (Term("article_type", "=", shifted),), "W4")
    brand = np.array([f"%{name.split(' ')[0]}%" for name in data.query_attributes["name"]])
    yield Cell(
        "article and name LIKE",
        (Term("article_type", "=", kind), Term("name", "LIKE", brand)),
        "W6",
    )
    yield Cell(
        "colour and price",
        (Term("base_colour", "=", colour), _cheaper(data, 0.2)),
        "W6",
    )
    yield from _last(data)


def _common(data: Dataset) -> Iterator[Cell]:
    yield from _first(data)
    yield from _tags(data)
    yield from _last(data)
