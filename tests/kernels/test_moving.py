"""Rows go where they are sent, and nothing else is written."""

import numpy as np
import pytest

from hybridq.kernels import moving

ROWS, WIDTH = 150, 5


def in_blocks(rows):
    blocks = np.zeros((-(-len(rows) // 64) * 64, rows.shape[1]), rows.dtype)
    blocks[: len(rows)] = rows
    return np.ascontiguousarray(blocks.reshape(-1, 64, rows.shape[1]).transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("move", "kind", "blocked"),
    [
        (moving.move_floats, np.float32, False),
        (moving.move_bytes, np.uint8, False),
        (moving.move_floats_in_blocks, np.float32, True),
        (moving.move_bytes_in_blocks, np.uint8, True),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 90])
def test_rows_move_to_their_places(move, kind, blocked, count):
    rng = np.random.default_rng(count)
    source = rng.integers(1, 200, (ROWS, WIDTH)).astype(kind)
    rows, places = rng.permutation(ROWS)[:count], rng.permutation(ROWS)[:count]
    expected = np.zeros((ROWS, WIDTH), kind)
    expected[places] = source[rows]
    shape = in_blocks if blocked else np.ascontiguousarray
    out = shape(np.zeros((ROWS, WIDTH), kind))
    move(shape(source), rows, places, out)
    assert np.array_equal(out, shape(expected))
