"""Verdicts join as sets of rows do, and programs select what their verdicts hold."""

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.index.attributes import MAX_KEY, NULL_KEY, attribute_type
from hybridq.index.intervals import ALL, complement, union
from hybridq.index.ivf import IndexColumn, IndexSpec, Part, all_live
from hybridq.index.programs import assemble
from hybridq.index.search import positions_by_mask, positions_by_permutation
from hybridq.index.selectivity import narrowest, sampled_share, selectivity
from hybridq.index.verdicts import Codes, Joined, Ranges, Rows, join, of_codes, of_ranges, packed
from hybridq.nodes import Metric

COLUMNS, CODES, ROWS = 3, 40, 300


def part(seed=0, *, sample=True):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, CODES, (COLUMNS, ROWS))
    keys[rng.random(keys.shape) < 0.1] = NULL_KEY
    kind = attribute_type("INTEGER")
    spec = IndexSpec(
        name="i",
        schema="main",
        table="t",
        column="v",
        metric=Metric.L2,
        dim=1,
        key_count=1,
        columns=tuple(IndexColumn(f"c{i}", kind) for i in range(COLUMNS)),
    )
    part = Part(
        spec=spec,
        vectors=np.zeros((ROWS, 1), np.float32),
        keys=keys,
        dictionaries=(None,) * COLUMNS,
        centroids=np.zeros((1, 1), np.float32),
        list_offsets=np.array([0, ROWS]),
        list_radius=np.zeros(1, np.float32),
        tie=np.arange(ROWS),
        row_hash=np.zeros(ROWS, np.uint64),
        alive=all_live(ROWS),
        permutations=np.argsort(keys, axis=1, kind="stable"),
        sample=keys if sample else np.empty((0, 0), np.int64),
        zones=np.empty((COLUMNS, 0, 2), np.int64),
    )
    return part.without(np.flatnonzero(rng.random(ROWS) < 0.1))


PART = part()


def holds(verdict):
    """The rows of a verdict, one by one."""
    match verdict:
        case bool():
            return np.full(ROWS, verdict)
        case Ranges(column, found):
            keys = PART.keys[column]
            return np.any([(a <= keys) & (keys <= b) for a, b in found], axis=0)
        case Codes(column, flags, words):
            assert (packed(flags) == words).all()
            return flags[np.maximum(PART.keys[column] + 1, 0)]
        case Rows(words):
            return np.unpackbits(words.view(np.uint8), bitorder="little")[:ROWS].astype(bool)
        case Joined(every, parts, _):
            return (np.all if every else np.any)([holds(p) for p in parts], axis=0)


@st.composite
def leaves(draw):
    column = draw(st.integers(0, COLUMNS - 1))
    kind = draw(st.sampled_from(["ranges", "codes", "rows", "null", "known"]))
    if kind == "known":
        return draw(st.booleans())
    if kind == "null":
        return Ranges(column, draw(st.sampled_from([((NULL_KEY, NULL_KEY),), tuple(ALL)])))
    chosen = np.random.default_rng(draw(st.integers(0, 2**16)))
    if kind == "rows":
        return Rows(packed(chosen.random(ROWS) < 0.5))
    if kind == "codes":
        return of_codes(column, chosen.random(CODES + 1) < draw(st.sampled_from([0.05, 0.5, 1.0])))
    ends = chosen.integers(-2, CODES + 2, (draw(st.integers(1, 4)), 2))
    found = union([(int(min(pair)), int(max(pair))) for pair in ends])
    return of_ranges(column, complement(found) if draw(st.booleans()) else found)


VERDICTS = st.recursive(
    leaves(),
    lambda parts: st.tuples(st.booleans(), st.lists(parts, min_size=1, max_size=4)),
    max_leaves=12,
)


def joined(drawn):
    """(verdict, its rows as NumPy has them) of a drawn tree."""
    if not isinstance(drawn, tuple):
        return drawn, holds(drawn)
    every, parts = drawn
    found = [joined(p) for p in parts]
    rows = (np.all if every else np.any)([r for _, r in found], axis=0)
    return join(every, [v for v, _ in found]), rows


@given(VERDICTS)
def test_programs_select_what_verdicts_hold(drawn):
    verdict, rows = joined(drawn)
    assert (holds(verdict) == rows).all()
    program = assemble(verdict)
    expected = np.flatnonzero(rows & PART.is_live(np.arange(ROWS))).tolist()
    assert positions_by_mask(PART, program, 0, ROWS).tolist() == expected
    assert program.leaves == (program.ops[:, 0] <= 2).sum()
    for leaf in program.narrowing:
        assert positions_by_permutation(PART, program, leaf).tolist() == expected
    best = narrowest(PART, program)
    assert (best is None) == (not program.narrowing)
    if best is not None:
        assert best[1] >= rows.sum()
    assert sampled_share(PART, program) == pytest.approx(rows.mean())


def test_one_leaf_for_each_column():
    low, high = Ranges(0, ((3, MAX_KEY),)), Ranges(0, ((NULL_KEY, 9),))
    assert join(True, [low, high]) == Ranges(0, ((3, 9),))
    assert join(False, [Ranges(0, ((1, 1),)), Ranges(0, ((2, 2),))]) == Ranges(0, ((1, 2),))
    assert join(True, [Ranges(0, ((1, 1),)), Ranges(0, ((2, 2),))]) is False
    assert join(True, [low, False]) is False
    assert join(False, [low, True]) is True
    assert join(True, [low, True]) == low
    assert join(True, []) is True
    either = join(False, [low, Ranges(1, ((5, 5),))])
    program = assemble(join(True, [either, Ranges(2, ((0, 1),)), Ranges(2, ((1, 4),))]))
    assert program.leaves == 3
    assert len(program.narrowing) == 1
    assert program.ops[program.narrowing[0], 1] == 2


def test_few_runs_of_codes_are_intervals():
    flags = np.zeros(CODES + 1, np.bool_)
    flags[[0, 5, 6]] = True
    assert of_codes(1, flags) == Ranges(1, ((NULL_KEY, NULL_KEY), (4, 5)))
    flags[1::2] = True
    assert isinstance(of_codes(1, flags), Codes)
    assert of_codes(1, np.zeros(CODES + 1, np.bool_)) is False


def test_nothing_passes_a_program_of_nothing():
    program = assemble(False)
    assert positions_by_mask(PART, program, 0, ROWS).tolist() == []
    assert narrowest(PART, program) == (0, 0)


def test_a_program_of_everything_is_empty():
    program = assemble(True)
    assert program.leaves == 0
    assert positions_by_mask(PART, program, 0, ROWS).tolist() == PART.live().tolist()


def test_positions_are_counted_where_a_sample_of_keys_cannot_tell():
    other = dataclasses.replace(PART, sample=np.full((COLUMNS, 10), NULL_KEY))
    rows = np.arange(ROWS) % 3 == 0
    assert sampled_share(other, assemble(Rows(packed(rows)))) == pytest.approx(1 / 3)


def test_no_hit_in_a_sample_is_weighed_with_the_leaves_themselves():
    rows = 40_000
    rng = np.random.default_rng(5)
    keys = np.sort(rng.integers(0, 1000, (2, rows)), axis=1)
    keys[1] = rng.permutation(keys[1])
    big = dataclasses.replace(
        part(),
        keys=keys,
        sample=np.ascontiguousarray(keys[:, ::10]),
        alive=all_live(rows),
        permutations=np.argsort(keys, axis=1, kind="stable"),
    )

    def both(low, high):
        program = assemble(join(True, [Ranges(0, ((0, low),)), Ranges(1, ((0, high),))]))
        true = np.mean((keys[0] <= low) & (keys[1] <= high))
        return selectivity(big, program), true

    found, true = both(499, 499)
    assert found.share == pytest.approx(true, rel=0.1)
    found, true = both(9, 499)  # of the narrow leaf's own rows, half pass
    assert found.share == pytest.approx(true, rel=0.3)
    assert found.narrowest_rows == np.sum(keys[0] <= 9)
    nothing = assemble(join(True, [Ranges(0, ((0, 99),)), Ranges(1, ((0, 99),))]))
    far = dataclasses.replace(big, sample=np.full((2, 4000), 500))
    assert 0 < selectivity(far, nothing).share < 0.01
    one = selectivity(big, assemble(Ranges(0, ((0, 0),))))
    assert one.share == np.mean(keys[0] == 0)
