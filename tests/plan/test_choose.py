"""The planner as a pure function: the same input gives the same plan, and plans change sides."""

import dataclasses
import itertools
import math

import pytest

from hybridq.errors import ProgrammingError
from hybridq.plan.choose import by_duckdb, choose
from hybridq.plan.cost import REFERENCE, Rest, Statistics, cost_of
from hybridq.plan.physical import NAMES, Bitmap, Exact, Fused, Postfilter, Prefilter
from hybridq.settings import Settings

KINDS = (Exact, Prefilter, Fused, Bitmap, Postfilter)


def ladder(k, share, near):
    """More lists for more rows, for fewer that pass, and where they are not near."""
    lists = 8 * math.sqrt(max(k, 10) / 10) / max(near, 1e-6) ** 0.4
    return math.ceil(lists * max(1.0, share / near) ** 0.75)


BASE = Statistics(
    rows=1_000_000,
    delta_rows=0,
    dim=128,
    nlist=2_000,
    leaves=1,
    share=0.5,
    narrowest_rows=500_000,
    lists=ladder,
    k=10,
)


def statistics(**changes):
    return dataclasses.replace(BASE, **changes)


def decide(settings=None, target=0.95, **changes):
    return choose(statistics(**changes), settings or Settings(), REFERENCE, target=target)


def passing(share, **changes):
    return decide(share=share, narrowest_rows=round(BASE.rows * share), **changes)


def opaque(share=1 / 3, **changes):
    rest = Rest(share=share, **changes)
    return {"rest": rest, "share": 1.0, "narrowest_rows": None, "leaves": 0}


def switches(names):
    return [(a, b) for a, b in itertools.pairwise(names) if a != b]


# -- what compiles -------------------------------------------------------------


def test_a_wide_filter_is_fused():
    assert decide().name == "fused"


def test_a_rare_value_is_prefiltered_by_its_permutation():
    decision = passing(1e-5)
    assert isinstance(decision.plan, Prefilter)
    assert decision.plan.source == "permutation"


def test_a_tiny_table_is_scanned_whole():
    decision = decide(rows=50, nlist=1, share=1.0, narrowest_rows=None, leaves=0)
    assert decision.name in ("exact", "fused")
    costs = {c.name: c.cost_seconds for c in decision.candidates}
    assert costs[decision.name] == min(costs.values())


@pytest.mark.parametrize("k", [1, 10, 100, 1_000])
def test_fused_gives_way_to_prefilter_once_as_the_share_falls(k):
    names = [passing(10.0 ** (-exponent / 4), k=k).name for exponent in range(28)]
    assert switches(names) == [("fused", "prefilter")]


@pytest.mark.parametrize("share", [0.05, 0.01, 0.001])
def test_fused_loses_as_more_rows_are_asked_for(share):
    fused = [passing(share, k=k).name == "fused" for k in (1, 10, 100, 1_000, 10_000)]
    assert switches(fused) in ([], [(True, False)])


def test_rows_near_the_query_are_asked_for_where_they_could_change_the_plan():
    rare = {"share": 1e-5, "narrowest_rows": None, "leaves": 3}
    unknown = decide(**rare)
    assert (unknown.name, unknown.ask_near) == ("exact", True)
    # Correlated with the query, a scan is done after few lists; the other way round, it is not.
    assert decide(**rare, near=0.5).name == "fused"
    assert decide(**rare, near=1e-6).name == "exact"
    assert not decide(**rare, near=0.5).ask_near
    assert not passing(0.5).ask_near
    assert not passing(1e-5).ask_near, "a few microseconds are not worth asking"


def test_a_scan_gives_way_where_rows_pass_elsewhere():
    decision = passing(0.01)
    assert isinstance(decision.plan, Fused)
    assert decision.plan.estimated_lists < decision.plan.max_lists < BASE.nlist
    assert isinstance(decision.plan.otherwise, Prefilter)
    # Half of the table is never cheaper row by row.
    assert passing(0.5).plan.otherwise is None


def test_lists_without_a_passing_row_cost_nothing():
    every = statistics(share=0.05, open_lists=1.0, open_blocks=1.0)
    few = statistics(share=0.05, open_lists=0.1, open_blocks=0.06)
    plan = Fused(target=0.9, nprobe=None, estimated_lists=2_000, estimated_share=0.05)
    assert cost_of(plan, few, REFERENCE) < cost_of(plan, every, REFERENCE) / 3


def test_more_lists_cost_more():
    costs = [
        cost_of(
            Fused(target=0.9, nprobe=None, estimated_lists=n, estimated_share=0.5), BASE, REFERENCE
        )
        for n in (1, 10, 100, 1_000)
    ]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


# -- what does not compile -------------------------------------------------------


def test_a_where_that_does_not_compile_is_never_fused():
    decision = decide(**opaque())
    assert decision.name in ("exact", "prefilter", "bitmap", "postfilter")
    fused = next(c for c in decision.candidates if c.name == "fused")
    assert fused.plan is None
    assert "compile" in fused.rejected_because
    with pytest.raises(ProgrammingError, match="plan fused cannot run"):
        decide(Settings(plan="fused"), **opaque())


@pytest.mark.parametrize("rows", [1_000_000, 30_000_000])
def test_candidates_are_checked_where_most_rows_pass(rows):
    shares = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.9)
    names = [decide(rows=rows, **opaque(s, lasting=False)).name for s in shares]
    assert names[-1] == "postfilter"
    assert names[0] in ("exact", "bitmap", "prefilter")
    assert len(switches([n == "postfilter" for n in names])) == 1


def test_a_bitmap_that_can_be_kept_is_worth_more():
    assert decide(**opaque(lasting=False)).name == "postfilter"
    assert decide(**opaque(lasting=True)).name == "bitmap"


def test_a_bitmap_at_hand_is_used():
    decision = decide(**opaque(0.5, kept=True))
    assert isinstance(decision.plan, Bitmap)
    assert decision.plan.kept
    assert "at hand" in decision.reason
    assert decide(**opaque(1e-5, kept=True)).name in ("prefilter", "bitmap")


def test_costly_functions_see_few_rows():
    assert decide(**opaque(0.3, cheap=False)).name == "postfilter"
    # A narrow leaf keeps most rows from them, too.
    rest = Rest(share=0.01, cheap=False, lasting=False)
    narrow = decide(rest=rest, share=1e-5, narrowest_rows=10)
    assert narrow.candidates[3].cost_seconds < narrow.candidates[0].cost_seconds * 10


def test_a_bitmap_of_few_rows_is_not_scanned():
    plan = decide(Settings(), **opaque(0.5, kept=True)).plan
    assert 10 < plan.gather_rows < BASE.rows / 10
    assert decide(Settings(plan="bitmap"), **opaque()).plan.gather_rows == 0


def test_a_postfilter_is_bounded():
    plan = decide(**opaque(0.9, lasting=False)).plan
    assert isinstance(plan, Postfilter)
    assert plan.first <= plan.most < BASE.rows
    assert isinstance(plan.otherwise, Bitmap)


# -- settings --------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), list(zip(NAMES, KINDS, strict=True)))
def test_a_forced_plan_is_taken_whatever_it_costs(name, kind):
    decision = decide(Settings(plan=name))
    assert isinstance(decision.plan, kind)
    assert "forced" in decision.reason
    assert tuple(c.name for c in decision.candidates) == NAMES


def test_a_forced_scan_does_not_give_way():
    decision = passing(0.01, settings=Settings(plan="fused"))
    assert decision.plan.max_lists is None
    assert decision.plan.otherwise is None


def test_a_plan_that_needs_an_index_cannot_be_forced_without_one():
    for name in NAMES[1:]:
        with pytest.raises(ProgrammingError, match=f"plan {name} cannot run: no index"):
            by_duckdb("no index", Settings(plan=name), forced_allowed=False)
    decision = by_duckdb("no index", Settings(), forced_allowed=False)
    assert [c.rejected_because for c in decision.candidates] == [None, *["no index"] * 4]


def test_recall_one_visits_every_list():
    decision = decide(Settings(plan="fused", recall=1.0), target=1.0)
    assert decision.plan == Fused(
        target=None, nprobe=None, estimated_lists=BASE.nlist, estimated_share=BASE.share
    )
    for name in ("bitmap", "postfilter"):
        plan = decide(Settings(plan=name, recall=1.0), target=1.0).plan
        assert (plan.target, plan.estimated_lists) == (None, BASE.nlist)


def test_nprobe_fixes_the_lists():
    decision = decide(Settings(nprobe=7))
    assert isinstance(decision.plan, Fused)
    assert (decision.plan.nprobe, decision.plan.estimated_lists) == (7, 7)
    plan = decide(Settings(nprobe=7), **opaque(kept=True)).plan
    assert (plan.nprobe, plan.estimated_lists) == (7, 7)


def test_the_same_input_gives_the_same_plan():
    assert decide() == decide()
    assert decide(**opaque()) == decide(**opaque())
