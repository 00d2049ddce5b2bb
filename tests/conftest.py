"""Collects `*.test` scripts (see sqllogic.py); settings that all tests share.

pytest tests/sql/topk/forms.test            one script
pytest tests/sql/topk/forms.test:40         up to the record on line 40, checking that one
pytest tests/sql --config=all               under every configuration of tests/configs
pytest tests/sql/topk --complete            write what was answered into the scripts
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_LINE = re.compile(r"^(.*\.test):(\d+)$")


def _load(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


sqllogic: Any = _load("sqllogic")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("scripts")
    group.addoption("--config", default=None, help="tests/configs to run scripts under, or all")
    group.addoption("--complete", action="store_true", help="rewrite the scripts' expectations")


def pytest_configure(config: pytest.Config) -> None:
    lines: dict[Path, int] = {}
    for i, argument in enumerate(config.args):
        if found := _LINE.match(argument):
            config.args[i] = found[1]
            lines[Path(found[1]).resolve()] = int(found[2])
    config.stash[_LINES] = lines


_LINES = pytest.StashKey[dict[Path, int]]()


def _configs(chosen: str | None, path: Path) -> list[Any]:
    names = sorted(p.stem for p in sqllogic.CONFIGS.glob("*.toml"))
    if chosen is not None and chosen != "all":
        return [sqllogic.config(name) for name in chosen.split(",")]
    known = [sqllogic.config(name) for name in names]
    if chosen == "all":
        return known
    text = path.as_posix()
    return [c for c in known if c.name == "default" or any(p in text for p in c.by_default)]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".test":
        return ScriptFile.from_parent(parent, path=file_path)
    return None


class ScriptFile(pytest.File):
    """One script, collected once per configuration."""

    def collect(self) -> Iterator[pytest.Item]:
        chosen = self.config.getoption("config")
        if self.config.getoption("complete"):
            chosen = "default"
        for configuration in _configs(chosen, self.path):
            yield ScriptItem.from_parent(self, name=configuration.name, configuration=configuration)


class ScriptItem(pytest.Item):
    """One script under one configuration."""

    def __init__(self, *, configuration: Any, **given: Any) -> None:
        super().__init__(**given)
        self.configuration = configuration

    def runtest(self) -> None:
        why = self.configuration.skip_reason(self.path)
        if why is not None:
            pytest.skip(f"{self.configuration.name}: {why}")
        line = self.config.stash[_LINES].get(self.path.resolve(), 0)
        with tempfile.TemporaryDirectory() as folder:
            script = sqllogic.Script(self.path, self.configuration, Path(folder), line=line)
            try:
                script.run()
            finally:
                script.close()
        if self.config.getoption("complete"):
            self.path.write_text(sqllogic.completed(script))
        elif script.failures:
            raise ScriptFailedError("\n\n".join(script.failures))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> Any:
        if isinstance(excinfo.value, ScriptFailedError | sqllogic.ScriptError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}[{self.name}]"


class ScriptFailedError(AssertionError):
    """Records of a script that did not give what was expected."""
