"""The pipelines that need no definition."""

from __future__ import annotations

from typing import Any, Final


def _commodity(within: str) -> list[Any]:
    return ["decode", {"operator": "recognize_commodity", "within": within}]


DEFINITIONS: Final[dict[str, Any]] = {
    "general_feature_extractor": ["decode", "embed"],
    "commodity_recognizer": ["decode", "recognize_commodity"],
    "female_cloth_recognizer": _commodity("female_cloth"),
    "male_cloth_recognizer": _commodity("male_cloth"),
    "child_cloth_recognizer": _commodity("child_cloth"),
    "shoe_recognizer": _commodity("shoe"),
    "bag_recognizer": _commodity("bag"),
}
