"""What the source must keep: imports go down only, modules stay small, README's commands exist."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hybridq
from hybridq.extensions import BUILT_IN, installed

ROOT = Path(__file__).parent.parent
MODULES = [p for d in ("hybridq", "udfs") for p in (ROOT / d).rglob("*.py")]
MAX_LINES = 400


def test_imports_go_down_only():
    tool = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_small(module):
    assert len(module.read_text().splitlines()) <= MAX_LINES


def test_public_names_exist():
    assert sorted(hybridq.__all__) == sorted(set(hybridq.__all__))
    for name in hybridq.__all__:
        assert getattr(hybridq, name) is not None


def test_only_errors_defines_public_exceptions():
    for module in MODULES:
        if module.name == "errors.py":
            continue
        for name in re.findall(
            r"^class (\w+)\([\w.]*(?:Exception|Error)\)", module.read_text(), re.M
        ):
            assert name.startswith("_"), f"{module}: {name}"


def test_kernels_take_fastmath_from_one_place():
    for module in (ROOT / "hybridq" / "kernels").glob("*.py"):
        if module.name != "_jit.py":
            assert "fastmath=" not in module.read_text(), module


def test_readme_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^    )make ([\w-]+)", (ROOT / "README.md").read_text(), re.M))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_ci_runs_the_readme_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_documents_the_readme_names_exist():
    for path in re.findall(r"`((?:docs|bench|album)/[\w./-]+)`", (ROOT / "README.md").read_text()):
        assert (ROOT / path).exists(), path


def test_every_extension_is_an_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = set(project["entry-points"]["hybridq.udfs"])
    assert set(BUILT_IN) <= declared
    assert declared <= set(installed())


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == hybridq.__version__


def test_importing_loads_nothing_that_is_not_needed_yet():
    heavy = ("numba", "torch", "PIL", "prompt_toolkit", "rich", "sqlglot", "pandas", "udfs")
    program = (
        "import sys, hybridq\n"
        f"print([m for m in {(*heavy, 'hybridq.console')} if m in sys.modules])\n"
        "with hybridq.connect() as con: con.execute('SELECT 1').fetchall()\n"
        "print([m for m in ('numba', 'torch', 'PIL') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "[]"], done.stdout + done.stderr
