"""Sweeps: the cheapest setting that reaches the recall, and what time cut short."""

from types import SimpleNamespace

import pytest

from bench import timing
from bench.cells import Cell
from bench.peers.base import Answers
from bench.timing import Tuner
from bench.truth import truths


class Peer:
    """Finds as many of the 10 nearest rows as it is set to; `tried` are its settings so far."""

    name = "peer"

    def __init__(self, data, *ladders):
        self._data, self._ladders = data, ladders
        self.tried = []

    def ladders(self, k):
        return [
            [{"found": n, "step": step, "ladder": at} for step, n in enumerate(ladder)]
            for at, ladder in enumerate(self._ladders)
        ]

    def answers(self, cell, k, queries, setting):
        if setting not in self.tried:
            self.tried.append(setting)
        ids = []
        for query in queries:
            distances = ((self._data.vectors - self._data.queries[query]) ** 2).sum(1)
            ids.append(distances.argsort()[: setting["found"]].tolist())
        return Answers([1e-6 * setting["found"]] * len(queries), ids)


@pytest.fixture
def sweep(small, monkeypatch):
    """Sweeps for recall .8; every setting that is tried takes a second."""

    def run(*ladders, seconds=1_000):
        peer = Peer(small, *ladders)
        clock = SimpleNamespace(perf_counter=lambda: len(peer.tried))
        monkeypatch.setattr(timing, "time", clock)
        exact = truths(small, [Cell("all")])["all"]
        tuner = Tuner(small, range(3), budget_seconds=0.001, limit_seconds=seconds)
        return tuner.tuned(peer, Cell("all"), exact, 10, 0.8 - 1e-9, again=True)

    return run


def test_a_slow_ladder_does_not_take_the_time_of_a_fast_one(small, monkeypatch):
    peer = Peer(small, [10], range(1, 11))
    # The first finds everything and takes a thousand times as long: it is seen, and left.
    answers = peer.answers

    def slow(cell, k, queries, setting):
        found = answers(cell, k, queries, setting)
        taken.append((setting["ladder"], len(queries)))
        factor = 1_000 if setting["ladder"] == 0 else 1
        return Answers([s * factor for s in found.seconds], found.ids)

    taken = []
    monkeypatch.setattr(peer, "answers", slow)
    exact = truths(small, [Cell("all")])["all"]
    tuner = Tuner(small, range(30), budget_seconds=0.001)
    found = tuner.tuned(peer, Cell("all"), exact, 10, 0.8 - 1e-9, again=True)
    assert found.setting["ladder"] == 1
    assert (found.reached, found.cut) == (True, False)
    assert max(count for ladder, count in taken if ladder == 0) == 1


def test_the_cheapest_setting_that_reaches_the_recall(sweep):
    found = sweep(range(1, 11))
    assert found.setting["found"] == 8
    assert (found.recall, found.reached, found.cut) == (pytest.approx(0.8), True, False)
    assert found.marks() == {}


@pytest.mark.parametrize(
    ("ladder", "cut"),
    [
        ([1, 2, 9], True),  # it ended on its way up
        ([8, 9, 10], False),  # there is none below the first
        ([1], False),  # there is none above the last
    ],
)
def test_a_sweep_without_time_is_cut_where_something_was_left_to_try(sweep, ladder, cut):
    found = sweep(ladder, seconds=0.5)
    assert found.cut == cut
    assert found.marks() == ({"cut": True} if cut else {})


@pytest.mark.parametrize(("seconds", "cut"), [(3.5, True), (9, False)])
def test_a_sweep_that_ends_between_two_settings_is_cut(sweep, seconds, cut):
    # The way up takes 0, 1, 3 and 7; 4 to 6 are left.
    found = sweep([1, 1, 1, 1, 9, 9, 9, 9], seconds=seconds)
    assert (found.reached, found.cut) == (True, cut)
    assert found.setting["step"] == (7 if cut else 4)


def test_a_ladder_that_time_did_not_reach_is_tried_once(sweep):
    found = sweep([1, 2], [9, 10], seconds=0.5)
    assert found.setting == {"found": 9, "step": 0, "ladder": 1}
    assert found.cut


def test_a_twin_is_swept_in_the_place_of_its_ladders(small, monkeypatch):
    exact = truths(small, [Cell("all")])["all"]
    twin, peer = Peer(small, range(1, 11)), Peer(small, range(1, 11), [10, 10])
    twin.name = "twin"
    tuner = Tuner(small, range(3), budget_seconds=0.001)
    arguments = (Cell("all"), exact, 10, 0.8 - 1e-9)
    found = tuner.tuned(peer, *arguments, again=True, twin=twin)
    assert len(twin.tried) > 2
    chosen = {"found": 8, "step": 7, "ladder": 0}
    assert peer.tried == [chosen, {"found": 10, "step": 0, "ladder": 1}]
    assert found.reached
    assert tuner.tuned(twin, *arguments).setting == chosen


def test_the_mark_is_remembered(small, sweep):
    first = sweep([1, 2, 9], seconds=0.5)
    exact = truths(small, [Cell("all")])["all"]
    peer = Peer(small, [1, 2, 9])
    again = Tuner(small, range(3)).tuned(peer, Cell("all"), exact, 10, 0.8 - 1e-9)
    assert again == first
    assert again.cut
    assert peer.tried == []
