import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybridq.kernels import predicate, zones
from tests.kernels.cases import FAST, INT64, NULL


@FAST
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 200))
def test_zones_are_least_greatest_and_set(seed, columns, n):
    rng = np.random.default_rng(seed)
    keys = rng.integers(-100, 100, (columns, n))
    keys[rng.random((columns, n)) < 0.1] = NULL
    keys[rng.random((columns, n)) < 0.05] = INT64.max
    offsets = np.sort(rng.integers(0, n + 1, 4))
    out = np.empty((columns, 3, zones.FIELDS), np.int64)
    zones.fill_zones(keys, offsets, out)
    for column in range(columns):
        for g in range(3):
            members = keys[column, offsets[g] : offsets[g + 1]].tolist()
            least, greatest, found = out[column, g].tolist()
            assert least == min(members, default=INT64.max)
            assert greatest == max(members, default=INT64.min)
            bits = {b for b in range(64) if found % 2**64 >> b & 1}
            assert bits == {m % 64 for m in members}


@FAST
@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(1, 3), st.booleans())
def test_groups_that_may_pass_are_counted(seed, leaves, count, few):
    rng = np.random.default_rng(seed)
    keys = rng.integers(-100, 100, (2, 60))
    out = np.empty((2, 12, zones.FIELDS), np.int64)
    zones.fill_zones(keys, np.sort([0, 60, *rng.integers(0, 61, 11)]), out)
    low = rng.integers(-110, 110, leaves * count)
    high = low + rng.integers(0, 9 if few else 200, leaves * count)
    ops = [[predicate.INTERVALS, leaf, leaf * count, (leaf + 1) * count] for leaf in range(leaves)]
    ops += [[predicate.AND, 0, 0, 0]] * (leaves - 1)

    def may_pass(leaf, least, greatest, members):
        mine = slice(leaf * count, (leaf + 1) * count)
        some = [k for a, b in zip(low[mine], high[mine], strict=True) for k in range(a, b + 1)]
        wide = (high[mine] - low[mine] >= 63).any()
        return any(least <= k <= greatest for k in some) and (
            wide or any(members % 2**64 >> (k % 64) & 1 for k in some)
        )

    for step in (1, 3):
        expected = sum(
            all(may_pass(leaf, *out[leaf, g].tolist()) for leaf in range(leaves))
            for g in range(0, 12, step)
        )
        assert zones.count_open(out, step, np.array(ops, np.int64), low, high) == expected
