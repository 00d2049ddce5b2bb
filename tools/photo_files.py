"""Writes CIFAR-10 photos as an album: PNG files and a CSV of attributes measured on the pixels."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Photo = npt.NDArray[np.uint8]

# The hue circle from red on, in degrees; a hue belongs to the first name whose end it is below.
_HUES = (
    *((15, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (200, "cyan")),
    *((255, "blue"), (290, "purple"), (345, "pink"), (361, "red")),
)
_GREY_BELOW = 0.06
_LUMA = np.array([0.299, 0.587, 0.114])


class Attributes(NamedTuple):
    """One line of attributes.csv."""

    filename: str
    label: str
    source_index: int
    width: int
    height: int
    brightness: float
    contrast: float
    saturation: float
    hue: str


def photo_name(label: str, index: int) -> str:
    """Return the file name of the `index`-th photo (from 0) of its split."""
    return f"{label}_{index:05d}.png"


def attributes(photo: Photo, label: str, index: int) -> Attributes:
    """Measure a photo.

    Brightness is the mean and contrast the standard deviation of the luma (0 to 255), saturation
    the mean of the HSV one (0 to 1), hue the name under which most colour (saturation x value)
    lies, or grey where there is hardly any.
    """
    luma = photo @ _LUMA
    hsv = np.asarray(Image.fromarray(photo).convert("HSV")).reshape(-1, 3) / 255.0
    height, width = luma.shape
    return Attributes(
        filename=photo_name(label, index),
        label=label,
        source_index=index,
        width=width,
        height=height,
        brightness=round(float(luma.mean()), 1),
        contrast=round(float(luma.std()), 1),
        saturation=round(float(hsv[:, 1].mean()), 3),
        hue=_hue_name(hsv),
    )


def _hue_name(hsv: npt.NDArray[np.float64]) -> str:
    colour = hsv[:, 1] * hsv[:, 2]
    if colour.mean() < _GREY_BELOW:
        return "grey"
    weights: dict[str, float] = {}
    places = np.searchsorted([end for end, _ in _HUES], hsv[:, 0] * 360, side="right")
    for (_, name), weight in zip(_HUES, np.bincount(places, colour, len(_HUES)), strict=True):
        weights[name] = weights.get(name, 0.0) + float(weight)
    return max(weights, key=lambda name: weights[name])


def write_photo(photo: Photo, path: Path) -> None:
    """Write a photo as PNG, without loss and without anything that varies between runs."""
    Image.fromarray(photo).save(path, "PNG", optimize=True)


def write_attributes(rows: Iterable[Attributes], path: Path) -> None:
    """Write attributes.csv."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Attributes._fields)
        writer.writerows(rows)
