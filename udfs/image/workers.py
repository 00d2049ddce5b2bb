"""The threads that inputs are decoded and run through models on, one batch a thread.

One torch thread each: a call that torch splits over all cores waits for its slowest part at every
layer, which on a busy machine was measured at ten times the time, and its result varies with the
number of cores. Batches side by side do neither. torch is not imported here: what runs without it
must not wait for it, nor need it.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_here = threading.local()


def pool() -> ThreadPoolExecutor:
    """Return the pool of this process, as many threads as torch was given or processors it has."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = _Pool(_threads(), thread_name_prefix="hybridq-image")
        return _pool


class _Pool(ThreadPoolExecutor):
    """Threads that torch, once it is loaded, has one thread on."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(_run, work, *args, **kwargs)


def _run(work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if _has_torch() and not getattr(_here, "prepared", False):
        _here.prepared = True
        _use_one_torch_thread()
    return work(*args, **kwargs)


def _threads() -> int:
    if _has_torch():
        given: int = _torch().get_num_threads()
        return given
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _has_torch() -> bool:
    return sys.modules.get("torch") is not None


def _torch() -> Any:
    return importlib.import_module("torch")  # waits for an import that another thread began


def _use_one_torch_thread() -> None:
    # torch keeps the number for the calling thread, and as the default of threads to come. The
    # latter is not ours to change, so a passing thread puts it back; asking first is what makes
    # this thread take the default now and not later, over the 1.
    torch = _torch()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    restorer = threading.Thread(target=torch.set_num_threads, args=(threads,))
    restorer.start()
    restorer.join()


def _forget() -> None:
    global _pool, _lock
    _lock = threading.Lock()
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
