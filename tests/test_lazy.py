"""Modules loaded at their first use."""

import importlib
import subprocess
import sys
import threading
from types import ModuleType

import pytest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose modules are loaded at their first use; `ran` counts loads."""
    folder = tmp_path / "slow_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from hybridq import lazy\n__getattr__ = lazy.submodules(__name__)\nran = []\n"
    )
    (folder / "slow.py").write_text(
        "import time\nimport slow_package\n"
        "slow_package.ran.append(1)\n"
        "if len(slow_package.ran) == getattr(slow_package, 'fail_at', 0): raise OSError('no')\n"
        "first = 1\ntime.sleep(0.05)\nlast = 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("slow_package")
    for name in ("slow_package", "slow_package.slow"):
        sys.modules.pop(name, None)


def test_a_module_runs_at_its_first_use(package):
    from slow_package import slow

    assert package.ran == []
    assert slow.last == 2
    assert package.ran == [1]
    assert type(slow) is ModuleType
    assert sys.modules["slow_package.slow"] is slow is package.slow
    with pytest.raises(AttributeError):
        _ = slow.missing


def test_threads_see_it_whole_and_run_it_once(package):
    from slow_package import slow

    seen = []
    threads = [threading.Thread(target=lambda: seen.append(slow.last)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [2] * 8
    assert package.ran == [1]


def test_a_failure_is_raised_and_tried_again(package):
    from slow_package import slow

    package.fail_at = 1
    with pytest.raises(OSError, match="no"):
        _ = slow.last
    assert slow.last == 2


def test_what_is_no_module_is_missing(package):
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        _ = package.other
    assert not hasattr(package, "__wrapped__")


def test_a_library_stays_unknown_until_it_is_used():
    program = (
        "import sys; from hybridq import lazy; colors = lazy.library('colorsys')\n"
        "print('colorsys' in sys.modules, colors.ONE_THIRD, 'colorsys' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"False", b"0.3333333333333333", b"True"]
