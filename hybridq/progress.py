"""How long work tells its caller how far it is.

`Progress` is what the console, the demo or a user's callback implements; engine
code only ever calls it, and never prints.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from hybridq.errors import OperationalError

_MANY_ROWS = 64  # at once: who brings so many may have more, and time to look how many


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

    @property
    def started(self) -> bool:
        """Whether a task is under way."""
        return self._started

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


class RowsDone:
    """The rows that the functions of a session's statement are done with, told as one task.

    The first call begins it, unless a task with a total is under way. Every function is given every
    row, so of several the rows of the first count. `pause` ends the task when control goes back to
    the user; if the statement goes on, as a result that is fetched in parts does, so does the
    count. Safe to call from DuckDB's threads.
    """

    def __init__(
        self, told: Cancellable, total: Callable[[str], int | None] = lambda _: None
    ) -> None:
        """Tell `told`; `total` knows how many rows a function will be given, or does not."""
        self._told = told
        self._total = total
        self._lock = threading.Lock()
        self._here = threading.local()
        self._counted: str | None = None
        self._done = 0
        self._ours = False

    def begin(self) -> None:
        """Forget the statement before."""
        self._counted = None
        self._done = 0

    def call(self, function: str, rows: int) -> None:
        """Say that this thread is about to run `function` on some rows."""
        self._here.function = function
        with self._lock:
            if self._counted is None:
                self._counted = function
            if not self._told.started:
                total = self._total(self._counted) if rows >= _MANY_ROWS else None
                self._begin(f"{self._counted}, rows", total)
                if self._done:
                    self._told.advance(self._done)

    def start(self, task: str, total: int | None) -> None:
        """Begin a task of the function's own."""
        with self._lock:
            self._begin(task, total)

    def advance(self, count: int) -> None:
        """Say that `count` more rows are done; raises where the statement was cancelled."""
        if getattr(self._here, "function", self._counted) != self._counted:
            count = 0
        with self._lock:
            self._done += count
            self._told.advance(count)

    def finish(self) -> None:
        """End a task of the function's own."""
        self.pause()

    def pause(self) -> None:
        """End the task that functions began."""
        if self._ours:
            with self._lock:
                self._ours = False
                self._told.finish()

    def _begin(self, task: str, total: int | None) -> None:
        self._ours = True
        self._told.start(task, total)
