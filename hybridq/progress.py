"""How long work tells its caller how far it is.

`Progress` is what the console, the demo or a user's callback implements; engine
code only ever calls it, and never prints.
"""

from __future__ import annotations

import threading
from typing import Protocol

from hybridq.errors import OperationalError


class Progress(Protocol):
    """Receives the progress of one piece of work at a time."""

    def start(self, task: str, total: int | None) -> None:
        """Begin `task` ("extract features", "train centroids"); `total` is None where unknown."""

    def advance(self, count: int) -> None:
        """Say that `count` more units are done."""

    def finish(self) -> None:
        """End the task, whether it was completed or failed."""


class NoProgress:
    """Tells nobody."""

    def start(self, task: str, total: int | None) -> None:
        """Ignore the start."""

    def advance(self, count: int) -> None:
        """Ignore the count."""

    def finish(self) -> None:
        """Ignore the end."""


class Cancellable:
    """Passes progress on, and raises at the next step once `cancel` was called.

    Long work reports its progress often, so this is how it is interrupted from another thread.
    """

    def __init__(self, told: Progress) -> None:
        self.told = told
        self._cancelled = threading.Event()
        self._started = False

    def reset(self) -> None:
        """Forget a cancellation: a new statement begins."""
        if self._cancelled.is_set():  # clearing takes a lock
            self._cancelled.clear()

    def cancel(self) -> None:
        """Make the running work raise OperationalError at its next step."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise OperationalError if `cancel` was called."""
        if self._cancelled.is_set():
            raise OperationalError("the statement was cancelled")

    def start(self, task: str, total: int | None) -> None:
        """Begin a task."""
        self.check()
        self._started = True
        self.told.start(task, total)

    def advance(self, count: int) -> None:
        """Say that `count` more units are done."""
        # A function reports its rows whether or not its statement has a task to show.
        if self._started:
            self.told.advance(count)
        self.check()

    def finish(self) -> None:
        """End the task."""
        if self._started:
            self._started = False
            self.told.finish()
