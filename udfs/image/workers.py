"""The threads that pictures are decoded and embedded on, one picture batch a thread.

One torch thread each: a call that torch splits over all cores waits for its slowest part at every
layer, which on a busy machine was measured at ten times the time, and its result varies with the
number of cores. Batches side by side do neither. Imports torch.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def pool() -> ThreadPoolExecutor:
    """Return the pool of this process, as many threads as torch was given."""
    global _pool
    with _lock:
        if _pool is None:
            threads = torch.get_num_threads()
            _pool = ThreadPoolExecutor(
                threads,
                thread_name_prefix="hybridq-image",
                initializer=_use_one_torch_thread,
                initargs=(threads,),
            )
        return _pool


def _use_one_torch_thread(threads: int) -> None:
    # torch keeps the number for the calling thread, and as the default of threads to come. The
    # latter is not ours to change, so a passing thread puts it back; asking first is what makes
    # this thread take the default now and not later, over the 1.
    torch.get_num_threads()
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
