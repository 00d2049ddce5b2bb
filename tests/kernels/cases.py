"""Random inputs for the kernels, drawn by hypothesis as a seed and a few shapes."""

from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings

from hybridq.kernels.buckets import make_buckets

FAST = settings(deadline=None, derandomize=True, max_examples=50)

INT64 = np.iinfo(np.int64)
NULL = INT64.min
ODD_FLOATS = np.array(
    [0.0, -0.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 1e-45, 1e-20, 1.0, -1.0], np.float32
)

KINDS = ("normal", "grid", "close", "odd", "huge", "tiny", "mixed")


def vectors(kind, n, d, rng):
    """A query (d,) and rows (n, d) of one kind."""
    query = rng.standard_normal(d)
    rows = rng.standard_normal((n, d))
    if kind == "grid":  # many equal distances, zero vectors
        query = rng.integers(-1, 2, d)
        rows = rng.integers(-1, 2, (n, d))
    elif kind == "close":  # distances that differ in their last bits
        query = query + 1000
        rows = query + rng.integers(-2, 3, (n, d)) * 1e-4
    elif kind == "huge":  # float32 sums overflow, also with both signs
        query, rows = query * 1e19, rows * 1e20
    elif kind == "tiny":  # float32 squares vanish
        query, rows = query * 1e-21, rows * 1e-22
    elif kind == "mixed":
        rows = rows * 10.0 ** rng.integers(-30, 30, (n, 1))
    with np.errstate(over="ignore"):
        query, rows = query.astype(np.float32), rows.astype(np.float32)
    if kind == "odd":
        at = rng.random((n, d)) < 0.1
        rows[at] = rng.choice(ODD_FLOATS, at.sum())
    return query, rows


def some_buckets(keys):
    """Few buckets, or none where the number of rows is even."""
    if keys.shape[1] % 2 == 0:
        return np.empty((len(keys), 0), np.uint16), np.empty((0, 0, 2), np.int64)
    return make_buckets(keys, np.argsort(keys, axis=1, kind="stable"), 5)


@dataclass
class Table:
    """An index in miniature."""

    query: np.ndarray
    vectors: np.ndarray
    offsets: np.ndarray
    order: np.ndarray
    keys: np.ndarray
    alive: np.ndarray
    tie: np.ndarray
    rng: np.random.Generator

    @property
    def n(self):
        return len(self.vectors)

    @property
    def nlist(self):
        return len(self.offsets) - 1


@st.composite
def tables(draw, max_rows=300, kinds=KINDS):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.one_of(st.integers(0, 5), st.integers(0, max_rows)))
    d = draw(st.one_of(st.sampled_from([1, 2, 16]), st.integers(1, 24)))
    nlist = draw(st.integers(1, 6))
    query, rows = vectors(draw(st.sampled_from(kinds)), n, d, rng)
    cuts = np.sort(rng.integers(0, n + 1, nlist - 1))
    columns = draw(st.integers(0, 3))
    keys = rng.integers(-20, 20, (columns, n))
    keys[rng.random((columns, n)) < 0.05] = NULL
    keys[rng.random((columns, n)) < 0.02] = INT64.max
    alive_share = draw(st.sampled_from([1.0, 0.9, 0.5, 0.02, 0.0]))
    return Table(
        query=query,
        vectors=rows,
        offsets=np.concatenate([[0], cuts, [n]]).astype(np.int64),
        order=rng.permutation(nlist),
        keys=keys,
        alive=(rng.random(n) < alive_share).astype(np.uint8),
        tie=rng.permutation(n) - n // 2,
        rng=rng,
    )


@st.composite
def programs(draw, columns):
    """A conjunction over `columns` columns: a list of (column, intervals)."""
    if columns == 0:
        return []
    return draw(st.lists(st.tuples(st.integers(0, columns - 1), _intervals()), max_size=3))


def trees(columns, n):
    """A list of conditions of every kind, nested; see `naive.passes`."""
    leaves = st.tuples(st.just("rows"), st.sets(st.integers(0, max(n - 1, 0)), max_size=40))
    if columns:
        column = st.integers(0, columns - 1)
        codes = st.sets(st.integers(-1, 63), max_size=40)
        leaves |= st.tuples(column, _intervals()) | st.tuples(st.just("bits"), column, codes)
    return st.lists(
        st.recursive(
            leaves,
            lambda parts: st.tuples(
                st.sampled_from(["and", "or"]), st.lists(parts, min_size=1, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=3,
    )


@st.composite
def _intervals(draw):
    """Sorted, disjoint, closed intervals; from none to more than a leaf tests linearly."""
    edge = st.one_of(st.integers(-22, 22), st.sampled_from([INT64.min, INT64.min + 1, INT64.max]))
    ends = sorted(draw(st.sets(edge, max_size=draw(st.sampled_from([2, 8, 20])))))
    if len(ends) % 2 == 1:  # one interval of a single value
        at = draw(st.integers(0, len(ends) - 1))
        ends.insert(at, ends[at])
        if at % 2 == 1:
            del ends[at : at + 2]
    return list(zip(ends[::2], ends[1::2], strict=True))
