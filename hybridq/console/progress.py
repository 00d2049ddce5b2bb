"""Progress bars on the terminal's error stream, for work that takes long enough to be noticed."""

from __future__ import annotations

import sys
import threading

from hybridq.progress import NoProgress, Progress

try:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.text import Text
except ImportError:
    HAVE_RICH = False
else:
    HAVE_RICH = True

    class _Rate(ProgressColumn):
        """How many units a second were done lately."""

        def render(self, task: Task) -> Text:
            """Return the rate, nothing where there is none yet."""
            rate = task.speed
            if rate is None:
                return Text("")
            return Text(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")


_DELAY_SECONDS = 0.4


def progress_for_terminal() -> Progress:
    """Return bars where somebody can see them, else nothing."""
    return TerminalProgress() if HAVE_RICH and sys.stderr.isatty() else NoProgress()


class TerminalProgress:
    """Shows one bar at a time; the engine may call it from any thread."""

    def __init__(self, delay_seconds: float = _DELAY_SECONDS) -> None:
        self._delay_seconds = delay_seconds
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._bars: Bars | None = None
        self._task = ""
        self._total: int | None = None
        self._done = 0

    def start(self, task: str, total: int | None) -> None:
        """Begin `task`; its bar appears when it is not done soon."""
        self.finish()
        with self._lock:
            self._task, self._total, self._done = task, total, 0
            self._timer = threading.Timer(self._delay_seconds, self._show)
            self._timer.daemon = True
            self._timer.start()

    def advance(self, count: int) -> None:
        """Move the bar."""
        with self._lock:
            self._done += count
            if self._bars is not None:
                self._bars.update(self._bars.task_ids[0], completed=self._done)

    def finish(self) -> None:
        """Take the bar away."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._bars is not None:
                self._bars.stop()
            self._timer = self._bars = None

    def _show(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return
            counters: list[ProgressColumn]
            if self._total is None:
                done = TextColumn("{task.completed:,.0f}")
                counters = [done, _Rate(), TimeElapsedColumn()]
            else:
                counters = [BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()]
            self._bars = Bars(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                *counters,
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bars.add_task(self._task, total=self._total, completed=self._done)
            self._bars.start()
