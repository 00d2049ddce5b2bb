"""Databases of a process that forks: they stay the parent's, the child must not touch them.

The child has a copy of DuckDB's memory and the same file, without DuckDB's threads and without the
lock on the file. Closing its copy would write to the parent's file, so the copy is never freed.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from pathlib import Path
from typing import Any

from hybridq.errors import OperationalError

_HINT = "connect in the child to other files, or start processes by 'spawn' instead of 'fork'"


_sessions: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: set[str] = set()


def watch(session: Any) -> int:
    """Keep what a session has open from being freed by a child; returns this process's id.

    `session` has an `instance` with a `path`, and both have a `duck`.
    """
    _sessions.add(session)
    return os.getpid()


def refuse_other(process: int) -> None:
    """Raise OperationalError in another process than the one whose id is given."""
    if os.getpid() != process:
        raise OperationalError(
            "the connection belongs to the process that opened it, and this one was forked since",
            hint=_HINT,
        )


def refuse_inherited(path: str) -> None:
    """Raise OperationalError for a file that was open when this process was forked."""
    if _inherited and str(Path(path).expanduser().resolve()) in _inherited:
        raise OperationalError(f"{path} was open when this process was forked", hint=_HINT)


def _in_child() -> None:
    for session in list(_sessions):
        _inherited.add(session.instance.path)
        for held in (session.duck, session.instance.duck):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


os.register_at_fork(after_in_child=_in_child)
