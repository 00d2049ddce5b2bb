"""Runs the engine on a thread of its own.

Ctrl-C then reaches the engine as `interrupt()`, never as an exception in the middle of its work.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1
_SHOW_CURSOR = b"\x1b[?25h"


class Cursor(Protocol):
    """What the console uses of a PEP 249 cursor."""

    @property
    def description(self) -> Sequence[Sequence[Any]] | None:
        """Name and type of each column, or None where there is no result."""

    @property
    def rowcount(self) -> int:
        """The number of rows, -1 where it is not known."""

    def fetchmany(self, size: int, /) -> Sequence[Sequence[Any]]:
        """Return the next rows, none at the end."""

    def close(self) -> None:
        """Give up the rows that were not fetched."""


class Connection(Protocol):
    """What the console uses of a hybridq connection."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""

    @property
    def transaction_failed(self) -> bool:
        """Whether only ROLLBACK is possible."""

    def execute(self, sql: str, /) -> Cursor:
        """Run one statement."""

    def interrupt(self) -> None:
        """Stop the statement that is running, from any thread."""

    def close(self) -> None:
        """Close the connection."""


class Worker:
    """One thread that does all the engine's work of a console."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hybridq-engine")
        self._pressed = 0

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed during a call since the last `reset`."""
        return self._pressed > 0

    def reset(self) -> None:
        """Forget that Ctrl-C was pressed."""
        self._pressed = 0

    def call(self, function: Callable[[], T], interrupt: Callable[[], None] | None = None) -> T:
        """Return what `function` returns on the engine's thread.

        Ctrl-C calls `interrupt` and waits on; whoever does not want to wait presses it three times,
        which the database survives as it survives a crash.
        """
        with self._counting_interrupts():
            future = self._pool.submit(function)
            while not future.done():
                wait([future], timeout=_POLL_SECONDS)
                # Repeated, because the first may come before the statement has begun.
                if self._pressed and interrupt is not None and not future.done():
                    interrupt()
        return future.result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    @contextmanager
    def _counting_interrupts(self) -> Iterator[None]:
        """Count SIGINT instead of raising KeyboardInterrupt, where that is the rule."""
        usual = signal.default_int_handler
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not usual
        ):
            yield
            return
        signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self._pressed += 1
        if self._pressed == 2:
            os.write(2, b"\nstill cancelling; Ctrl-C once more leaves hybridq at once\n")
        elif self._pressed > 2:
            os.write(2, _SHOW_CURSOR if os.isatty(2) else b"")
            os._exit(130)
