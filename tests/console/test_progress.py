from __future__ import annotations

import re
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


@pytest.mark.parametrize("total", [None, 1000])
def test_long_work_shows_how_fast_it_is(
    capsys: pytest.CaptureFixture[str], total: int | None
) -> None:
    progress = TerminalProgress(delay_seconds=0)
    progress.start("pipeline_run, rows", total)
    for _ in range(12):
        time.sleep(0.05)
        progress.advance(10)
    time.sleep(0.2)
    progress.finish()
    shown = capsys.readouterr().err
    rates = [float(rate.replace(",", "")) for rate in re.findall(r"([\d,.]+)/s", shown)]
    assert rates
    assert 60 < rates[-1] < 250


def test_a_count_that_goes_on_is_not_taken_for_speed(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress(delay_seconds=0.05)
    progress.start("pipeline_run, rows", None)
    progress.advance(1_000_000)  # of the part that was fetched before
    for _ in range(8):
        time.sleep(0.05)
        progress.advance(1)
    time.sleep(0.2)
    progress.finish()
    shown = capsys.readouterr().err
    assert "1,000,008" in shown
    rates = [float(rate.replace(",", "")) for rate in re.findall(r"([\d,.]+)/s", shown)]
    assert max(rates) < 100
