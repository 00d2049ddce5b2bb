"""From a map of text probability to turned rectangles around lines of text.

Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020, §3.4: the
map marks shrunken lines; what hangs together is a line, whose rectangle is grown again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_LEAST_SIDE = 3.0  # pixels of the map
_MOST_LINES = 1000


class Rectangle(NamedTuple):
    """A turned rectangle: `angle` (radians, -π/4 … π/4) turns the x axis along its `width`."""

    x: float
    y: float
    width: float
    height: float
    angle: float

    def corners(self) -> Array:
        """Return (4, 2): the corners, clockwise from that at the upper left of the text."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        along, down = np.array([c, s]) * self.width / 2, np.array([-s, c]) * self.height / 2
        middle = np.array([self.x, self.y])
        left, right = middle - along, middle + along
        return np.array([left - down, right - down, right + down, left + down])


def rectangles(
    probability: Array, *, least: float = 0.3, least_mean: float = 0.5, growth: float = 1.6
) -> list[Rectangle]:
    """Return the rectangles of a probability map (h, w), largest first, in its pixels.

    A line is made of pixels above `least`; their rectangle's mean must reach `least_mean`; it is
    grown by area · `growth` / perimeter on each side (eq. 10).
    """
    found = []
    for points in components(_thickened(probability > least)):
        rectangle = smallest_rectangle(points)
        if min(rectangle.width, rectangle.height) < _LEAST_SIDE:
            continue
        if _mean_inside(probability, rectangle) < least_mean:
            continue
        # The perimeter is 2 · (w + h), and both sides of each dimension grow.
        more = rectangle.width * rectangle.height * growth / (rectangle.width + rectangle.height)
        grown = rectangle._replace(width=rectangle.width + more, height=rectangle.height + more)
        if min(grown.width, grown.height) >= _LEAST_SIDE + 2:
            found.append(grown)
    return sorted(found, key=lambda r: -r.width * r.height)[:_MOST_LINES]


def _thickened(mask: Array) -> Array:
    """Return the mask with each pixel spread one to the right and below: closes gaps of one."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:, 1:] |= out[:, :-1].copy()
    return out


def components(mask: Array) -> list[Array]:
    """Return the ends (n, 2) of the rows of each 8-connected part of a mask (h, w), as x, y.

    Rows are cut into runs, and runs that touch are joined (He, Chao & Suzuki, TIP 17(5), 2008).
    """
    width = mask.shape[1]
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]  # the first after
    if not len(rows):
        return []
    # Of the runs of the next row, those between the two bounds touch: they end at or after this
    # one's start and start at or before its end.
    base = (rows + 1) * (width + 2)
    first = np.searchsorted(rows * (width + 2) + ends, base + starts, "left")
    after = np.searchsorted(rows * (width + 2) + starts, base + ends, "right")
    count = (after - first).clip(0)
    upper = np.repeat(np.arange(len(rows)), count)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    lower = first[upper] + offset
    labels = _joined(len(rows), upper, lower)
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return [
        np.concatenate(
            [np.stack([starts[part], rows[part]], 1), np.stack([ends[part] - 1, rows[part]], 1)]
        )
        for part in np.split(order, cuts)
    ]


def _joined(count: int, a: Array, b: Array) -> Array:
    """Return the smallest node that each of `count` nodes is connected with by edges (a, b)."""
    label = np.arange(count)
    while True:
        low = np.minimum(label[a], label[b])
        new = label.copy()
        np.minimum.at(new, label[a], low)
        np.minimum.at(new, label[b], low)
        while (jumped := new[new]).tolist() != new.tolist():
            new = jumped
        if np.array_equal(new, label):
            return label
        label = new


def smallest_rectangle(points: Array) -> Rectangle:
    """Return the rectangle of least area around points (n, 2): one side lies on the hull."""
    hull = _hull(points).astype(np.float64)
    sides = np.roll(hull, -1, 0) - hull
    angles = np.unique(np.mod(np.arctan2(sides[:, 1], sides[:, 0]), np.pi / 2))
    c, s = np.cos(angles), np.sin(angles)
    u = hull @ np.stack([c, s])
    v = hull @ np.stack([-s, c])
    best = int(((u.max(0) - u.min(0)) * (v.max(0) - v.min(0))).argmin())
    u, v, angle = u[:, best], v[:, best], float(angles[best])
    width, height = float(u.max() - u.min()), float(v.max() - v.min())
    middle_u, middle_v = (u.max() + u.min()) / 2, (v.max() + v.min()) / 2
    x = middle_u * c[best] - middle_v * s[best]
    y = middle_u * s[best] + middle_v * c[best]
    if angle > np.pi / 4:
        angle, width, height = angle - np.pi / 2, height, width
    return Rectangle(float(x), float(y), width, height, angle)


def _hull(points: Array) -> Array:
    """Return the corners of the convex hull, in order (Andrew's monotone chain)."""
    ordered = np.unique(points, axis=0).tolist()
    if len(ordered) < 3:
        return np.array(ordered)

    def half(sequence: list[list[int]]) -> list[list[int]]:
        chain: list[list[int]] = []
        for x, y in sequence:
            while len(chain) > 1 and (chain[-1][0] - chain[-2][0]) * (y - chain[-2][1]) <= (
                chain[-1][1] - chain[-2][1]
            ) * (x - chain[-2][0]):
                chain.pop()
            chain.append([x, y])
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def _mean_inside(values: Array, rectangle: Rectangle) -> float:
    corners = rectangle.corners()
    height, width = values.shape
    left, top = np.floor(corners.min(0)).astype(int).clip(0)
    right, bottom = np.ceil(corners.max(0)).astype(int) + 1
    part = values[top : min(bottom, height), left : min(right, width)]
    y, x = np.ogrid[: part.shape[0], : part.shape[1]]
    x, y = x + left - rectangle.x, y + top - rectangle.y
    c, s = np.cos(rectangle.angle), np.sin(rectangle.angle)
    inside = (abs(x * c + y * s) <= rectangle.width / 2 + 0.5) & (
        abs(y * c - x * s) <= rectangle.height / 2 + 0.5
    )
    return float(part[inside].mean()) if inside.any() else 0.0
