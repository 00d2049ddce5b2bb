"""Modules that are loaded when something of them is first used.

Numba alone takes longer to import than all of hybridq. In `from hybridq.kernels import scan` the
name `scan` is the module at once, and its code runs at the first `scan.probe`. (The standard
library's LazyLoader does this too, but before 3.11.9 two threads may see a module half loaded.)
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

_making = threading.Lock()


class _Unloaded(ModuleType):
    """A module whose code has not run; it becomes an ordinary one when it has."""

    _lock: threading.RLock  # one each: two modules, loaded by two threads, may need each other's
    _loading: bool

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if type(self) is _Unloaded and not self._loading:
                self._load()
        if type(self) is _Unloaded:  # its own code asks, while it runs, for what it has not
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self, name)

    def _load(self) -> None:
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self._loading = True
        try:
            self.__spec__.loader.exec_module(self)
            self.__class__ = ModuleType  # type: ignore[assignment]  # it is one
        finally:
            self._loading = False


def submodules(package: str) -> Callable[[str], ModuleType]:
    """Return the `__getattr__` of a package of ours whose modules are loaded at their first use."""

    def get(name: str) -> ModuleType:
        full = f"{package}.{name}"
        spec = None if name.startswith("__") else importlib.util.find_spec(full)
        if spec is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with _making:
            module = sys.modules.get(full)
            if module is None:
                module = importlib.util.module_from_spec(spec)
                vars(module).update(_lock=threading.RLock(), _loading=False)
                module.__class__ = _Unloaded
                sys.modules[full] = module
                setattr(sys.modules[package], name, module)
        return module

    return get


class _Library(ModuleType):
    """Stands for a module of another package."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def library(name: str) -> ModuleType:
    """Return what stands for the module `name` of another package until it is used.

    Unlike a module of ours it stays unknown to other importers until then.
    """
    return _Library(name)
