from __future__ import annotations

import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hybridq
from hybridq.console import main as console
from hybridq.console.shell import Options, Shell
from hybridq.console.worker import Worker

_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07")


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the user's history and terminal out of the tests, and the console's logging in them."""
    monkeypatch.setenv("HYBRIDQ_HISTORY", str(tmp_path / "history"))
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "TMUX", "HYBRIDQ_PICTURES", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    logger = logging.getLogger("hybridq")
    handlers, propagate = list(logger.handlers), logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate


class Run:
    """What one call of the `hybridq` command gave."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run the command within this process."""

    def call(*arguments: str) -> Run:
        capsys.readouterr()
        status = console.main(arguments)
        out, err = capsys.readouterr()
        return Run(status, out, err)

    return call


@pytest.fixture
def shell() -> Iterator[Shell]:
    worker = Worker()
    made = Shell(worker, hybridq.connect, ":memory:", Options(), interactive=True)
    yield made
    made.close()
    worker.close()


class Terminal:
    """A console on a pseudo terminal; what it draws is kept as text without control sequences."""

    def __init__(self, *arguments: str, folder: Path, term: str = "dumb-but-tty") -> None:
        self.leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hybridq", *arguments],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            cwd=folder,
            env={**os.environ, "TERM": term, "PROMPT_TOOLKIT_NO_CPR": "1"},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(follower)
        self.raw = b""
        self._seen = 0

    @property
    def text(self) -> str:
        return _CONTROL.sub(b"", self.raw).decode("utf-8", "replace")

    def type(self, text: str) -> None:
        os.write(self.leader, text.encode())

    def expect(self, wanted: str, seconds: float = 30) -> str:
        """Wait until `wanted` is drawn after what was expected before; return what came."""
        deadline = time.monotonic() + seconds
        while (at := self.text.find(wanted, self._seen)) < 0:
            left = deadline - time.monotonic()
            ready = select.select([self.leader], [], [], max(left, 0))[0]
            assert ready, f"{wanted!r} did not come; there is:\n{self.text[self._seen :]}"
            try:
                chunk = os.read(self.leader, 65536)
            except OSError:
                chunk = b""
            assert chunk, f"the console ended before {wanted!r}:\n{self.text[self._seen :]}"
            self.raw += chunk
        came = self.text[self._seen : at]
        self._seen = at + len(wanted)
        return came

    def wait(self, seconds: float = 30) -> int:
        """Wait for the end, reading on so that nothing blocks; return the exit status."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.leader], [], [], 0.05)[0]:
                try:
                    self.raw += os.read(self.leader, 65536)
                except OSError:
                    break
        return self.process.wait(max(deadline - time.monotonic(), 1))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.leader)


def _take_terminal() -> None:
    import fcntl
    import termios

    # Ctrl-C is ignored by what a shell runs in the background, and by its children.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str, term: str = "xterm") -> Terminal:
        opened.append(Terminal(*arguments, folder=tmp_path, term=term))
        return opened[-1]

    yield start
    for one in opened:
        one.close()
