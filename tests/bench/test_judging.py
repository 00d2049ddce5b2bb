"""Cells, truths and what is made of answers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bench.cells import Cell, Join, Term, from_json
from bench.peers.base import Answers, needs
from bench.timing import summarize
from bench.truth import truths
from bench.workloads import asked, cells

PRICE = Term("price", "<", np.full(30, 100))


def every(values):
    return np.array(values * 30)[:30]


def brute(data, cell, query, k):
    rows = cell.passing(data.attributes, query)
    distances = np.linalg.norm(data.vectors[rows].astype(float) - data.queries[query], axis=1)
    if cell.radius is not None:
        rows, distances = (
            rows[distances < cell.radius[query]],
            distances[distances < cell.radius[query]],
        )
    return rows[np.argsort(distances, kind="stable")][: k * cell.pages].tolist()


def summary(data, cell, ids):
    truth = truths(data, [cell])[cell.name]
    return summarize(data, truth, cell, 10, [0], Answers([0.001], [ids]))


def test_exact_answers_of_every_cell_are_right(small):
    wanted = asked(small, ["W0", "W1", "W2", "W3", "W7", "W11", "W12"])
    assert len(wanted) > 20
    found = truths(small, wanted)
    again = truths(small, wanted)
    for cell in wanted:
        for query in (0, 17):
            ids = brute(small, cell, query, 10)
            s = summarize(small, found[cell.name], cell, 10, [query], Answers([1.0], [ids]))
            assert (s.recall, s.short, s.wrong) == (1.0, 0, 0), cell.name
        assert (again[cell.name].squared == found[cell.name].squared).all()


def test_like_and_join(small):
    like = Cell("like", (Term("word", "LIKE", every(["%w3%"])),))
    assert set(small.attributes["word"][like.passing(small.attributes, 0)]) == {"w3"}
    join = Cell("join", join=Join("tag", (0, 1, 2), (0, 1, 1), every([1])))
    assert set(small.attributes["tag"][join.passing(small.attributes, 0)]) == {1, 2}
    assert needs(like) == {"LIKE"}
    assert needs(join) == {"join"}


def test_a_cell_goes_through_json(small):
    for cell in (
        *asked(small, ["W3", "W7", "W11"]),
        Cell("j", join=Join("tag", (1,), (0,), every([0]))),
    ):
        again = from_json(json.loads(json.dumps(cell.as_json())))
        assert again.where() == cell.where()
        for query in range(3):
            assert again.key(query) == cell.key(query)
            assert (
                again.passing(small.attributes, query) == cell.passing(small.attributes, query)
            ).all()


def test_too_few_rows_are_short(small):
    cell = Cell("p", (PRICE,))
    s = summary(small, cell, brute(small, cell, 0, 10)[:7])
    assert (s.recall, s.short, s.wrong, s.rows) == (0.7, 1, 0, 7)


def test_rows_that_do_not_pass_are_wrong_and_no_hit(small):
    cell = Cell("p", (PRICE,))
    near = brute(small, Cell("all"), 0, 100)
    outside = [i for i in near if small.attributes["price"][i] >= 100][:3]
    s = summary(small, cell, [*brute(small, cell, 0, 7), *outside])
    assert s.wrong == 3
    assert s.recall == pytest.approx(0.7)


def test_a_row_twice_is_wrong_and_counts_once(small):
    cell = Cell("all")
    ids = brute(small, cell, 0, 9)
    s = summary(small, cell, [*ids, ids[0]])
    assert s.wrong == 1
    assert s.recall == pytest.approx(0.9)


def test_ties_at_the_last_place_are_right(small):
    vectors = np.array(small.vectors)
    order = brute(small, Cell("all"), 0, 12)
    vectors[order[10]] = vectors[order[9]]
    tied = replace(small, vectors=vectors, kind="tied")
    for chosen in (9, 10):
        ids = [*order[:9], order[chosen]]
        assert summary(tied, Cell("all"), ids).recall == 1.0


def test_names_of_cells_are_distinct_and_shares_fall(small):
    found = cells(small)
    shares = [
        found[f"price {s:g} %"].mask(small.attributes, 0).mean() for s in (99, 50, 10, 5, 1, 0.5)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[:3] == pytest.approx([0.99, 0.5, 0.1])
