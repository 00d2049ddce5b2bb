import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hybridq.index.codes import encode_part, frame_of
from hybridq.kernels import rabitq
from hybridq.kernels._intrinsics import at_most
from hybridq.kernels._jit import entry, f64, in_f32, in_u8_2d, out_f32, out_u64_2d
from hybridq.kernels.distance import COSINE, IP, L2
from hybridq.nodes import Metric
from hybridq.progress import NoProgress
from tests.kernels.cases import FAST

DIMENSIONS = st.sampled_from([1, 2, 3, 63, 64, 65, 100, 128, 200])


@entry(in_u8_2d, in_f32, out_f32)
def _fine_dots(fine, turned, out):
    for row in range(fine.shape[0]):
        out[row] = np.float32(rabitq.fine_dot(fine, row, turned))


@entry(in_f32, f64, out_u64_2d)
def _at_most(values, bound, out):
    for block in range(out.shape[0]):
        out[block, 0] = at_most(values, block * 64, bound)


def turned(points, centre, signs):
    out = np.empty((len(points), signs.shape[1]), np.float32)
    rabitq.turn(np.ascontiguousarray(points, np.float32), centre, signs, out)
    return out


def scores(metric, query, rows):
    """What codes estimate, in float64."""
    query, rows = query.astype(np.float64), rows.astype(np.float64)
    if metric == IP:
        return -(rows @ query)
    if metric == COSINE:
        query = query / np.linalg.norm(query)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return ((rows - query) ** 2).sum(axis=1)


def signs_of(codes, n):
    """The sign bits (n, D) as +1 and -1."""
    bits = np.unpackbits(codes.transpose(0, 2, 1), axis=2, bitorder="little")
    return 2.0 * bits.reshape(-1, bits.shape[2])[:n] - 1.0


def levels_of(fine):
    """The four-bit levels (n, D), 0 to 15."""
    return np.concatenate([fine & 15, fine >> 4], axis=1).astype(np.float64)


class Encoded:
    """Rows in a few lists with their codes, and a query."""

    def __init__(self, metric, n, d, seed):
        rng = np.random.default_rng(seed)
        nlist = 4
        centroids = 3 + rng.standard_normal((nlist, d))
        if metric == COSINE:
            centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
        self.labels = np.sort(rng.integers(0, nlist, n)).astype(np.int32)
        rows = centroids[self.labels] + 0.5 * rng.standard_normal((n, d))
        self.rows = rows.astype(np.float32)
        self.centroids = centroids.astype(np.float32)
        self.query = (rows[0] + 0.5 * rng.standard_normal(d)).astype(np.float32)
        frame = frame_of(self.centroids, Metric(metric))
        self.codes = encode_part([self.rows], self.labels, frame, Metric(metric), NoProgress())
        self.truth = scores(metric, self.query, self.rows)
        query = self.query.astype(np.float64)
        if metric == COSINE:
            query = query / np.linalg.norm(query)
        self.gap = np.linalg.norm(query - self.centroids, axis=1)[self.labels]
        base = -(self.centroids @ query) if metric == IP else self.gap**2
        self.base = base[self.labels] if metric == IP else base
        self.turned = turned(query[None], self.codes.centre, self.codes.signs)[0].astype(np.float64)

    def estimates(self):
        """(score, one deviation) of each row by its sign bits, and by its four-bit code."""
        n = len(self.rows)
        f0, f1 = (self.codes.factors[:, i].reshape(-1)[:n] for i in range(2))
        by_signs = self.base + f0 + f1 * (signs_of(self.codes.codes, n) @ self.turned)
        h0, h1, h2 = self.codes.fine_factors[:, :3].T
        by_levels = self.base + h0 + h1 * ((levels_of(self.codes.fine) - 7.5) @ self.turned)
        return (by_signs, np.abs(f1) * 0.61 * self.gap), (by_levels, h2 * self.gap)


@FAST
@given(d=DIMENSIONS, seed=st.integers(0, 1000))
def test_a_rotation_keeps_norms_and_products(d, seed):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((5, d)).astype(np.float32)
    out = turned(points, np.zeros(d, np.float32), rabitq.rotation(d, seed))
    np.testing.assert_allclose(out @ out.T, points @ points.T, rtol=1e-5, atol=1e-4)


def test_rotations_differ_by_seed():
    assert not np.array_equal(rabitq.rotation(64, 1), rabitq.rotation(64, 2))


@pytest.mark.parametrize("metric", [L2, COSINE, IP])
@pytest.mark.parametrize("d", [64, 100, 128])
def test_scores_are_unbiased_and_deviate_as_told(metric, d):
    errors = [[], []]
    for seed in range(12):
        encoded = Encoded(metric, 200, d, seed)
        for kind, (estimate, deviation) in enumerate(encoded.estimates()):
            errors[kind].append((estimate - encoded.truth) / deviation)
    for kind in errors:
        by_query = np.array([e.mean() for e in kind])
        assert abs(by_query.mean()) < 0.3
        spread = np.concatenate(kind).std()
        assert 0.6 < spread < 1.2


@pytest.mark.parametrize("metric", [L2, COSINE, IP])
def test_four_bits_are_sharper_than_one(metric):
    (one, wide), (four, narrow) = Encoded(metric, 300, 128, 0).estimates()
    truth = Encoded(metric, 300, 128, 0).truth
    assert np.abs(four - truth).mean() < 0.3 * np.abs(one - truth).mean()
    assert (narrow < wide).all()


def test_sign_bits_are_the_signs_of_the_rotated_residuals():
    encoded = Encoded(L2, 130, 100, 5)
    residuals = encoded.rows - encoded.centroids[encoded.labels]
    expected = turned(residuals, np.zeros(100, np.float32), encoded.codes.signs)
    clear = np.abs(expected) > 1e-4
    assert (signs_of(encoded.codes.codes, 130)[clear] == np.sign(expected)[clear]).all()


def test_a_row_at_its_centroid_is_known_exactly():
    centroids = np.array([[1.0, 2.0], [5.0, 5.0]], np.float32)
    frame = frame_of(centroids, Metric.L2)
    labels = np.array([0, 1], np.int32)
    codes = encode_part([centroids.copy()], labels, frame, Metric.L2, NoProgress())
    assert (codes.factors[0, :, :2] == 0).all()
    assert (codes.fine_factors == 0).all()


@pytest.mark.parametrize("value", [1e30, 1e-30])
def test_rows_that_cannot_be_squared_never_fall_out(value):
    rows = np.full((1, 8), value, np.float32)
    frame = frame_of(np.zeros((1, 8), np.float32), Metric.L2)
    codes = encode_part([rows], np.zeros(1, np.int32), frame, Metric.L2, NoProgress())
    assert codes.factors[0, 0, 0] == -np.inf
    assert codes.fine_factors[0, 2] == np.inf


@FAST
@given(seed=st.integers(0, 1000), size=st.sampled_from([64, 128, 192, 1024]))
def test_products_with_four_bit_levels(seed, size):
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, 256, (5, size // 2)).astype(np.uint8)
    query = rng.standard_normal(size).astype(np.float32)
    out = np.empty(5, np.float32)
    _fine_dots(fine, query, out)
    np.testing.assert_allclose(out, levels_of(fine) @ query.astype(np.float64), atol=1e-2)


@FAST
@given(seed=st.integers(0, 1000), bound=st.sampled_from([0.0, -np.inf, np.inf, 1.5]))
def test_a_bound_lets_equal_and_unknown_values_pass(seed, bound):
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array([0, -1, 1.5, 2, np.nan, np.inf, -np.inf], np.float32), 128)
    out = np.empty((2, 1), np.uint64)
    _at_most(values, bound, out)
    bits = np.unpackbits(out.view(np.uint8).reshape(2, 8), axis=1, bitorder="little").ravel()
    assert (bits.astype(bool) == ~(values > bound)).all()
