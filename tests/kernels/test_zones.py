import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybridq.kernels import zones
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
