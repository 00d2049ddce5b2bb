"""The planner as a pure function: the same input gives the same plan, and plans change sides."""

import dataclasses
import itertools

import pytest

from hybridq.errors import ProgrammingError
from hybridq.plan.choose import choose
from hybridq.plan.cost import REFERENCE, Statistics, cost_of
from hybridq.plan.physical import Exact, Fused, Prefilter
from hybridq.settings import Settings

BASE = Statistics(
    rows=1_000_000,
    delta_rows=0,
    dim=128,
    nlist=2_000,
    leaves=1,
    share=0.5,
    narrowest_rows=500_000,
    compiled=True,
    lists_needed=8,
    k=10,
)


def decide(settings=None, target=0.95, **changes):
    statistics = dataclasses.replace(BASE, **changes)
    return choose(statistics, settings or Settings(), REFERENCE, target=target)


def test_a_wide_filter_is_fused():
    assert decide().name == "fused"


def test_a_rare_value_is_prefiltered_by_its_permutation():
    decision = decide(share=1e-5, narrowest_rows=10, lists_needed=2_000)
    assert isinstance(decision.plan, Prefilter)
    assert decision.plan.source == "permutation"


def test_a_tiny_table_is_scanned_whole():
    decision = decide(rows=50, nlist=1, share=1.0, narrowest_rows=None, lists_needed=1)
    assert decision.name in ("exact", "fused")
    costs = {c.name: c.cost_seconds for c in decision.candidates}
    assert costs[decision.name] == min(costs.values())


@pytest.mark.parametrize("k", [1, 10, 100])
def test_fused_gives_way_to_prefilter_once_as_the_share_falls(k):
    names = []
    for exponent in range(7):
        share = 10.0**-exponent
        rows = round(BASE.rows * share)
        lists = min(BASE.nlist, round(8 / share**0.6))
        names.append(decide(share=share, narrowest_rows=rows, lists_needed=lists, k=k).name)
    switches = sum(a != b for a, b in itertools.pairwise(names))
    assert names[0] == "fused"
    assert names[-1] == "prefilter"
    assert switches == 1


def test_more_lists_cost_more():
    costs = [
        cost_of(
            Fused(target=0.9, nprobe=None, estimated_lists=n, estimated_share=0.5), BASE, REFERENCE
        )
        for n in (1, 10, 100, 1_000)
    ]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


def test_a_where_that_does_not_compile_is_never_fused():
    decision = decide(compiled=False, narrowest_rows=None)
    assert decision.name in ("exact", "prefilter")
    fused = next(c for c in decision.candidates if c.name == "fused")
    assert fused.plan is None
    assert "compile" in fused.rejected_because
    with pytest.raises(ProgrammingError, match="plan fused cannot run"):
        decide(Settings(plan="fused"), compiled=False, narrowest_rows=None)


@pytest.mark.parametrize(
    ("name", "kind"), [("exact", Exact), ("prefilter", Prefilter), ("fused", Fused)]
)
def test_a_forced_plan_is_taken_whatever_it_costs(name, kind):
    decision = decide(Settings(plan=name))
    assert isinstance(decision.plan, kind)
    assert "forced" in decision.reason
    assert {c.name for c in decision.candidates} == {"exact", "prefilter", "fused"}


def test_recall_one_visits_every_list():
    decision = decide(Settings(plan="fused", recall=1.0), target=1.0)
    assert decision.plan == Fused(
        target=None, nprobe=None, estimated_lists=BASE.nlist, estimated_share=BASE.share
    )


def test_nprobe_fixes_the_lists():
    decision = decide(Settings(nprobe=7))
    assert isinstance(decision.plan, Fused)
    assert (decision.plan.nprobe, decision.plan.estimated_lists) == (7, 7)


def test_the_same_input_gives_the_same_plan():
    assert decide() == decide()
