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
    "face_feature_extractor": ["decode", "detect_faces", "embed_face", "recognize_gender_and_age"],
    "gender_recognizer": ["decode", "detect_faces", "recognize_gender"],
    "age_recognizer": ["decode", "detect_faces", "recognize_age"],
    "object_detector": ["decode", "detect_objects"],
    "main_object_feature_extractor": ["decode", "crop_main_object", "embed"],
    "scene_recognition_attributes": ["decode", "recognize_scene", "classify"],
    "text_feature_extractor": ["read_text", "embed_text"],
    "ocr": ["decode", "read_lines"],
    "voiceprint_extractor": ["decode_sound", "embed_voice"],
}
