"""From the maps of a convolutional network to one vector: average, maximum, GeM, R-MAC.

All take maps (n, c, h, w) in float32 and return (n, c), not normalised. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch.nn import functional

GEM_POWER: Final = 3.0
RMAC_LEVELS: Final = 3
_LEAST = 1e-6


def average(maps: torch.Tensor) -> torch.Tensor:
    """Return each map's mean."""
    return maps.mean((2, 3))


def maximum(maps: torch.Tensor) -> torch.Tensor:
    """Return each map's largest activation (MAC).

    Source: Tolias, Sicre, Jégou: Particular object retrieval with integral max-pooling of CNN
    activations, ICLR 2016, section 3.1.
    """
    return maps.amax((2, 3))


def generalized_mean(maps: torch.Tensor) -> torch.Tensor:
    """Return each map's generalized mean with the power 3.

    Source: Radenović, Tolias, Chum: Fine-tuning CNN image retrieval with no human annotation,
    TPAMI 2018, section 3.2 (GeM); 3 is what their powers were learned to be near to.
    """
    return maps.clamp_min(_LEAST).pow(GEM_POWER).mean((2, 3)).pow(1 / GEM_POWER)


def regional_maximum(maps: torch.Tensor) -> torch.Tensor:
    """Return the sum of the normalised maxima of square regions at three scales (R-MAC).

    Source: Tolias, Sicre, Jégou, ICLR 2016, section 3.2; without the whitening of regions. Gordo et
    al., IJCV 2017, learn the regions instead.
    """
    pooled = [
        functional.normalize(maximum(maps[:, :, top : top + side, left : left + side]), dim=1)
        for top, left, side in regions(int(maps.shape[2]), int(maps.shape[3]))
    ]
    return torch.stack(pooled).sum(0)


def regions(height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Yield (top, left, side) of the squares of R-MAC: about 40 % overlap, three scales."""
    shortest, longest = min(height, width), max(height, width)
    more = 0
    if longest > shortest:
        # So many more squares along the longer side that neighbours overlap nearest to 40 %.
        overlaps = [
            abs((shortest - (longest - shortest) / steps) / shortest - 0.4) for steps in range(1, 7)
        ]
        more = overlaps.index(min(overlaps)) + 1
    for level in range(1, RMAC_LEVELS + 1):
        side = max(1, 2 * shortest // (level + 1))
        rows = level + (more if height > width else 0)
        columns = level + (more if width > height else 0)
        for row in range(rows):
            top = round(row * (height - side) / (rows - 1)) if rows > 1 else (height - side) // 2
            for column in range(columns):
                left = (
                    round(column * (width - side) / (columns - 1))
                    if columns > 1
                    else (width - side) // 2
                )
                yield top, left, side


POOLINGS: Final[dict[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "avg": average,
    "max": maximum,
    "gem": generalized_mean,
    "rmac": regional_maximum,
}
