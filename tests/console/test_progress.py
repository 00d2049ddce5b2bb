from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("rich")

from hybridq.console.progress import TerminalProgress, progress_for_terminal
from hybridq.progress import NoProgress


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


def test_long_work_shows_a_bar_that_goes_away(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress(delay_seconds=0)
    progress.start("train [centroids]", 10)
    worker = threading.Thread(target=lambda: [progress.advance(1) for _ in range(5)])
    worker.start()
    worker.join()
    time.sleep(0.3)
    progress.finish()
    out, err = capsys.readouterr()
    assert out == ""
    assert "train [centroids]" in err
    assert "5/10" in err


def test_work_of_unknown_length_counts(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress(delay_seconds=0)
    progress.start("extract features", None)
    progress.advance(1234)
    time.sleep(0.3)
    progress.finish()
    assert "1,234" in capsys.readouterr().err


def test_short_work_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress(delay_seconds=30)
    for _ in range(3):
        progress.start("quick", 1)
        progress.advance(1)
        progress.finish()
    progress.finish()
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_where_nobody_looks() -> None:
    assert isinstance(progress_for_terminal(), NoProgress)
