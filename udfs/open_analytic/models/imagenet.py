"""What a picture shows: the 1,000 classes of ImageNet, and attributes of its scene from them.

EfficientNet-Lite0 (Tan & Le, ICML 2019; the "lite" variants of 2020) with its classifying layer.
Imports torch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hybridq.errors import DataError
from udfs.image import efficientnet, models, precision
from udfs.open_analytic import embed
from udfs.open_analytic.values import Label, Picture


@functools.cache
def names() -> tuple[str, ...]:
    """Return the 1,000 names, each with its synonyms: `tabby, tabby cat`."""
    file = files("udfs.open_analytic").joinpath("weights", "imagenet_classes.txt")
    return tuple(file.read_text("utf-8").splitlines())


class Classifier:
    """Probabilities of ImageNet's classes."""

    def __init__(self) -> None:
        self._info = models.describe("efficientnet_lite0")
        # What other operators of a pipeline use too: a picture is run through the network once.
        self._precision = precision.best()
        self._network = models.load(self._info, self._precision)
        weights = efficientnet.packaged_weights("efficientnet_lite0")
        self._weight, self._bias = weights["_fc.weight"], weights["_fc.bias"]

    def probabilities(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the probabilities (1000,) of each picture, or its error."""
        features = embed.pooled(pictures, self._info, self._precision, self._network)
        return embed.each_good(features, self._of_features)

    def _of_features(self, features: list[Any]) -> list[Any]:
        with torch.inference_mode():
            return [
                torch.mv(self._weight, torch.from_numpy(row)).add_(self._bias).softmax(0).numpy()
                for row in features
            ]


@functools.cache
def classifier() -> Classifier:
    """Return the classifier of this process."""
    return Classifier()


class Labels:
    """The `top` classes of a picture whose probability is at least `min_score`, best first."""

    def __init__(self, *, top: int = 5, min_score: float = 0.05) -> None:
        self._classifier = classifier()
        self._top = top
        self._min_score = min_score

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the labels (list[Label]) of each picture, or its error."""
        return _for_each(self._classifier, pictures, self._best)

    def _best(self, probabilities: npt.NDArray[np.float32]) -> list[Label]:
        named = (
            # The first name is the usual one.
            Label(name.split(",")[0], float(p))
            for name, p in zip(names(), probabilities, strict=True)
        )
        return _leading(named, self._top, self._min_score)


class SceneAttributes:
    """Attributes of a scene, those of probability `min_score` and more, best first.

    An attribute's probability is the sum of those of the classes that imply it: a picture can be
    of `animal`, `dog` and `outdoors` at once, or of none of them.
    """

    def __init__(self, *, min_score: float = 0.3) -> None:
        self._classifier = classifier()
        self._min_score = min_score

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Return the attributes (list[Label]) of each picture, or its error."""
        return _for_each(self._classifier, pictures, self._attributes)

    def _attributes(self, probabilities: npt.NDArray[np.float32]) -> list[Label]:
        sums = (
            Label(name, min(float(probabilities[list(classes)].sum()), 1.0))
            for name, classes in SCENES.items()
        )
        return _leading(sums, len(SCENES), self._min_score)


def _leading(labels: Iterable[Label], top: int, min_score: float) -> list[Label]:
    likely = [label for label in labels if label.score >= min_score]
    return sorted(likely, key=lambda label: -label.score)[:top]


def _for_each(model: Classifier, pictures: Sequence[Picture], finish: Any) -> list[Any]:
    return [
        found if isinstance(found, DataError) else finish(found)
        for found in model.probabilities(pictures)
    ]


def _classes(*ranges: int | tuple[int, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in ranges:
        first, last = (part, part) if isinstance(part, int) else part
        found.update(range(first, last + 1))
    return frozenset(found)


_FISH = _classes((0, 6), (389, 397))
_BIRDS = _classes((7, 24), (80, 100), (127, 146))
_DOGS = _classes((151, 268))
_CATS = _classes((281, 285))
_INSECTS = _classes((300, 326))
_ANIMALS = _classes((0, 397))
_FOOD = _classes(415, 509, 582, 762, (924, 969), 987)
_WATER = _classes(
    *(403, 449, 460, 472, 484, 510, 525, 536, 540, 554, 562, 576, 625, 628, 718, 780, 814, 821),
    *(833, 839, 871, 914, 973, 974, 975, 976, 977, 978, 983, (147, 150), 395, 33, 34, 65),
)
_ROAD_VEHICLES = _classes(
    *(407, 436, 444, 468, 511, 555, 569, 573, 575, 603, 609, 612, 627, 654, 656, 661, 665, 670),
    *(671, 675, 717, 734, 751, 757, 779, 803, 817, 829, 864, 866, 867, 870, 874, 880),
)
_RAIL = _classes(466, 547, 565, 705, 820)
_AIRCRAFT = _classes(404, 405, 417, 701, 812, 895, 908)
_BOATS = _classes(403, 472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 833, 871, 914)
_BUILDINGS = _classes(
    *(425, 437, 442, 449, 483, 497, 500, 538, 580, 624, 660, 663, 668, 682, 698, 706, 716, 727),
    *(743, 825, 832, 853, 858, 873, 884, 888, 900, 915, 821, 839),
)
_ROOMS = _classes(
    *(406, 415, 424, 454, 467, 495, 498, 509, 532, 548, 564, 582, 598, 624, 736, 762, 788, 799),
    *(789, 819, 831, 854, 860, 861, 865, 896, 904, 905, 421, 423, 435, 453, 493, 516, 520, 526),
    *(527, 534, 550, 651, 664, 721, 750, 760, 794, 827, 846, 851, 894, 897, 859, 765),
)
_MOUNTAINS = _classes(970, 972, 979, 980, 795, 349, 350)
_CLOTHES = _classes(
    *(399, 400, 411, 443, 445, 451, 452, 457, 459, 474, 501, 502, 514, 515, 529, 552, 568, 578),
    *(601, 608, 610, 614, 617, 630, 638, 639, 652, 655, 658, 667, 689, 697, 735, 770, 774, 775),
    *(796, 806, 808, 824, 834, 837, 836, 841, 842, 869, 887, 906, 433, 518, 793, 903),
)
_SPORT = _classes(
    *(416, 422, 429, 430, 450, 522, 543, 560, 574, 602, 615, 671, 701, 702, 722, 736, 746, 747),
    *(752, 768, 795, 802, 805, 842, 852, 880, 890, 981, 983),
)
_ELECTRONICS = _classes(
    *(481, 482, 485, 487, 508, 527, 528, 590, 592, 605, 613, 620, 632, 650, 662, 664, 673, 688),
    *(707, 713, 732, 742, 745, 754, 759, 761, 782, 810, 848, 851, 878),
)
_INSTRUMENTS = _classes(
    *(401, 402, 420, 432, 486, 494, 513, 541, 546, 558, 566, 577, 579, 593, 594, 641, 642, 683),
    *(684, 687, 699, 776, 822, 875, 881, 889),
)
_DOCUMENTS = _classes(446, 549, 681, (916, 918), 921, 922, 611)
_PLANTS = _classes((936, 958), (984, 997), 580, 738, 883)
_NATURE = _classes((970, 980), 984, 985, 986) - {971}

SCENES: dict[str, frozenset[int]] = {
    "outdoors": _NATURE
    | _ROAD_VEHICLES
    | _RAIL
    | _AIRCRAFT
    | _BOATS
    | _BUILDINGS
    | _WATER
    | _classes(*(703, 704, 718, 733, 919, 920, 864, 866, 912, 557, 489, 571, 410, 672, 649)),
    "indoors": _ROOMS,
    "nature": _NATURE,
    "water": _WATER | _BOATS,
    "beach": _classes(975, 977, 978, 460),
    "mountains": _MOUNTAINS,
    "buildings": _BUILDINGS,
    "street": _ROAD_VEHICLES | _classes(703, 704, 707, 733, 829, 873, 919, 920, 424, 762, 788),
    "vehicle": _ROAD_VEHICLES | _RAIL | _AIRCRAFT | _BOATS | _classes(847, 586, 561, 595, 730),
    "aircraft": _AIRCRAFT,
    "boat": _BOATS,
    "train": _RAIL,
    "animal": _ANIMALS,
    "bird": _BIRDS,
    "cat": _CATS,
    "dog": _DOGS,
    "fish": _FISH,
    "insect": _INSECTS,
    "plant": _PLANTS,
    "food": _FOOD,
    "furniture": _classes(
        *(423, 453, 493, 495, 516, 520, 526, 532, 548, 553, 559, 564, 648, 703, 736, 765, 831),
        *(846, 857, 861, 894),
    ),
    "clothing": _CLOTHES,
    "sport": _SPORT,
    "electronics": _ELECTRONICS,
    "musical instrument": _INSTRUMENTS,
    "document": _DOCUMENTS,
}
"""The attributes, each with the classes (positions in `names()`) that imply it."""
