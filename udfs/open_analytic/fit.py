"""What is fitted to features: a linear classifier, a metric projection, principal components.

Arrays in, arrays out; the same rows give the same result. Imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from hybridq.errors import DataError
from udfs.image.arrays import Vectors
from udfs.image.models import Projection

_BATCH: Final = 512
_EPOCHS: Final = 15
_LEAST_STEPS: Final = 400
_LEARNING_RATE: Final = 2e-3
_DECAY: Final = 1e-4
_TEMPERATURE: Final = 1 / 16
_SEED: Final = 0
_RIDGES: Final = (1e-4, 1e-5, 1e-6, 1e-7)  # strongest first: each begins where the last ended
_RIDGE_ITERATIONS: Final = 40
_ITERATIONS: Final = 100
_FEW_ROWS: Final = 8192

Classes = npt.NDArray[np.int64]
Advance = Callable[[], None]


def split(count: int, held_out: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows to fit and the rows to measure with: a fixed random choice."""
    order = np.random.default_rng(_SEED).permutation(count)
    fitted = count - round(count * held_out)
    return order[:fitted], order[fitted:]


def classifier(
    features: Vectors, classes: Classes, count: int, advance: Advance = lambda: None
) -> tuple[Vectors, Vectors]:
    """Return weight (count, d) and bias (count,) of a multinomial logistic regression.

    Few rows: L-BFGS, with the ridge that is right most often on a part of them left out before.
    It keeps to the directions in which classes differ, where Adam gives each of a thousand whitened
    components the same say (200 rows: 74 % right against 35 %). Many rows: Adam, which takes a
    third of the time then and is right as often.
    """
    centre = features.mean(0)
    # One scale for all, or directions without meaning would count as much as the others.
    scale = np.float32(1 / max(float(np.sqrt(features.var(0).sum())), 1e-12))
    weight, bias = torch.zeros(count, features.shape[1]), torch.zeros(count)
    if len(features) > _FEW_ROWS:
        scale *= np.float32(np.sqrt(features.shape[1]))
        weight, bias = weight.requires_grad_(), bias.requires_grad_()

        def loss(rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(functional.linear(rows, weight, bias), labels)

        _descend([weight, bias], loss, features, centre, scale, classes, advance)
    else:
        rows = torch.from_numpy((features - centre) * scale)
        weight, bias = _regressed_well(rows, torch.from_numpy(classes), weight, bias, advance)
    whole = weight.detach().numpy() * scale
    return whole, bias.detach().numpy() - whole @ centre


def _regressed_well(
    rows: torch.Tensor,
    wanted: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    advance: Advance,
) -> tuple[torch.Tensor, torch.Tensor]:
    fitted, measured = (torch.from_numpy(part) for part in split(len(rows), 0.2))
    found = []
    for ridge in _RIDGES:
        weight, bias = _regressed(
            rows[fitted], wanted[fitted], weight, bias, ridge, _RIDGE_ITERATIONS, advance
        )
        right = functional.linear(rows[measured], weight, bias).argmax(1) == wanted[measured]
        found.append((int(right.sum()), ridge, weight, bias))
    _, ridge, weight, bias = max(found, key=lambda one: one[:2])
    return _regressed(rows, wanted, weight, bias, ridge, _ITERATIONS, advance)


def _regressed(
    rows: torch.Tensor,
    wanted: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    ridge: float,
    iterations: int,
    advance: Advance,
) -> tuple[torch.Tensor, torch.Tensor]:
    weight, bias = (part.clone().requires_grad_() for part in (weight, bias))
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimizer.zero_grad()
        wrong = functional.cross_entropy(functional.linear(rows, weight, bias), wanted)
        total = wrong + ridge / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call] # torch
        advance()
        return total.item()

    optimizer.step(loss)  # type: ignore[no-untyped-call] # torch
    return weight.detach(), bias.detach()


def metric_projection(
    features: Vectors, classes: Classes, count: int, dim: int, advance: Advance = lambda: None
) -> Projection:
    """Return a projection to (dim,) under which rows of one class are near.

    A softmax over the cosines to one proxy a class, begun at the principal components. Source:
    Zhai, Wu: Classification is a strong baseline for deep metric learning, BMVC 2019, section 3.
    """
    begun, _ = principal_components(Moments.of(features), dim, whitening=0.5)
    centre = begun.centre
    matrix = torch.from_numpy(begun.matrix.copy()).requires_grad_()
    with torch.no_grad():
        projected = functional.normalize(torch.from_numpy(features - centre) @ matrix.T, dim=1)
        means = torch.zeros(count, dim).index_add_(0, torch.from_numpy(classes), projected)
    proxies = functional.normalize(means, dim=1).requires_grad_()

    def loss(rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        vectors = functional.normalize(functional.linear(rows, matrix), dim=1)
        cosines = functional.linear(vectors, functional.normalize(proxies, dim=1))
        return functional.cross_entropy(cosines / _TEMPERATURE, labels)

    _descend([matrix, proxies], loss, features, centre, np.float32(1), classes, advance)
    return _rounded(centre, matrix.detach().numpy())


def _descend(
    parameters: list[torch.Tensor],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    features: Vectors,
    centre: Vectors,
    scale: np.float32,
    classes: Classes,
    advance: Advance,
) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=_DECAY)
    rounds = -(-len(features) // _BATCH)
    epochs = max(_EPOCHS, -(-_LEAST_STEPS // rounds))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * rounds)
    for rows in _batches(len(features), epochs):
        optimizer.zero_grad()
        batch = torch.from_numpy((features[rows] - centre) * scale)
        loss(batch, torch.from_numpy(classes[rows])).backward()  # type: ignore[no-untyped-call] # torch
        optimizer.step()
        schedule.step()
        advance()


def _batches(count: int, epochs: int) -> Iterator[npt.NDArray[np.int64]]:
    generator = np.random.default_rng(_SEED + 1)
    for _ in range(epochs):
        order = generator.permutation(count)
        for at in range(0, count, _BATCH):
            yield order[at : at + _BATCH]


class Moments:
    """The mean and covariance of rows that come in batches."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._sum = np.zeros(dim)
        self._products = np.zeros((dim, dim))

    @staticmethod
    def of(features: Vectors) -> Moments:
        """Return those of all rows at once."""
        moments = Moments(features.shape[1])
        for at in range(0, len(features), 4096):
            moments.add(features[at : at + 4096])
        return moments

    def add(self, rows: Vectors) -> None:
        """Take rows (n, d) into account."""
        exact = rows.astype(np.float64)
        self.count += len(rows)
        self._sum += exact.sum(0)
        self._products += exact.T @ exact

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """The mean (d,)."""
        return self._sum / self.count

    @property
    def covariance(self) -> npt.NDArray[np.float64]:
        """The covariance (d, d)."""
        return self._products / self.count - np.outer(self.mean, self.mean)


def principal_components(
    moments: Moments, dim: int, *, whitening: float
) -> tuple[Projection, float]:
    """Return the projection to the `dim` strongest components, and their share of the variance.

    Whitening 0 keeps their variances as they are, 1 makes them equal. Source: Jégou, Chum: Negative
    evidences and co-occurrences in image retrieval, ECCV 2012, section 3.
    """
    variances, components = np.linalg.eigh(moments.covariance)
    variances, components = variances[::-1][:dim].clip(min=0), components[:, ::-1][:, :dim]
    if not math.isfinite(float(variances.sum())) or variances[0] <= 0:
        raise DataError("all the vectors are the same: there are no components to find")
    known = int((variances > 1e-9 * variances[0]).sum())
    if known < dim:
        raise DataError(
            f"the rows vary in {known:,} directions, which is less than {dim:,} dimensions",
            hint=f"give more rows, or dim := {known} or less",
        )
    share = float(variances.sum() / np.trace(moments.covariance))
    return _rounded(moments.mean, (components * variances ** (-whitening / 2)).T), share


def _rounded(centre: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> Projection:
    # As a database keeps it, in float16: only the direction of a vector is used, so that the
    # scale may be chosen to suit.
    scaled = matrix / np.abs(matrix).max()
    return Projection(
        np.ascontiguousarray(centre, np.float32),
        np.ascontiguousarray(scaled.astype(np.float16).astype(np.float32)),
    )


def projected(features: Vectors, projection: Projection) -> Vectors:
    """Return the normalised vectors (n, dim) of features (n, d)."""
    vectors = (features - projection.centre) @ projection.matrix.T
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def share_right(features: Vectors, classes: Classes, weight: Vectors, bias: Vectors) -> float:
    """Return how often the best class is the right one."""
    return float(((features @ weight.T + bias).argmax(1) == classes).mean())


def neighbours(
    train: Vectors, train_classes: Classes, test: Vectors, classes: Classes, k: int = 10
) -> tuple[float, float]:
    """Return P@k and the accuracy of k-NN: the nearest of `train` of each of `test`, normalised."""
    k = min(k, len(train))
    right, voted = 0.0, 0
    for at in range(0, len(test), 500):
        scores = test[at : at + 500] @ train.T
        near = train_classes[np.argpartition(-scores, k - 1, axis=1)[:, :k]]
        wanted = classes[at : at + 500]
        right += float((near == wanted[:, None]).mean(1).sum())
        voted += sum(
            int(np.bincount(row).argmax() == one) for row, one in zip(near, wanted, strict=True)
        )
    return right / len(test), voted / len(test)
