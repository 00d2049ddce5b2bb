"""`SET statement_timeout`: statements that take too long are interrupted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from hybridq.errors import OperationalError

CANCELLED = "the statement was cancelled"


class Deadline:
    """Interrupts what a session runs when it takes longer than the timeout.

    `ended` is told whenever something that a session ran is over.
    """

    def __init__(self, interrupt: Callable[[], None], ended: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._ended = ended
        self._lock = threading.Lock()
        self._running: object | None = None
        self._expired: object | None = None

    @contextlib.contextmanager
    def limit(self, milliseconds: int) -> Iterator[None]:
        """Bound the work inside; 0 is no bound. Raises OperationalError when it is over."""
        if not milliseconds or self._running is not None:
            try:
                yield
            finally:
                self._ended()
            return
        token = object()
        self._running = token
        timer = threading.Timer(milliseconds / 1000, self._expire, [token])
        timer.daemon = True
        timer.start()
        try:
            yield
        except OperationalError as error:
            if self._expired is token and error.message == CANCELLED:
                error.message = f"{CANCELLED}: it took longer than {milliseconds} ms"
                error.hint = "raise or reset statement_timeout"
            raise
        finally:
            self._ended()
            # An interrupt that comes late would hit the next statement.
            with self._lock:
                self._running = None
            timer.cancel()

    def _expire(self, token: object) -> None:
        with self._lock:
            if self._running is token:
                self._expired = token
                self._interrupt()
