"""Runs the engine on a thread of its own.

Ctrl-C then reaches the engine as `interrupt()`, never as an exception in the middle of its work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_REPEAT_SECONDS = 0.1
_PATIENCE = 3


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
        self.interrupted = False
        """Whether Ctrl-C was pressed during the last call."""

    def call(self, function: Callable[[], T], interrupt: Callable[[], None] | None = None) -> T:
        """Return what `function` returns on the engine's thread.

        Ctrl-C calls `interrupt` and waits on; a third one leaves the program, which the database
        survives as it survives a crash.
        """
        future = self._pool.submit(function)
        self.interrupted = False
        pressed = 0
        while not future.done():
            try:
                wait([future], timeout=_REPEAT_SECONDS if pressed else None)
                # Repeated, because the first may come before the statement has begun.
                if pressed and interrupt is not None and not future.done():
                    interrupt()
            except KeyboardInterrupt:
                self.interrupted = True
                pressed += 1
                if pressed >= _PATIENCE:
                    os._exit(130)
                if interrupt is not None:
                    interrupt()
        return future.result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()
