"""Arrays by their addresses."""

import numpy as np
import pytest

from hybridq.kernels import addressed
from hybridq.kernels.addressed import LIKE, array_at
from tests.kernels.calls import from_python


def _arrays():
    rng = np.random.default_rng(0)
    shapes = [(3, 5, 2)[: like.ndim] for like in LIKE]
    return tuple(
        rng.integers(0, 200, shape).astype(like.dtype)
        for shape, like in zip(shapes, LIKE, strict=True)
    )


def test_arrays_are_read_where_they_are():
    call = from_python(array_at)
    arrays = _arrays()
    table = np.stack([np.zeros((addressed.ARRAYS, 4), np.int64), addressed.located(arrays)])
    for field, (array, like) in enumerate(zip(arrays, LIKE, strict=True)):
        found = call(table, 1, field, like)
        assert found.dtype == array.dtype
        assert found.tolist() == array.tolist()
        assert not found.flags.writeable
        array.flat[0] = 7
        assert found.flat[0] == 7


def test_programs_are_placed_beside_them():
    table = np.zeros((2, addressed.ARRAYS, 4), np.int64)
    ops, low = np.arange(8).reshape(2, 4), np.arange(5)
    high, bits, alive = low + 1, np.arange(3, dtype=np.uint64), np.arange(2, dtype=np.uint64)
    addressed.place_program(table, 1, alive, ops, low, high, bits)
    assert not table[0].any()
    call = from_python(array_at)
    for field, array, like in (
        (addressed.ALIVE, alive, addressed.WORDS),
        (addressed.OPS, ops, addressed.INTEGERS_2D),
        (addressed.LOW, low, addressed.INTEGERS),
        (addressed.HIGH, high, addressed.INTEGERS),
        (addressed.BITS, bits, addressed.WORDS),
    ):
        assert call(table, 1, field, like).tolist() == array.tolist()


def test_empty_arrays():
    arrays = tuple(np.empty((0, 3, 2)[: like.ndim], like.dtype) for like in LIKE)
    table = addressed.located(arrays)[None]
    call = from_python(array_at)
    for field, (array, like) in enumerate(zip(arrays, LIKE, strict=True)):
        assert call(table, 0, field, like).shape == array.shape


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((3, 5)), "float64"),
        (np.zeros(3, np.float32), "1 dimensions"),
        (np.zeros((5, 3), np.float32).T, "C order"),
    ],
)
def test_arrays_of_another_kind_are_refused(wrong, message):
    with pytest.raises(AssertionError, match=message):
        addressed.located((wrong, *_arrays()[1:]))
