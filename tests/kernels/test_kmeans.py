import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.kernels import kmeans
from hybridq.kernels.distance import COSINE, IP, L2
from tests.kernels import naive
from tests.kernels.cases import FAST

METRICS = (L2, COSINE, IP)


def blobs(n, d, centres, rng, spread=0.01):
    """Rows around `centres` random points, and the centre of each."""
    centre = rng.standard_normal((centres, d)) * 10
    label = rng.integers(0, centres, n)
    return (centre[label] + rng.standard_normal((n, d)) * spread).astype(np.float32), label


def assign(vectors, centroids, metric=L2):
    out = np.full(len(vectors), -7, np.int32)
    kmeans.assign(vectors, centroids, out, metric=metric)
    return out


def inertia(vectors, centroids):
    labels = assign(vectors, centroids)
    return float(((vectors - centroids[labels]).astype(np.float64) ** 2).sum())


@FAST
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(METRICS),
    st.integers(0, 200),
    st.integers(1, 20),
    st.integers(1, 30),
)
def test_rows_go_to_the_nearest_centroid(seed, metric, n, d, nlist):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    centroids = rng.standard_normal((nlist, d)).astype(np.float32)
    labels = assign(vectors, centroids, metric)
    for i in range(n):
        distance = naive.distances(COSINE if metric == COSINE else L2, vectors[i], centroids)
        assert distance[labels[i]] <= distance.min() + 1e-4


@FAST
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 40))
def test_ties_go_to_the_lowest_list(seed, d, nlist):
    """Small integers: every score is exact, and many are equal."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (100, d)).astype(np.float32)
    centroids = rng.integers(-2, 3, (nlist, d)).astype(np.float32)
    squares = ((vectors[:, None] - centroids[None]) ** 2).sum(axis=2)
    assert assign(vectors, centroids).tolist() == squares.argmin(axis=1).tolist()


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.integers(-9, 10, (1000, 3)).astype(np.float32)
    centroids = rng.integers(-9, 10, (7, 3)).astype(np.float32)
    whole = assign(vectors, centroids)
    monkeypatch.setattr(kmeans, "_SCORES_BYTES", 1)
    assert assign(vectors, centroids).tolist() == whole.tolist()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
@pytest.mark.parametrize("metric", METRICS)
def test_magnitude_does_not_matter(metric, scale):
    vectors, label = blobs(300, 8, 5, np.random.default_rng(1))
    vectors = vectors * np.float32(scale)
    centroids = kmeans.train(vectors, 5, metric=metric)
    assert np.isfinite(centroids).all()
    same_list(assign(vectors, centroids, metric), label)


def same_list(labels, expected):
    """The same partition, whatever its numbers."""
    pairs = {(a, b) for a, b in zip(labels.tolist(), expected.tolist(), strict=True)}
    assert len(pairs) == len(set(expected.tolist())) == len(set(labels.tolist()))


def test_training_lowers_the_inertia():
    vectors, _ = blobs(4000, 16, 300, np.random.default_rng(2), spread=3)
    values = [inertia(vectors, kmeans.train(vectors, 40, iterations=i)) for i in range(6)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("metric", METRICS)
def test_the_seed_decides(metric):
    vectors, _ = blobs(1000, 8, 30, np.random.default_rng(3), spread=2)
    first = kmeans.train(vectors, 20, metric=metric, seed=5)
    assert (kmeans.train(vectors, 20, metric=metric, seed=5) == first).all()
    assert (kmeans.train(vectors, 20, metric=metric, seed=6) != first).any()
    assert first.dtype == np.float32
    assert first.shape == (20, 8)
    assert first.flags.c_contiguous


def test_spherical_centroids_have_length_one():
    vectors, _ = blobs(500, 6, 10, np.random.default_rng(4), spread=1)
    vectors[3] = 0
    centroids = kmeans.train(vectors, 10, metric=COSINE)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-6)
    lengths = np.random.default_rng(5).uniform(0.01, 100, (500, 1)).astype(np.float32)
    scaled = assign(vectors * lengths, centroids, COSINE)
    assert (scaled == assign(vectors, centroids, COSINE)).mean() > 0.99


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("m", "d", "nlist"), [(0, 3, 4), (1, 1, 1), (3, 2, 10), (50, 1, 50)])
def test_small_samples(metric, m, d, nlist):
    vectors = np.random.default_rng(6).standard_normal((m, d)).astype(np.float32)
    centroids = kmeans.train(vectors, nlist, metric=metric)
    assert centroids.shape == (nlist, d)
    assert np.isfinite(centroids).all()
    if metric == L2 and m > 0:
        assert inertia(vectors, centroids) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, 1.5])
def test_identical_rows(metric, value):
    vectors = np.full((300, 4), value, np.float32)
    centroids = kmeans.train(vectors, 16, metric=metric)
    assert np.isfinite(centroids).all()
    assert set(assign(vectors, centroids, metric).tolist()) == {0}


def test_empty_lists_are_seeded_again():
    """Half of the rows are one point; the lists all its copies were given move elsewhere."""
    rng = np.random.default_rng(7)
    vectors = np.zeros((2000, 4), np.float32)
    vectors[1000:] = rng.standard_normal((1000, 4))
    centroids = kmeans.train(vectors, 32)
    assert len(np.unique(assign(vectors, centroids))) == 32


def test_iterations_are_reported():
    seen = []
    vectors = np.random.default_rng(8).standard_normal((100, 2)).astype(np.float32)
    kmeans.train(vectors, 4, iterations=3, on_iteration=seen.append)
    assert seen == [1, 2, 3]


def test_read_only_rows():
    vectors = np.random.default_rng(9).standard_normal((200, 3)).astype(np.float32)
    expected = kmeans.train(vectors, 5)
    vectors.flags.writeable = False
    assert (kmeans.train(vectors, 5) == expected).all()
    assign(vectors, expected)


def test_the_sums_are_those_of_the_lists():
    rng = np.random.default_rng(10)
    vectors = rng.standard_normal((500, 3)).astype(np.float32)
    labels = rng.integers(0, 7, 500).astype(np.int32)
    sums, sizes = np.empty((8, 3)), np.empty(8, np.int64)
    kmeans._sum_lists(vectors, labels, sums, sizes)
    assert sizes.tolist() == np.bincount(labels, minlength=8).tolist()
    for list_ in range(8):
        members = vectors[labels == list_].astype(np.float64)
        np.testing.assert_allclose(sums[list_], members.sum(axis=0), rtol=1e-12, atol=1e-12)
