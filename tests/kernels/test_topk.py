import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from hybridq.kernels import topk
from tests.kernels.calls import from_python
from tests.kernels.cases import FAST

offer, sort = from_python(topk.offer), from_python(topk.sort)

ROWS = st.lists(
    st.tuples(st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 2.0, np.inf]), st.integers(-50, 50)),
    max_size=60,
    unique_by=lambda row: row[1],
)


@FAST
@given(ROWS, st.integers(1, 70))
def test_the_heap_keeps_the_nearest(rows, k):
    distances = np.empty(k, np.float32)
    ties = np.empty(k, np.int64)
    positions = np.empty(k, np.int64)
    filled = 0
    for position, (distance, tie) in enumerate(rows):
        filled = offer(distance, tie, position, distances, ties, positions, filled, k)
        assert filled == min(k, position + 1)
        kept = sorted(rows[: position + 1])[:k]
        assert (distances[0], ties[0]) == kept[-1]
    sort(distances, ties, positions, filled)
    expected = sorted((distance, tie, i) for i, (distance, tie) in enumerate(rows))[:k]
    assert list(zip(distances[:filled], ties[:filled], positions[:filled], strict=True)) == expected


def test_a_large_heap_sorts():
    rng = np.random.default_rng(3)
    n = k = 3000
    values = rng.integers(0, 100, n).astype(np.float32)
    distances = np.empty(k, np.float32)
    ties = np.empty(k, np.int64)
    positions = np.empty(k, np.int64)
    filled = 0
    for i in range(n):
        filled = offer(values[i], -i, i, distances, ties, positions, filled, k)
    sort(distances, ties, positions, filled)
    assert positions.tolist() == np.lexsort((-np.arange(n), values)).tolist()
