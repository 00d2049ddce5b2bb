"""How long work tells its caller how far it is.

`Progress` is what the console, the demo or a user's callback implements; engine
code only ever calls it, and never prints.
"""

from __future__ import annotations

from typing import Protocol


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
