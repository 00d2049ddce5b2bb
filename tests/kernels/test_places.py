"""Positions of keys, and bitmaps of positions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybridq.index.places import Places
from hybridq.kernels import places
from tests.kernels import naive
from tests.kernels.cases import FAST

RANGE = st.sampled_from([1, 3, 1000, 2**40, 2**62])


@FAST
@given(st.integers(1, 3), st.integers(0, 200), RANGE, st.integers(0, 2**16))
def test_keys_are_found_where_they_are(columns, rows, spread, seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(-(2**62), 2**62, (columns, 1))
    keys = np.unique(low + rng.integers(0, spread, (columns, rows)), axis=1)
    keys = np.ascontiguousarray(keys[:, rng.permutation(keys.shape[1])])
    if keys.shape[1] == 0:
        return
    wanted = np.concatenate([keys, keys + 1, np.full_like(keys[:, :1], -(2**63))], axis=1)
    known = {tuple(k): i for i, k in enumerate(keys.T.tolist())}
    expected = [known.get(tuple(k), -1) for k in wanted.T.tolist()]
    orders = np.argsort(keys, axis=1, kind="stable")
    for given_ in (None, orders):
        found = Places(keys, given_).find(np.ascontiguousarray(wanted))
        assert found.dtype == np.int64
        assert found.tolist() == expected


def test_codes_far_away_do_not_wrap_into_the_table():
    table = np.array([7, 8], np.int32)
    codes = np.array([-(2**63), 2**63 - 1, 4, 5, 6, 7], np.int64)
    out = np.empty(6, np.int64)
    places.look_up(codes, 5, table, out)
    assert out.tolist() == [-1, -1, -1, 7, 8, -1]


@FAST
@given(st.lists(st.integers(-1, 129)), st.integers(0, 2**16))
def test_bits_are_those_of_living_positions(positions, seed):
    alive = np.random.default_rng(seed).integers(0, 2, 130).astype(np.uint8)
    words = np.zeros(3, np.uint64)
    count = places.mark(np.array(positions, np.int64), naive.words(alive), words)
    bits = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
    living = [p for p in positions if p >= 0 and alive[p]]
    assert bits.tolist() == sorted(set(living))
    assert count == len(living)
